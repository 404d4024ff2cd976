"""A base model trained by the workflow: random weights, one WSD run over one budget."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2law.checkpoints import io
from p2law.checkpoints.count import count
from p2law.corpus.packed import Packed
from p2law.errors import UserError
from p2law.results import manifest
from p2law.training import parallel, points, recipe
from p2law.training.loop import Loop, Means
from p2law.training.progress import Progress
from p2law.training.run import Run, check_corpus, hold, identity, planned, speed
from p2law.training.saver import Saver
from p2law.training.stop import Stop


def pretrain(
    spec: Mapping[str, Any],
    corpus: Path,
    out: Path,
    limit: float | None = None,
    means: Means = Means(),  # noqa: B008 - frozen
) -> None:
    """Train a model of ``spec["config"]`` and write its checkpoint and manifest to ``out``.

    ``corpus`` is a manifest, ``limit`` seconds of wall clock, ``means`` how it is computed.
    Raises :class:`~p2law.training.stop.Stopped` where a signal or the limit ended it, its state
    saved.
    """
    started = time.time()
    asked = recipe.parse(spec["train"])
    if asked.tokens is None:
        raise UserError("train.tokens: missing; a base model needs its number of training tokens")
    inputs = {"corpus": corpus}
    root, record = out / "state" / spec["key"][:16], out / "state" / "record.json"
    plan, _ = planned({"schedule": "wsd", "budgets": {asked.tokens: spec["key"]}}, asked)
    ((steps, leg),) = plan.items()
    with Stop(limit) as stop, hold(root, stop) as lease:
        if points.settled(out, record, spec["key"], inputs):
            return
        loop = _loop(spec, asked, corpus, steps, means)
        if lease:
            print(loop.computes_on(), flush=True)
        progress = Progress(steps, asked.batch_tokens)
        saver = Saver(root, identity(spec, None, corpus), lease, stop, progress)
        Run(loop, saver, rewinds=False).reach(leg, steps)
        model = parallel.gathered(loop.model)
        if not lease:
            return
        manifest.write_manifest(
            out,
            stage="base",
            spec=spec,
            inputs=inputs,
            files=io.save(model, out),
            results=_results(spec, asked, loop, count(model)),
            started=started,
        )
        assert points.settled(out, record, spec["key"], inputs)
        for folder in ("forks", "trunk", leg.name):
            shutil.rmtree(root / folder, ignore_errors=True)


def _loop(
    spec: Mapping[str, Any], asked: recipe.Recipe, corpus: Path, steps: int, means: Means
) -> Loop:
    """A fresh model and its corpus, ready to train."""
    packed = Packed(corpus.parent)
    check_corpus(packed, spec["sequence_length"])
    vocabulary = spec["config"].get("vocab_size")
    if vocabulary != packed.vocabulary:
        raise UserError(f"config.vocab_size: {vocabulary}; the corpus has {packed.vocabulary}")
    model = io.fresh(dict(spec["config"]), spec["seed"])
    return Loop(model, packed, asked, seed=spec["seed"], steps=steps, means=means)


def _results(
    spec: Mapping[str, Any], asked: recipe.Recipe, loop: Loop, parameters: Mapping[str, int]
) -> dict[str, Any]:
    """A base model's own numbers; seconds and speed are those of this process."""
    return {
        "N0": parameters["total"],
        "N0_nonembedding": parameters["nonembedding"],
        "tokens": asked.tokens,
        "step": loop.step,
        "seed": spec["seed"],
        "last_losses": list(loop.losses),
        "seconds_training": round(loop.seconds, 3),
        "tokens_per_second": speed(loop.trained * asked.batch_tokens, loop.seconds),
    }
