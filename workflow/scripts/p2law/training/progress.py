"""Progress of a run: a bar on a terminal, else one line of JSON an interval.

The same record is the lease's heartbeat, from which `status` tells how a run is doing.
"""

import json
import resource
import sys
import time
from typing import Any, TextIO

EVERY = 10.0
"""Seconds between lines."""


class Progress:
    """Counts the steps of one process's work and tells how far it is.

    ``steps`` is how many this process will take, ``batch_tokens`` the tokens of each.
    """

    def __init__(self, steps: int, batch_tokens: int, stream: TextIO = sys.stdout) -> None:
        self.steps, self.batch_tokens, self.stream = steps, batch_tokens, stream
        self.done = 0
        self.bar = None
        if stream.isatty():
            from tqdm import tqdm

            self.bar = tqdm(
                total=steps * batch_tokens, unit=" tokens", unit_scale=True, file=stream
            )
        self.started = self.printed = time.monotonic()

    def record(self, *, leg: str, step: int, loss: float, learning_rate: float) -> dict[str, Any]:
        """What can be said after one more step; shown, or printed when the interval is over."""
        self.done += 1
        now = time.monotonic()
        speed = self.done * self.batch_tokens / max(now - self.started, 1e-9)
        left = (self.steps - self.done) * self.batch_tokens
        record = {
            "leg": leg,
            "step": step,
            "tokens": step * self.batch_tokens,
            "loss": round(loss, 5),
            "learning_rate": learning_rate,
            "tokens_per_second": round(speed, 1),
            "eta_seconds": round(left / speed, 1),
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        if self.bar is not None:
            self.bar.set_postfix(leg=leg, loss=f"{loss:.3f}", refresh=False)
            self.bar.update(self.batch_tokens)
            if self.done == self.steps:
                self.bar.close()
        elif now - self.printed >= EVERY or self.done == self.steps:
            print(json.dumps(record), file=self.stream, flush=True)
            self.printed = now
        return record
