"""All laws on all methods of a study: what the workflow's ``law`` rule computes.

:func:`fit_study` is pure: a loss table and a spec in, a JSON-able dict out. For each family it fits
every applicable form to each method and to all methods pooled, with run-level intervals, and tests
each form on every hold-out. What a table cannot determine is written into the result; a form that
cannot be fitted is listed under ``skipped`` with the reason.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pandas as pd

from p2law.errors import UserError
from p2law.laws.fitted import RESTARTS, PerRun, Whole
from p2law.laws.fitting.fit import KEPT, OBJECTIVES
from p2law.laws.forms import registry
from p2law.laws.forms.form import Form, columns_needed
from p2law.laws.forms.registry import HEADLINE
from p2law.laws.judging import metrics
from p2law.laws.judging.holdouts import baseline_records, holdout_records
from p2law.laws.judging.soundness import coverage, healed, rises
from p2law.laws.judging.uncertainty import LEVEL
from p2law.laws.records import finite, prediction_rows
from p2law.laws.table import check_table, prepare

POOLED = "all"
SPEC = {"forms", "objective", "delta", "bootstrap", "seed", "key", "signs", "recipe"}


LISTS = ("fits", "holdouts", "predictions", "draws", "advice", "skipped")


def fit_study(table: pd.DataFrame, spec: Mapping[str, Any], processes: int = 1) -> dict[str, Any]:
    """Fit, compare and hold out; ``processes`` share the work and do not change the result.

    ``spec``: forms (names, or absent for all), objective, delta (number or "noise"), bootstrap
    (replicates), seed, signs (default "nonnegative"), key. Raises UserError for a bad spec or row.

    Returns ``fits`` (one a family, method and form), ``holdouts``, ``predictions`` (one row a
    point, form and split), ``draws`` (bootstrap constants of headline forms), ``advice`` (what a
    headline form leaves open and the runs to cure it), ``rises`` (runs whose loss does not fall
    with D), ``healed`` (points below L0), ``skipped``, ``coverage``; every number is finite, or
    None where there is none.
    """
    spec = check_spec(spec)
    table = prepare(table)
    check_table(table, [registry.get("p2")])
    labelled = [({"family": f, "method": m}, group) for f, m, group in groups(table)]
    tasks = [(label, group, name, spec) for label, group in labelled for name in spec["forms"]]
    if processes > 1:
        with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
            parts = list(pool.map(_one_form, tasks))
    else:
        parts = [_one_form(task) for task in tasks]
    lists = {name: [row for part in parts for row in part[name]] for name in LISTS}
    baseline = [row for label, group in labelled for row in baseline_records(group, label)]
    result = {
        "spec": {k: v for k, v in spec.items() if k != "key"},
        "level": LEVEL,
        "points": len(table),
        "runs": int(table["run"].nunique()),
        "coverage": coverage(table),
        "rises": rises(table),
        "healed": healed(table),
        **lists,
        "holdouts": baseline + lists["holdouts"],
    }
    return finite(result)


def _one_form(task: tuple[dict, pd.DataFrame, str, Mapping[str, Any]]) -> dict[str, list[dict]]:
    """One form on one group of runs: its fit and its hold-outs, or why there is none."""
    label, group, name, spec = task
    out: dict[str, list[dict]] = {key: [] for key in LISTS}
    form = registry.get(name)
    usable, note = usable_rows(form, group)
    if usable is None:
        out["skipped"].append({**label, "form": name, "reason": note})
        return out
    one = PerRun(form, spec) if form.per_run else Whole(form, spec)
    record, rows = _fit_record(one, usable, label, note)
    out["fits"].append(record)
    advice = one.advice()
    if advice:
        out["advice"].append({**label, "form": name, **advice})
    out["draws"] += one.draw_rows(label)
    found, held, missed = holdout_records(one, usable, label)
    out["holdouts"] += found
    out["predictions"] += rows + held
    out["skipped"] += missed
    return out


def check_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with its defaults; UserError names the key, its value and what is allowed."""
    unknown = set(spec) - SPEC
    if unknown:
        raise UserError(f"law spec: unknown key {sorted(unknown)[0]!r}; allowed: {sorted(SPEC)}")
    full = {
        "forms": list(registry.FORMS), "objective": "huber", "delta": 1e-3, "bootstrap": 1000,
        "seed": 0, "signs": "nonnegative", **spec,
    }  # fmt: skip
    for name in full["forms"]:
        registry.get(name)
    if full["objective"] not in OBJECTIVES:
        raise UserError(f"law objective {full['objective']!r}: allowed: {', '.join(OBJECTIVES)}")
    if full["signs"] not in ("nonnegative", "free"):
        raise UserError(f"law signs {full['signs']!r}: allowed: nonnegative, free")
    delta = full["delta"]
    if delta != "noise" and not (isinstance(delta, int | float) and delta > 0):
        raise UserError(f'law delta {delta!r}: a number above 0, or "noise"')
    if not (isinstance(full["bootstrap"], int) and full["bootstrap"] >= 0):
        raise UserError(f"law bootstrap {full['bootstrap']!r}: a whole number, 0 or more")
    return full


def groups(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(family, method, rows) for each method, then all methods pooled where there are several."""
    families = table["family"].astype(str) if "family" in table else pd.Series("", table.index)
    for family, rows in table.groupby(families, sort=True):
        methods = sorted(rows["method"].unique()) if "method" in rows else []
        for method in methods:
            yield family, method, rows[rows["method"] == method].reset_index(drop=True)
        if len(methods) != 1:
            yield family, POOLED, rows.reset_index(drop=True)


def usable_rows(form: Form, rows: pd.DataFrame) -> tuple[pd.DataFrame | None, str]:
    """The rows a form can be fitted to and a note on those it cannot; None with the reason."""
    missing = [c for c in columns_needed(form) if c not in rows or rows[c].isna().all()]
    if missing:
        return None, f"the table has no column {missing[0]}"
    note = ""
    if "damage" in form.quantities:
        hurt = (rows["Lp"] > rows["L0"]).to_numpy()
        if not hurt.all():
            lost = sorted(rows.loc[~hurt, "run"].unique())
            note = f"without runs that pruning did not hurt (Lp <= L0): {', '.join(lost)}"
            rows = rows[hurt].reset_index(drop=True)
    if rows.empty or rows["D"].nunique() < 2:
        return None, "fewer than two budgets"
    return rows, note


def _fit_record(one, rows: pd.DataFrame, label: dict, note: str) -> tuple[dict, list[dict]]:
    one.fit(rows, one.spec["bootstrap"], KEPT if one.form.name in HEADLINE else RESTARTS)
    predicted = one.predict(rows)
    low, high = one.interval(rows)
    logs = np.log(np.maximum(predicted, 1e-12)) - np.log(rows["loss"].to_numpy())
    record = {**label, "form": one.form.name, "formula": one.form.formula}
    record |= one.record()
    record["metrics"] = metrics.errors(rows, predicted)
    record["metrics"]["aicc"] = metrics.aicc(logs, one.constants)
    if note:
        record["notes"] = [*record["notes"], note]
    if not record["converged"]:
        record["notes"] = [*record["notes"], "NOT CONVERGED: do not use these constants"]
    runs = int(rows["run"].nunique())
    if 0 < runs < 6 and record.get("replicates"):
        record["notes"] = [*record["notes"], f"{runs} runs are few for run-level intervals"]
    return record, prediction_rows(rows, predicted, low, high, label, one.form.name, "fit", "")
