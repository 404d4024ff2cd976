"""Stopping well: on a signal or before a time limit, finish the step, save, ask for a retry."""

import os
import signal
import time
from types import FrameType

RETRY = 75
"""Exit code of a run that saved its state and wants to be started again (EX_TEMPFAIL)."""
MARGIN = 60.0
"""Seconds before a time limit at which a run stops, at least: the processes have to end too."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Stopped(Exception):  # noqa: N818 - a request that was honoured, not an error
    """The run was asked to stop and its state is saved; scripts exit with :data:`RETRY`."""


class Stop:
    """A context in which signals set a flag that the loop reads between steps.

    ``limit`` is a number of seconds from now, None for none; a Slurm job's end is a limit too. The
    run stops :data:`MARGIN` before it, and earlier by what :meth:`reserve` was told.
    """

    def __init__(self, limit: float | None = None) -> None:
        ends = [time.time() + limit] if limit is not None else []
        if "SLURM_JOB_END_TIME" in os.environ:
            ends.append(float(os.environ["SLURM_JOB_END_TIME"]))
        self.end = min(ends, default=float("inf"))
        self.reserved = 0.0
        self.reason: str | None = None

    def __enter__(self) -> "Stop":
        self.former = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.former.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.reason = signal.Signals(number).name

    def reserve(self, seconds: float) -> None:
        """Leave this much time for the step under way and the last save, if it is more than yet."""
        self.reserved = max(self.reserved, seconds)

    def wanted(self) -> str | None:
        """Why the run should stop now, or None."""
        if self.reason is None and time.time() > self.end - MARGIN - self.reserved:
            self.reason = "the time limit"
        return self.reason
