"""A lease keeps a second writer out of a run's state and tells `status` how the run is doing.

The lease is a JSON file that names its holder and is rewritten as a heartbeat with the run's
latest progress. A holder is gone when its process has ended (same machine) or when its heart has
not beaten for :data:`STALE` seconds (another machine); the lease is then taken over. Whoever comes
while that is open waits and looks: a job that was killed on another node has been submitted again
long before its lease has lapsed.
"""

import fcntl
import json
import os
import platform
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2law.canonical import write_json
from p2law.errors import UserError

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


def read(path: Path) -> dict[str, Any] | None:
    """What a lease file says; None where there is none."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def alive(held: Mapping[str, Any]) -> bool:
    """Whether the holder of a lease still runs, as far as this machine can tell."""
    if held["node"] == platform.node():
        return process_started(held["pid"]) == held["process_started"]
    return time.time() - held["beat"] < STALE


class Lease:
    """A context that holds a run's lease. Raises :class:`UserError` where another holds it."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.mine = {
            "token": uuid.uuid4().hex,
            "node": platform.node(),
            "pid": os.getpid(),
            "process_started": process_started(os.getpid()),
            "slurm_job": os.environ.get("SLURM_JOB_ID"),
        }
        self.last = 0.0
        self.told = False

    def __enter__(self) -> "Lease":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            held = self._watched(read(self.path))
            if held and alive(held):
                raise UserError(
                    f"{self.path}: process {held['pid']} on {held['node']} is training this run;"
                    " wait for it or stop it"
                )
            self.beat({})
        return self

    def _watched(self, held: dict[str, Any] | None) -> dict[str, Any] | None:
        """The lease once it is clear whether its holder lives: it has beaten again, or lapsed."""
        while held and held["node"] != self.mine["node"] and alive(held):
            if held["slurm_job"] and held["slurm_job"] == self.mine["slurm_job"]:
                return None  # this very job before it was requeued: Slurm has ended it
            time.sleep(LOOK)
            now = read(self.path)
            if now is None or (now["token"], now["beat"]) != (held["token"], held["beat"]):
                return now
        return held

    def __exit__(self, *_: object) -> None:
        held = read(self.path)
        if held and held["token"] == self.mine["token"]:
            self.path.unlink(missing_ok=True)

    def beat(self, progress: Mapping[str, Any]) -> None:
        """Renew the lease with the run's progress, at most every :data:`BEAT` seconds.

        The first step's progress is told at once. Raises :class:`UserError` if another process has
        taken the run over meanwhile.
        """
        now = time.time()
        if self.told and now - self.last < BEAT:
            return
        held = read(self.path)
        if self.last and (held is None or held["token"] != self.mine["token"]):
            raise UserError(f"{self.path}: another process has taken this run over; stopping")
        write_json(self.path, {**self.mine, "beat": now, "progress": dict(progress)})
        self.last, self.told = now, bool(progress)
