"""From evaluations to the loss table: one row a point, in an order that only the study sets.

Points of controls (the unpruned model, post-trained by the same recipe on the same rows) are rows
of a table of their own, and stand beside each point of the pruned models as ``Lc``.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from p2law.errors import UserError
from p2law.results.manifest import read_manifest
from p2law.study.grid import CONTROL, Model, Run
from p2law.study.stages import Stages
from p2law.study.stages.measured import BASE
from p2law.study.stages.models import start
from p2law.training import schedule

COLUMNS = (
    *("study", "family", "model", "method", "rate", "rate_asked", "variant", "run", "seed"),
    *("N0", "N", "N0_nonembedding", "N_nonembedding"),
    *("D", "step", "tokens_trained", "recipe", "schedule", "peak_lr", "batch_tokens"),
    *("sequence_length", "L0", "Lp", "Lc", "loss", "loss_se", "bits_per_byte"),
    *("evaluation", "evaluation_tokens", "tokenizer"),
)
"""Losses are nats per token on the held-out rows; N counts parameters; D and step count from the
start of post-training; Lc is the control's loss at the same D, by the same recipe and seed, empty
where there is none; tokens_trained is what the run has trained on by then, decays of smaller
budgets included; rate is the measured share of N0 removed."""


class Gathered(NamedTuple):
    """Rows of the loss table, rows of the controls, and every point with its state."""

    points: list[dict[str, Any]]
    controls: list[dict[str, Any]]
    coverage: list[dict[str, Any]]


def gather(stages: Stages) -> Gathered:
    """What the finished evaluations hold. Reads manifests only.

    Raises :class:`UserError` if a point's base or variant was not evaluated, or if L0 or Lp rest on
    other held-out rows than the point.
    """
    study, evaluate = stages.study, stages["evaluate"]
    present = {names for names in evaluate.results() if evaluate.path(*names).exists()}
    found = Gathered([], [], [])
    for model in study.models.values():
        at: dict[tuple[str, int, int], float] = {}
        for group in study.groups(model.name):
            rows = []
            if {(model.name, BASE), (model.name, group)} <= present:
                rows = list(_points(stages, model, group))
            if group == CONTROL:
                at = {(row["recipe"], row["seed"], row["D"]): row["loss"] for row in rows}
            for row in rows:
                row["Lc"] = at.get((row["recipe"], row["seed"], row["D"]), math.nan)
            (found.controls if group == CONTROL else found.points).extend(rows)
            there = {(row["run"], row["D"]) for row in rows}
            found.coverage.extend(_coverage(stages, model.name, group, there))
    return found


def _points(stages: Stages, model: Model, group: str) -> Iterator[dict[str, Any]]:
    """Rows of one model and method, or of its control."""
    study, evaluate = stages.study, stages["evaluate"]
    base = read_manifest(evaluate.path(model.name, BASE))["results"]
    path = evaluate.path(model.name, group)
    found = read_manifest(path)["results"]
    corpus = read_manifest(stages["corpus"].path(model.family))
    check_rows(base, found, path, model.name)
    losses = {**base["checkpoints"], **found["checkpoints"]}
    for run in study.group_runs(model.name, group):
        variant = read_manifest(stages.path(start(run.variant)))["results"]
        pruned = BASE if group == CONTROL else f"{run.variant.asked}/pruned"
        trained = _tokens_trained(stages, run)
        for budget in study.budgets:
            point = losses.get(f"{run.label}/D{budget}")
            if point is None:  # of a partial study: the coverage names it
                continue
            yield {
                **_identity(stages, model, run),
                **_counts(variant),
                **_training(stages, run, budget),
                "tokens_trained": trained[budget],
                "L0": base["checkpoints"][BASE]["loss"],
                "Lp": losses[pruned]["loss"],
                **{name: point[name] for name in ("loss", "loss_se", "bits_per_byte")},
                "evaluation": found["evaluation"],
                "evaluation_tokens": found["evaluation_tokens"],
                "tokenizer": corpus["files"]["tokenizer.json"]["sha256"][:16],
            }


def _counts(variant: dict[str, Any]) -> dict[str, Any]:
    """Rate and parameter counts that the prune stage measured; a control's are its base's."""
    counts = ("N0", "N0_nonembedding")
    kept = {name.replace("N0", "N"): variant[name] for name in counts}
    measured = {"rate": 0.0, **kept, **{name: variant[name] for name in counts}}
    return {name: variant.get(name, value) for name, value in measured.items()}


def check_rows(base: dict[str, Any], group: dict[str, Any], path: Path, model: str) -> None:
    """Refuse an evaluation on other held-out rows than its base's: losses would not compare."""
    if group["evaluation"] != base["evaluation"]:
        raise UserError(
            f"{path}: evaluated on other rows ({group['evaluation']}) than the base of"
            f" {model} ({base['evaluation']}); delete it and run again"
        )


def _identity(stages: Stages, model: Model, run: Run) -> dict[str, Any]:
    return {
        "study": stages.study.name,
        "family": model.family,
        "model": model.name,
        "method": run.variant.method,
        "rate_asked": float(run.variant.asked),
        "variant": run.variant.name,
        "run": f"{model.name}/{run.name}",
        "seed": run.seed,
    }


def _training(stages: Stages, run: Run, budget: int) -> dict[str, Any]:
    study = stages.study
    recipe = study.recipes[run.recipe]
    return {
        "D": budget,
        "step": budget // recipe.batch_tokens,
        "recipe": run.recipe,
        "schedule": recipe.schedule,
        "peak_lr": study.peak(run),
        "batch_tokens": recipe.batch_tokens,
        "sequence_length": study.settings.corpus.sequence_length,
    }


def _tokens_trained(stages: Stages, run: Run) -> dict[int, int]:
    """Tokens that a run has trained on when a budget's point is made, by budget."""
    study = stages.study
    recipe = study.recipes[run.recipe]
    batch = recipe.batch_tokens
    plan = schedule.legs(
        recipe.schedule,
        [budget // batch for budget in study.budgets],
        peak=study.peak(run),
        warmup_steps=recipe.warmup_tokens // batch,
        decay=recipe.decay,
    )
    added = schedule.work(plan)
    return {n * batch: batch * sum(v for m, v in added.items() if m <= n) for n in added}


def _coverage(
    stages: Stages, model: str, group: str, found: set[tuple[str, int]]
) -> list[dict[str, Any]]:
    study, posttrain = stages.study, stages["posttrain"]
    return [
        {
            "run": f"{model}/{run.name}",
            "D": budget,
            "state": "present" if (f"{model}/{run.name}", budget) in found else "missing",
            "manifest": str(posttrain.path(model, run.name, f"D{budget}")),
        }
        for run in study.group_runs(model, group)
        for budget in study.budgets
    ]
