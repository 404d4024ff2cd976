"""All laws on all methods of a study: what the workflow's ``law`` rule computes.

:func:`fit_study` is pure: a loss table and a spec in, :class:`LawResults` out. For each family it
fits every applicable form to each method and to all methods pooled, with run-level intervals, and
tests each form on every hold-out. What a table cannot determine is written into the result; a form
that cannot be fitted is listed under ``skipped`` with the reason.
"""

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from typing import Any

import pandas as pd

from p2law.errors import UserError
from p2law.laws.fitted import fitted, prediction_rows
from p2law.laws.fitting.fit import OBJECTIVES, SIGNS
from p2law.laws.forms import registry
from p2law.laws.judging.holdouts import baseline_records, holdout_records
from p2law.laws.judging.recipes import compare
from p2law.laws.judging.soundness import below_base, coverage, rises, usable_rows
from p2law.laws.judging.uncertainty import LEVEL
from p2law.laws.records import FittedLaw, Holdout, NextRuns, Skipped
from p2law.laws.results import KEYS, LawResults
from p2law.laws.rows import Group, groups, of_recipe, recipes
from p2law.laws.table import check_table, prepare

SPEC = {"forms", "objective", "delta", "bootstrap", "seed", "key", "signs", "recipe"}


@dataclass
class Part:
    """What one form on one group of runs adds to the results."""

    fits: list[FittedLaw] = field(default_factory=list)
    holdouts: list[Holdout] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    advice: list[NextRuns] = field(default_factory=list)
    predictions: list[dict[str, Any]] = field(default_factory=list)
    draws: list[dict[str, Any]] = field(default_factory=list)


Task = tuple[Group, pd.DataFrame, str, Mapping[str, Any]]
"""(family and method, their rows, name of the form, spec)."""


def fit_study(table: pd.DataFrame, spec: Mapping[str, Any], processes: int = 1) -> LawResults:
    """Fit, compare and hold out; ``processes`` share the work and do not change the result.

    ``spec``: forms (names, or absent for all), objective, delta (number or "noise"), bootstrap
    (replicates), seed, signs (default "nonnegative"), recipe (the one that the laws rest on; may
    be absent where the table has one), key. Every other recipe is compared with it. Raises
    UserError for a bad spec or row.
    """
    spec = check_spec(spec)
    whole = prepare(table)
    table = of_recipe(whole, spec["recipe"])
    # One budget leaves every form skipped, with the reason, and no study without its other pages.
    check_table(table, [registry.get(registry.P2)], least_budgets=1)
    labelled = [(Group(f, m), group) for f, m, group in groups(table)]
    tasks = [(label, group, name, spec) for label, group in labelled for name in spec["forms"]]
    if processes > 1:
        with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
            parts = list(pool.map(_one_form, tasks))
    else:
        parts = [_one_form(task) for task in tasks]
    baselines = [row for label, group in labelled for row in baseline_records(group, label)]
    draws = [row for part in parts for row in part.draws]
    predictions = [row for part in parts for row in part.predictions]
    return LawResults(
        spec={k: v for k, v in spec.items() if k != "key"},
        recipe=next(iter(recipes(table)), ""),
        level=LEVEL,
        points=len(table),
        runs=int(table["run"].nunique()),
        coverage=coverage(table),
        rises=rises(table),
        below_base=below_base(table),
        fits=[fit for part in parts for fit in part.fits],
        holdouts=baselines + [held for part in parts for held in part.holdouts],
        advice=[runs for part in parts for runs in part.advice],
        skipped=[missed for part in parts for missed in part.skipped],
        recipes=compare(whole, spec),
        predictions=pd.DataFrame(predictions, columns=None if predictions else [*KEYS, "split"]),
        draws=pd.DataFrame(draws, columns=None if draws else KEYS),
    ).settled()


def _one_form(task: Task) -> Part:
    """One form on one group of runs: its fit and its hold-outs, or why there is none."""
    label, group, name, spec = task
    form = registry.get(name)
    usable, note = usable_rows(form, group)
    if usable is None:
        return Part(skipped=[Skipped(*label, form=name, reason=note)])
    law, predicted, interval = fitted(form, spec, usable)
    record = law.record(label)
    if note:
        record = replace(record, notes=[*record.notes, note])
    part = Part(fits=[record], advice=law.advice(label), draws=law.draw_rows(label))
    held, predictions, part.skipped = holdout_records(law, usable, label)
    part.holdouts = held
    part.predictions = prediction_rows(usable, predicted, interval, label, name) + predictions
    return part


def check_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with its defaults; UserError names the key, its value and what is allowed."""
    unknown = set(spec) - SPEC
    if unknown:
        raise UserError(f"law spec: unknown key {sorted(unknown)[0]!r}; allowed: {sorted(SPEC)}")
    full = {
        "forms": list(registry.FORMS), "objective": "huber", "delta": 1e-3, "bootstrap": 1000,
        "seed": 0, "signs": "nonnegative", "recipe": None, **spec,
    }  # fmt: skip
    for name in full["forms"]:
        registry.get(name)
    for key, allowed in (("objective", OBJECTIVES), ("signs", SIGNS)):
        if full[key] not in allowed:
            raise UserError(f"law {key} {full[key]!r}: allowed: {', '.join(allowed)}")
    delta = full["delta"]
    if delta != "noise" and not (isinstance(delta, int | float) and delta > 0):
        raise UserError(f'law delta {delta!r}: a number above 0, or "noise"')
    for key in ("bootstrap", "seed"):
        value = full[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise UserError(f"law {key} {value!r}: a whole number, 0 or more")
    return full
