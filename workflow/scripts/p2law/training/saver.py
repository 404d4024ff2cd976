"""What happens between steps: progress, heartbeat, a saved state now and then, stopping."""

import time
from collections.abc import Mapping
from pathlib import Path

from p2law.training import state
from p2law.training.lease import Lease
from p2law.training.loop import Loop
from p2law.training.progress import Progress
from p2law.training.schedule import Leg
from p2law.training.stop import Stop, Stopped

SAVE_EVERY = 60.0
"""Seconds between saved states, at least; twenty times a save's own duration where that is more."""

GO_ON, SAVE, STOP = range(3)


class Saver:
    """What happens between steps: progress and heartbeat, a state now and then, stopping.

    ``lease`` is None in processes that do not write.
    """

    def __init__(
        self,
        root: Path,
        identity: Mapping[str, str],
        lease: Lease | None,
        stop: Stop,
        progress: Progress,
    ) -> None:
        self.root, self.identity = root, identity
        self.lease, self.stop, self.progress = lease, stop, progress
        self.leg: Leg | None = None
        self.saved = time.monotonic()
        self.every = SAVE_EVERY

    def __call__(self, loop: Loop) -> None:
        """After a step of ``self.leg``. Raises :class:`Stopped` once the state is saved."""
        assert self.leg is not None
        if self.lease:
            record = self.progress.record(
                leg=self.leg.name,
                step=loop.step,
                loss=loop.losses[-1],
                learning_rate=self.leg.rate(loop.step - 1),
            )
            self.lease.beat(record)
        due = self.lease is not None and time.monotonic() - self.saved > self.every
        code = loop.agree(STOP if self.stop.wanted() else SAVE if due else GO_ON)
        if code >= SAVE:
            self.save(loop, self.root / self.leg.name)
        if code == STOP:
            reason = self.stop.wanted() or "another process was stopped"
            raise Stopped(f"{reason}: saved {self.leg.name} at step {loop.step}")

    def save(self, loop: Loop, folder: Path, kept: int | None = state.KEPT) -> None:
        """Write the loop's state into a leg's folder; all processes go on together."""
        began = time.monotonic()
        tensors = loop.tensors()
        extra = {"tokens": loop.step * loop.recipe.batch_tokens, "losses": list(loop.losses)}
        if self.lease:
            state.write(folder, loop.step, tensors, identity=self.identity, extra=extra, kept=kept)
        loop.accelerator.wait_for_everyone()
        self.saved = time.monotonic()
        spent = self.saved - began
        self.every = max(SAVE_EVERY, 20.0 * spent)
        # Both vary, on shared disks more than twofold now and then: MARGIN is for that.
        self.stop.reserve(2.0 * (spent + loop.seconds / max(loop.trained, 1)))
