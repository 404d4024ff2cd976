"""A post-training run: from a pruned model to a point at every budget.

The schedule's legs say which steps lead to each budget (see :mod:`p2law.training.schedule`). A
run keeps, under ``state/<key>/``, the state where each branch leaves the trunk (``forks/``, for
good: a budget added later starts there) and the last two states of the leg in training. A point
that is there already is not trained again.
"""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from p2law import canonical
from p2law.checkpoints import io
from p2law.corpus.packed import Packed
from p2law.errors import UserError, writing
from p2law.results import manifest
from p2law.training import parallel, points, recipe, schedule, state
from p2law.training.lease import Lease
from p2law.training.loop import Loop, Means
from p2law.training.progress import Progress
from p2law.training.saver import Saver
from p2law.training.schedule import Leg
from p2law.training.stop import Stop


class Run:
    """Moves a loop along the legs of a schedule, from whatever saved state is nearest."""

    def __init__(self, loop: Loop, saver: Saver, rewinds: bool) -> None:
        self.loop, self.saver, self.root = loop, saver, saver.root
        self.at = ""  # the leg in memory; "" is the untrained start
        self.start = {n: w.detach().clone() for n, w in loop.weights.items()} if rewinds else None

    def reach(self, leg: Leg, target: int) -> tuple[int, int]:
        """Bring the loop to step ``target`` of a leg; returns the trunk and leg steps trained."""
        self._approach(leg, target)
        trunk = 0
        if leg.origin is not None and self.at != leg.name:
            trunk = self._train(leg.origin, leg.start)
            # Agreed on before it is written: a process must not see the others' new folder.
            if self.loop.agree(leg.start not in state.steps(self.root / "forks")):
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
        ways: list[tuple[str, tuple[str, ...], int]] = [(leg.name, (leg.name,), target)]
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
    spec: Mapping[str, Any],
    pruned: Path,
    corpus: Path,
    out: Path,
    limit: float | None = None,
    means: Means = Means(),  # noqa: B008 - frozen
    teacher: Path | None = None,
) -> None:
    """Train a run to all its budgets that are not there yet, and write their points.

    ``pruned`` and ``corpus`` are manifests, ``out`` the run's folder, ``limit`` seconds of wall
    clock, ``means`` how it is computed, ``teacher`` the unpruned model's manifest where the
    recipe distils. Raises
    :class:`~p2law.training.stop.Stopped` where a signal or the limit ended it, its state saved.
    """
    asked = recipe.parse(spec["train"])
    root, records = out / "state" / spec["key"][:16], out / "state" / "points"
    inputs = {"pruned": pruned, "corpus": corpus}
    if teacher is not None:
        inputs["teacher"] = teacher
    plan, budgets = planned(spec, asked)
    with Stop(limit) as stop, hold(root, stop) as lease:
        todo = {
            steps: plan[steps]
            for steps, (tokens, key) in sorted(budgets.items())
            if not points.settled(out / f"D{tokens}", records / f"{key}.json", key, inputs)
        }
        if not todo:
            return
        loop = _loop(spec, asked, pruned, corpus, teacher, max(todo), means)
        if lease:
            print(loop.computes_on(), flush=True)
        progress = Progress(_work(root, todo), asked.batch_tokens)
        saver = Saver(root, identity(spec, pruned, corpus, teacher), lease, stop, progress)
        run = Run(loop, saver, rewinds=spec["schedule"] == "cosine")
        for steps, leg in todo.items():
            started, seconds = time.time(), loop.seconds
            trained = run.reach(leg, steps)
            tokens, key = budgets[steps]
            point = {**spec, "key": key, "trunk": spec["key"], "budget": tokens}
            del point["budgets"]
            results = _results(spec, asked, loop, trained, loop.seconds - seconds)
            _emit(out / f"D{tokens}", records, point, inputs, loop, results, started)
            if lease and leg.stop == steps and leg.origin is not None:
                shutil.rmtree(root / leg.name, ignore_errors=True)
            loop.accelerator.wait_for_everyone()


def planned(
    spec: Mapping[str, Any], asked: recipe.Recipe
) -> tuple[dict[int, Leg], dict[int, tuple[int, str]]]:
    """The leg of each budget, and the budgets' (tokens, key), both by the budget's steps."""
    budgets = {
        asked.steps(int(tokens), "budgets"): (int(tokens), key)
        for tokens, key in spec["budgets"].items()
    }
    legs = schedule.legs(
        spec["schedule"],
        budgets,
        peak=asked.learning_rate,
        warmup_steps=asked.warmup_tokens // asked.batch_tokens,
        decay=asked.decay,
    )
    return legs, budgets


@contextmanager
def hold(root: Path, stop: Stop) -> Iterator[Lease | None]:
    """The lease of a run's state for the process that writes, None for the others.

    What interrupted saves left behind is swept away once the lease is held.
    """
    if not parallel.is_main():
        yield None
        return
    with Lease(root / "lease.json", stop.wanted) as lease:
        state.sweep(root)
        yield lease


def identity(
    spec: Mapping[str, Any], start: Path | None, corpus: Path, teacher: Path | None = None
) -> dict[str, str]:
    """What a resuming run must share with the run that wrote a state, bit for bit."""
    shared = {"key": spec["key"], "torch": torch.__version__}
    shared["corpus"] = manifest.read_manifest(corpus)["files"]["train.bin"]["sha256"]
    for name, path in {"start": start, "teacher": teacher}.items():
        if path is not None:
            shared[name] = canonical.digest(manifest.read_manifest(path)["files"])
    return shared


def _loop(
    spec: Mapping[str, Any],
    asked: recipe.Recipe,
    pruned: Path,
    corpus: Path,
    teacher: Path | None,
    steps: int,
    means: Means,
) -> Loop:
    """The pruned model, its corpus and its teacher, ready to train."""
    packed = Packed(corpus.parent)
    check_corpus(packed, spec["sequence_length"])
    if (teacher is None) != (asked.distil is None):
        raise UserError(
            f"train.distil: {asked.distil} with teacher {teacher}; distillation needs the unpruned"
            " model (--teacher), training on the text takes none"
        )
    models = {path: io.load(path.parent) for path in (pruned, teacher) if path is not None}
    for path, model in models.items():
        packed.check_vocabulary(model.config.vocab_size, path.parent / "config.json")
    return Loop(
        models[pruned],
        packed,
        asked,
        seed=spec["seed"],
        steps=steps,
        masks=io.load_masks(pruned.parent),
        teacher=models.get(teacher),
        means=means,
    )


def _work(root: Path, todo: Mapping[int, Leg]) -> int:
    """Steps that lie between the saved states and the budgets to do, for the ETA."""

    def saved(leg: str, until: int) -> int:
        folders = (leg, "forks") if leg == "trunk" else ()
        return max((n for f in folders for n in state.steps(root / f) if n <= until), default=0)

    return sum(schedule.work(todo, saved).values())


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
    records: Path,
    point: Mapping[str, Any],
    inputs: Mapping[str, Path],
    loop: Loop,
    results: Mapping[str, Any],
    started: float,
) -> None:
    """Write a point's checkpoint, masks, manifest and record, in this order."""
    loop.masks.check(loop.optimizer)
    model = parallel.gathered(loop.model)
    if not parallel.is_main():
        return
    record = records / f"{point['key']}.json"
    record.unlink(missing_ok=True)
    (folder / manifest.NAME).unlink(missing_ok=True)
    files = io.save(model, folder)
    masks = inputs["pruned"].parent / io.MASKS
    if masks.exists():
        with writing(folder / io.MASKS):
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
    assert points.settled(folder, record, point["key"], inputs)
