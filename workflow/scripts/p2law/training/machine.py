"""The process: what it computes on, whom it computes with, settings that leave numbers alone."""

import ctypes
import os
import signal
import socket
import time

import torch

from p2law.commands.environment import TORCHRUN
from p2law.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**30


def settle() -> None:
    """To be called once, before a model is built.

    glibc returns every tensor above 32 MB to the kernel when it is freed, and each step then pays
    for the same pages again: they are kept instead. Denormal numbers, which cost a hundred times
    a normal one and hold no information here, are flushed to zero.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST)
        libc.mallopt(M_TRIM_THRESHOLD, LARGEST)
    except (OSError, AttributeError):
        pass  # another C library: nothing to set
    torch.set_flush_denormal(True)


ANSWER = 10.0
"""Seconds in which torchrun, which listens before it starts a process, must answer it."""


def check(device: str) -> None:
    """Raise :class:`UserError` where torch cannot compute on what was asked for."""
    if device == "cuda" and not torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        raise UserError(
            f"--device cuda: torch {torch.__version__} sees no GPU here"
            f" (CUDA_VISIBLE_DEVICES = {visible}); allowed here: cpu"
        )


def meet(device: str) -> None:
    """Meet the other processes of a training, where there are others; to be called before any work.

    Signals end the process while it waits, as it has nothing to save: torch's wait would keep
    Python's own handlers from being called. Raises :class:`UserError` where torchrun's variables
    are there and torchrun is not.
    """
    if "RANK" not in os.environ:
        return
    where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    if os.environ["LOCAL_RANK"] == "0":
        print(f"meeting {os.environ['WORLD_SIZE']} processes at {where}", flush=True)
    former = signal.signal(signal.SIGINT, signal.SIG_DFL)
    if TORCHRUN in os.environ and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        _answers(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    from accelerate import PartialState

    PartialState(cpu=device == "cpu")
    signal.signal(signal.SIGINT, former)


def _answers(address: str, port: int) -> None:
    """Raise :class:`UserError` where nobody listens at torchrun's meeting point."""
    deadline = time.monotonic() + ANSWER
    while True:
        try:
            socket.create_connection((address, port), timeout=ANSWER).close()
            return
        except OSError as error:
            if time.monotonic() < deadline:
                time.sleep(0.5)
                continue
            raise UserError(
                f"MASTER_ADDR and MASTER_PORT name {address}:{port}, where no torchrun listens"
                f" ({error}); were {TORCHRUN}, RANK and the others left by one? unset them"
            ) from None
