"""A base model trained by the workflow: random weights, one WSD run over one budget."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2law import manifest
from p2law.checkpoints import io
from p2law.checkpoints.count import count
from p2law.corpus.packed import Packed
from p2law.errors import UserError
from p2law.training import points, recipe, schedule, state
from p2law.training.lease import Lease
from p2law.training.loop import Loop
from p2law.training.progress import Progress
from p2law.training.run import Run, Saver, check_corpus, identity, speed
from p2law.training.stop import Stop


def pretrain(spec: Mapping[str, Any], corpus: Path, out: Path, limit: float | None = None) -> None:
    """Train a model of ``spec["config"]`` and write its checkpoint and manifest to ``out``.

    ``corpus`` is a manifest, ``limit`` seconds of wall clock. Raises
    :class:`~p2law.training.stop.Stopped` where a signal or the limit ended it, its state saved.
    """
    started = time.time()
    asked = recipe.parse(spec["train"])
    if asked.tokens is None:
        raise UserError("train.tokens: missing; a base model needs its number of training tokens")
    steps = asked.steps(asked.tokens, "train.tokens")
    leg = schedule.legs(
        "wsd",
        [steps],
        peak=asked.learning_rate,
        warmup_steps=asked.warmup_tokens // asked.batch_tokens,
        decay=asked.decay,
    )[steps]
    root = out / "state" / spec["key"][:16]
    record = out / "state" / "record.json"
    with Stop(limit) as stop, Lease(root / "lease.json") as lease:
        if points.settled(out, record, spec["key"], {"corpus": corpus}):
            return
        packed = Packed(corpus.parent)
        check_corpus(packed, spec["sequence_length"])
        config = {**spec["config"]}
        if config.get("vocab_size") != packed.vocabulary:
            raise UserError(
                f"config.vocab_size: {config.get('vocab_size')}; the corpus has {packed.vocabulary}"
            )
        state.sweep(root)
        model = io.fresh(config, spec["seed"])
        loop = Loop(model, packed, asked, seed=spec["seed"], steps=steps)
        progress = Progress(steps, asked.batch_tokens)
        saver = Saver(root, identity(spec, None, corpus), lease, stop, progress)
        Run(loop, saver, rewinds=False).reach(leg, steps)
        parameters = count(loop.model)
        results = {
            "N0": parameters["total"],
            "N0_nonembedding": parameters["nonembedding"],
            "tokens": asked.tokens,
            "step": steps,
            "seed": spec["seed"],
            "last_losses": list(loop.losses),
            "seconds_training": round(loop.seconds, 3),
            "tokens_per_second": speed(asked.tokens, loop.seconds),
        }
        manifest.write_manifest(
            out,
            stage="base",
            spec=spec,
            inputs={"corpus": corpus},
            files=io.save(loop.model, out),
            results=results,
            started=started,
        )
        assert points.settled(out, record, spec["key"], {"corpus": corpus})
        for folder in ("forks", "trunk", leg.name):
            shutil.rmtree(root / folder, ignore_errors=True)
