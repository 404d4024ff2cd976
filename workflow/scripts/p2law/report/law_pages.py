"""Pages of the fitted laws: fits and constants, what the grid leaves open, held-out errors."""

from dataclasses import asdict
from typing import Any

import pandas as pd

from p2law.laws.judging.metrics import each_point_once
from p2law.laws.judging.splits import SPLITS
from p2law.laws.records import FittedLaw
from p2law.laws.results import KEYS, LawResults
from p2law.laws.rows import POOLED
from p2law.report.html import table, text

FIT = {
    "r2": "R²", "mean_abs_rel_error": "mean relative error",
    "mean_signed_rel_error": "signed error", "asd_nats_per_1e6_tokens": "ASD (nats per 1e6 tokens)",
    "huber_sum": "summed Huber (1e-3, log)", "aicc": "AICc",
}  # fmt: skip


def _names(record: Any) -> list[str]:
    return [getattr(record, key) for key in KEYS]


def _metrics(fit: FittedLaw) -> dict[str, Any]:
    return {**asdict(fit.errors), "aicc": fit.aicc}


def laws(results: LawResults) -> str:
    """Every fitted form by method: how well it fits, its constants, and what would mend them."""
    recipe = f", under recipe {results.recipe}" if results.recipe else ""
    health = table(
        f"Fit of every form, by method{recipe}",
        [*KEYS, *FIT.values(), "rank", "constants", "converged"],
        [
            [
                *_names(fit), *(_metrics(fit)[field] for field in FIT),
                fit.rank, fit.constants_fitted, fit.converged,
            ]
            for fit in results.fits
        ],
    )  # fmt: skip
    constants = table(
        f"Constants with {100 * results.level:.0f} % run-level intervals",
        [*KEYS, "constant", "value", "low", "high", "unit", "determined"],
        [
            [*_names(fit), name, c.value, c.low, c.high, c.unit, c.determined]
            for fit in results.fits
            if fit.replicates
            for name, c in fit.constants.items()
        ],
    )
    return health + constants + advice(results)


def advice(results: LawResults) -> str:
    """What the grid leaves open and the cheapest further runs that would cure it."""
    if not results.advice:
        return text("The grid determines every constant of P² and of the damage law.")
    note = text(
        "What the grid leaves open, and further runs that would cure it: first the cheapest run for"
        " each open constant that one run can determine, then those that reduce most, per FLOP, the"
        " variance of"
        " predictions at twice the largest size and four times the largest budget. Costs are 6 N D"
        " of post-training; workflow/scripts/advise.py counts base models too and takes your own"
        " targets."
    )
    rows = [
        [
            *_names(found), found.open, run.run, run.cost, run.determines,
            100 * run.half_width_before, 100 * run.half_width_after,
        ]
        for found in results.advice
        for run in found.runs
    ]  # fmt: skip
    head = ["left open", "run", "FLOPs", "determines", "half width before, %", "after, %"]
    return note + table("Next runs", [*KEYS, *head], rows)


def holdouts(results: LawResults) -> str:
    """All forms by held-out error, coverage of the intervals, and every single hold-out."""
    note = text(
        "Each form was fitted without some points and asked for them. Errors are mean absolute"
        " relative errors; a split with several parts counts every point once. Choose between laws"
        " on these, not on R²."
    )
    return note + comparison(results) + coverage(results) + every(results)


def comparison(results: LawResults) -> str:
    """A row a family, method and form: held-out error of each split beside AICc and R²."""
    fits = {tuple(_names(fit)): _metrics(fit) for fit in results.fits}
    held = _errors(results)
    splits = [split for split in SPLITS if any(split in found for found in held.values())]
    rows = []
    for key in dict.fromkeys([*fits, *held]):
        errors = [held.get(key, {}).get(split) for split in splits]
        found = [None if e is None else 100 * e for e in errors]
        metrics = fits.get(key, {})
        rows.append([*key, *found, metrics.get("r2"), metrics.get("aicc")])
    rows.sort(key=lambda row: (row[0], row[1] != POOLED, row[1], _mean(row[3:-2])))
    head = [*KEYS, *(f"{split}, %" for split in splits), "R²", "AICc"]
    return table("All forms by held-out error, best first", head, rows)


def _errors(results: LawResults) -> dict[tuple[str, ...], dict[str, float]]:
    """(family, method, form) -> split -> mean held-out error."""
    rows = results.holdout_table()
    found: dict[tuple[str, ...], dict[str, float]] = {}
    if len(rows):
        for (*key, split), error in each_point_once(rows, [*KEYS, "split"]).items():
            found.setdefault(tuple(key), {})[split] = error
    return found


def coverage(results: LawResults) -> str:
    """Share of held-out losses inside their interval, by form and split, nominal share beside."""
    rows = results.holdout_table()
    rows = rows[rows["covered"].notna()] if len(rows) else rows
    both = pd.concat([rows, rows.assign(split="all")])
    keys, shown = ["form", "split"], []
    if len(rows):
        shares = each_point_once(both, keys, "covered")
        widths = each_point_once(both, keys, "interval_width")
        points = both.groupby(keys)["points"].sum()
        shown = [[*k, 100 * s, 100 * widths[k], int(points[k])] for k, s in shares.items()]
    title = f"Held-out losses inside their {100 * results.level:.0f} % interval"
    return table(title, [*keys, "inside, %", "mean width, %", "points"], shown)


def every(results: LawResults) -> str:
    """Every hold-out of every form."""
    return table(
        "Every hold-out",
        [
            *("family", "method", "split", "held out", "form", "mean relative error"),
            *("signed error", "ASD (nats per 1e6 tokens)", "share inside the interval"),
            *("width of the interval", "determined"),
        ],
        [
            [
                held.family, held.method, held.split, held.held, held.form,
                held.errors.mean_abs_rel_error, held.errors.mean_signed_rel_error,
                held.errors.asd_nats_per_1e6_tokens, held.covered, held.interval_width,
                held.determined,
            ]
            for held in results.holdouts
        ],
    )  # fmt: skip


def _mean(values: list[float | None]) -> float:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else float("inf")
