"""The table of pruned models: one row a variant, its loss before any post-training.

The damage Lp - L0 is a difference over the same held-out rows, so its standard error is that of the
paired differences row by row: far below the losses' own, whose rows differ in difficulty.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from p2law.results.manifest import read_manifest, verify_files
from p2law.study.grid import Model, Variant
from p2law.study.stages import Stages
from p2law.study.stages.measured import BASE
from p2law.study.stages.models import start
from p2law.tables.gather import check_rows

ROWS = "rows.safetensors"

COLUMNS = (
    *("study", "family", "model", "method", "prune", "settings", "rate", "rate_asked", "variant"),
    *("N0", "N", "N0_nonembedding", "N_nonembedding"),
    *("L0", "L0_se", "Lp", "Lp_se", "damage", "damage_se", "perplexity", "bits_per_byte"),
    *("calibration_windows", "calibration_sha256", "seed"),
    *("sequence_length", "evaluation", "evaluation_tokens", "tokenizer"),
)
"""Losses are nats per token; damage is Lp - L0; perplexity exp(Lp); settings the method's in
words. What jobs took is not here but in the report's jobs.csv: equal runs give equal bytes."""


def oneshot(stages: Stages) -> list[dict[str, Any]]:
    """Rows of all variants whose evaluation and base's are there, in the study's order.

    Raises :class:`UserError` where a variant was evaluated on other rows than its base.
    """
    study, evaluate = stages.study, stages["evaluate"]
    present = {names for names in evaluate.results() if evaluate.path(*names).exists()}
    rows: list[dict[str, Any]] = []
    for model in study.models.values():
        for method in study.settings.methods:
            if {(model.name, BASE), (model.name, method)} <= present:
                rows += _variants(stages, model, method)
    return rows


def _variants(stages: Stages, model: Model, method: str) -> Iterator[dict[str, Any]]:
    study, evaluate = stages.study, stages["evaluate"]
    base_path, path = evaluate.path(model.name, BASE), evaluate.path(model.name, method)
    base, group = (verify_files(p)["results"] for p in (base_path, path))
    check_rows(base, group, path, model.name)
    tokenizer = read_manifest(stages["corpus"].path(model.family))["files"]["tokenizer.json"]
    before, base_sums = base["checkpoints"][BASE], _sums(base_path, [BASE])
    wanted = [v for v in study.variants.values() if (v.model, v.method) == (model.name, method)]
    named = {f"{v.asked}/pruned": v for v in wanted if f"{v.asked}/pruned" in group["checkpoints"]}
    sums = _sums(path, list(named))
    for name, variant in named.items():
        after = group["checkpoints"][name]
        yield {
            **_identity(stages, model, variant),
            **_made(stages, variant),
            "L0": before["loss"],
            "L0_se": before["loss_se"],
            "Lp": after["loss"],
            "Lp_se": after["loss_se"],
            "damage": after["loss"] - before["loss"],
            "damage_se": _standard_error(sums[name] - base_sums[BASE], group),
            "perplexity": math.exp(min(after["loss"], 700.0)),
            "bits_per_byte": after["bits_per_byte"],
            "sequence_length": study.settings.corpus.sequence_length,
            "evaluation": group["evaluation"],
            "evaluation_tokens": group["evaluation_tokens"],
            "tokenizer": tokenizer["sha256"][:16],
        }


def _identity(stages: Stages, model: Model, variant: Variant) -> dict[str, Any]:
    study = stages.study
    method = study.settings.methods[variant.method]
    return {
        "study": study.name,
        "family": model.family,
        "model": model.name,
        "method": variant.method,
        "prune": method.prune,
        "settings": method.described(),
        "rate_asked": float(variant.asked),
        "variant": variant.name,
    }


def _made(stages: Stages, variant: Variant) -> dict[str, Any]:
    """What the prune stage counted and measured of a variant."""
    record = read_manifest(stages.path(start(variant)))
    counts = ("rate", "N0", "N", "N0_nonembedding", "N_nonembedding")
    results = record["results"]
    windows = record["spec"]["calibration"]["windows"]
    return {
        **{name: results[name] for name in (*counts, "calibration_sha256", "seed")},
        "calibration_windows": windows if results["calibration_sha256"] else 0,
    }


def _sums(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Summed nats of each held-out row, float64 [rows], of an evaluation's checkpoints."""
    from safetensors import safe_open

    with safe_open(path.parent / ROWS, "np") as file:
        return {name: file.get_tensor(name) for name in names}


def _standard_error(difference: np.ndarray, group: dict[str, Any]) -> float:
    """Standard error of the mean difference, nats per token, over rows."""
    n = len(difference)
    spread = float(np.std(difference / group["targets_per_row"], ddof=1)) if n > 1 else 0.0
    return spread / math.sqrt(n)
