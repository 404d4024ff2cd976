"""From evaluations to the loss table: one row a point, in an order that only the study sets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from p2law.errors import UserError
from p2law.results.manifest import read_manifest
from p2law.study.grid import Model, Run, Study
from p2law.study.specs import BASE, Specs
from p2law.training import schedule

COLUMNS = (
    *("study", "family", "model", "method", "rate", "rate_asked", "variant", "run", "seed"),
    *("N0", "N", "N0_nonembedding", "N_nonembedding"),
    *("D", "step", "tokens_trained", "schedule", "peak_lr", "batch_tokens", "sequence_length"),
    *("L0", "Lp", "loss", "loss_se", "bits_per_byte"),
    *("evaluation", "evaluation_tokens", "tokenizer"),
)
"""Losses are nats per token on the held-out rows; N counts parameters; D and step count from the
start of post-training; tokens_trained is what the run has trained on by then, decays of smaller
budgets included; rate is the measured share of N0 removed."""


def gather(study: Study) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The loss table's rows, and the coverage: every point of the study and whether it is there.

    Reads manifests only. Raises :class:`UserError` if a point's base or variant was not
    evaluated, or if L0 or Lp rest on other held-out rows than the point.
    """
    present = {pair for pair in Specs(study).groups() if study.evaluated_manifest(*pair).exists()}
    rows: list[dict[str, Any]] = []
    coverage: list[dict[str, Any]] = []
    for model in study.models.values():
        for method in study.settings.methods:
            found = []
            if {(model.name, BASE), (model.name, method)} <= present:
                found = list(_points(study, model, method))
            rows += found
            coverage += _coverage(study, model, method, {(r["run"], r["D"]) for r in found})
    return rows, coverage


def _points(study: Study, model: Model, method: str) -> Iterator[dict[str, Any]]:
    """Rows of one model and method."""
    base = read_manifest(study.evaluated_manifest(model.name, BASE))["results"]
    path = study.evaluated_manifest(model.name, method)
    group = read_manifest(path)["results"]
    tokenizer = read_manifest(study.corpus_manifest(model.family))["files"]["tokenizer.json"]
    check_rows(base, group, path, model.name)
    for run in study.group_runs(model.name, method):
        variant = read_manifest(study.variant_manifest(run.variant))["results"]
        label = run.name.removeprefix(f"{method}-")
        losses = group["checkpoints"]
        pruned = losses[f"{run.variant.asked}/pruned"]
        trained = _tokens_trained(study, run)
        for budget in study.budgets:
            point = losses.get(f"{label}/D{budget}")
            if point is None:  # of a partial study: the coverage names it
                continue
            yield {
                **_identity(study, model, run),
                **{name: variant[name] for name in COLUMNS if name in variant},
                **_training(study, run, budget),
                "tokens_trained": trained[budget],
                "L0": base["checkpoints"][BASE]["loss"],
                "Lp": pruned["loss"],
                **{name: point[name] for name in ("loss", "loss_se", "bits_per_byte")},
                "evaluation": group["evaluation"],
                "evaluation_tokens": group["evaluation_tokens"],
                "tokenizer": tokenizer["sha256"][:16],
            }


def check_rows(base: dict[str, Any], group: dict[str, Any], path: Path, model: str) -> None:
    """Refuse an evaluation on other held-out rows than its base's: losses would not compare."""
    if group["evaluation"] != base["evaluation"]:
        raise UserError(
            f"{path}: evaluated on other rows ({group['evaluation']}) than the base of"
            f" {model} ({base['evaluation']}); delete it and run again"
        )


def _identity(study: Study, model: Model, run: Run) -> dict[str, Any]:
    return {
        "study": study.name,
        "family": model.family,
        "model": model.name,
        "method": run.variant.method,
        "rate_asked": float(run.variant.asked),
        "variant": run.variant.name,
        "run": f"{model.name}/{run.name}",
        "seed": run.seed,
    }


def _training(study: Study, run: Run, budget: int) -> dict[str, Any]:
    section = study.settings.posttrain
    return {
        "D": budget,
        "step": budget // section.batch_tokens,
        "schedule": run.schedule,
        "peak_lr": section.peak(run.schedule),
        "batch_tokens": section.batch_tokens,
        "sequence_length": study.settings.corpus.sequence_length,
    }


def _tokens_trained(study: Study, run: Run) -> dict[int, int]:
    """Tokens that a run has trained on when a budget's point is made, by budget."""
    section, batch = study.settings.posttrain, study.settings.posttrain.batch_tokens
    plan = schedule.legs(
        run.schedule,
        [budget // batch for budget in study.budgets],
        peak=section.peak(run.schedule),
        warmup_steps=section.warmup_tokens // batch,
        decay=section.decay,
    )
    added = schedule.work(plan)
    return {n * batch: batch * sum(v for m, v in added.items() if m <= n) for n in added}


def _coverage(
    study: Study, model: Model, method: str, found: set[tuple[str, int]]
) -> list[dict[str, Any]]:
    return [
        {
            "run": f"{model.name}/{run.name}",
            "D": budget,
            "state": "present" if (f"{model.name}/{run.name}", budget) in found else "missing",
            "manifest": str(Path(study.point_manifest(run, budget))),
        }
        for run in study.group_runs(model.name, method)
        for budget in study.budgets
    ]
