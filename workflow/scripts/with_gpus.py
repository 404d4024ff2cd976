"""Run a command on so many GPUs of this machine that no other such command uses.

    with_gpus.py 2 python posttrain.py ...

Snakemake counts a machine's GPUs but does not say which are a job's, so that all jobs would take
the first. Here each GPU has a lock file; those that are free are locked for as long as the command
runs, and CUDA_VISIBLE_DEVICES names them. Where that is set already, only its GPUs are given out.
Inside a Slurm job the command runs as it is: the cluster has chosen.
"""

import fcntl
import os
import re
import sys
import tempfile
import time
from pathlib import Path

from p2law import errors
from p2law.commands import script

VISIBLE = "CUDA_VISIBLE_DEVICES"
LOOK = 1.0
"""Seconds between looks for free GPUs."""


def main() -> None:
    """Wait for the GPUs, then become the command."""
    if len(sys.argv) < 3 or not sys.argv[1].isdigit():
        raise errors.UserError("usage: with_gpus.py NUMBER COMMAND [ARGUMENT...]")
    wanted, command = int(sys.argv[1]), sys.argv[2:]
    if wanted and "SLURM_JOB_ID" not in os.environ:
        os.environ[VISIBLE] = ",".join(take(wanted, devices(), locks()))
    os.execvp(command[0], command)


def devices() -> list[str]:
    """The GPUs that may be given out, as CUDA_VISIBLE_DEVICES names them."""
    if VISIBLE in os.environ:
        return [name for name in os.environ[VISIBLE].split(",") if name]
    files = [path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia*")]
    return sorted((name for name in files if re.fullmatch("[0-9]+", name)), key=int)


def locks() -> Path:
    """The folder of this user's lock files on this machine, made when it is not there."""
    folder = Path(tempfile.gettempdir()) / f"p2law-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def take(wanted: int, names: list[str], folder: Path) -> list[str]:
    """Lock ``wanted`` of the GPUs ``names``, waiting for them; the locks are inherited.

    One command waits at a time and the others behind it, so that one that wants many GPUs is not
    passed by for ever by those that want few. Raises :class:`~p2law.errors.UserError` where the
    machine has fewer.
    """
    if wanted > len(names):
        raise errors.UserError(
            f"a job asks for {wanted} GPUs and this machine has {len(names)} to give"
            f" ({VISIBLE} = {os.environ.get(VISIBLE)}); lower hardware.jobs, or --resources gpu"
        )
    queue = os.open(folder / "queue", os.O_RDWR | os.O_CREAT)
    fcntl.flock(queue, fcntl.LOCK_EX)
    held: dict[str, int] = {}
    while True:
        for name in names:
            if name not in held and len(held) < wanted:
                handle = os.open(folder / re.sub(r"\W", "-", name), os.O_RDWR | os.O_CREAT)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(handle)
                    continue
                os.set_inheritable(handle, True)
                held[name] = handle
        if len(held) == wanted:
            os.close(queue)
            return list(held)
        time.sleep(LOOK)


if __name__ == "__main__":
    sys.exit(script.run(main))
