"""Stopping well: on a signal or before a time limit, finish the step, save, ask for a retry."""

import os
import signal
import time
from types import FrameType

RETRY = 75
"""Exit code of a run that saved its state and wants to be started again (EX_TEMPFAIL)."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Stopped(Exception):  # noqa: N818 - a request that was honoured, not an error
    """The run was asked to stop and its state is saved; scripts exit with :data:`RETRY`."""


class Stop:
    """A context in which signals set a flag that the loop reads between steps.

    ``limit`` is a number of seconds from now, None for none; a Slurm job's end is a limit too.
    ``margin`` is how long before the limit to stop (seconds): the time that a save may take.
    """

    def __init__(self, limit: float | None = None, margin: float = 60.0):
        ends = [time.time() + limit] if limit is not None else []
        if "SLURM_JOB_END_TIME" in os.environ:
            ends.append(float(os.environ["SLURM_JOB_END_TIME"]))
        self.end = min(ends) - margin if ends else float("inf")
        self.reason: str | None = None

    def __enter__(self) -> "Stop":
        self.former = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.former.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.reason = signal.Signals(number).name

    def wanted(self) -> str | None:
        """Why the run should stop now, or None."""
        if self.reason is None and time.time() > self.end:
            self.reason = "the time limit"
        return self.reason
