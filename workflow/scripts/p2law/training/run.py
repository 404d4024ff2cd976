"""A post-training run: from a pruned model to a point at every budget.

The schedule's legs say which steps lead to each budget (see :mod:`p2law.training.schedule`). A
run keeps, under ``state/<key>/``, the state where each branch leaves the trunk (``forks/``, for
good: a budget added later starts there) and the last two states of the leg in training. A point
that is there already is not trained again.
"""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from p2law import manifest
from p2law.checkpoints import io
from p2law.corpus.packed import Packed
from p2law.errors import UserError
from p2law.training import points, recipe, schedule, state
from p2law.training.lease import Lease
from p2law.training.loop import Loop
from p2law.training.progress import Progress
from p2law.training.schedule import Leg
from p2law.training.stop import Stop, Stopped

SAVE_EVERY = 60.0
"""Seconds between saved states, at least; twenty times a save's own duration where that is more."""


class Saver:
    """What happens between steps: progress and heartbeat, a state now and then, stopping."""

    def __init__(
        self, root: Path, identity: Mapping[str, str], lease: Lease, stop: Stop, progress: Progress
    ):
        self.root, self.identity = root, identity
        self.lease, self.stop, self.progress = lease, stop, progress
        self.leg: Leg | None = None
        self.saved = time.monotonic()
        self.every = SAVE_EVERY

    def __call__(self, loop: Loop) -> None:
        """After a step of ``self.leg``. Raises :class:`Stopped` once the state is saved."""
        assert self.leg is not None
        rate = self.leg.rate(loop.step - 1)
        record = self.progress.record(
            leg=self.leg.name, step=loop.step, loss=loop.losses[-1], learning_rate=rate
        )
        self.lease.beat(record)
        reason = self.stop.wanted()
        if reason or time.monotonic() - self.saved > self.every:
            self.save(loop, self.root / self.leg.name)
        if reason:
            raise Stopped(f"{reason}: saved {self.leg.name} at step {loop.step}")

    def save(self, loop: Loop, folder: Path, kept: int | None = state.KEPT) -> None:
        """Write the loop's state into a leg's folder."""
        began = time.monotonic()
        extra = {"tokens": loop.step * loop.recipe.batch_tokens, "losses": list(loop.losses)}
        state.write(
            folder, loop.step, loop.tensors(), identity=self.identity, extra=extra, kept=kept
        )
        self.saved = time.monotonic()
        self.every = max(SAVE_EVERY, 20.0 * (self.saved - began))


class Run:
    """Moves a loop along the legs of a schedule, from whatever saved state is nearest."""

    def __init__(self, loop: Loop, saver: Saver, rewinds: bool):
        self.loop, self.saver, self.root = loop, saver, saver.root
        self.at = ""  # the leg in memory; "" is the untrained start
        self.start = {n: w.detach().clone() for n, w in loop.weights.items()} if rewinds else None

    def reach(self, leg: Leg, target: int) -> tuple[int, int]:
        """Bring the loop to step ``target`` of a leg; returns the trunk and leg steps trained."""
        self._approach(leg, target)
        trunk = 0
        if leg.origin is not None and self.at != leg.name:
            trunk = self._train(leg.origin, leg.start)
            if leg.start not in state.steps(self.root / "forks"):
                self.saver.save(self.loop, self.root / "forks", kept=None)
        return trunk, self._train(leg, target)

    def _train(self, leg: Leg, until: int) -> int:
        began = self.loop.step
        self.saver.leg = leg
        self.loop.advance(until, leg.rate, self.saver)
        self.at = leg.name
        return self.loop.step - began

    def _approach(self, leg: Leg, target: int) -> None:
        """Take the furthest state that lies on the way: the leg's own, else its origin's."""
        ways = [(leg.name, (leg.name,), target)]
        if leg.origin is not None:
            ways.append((leg.origin.name, (leg.origin.name, "forks"), leg.start))
        for name, folders, limit in ways:
            saved = [(n, f) for f in folders for n in state.steps(self.root / f) if n <= limit]
            step, folder = max(saved, default=(-1, ""))
            if self.at == name and step <= self.loop.step <= limit:
                return
            if step >= 0:
                tensors, record = state.read(self.root / folder, step, identity=self.saver.identity)
                self.loop.restore(tensors, step, record["losses"])
                self.at = name
                return
        if self.at:
            assert self.start is not None
            self.loop.restore({f"weight/{n}": w for n, w in self.start.items()}, 0, [])
            self.at = ""


def posttrain(
    spec: Mapping[str, Any], pruned: Path, corpus: Path, out: Path, limit: float | None = None
) -> None:
    """Train a run to all its budgets that are not there yet, and write their points.

    ``pruned`` and ``corpus`` are manifests, ``out`` the run's folder, ``limit`` seconds of wall
    clock. Raises :class:`Stopped` where a signal or the limit ended it, with its state saved.
    """
    asked = recipe.parse(spec["train"])
    root, records = out / "state" / spec["key"][:16], out / "state" / "points"
    inputs = {"pruned": pruned, "corpus": corpus}
    budgets = {
        asked.steps(int(tokens), "budgets"): (int(tokens), key)
        for tokens, key in spec["budgets"].items()
    }
    plan = schedule.legs(
        spec["schedule"],
        budgets,
        peak=asked.learning_rate,
        warmup_steps=asked.warmup_tokens // asked.batch_tokens,
        decay=asked.decay,
    )
    with Stop(limit) as stop, Lease(root / "lease.json") as lease:
        todo = {
            steps: plan[steps]
            for steps, (tokens, key) in sorted(budgets.items())
            if not points.settled(out / f"D{tokens}", records / f"{key}.json", key, inputs)
        }
        if not todo:
            return
        state.sweep(root)
        loop = _loop(spec, asked, pruned, corpus, max(todo))
        progress = Progress(_work(root, todo), asked.batch_tokens)
        run = Run(
            loop,
            Saver(root, identity(spec, pruned, corpus), lease, stop, progress),
            rewinds=spec["schedule"] == "cosine",
        )
        for steps, leg in todo.items():
            started, seconds = time.time(), loop.seconds
            trained = run.reach(leg, steps)
            tokens, key = budgets[steps]
            results = _results(spec, asked, loop, trained, loop.seconds - seconds)
            point = {**spec, "key": key, "trunk": spec["key"], "budget": tokens}
            del point["budgets"]
            folder, record = out / f"D{tokens}", records / f"{key}.json"
            record.unlink(missing_ok=True)
            _emit(folder, point, inputs, loop, results, started)
            assert points.settled(folder, record, key, inputs)
            if leg.stop == steps and leg.origin is not None:
                shutil.rmtree(root / leg.name, ignore_errors=True)


def identity(spec: Mapping[str, Any], start: Path | None, corpus: Path) -> dict[str, str]:
    """What a resuming run must share with the run that wrote a state, bit for bit."""
    shared = {"key": spec["key"], "torch": torch.__version__}
    shared["corpus"] = manifest.read_manifest(corpus)["files"]["train.bin"]["sha256"]
    if start is not None:
        shared["start"] = manifest.digest(manifest.read_manifest(start)["files"])
    return shared


def _loop(
    spec: Mapping[str, Any], asked: recipe.Recipe, pruned: Path, corpus: Path, steps: int
) -> Loop:
    """The pruned model and its corpus, ready to train."""
    packed = Packed(corpus.parent)
    check_corpus(packed, spec["sequence_length"])
    model = io.load(pruned.parent)
    masks = io.load_masks(pruned.parent)
    return Loop(model, packed, asked, seed=spec["seed"], steps=steps, masks=masks)


def _work(root: Path, todo: Mapping[int, Leg]) -> int:
    """Steps that lie between the saved states and the budgets to do, for the ETA."""
    work, reached = 0, {}
    for steps, leg in todo.items():
        trunk = leg.origin
        if trunk is not None:
            saved = [n for f in ("forks", trunk.name) for n in state.steps(root / f)]
            start = max([n for n in saved if n <= leg.start], default=0)
            work += leg.start - max(start, reached.get(trunk.name, 0))
            reached[trunk.name] = leg.start
        work += steps - reached.get(leg.name, leg.start)
        reached[leg.name] = steps
    return work


def _results(
    spec: Mapping[str, Any],
    asked: recipe.Recipe,
    loop: Loop,
    trained: tuple[int, int],
    seconds: float,
) -> dict[str, Any]:
    """A point's own numbers; tokens trained are those of this process since its last point."""
    trunk_tokens, branch_tokens = (steps * asked.batch_tokens for steps in trained)
    return {
        "tokens": loop.step * asked.batch_tokens,
        "step": loop.step,
        "seed": spec["seed"],
        "schedule": spec["schedule"],
        "peak_lr": asked.learning_rate,
        "batch_tokens": asked.batch_tokens,
        "sequence_length": spec["sequence_length"],
        "trunk_tokens": trunk_tokens,
        "branch_tokens": branch_tokens,
        "seconds_training": round(seconds, 3),
        "tokens_per_second": speed(trunk_tokens + branch_tokens, seconds),
        "last_losses": list(loop.losses),
    }


def speed(tokens: int, seconds: float) -> float | None:
    """Tokens a second; None where this process trained none."""
    return round(tokens / seconds, 1) if tokens else None


def check_corpus(packed: Packed, sequence_length: int) -> None:
    """Raise where the corpus is packed for another sequence length than the spec's."""
    if packed.sequence_length != sequence_length:
        raise UserError(
            f"sequence_length: {sequence_length}; the corpus is packed in rows of"
            f" {packed.sequence_length}"
        )


def _emit(
    folder: Path,
    point: Mapping[str, Any],
    inputs: Mapping[str, Path],
    loop: Loop,
    results: Mapping[str, Any],
    started: float,
) -> None:
    """Write a point's checkpoint, masks and, last, its manifest."""
    loop.masks.check(loop.optimizer)
    (folder / manifest.NAME).unlink(missing_ok=True)
    files = io.save(loop.model, folder)
    masks = inputs["pruned"].parent / io.MASKS
    if masks.exists():
        shutil.copyfile(masks, folder / io.MASKS)
        files = [*files, io.MASKS]
    manifest.write_manifest(
        folder,
        stage="posttrain",
        spec=point,
        inputs=inputs,
        files=files,
        results=results,
        started=started,
    )
