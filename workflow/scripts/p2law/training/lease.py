"""A lease keeps a second writer out of a run's state and tells `status` how the run is doing.

The lease is a JSON file that names its holder and is rewritten as a heartbeat with the run's
latest progress. A holder on this machine is gone when its process has ended. One on another machine
is gone when its file has not changed for :data:`STALE` seconds of the *waiter's* own clock: no two
machines' clocks need agree. Whoever comes while that is open waits, says so, and looks: a job that
was killed on another node has been submitted again long before its lease has lapsed.
"""

import fcntl
import json
import os
import platform
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from p2law.canonical import write_json
from p2law.errors import UserError
from p2law.training.stop import Stopped

STALE = 300.0
"""Seconds without a heartbeat after which a holder on another machine counts as gone."""
BEAT = 5.0
"""Seconds between heartbeats."""
LOOK = 2.0
"""Seconds between looks at another machine's heart."""


def process_started(pid: int) -> str | None:
    """When a process of this machine started, in clock ticks; None where it does not run.

    Together with the process number it names a process for good: numbers are reused.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = text.rpartition(")")[2].split()
    return None if state == "Z" else fields[18]


def machine() -> str:
    """What names the place where this machine's process numbers mean something.

    A host's name is not enough: two may share it, and so may containers of one host.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def read(path: Path) -> dict[str, Any] | None:
    """What a lease file says, and when it was ``written`` by its file system's clock.

    None where there is none, or where it is no lease.
    """
    try:
        written = Path(path).stat().st_mtime
        held = json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return {**held, "written": written} if isinstance(held, dict) else None


def alive(held: Mapping[str, Any]) -> bool:
    """Whether the holder of a lease that was read just now still runs, as far as one look tells.

    For those who cannot wait. Of another machine's holder only the file's own time is known, set by
    the disk or its server; where that lies ahead of this machine's clock, it counts as alive.
    """
    if held.get("machine") == machine():
        return process_started(held["pid"]) == held["process_started"]
    return time.time() - held["written"] < STALE


class Lease:
    """A context that holds a run's lease. Raises :class:`UserError` where another holds it.

    ``wanted`` tells why a wait should end (see :class:`~p2law.training.stop.Stop`), or None: then
    :class:`Stopped` is raised, nothing having begun.
    """

    def __init__(self, path: Path, wanted: Callable[[], str | None] = lambda: None) -> None:
        self.path, self.wanted = Path(path), wanted
        self.mine = {
            "token": uuid.uuid4().hex,
            "node": platform.node(),
            "machine": machine(),
            "pid": os.getpid(),
            "process_started": process_started(os.getpid()),
            "slurm_job": os.environ.get("SLURM_JOB_ID"),
        }
        self.beats = 0
        self.last = 0.0
        self.told = False

    def __enter__(self) -> "Lease":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as gate:
            self._pass(gate)
            held = read(self.path)
            if held and self._lives(held):
                raise UserError(
                    f"{self.path}: process {held['pid']} on {held['node']} is training this run;"
                    " wait for it or stop it"
                )
            self.beat({})
        return self

    def _pass(self, gate: TextIO) -> None:
        """Be the only one that looks at the lease."""
        told = False
        while True:
            try:
                return fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    print(f"{self.path}: another process waits for it; waiting behind", flush=True)
                told = True
                self._pause()

    def _pause(self) -> None:
        time.sleep(LOOK)
        if reason := self.wanted():
            raise Stopped(f"{reason}: while waiting for {self.path}")

    def _lives(self, held: dict[str, Any]) -> bool:
        """Whether a lease's holder lives; of another machine's, once it has beaten or lapsed."""
        if held.get("machine") == self.mine["machine"]:
            return alive(held)
        if held.get("slurm_job") and held["slurm_job"] == self.mine["slurm_job"]:
            return False  # this very job before it was requeued: Slurm has ended it
        print(
            f"{self.path}: held by process {held['pid']} on {held['node']}; waiting for a sign of"
            f" life, or {STALE:.0f} s without one",
            flush=True,
        )
        until = time.monotonic() + STALE
        while time.monotonic() < until:
            self._pause()
            now = read(self.path)
            if now != held:
                return now is not None
        return False

    def __exit__(self, *_: object) -> None:
        held = read(self.path)
        if held and held["token"] == self.mine["token"]:
            self.path.unlink(missing_ok=True)

    def beat(self, progress: Mapping[str, Any]) -> None:
        """Renew the lease with the run's progress, at most every :data:`BEAT` seconds.

        The first step's progress is told at once. Raises :class:`UserError` if another process has
        taken the run over meanwhile.
        """
        now = time.monotonic()
        if self.told and now - self.last < BEAT:
            return
        held = read(self.path)
        if self.beats and (held is None or held["token"] != self.mine["token"]):
            raise UserError(f"{self.path}: another process has taken this run over; stopping")
        self.beats += 1  # so that no two files are alike
        write_json(self.path, {**self.mine, "beats": self.beats, "progress": dict(progress)})
        self.last, self.told = now, bool(progress)
