"""All laws on all methods of a study: what the workflow's ``law`` rule computes.

:func:`fit_study` is pure: a loss table and a spec in, a JSON-able dict out. For each family it fits
every applicable form to each method and to all methods pooled, with run-level intervals, and tests
each form on every hold-out. What a table cannot determine is written into the result; a form that
cannot be fitted is listed under ``skipped`` with the reason.
"""

import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from typing import Any

import numpy as np
import pandas as pd

from p2law.errors import UserError
from p2law.laws import baselines, metrics, registry
from p2law.laws.fit import KEPT, OBJECTIVES, Fit, fit
from p2law.laws.forms import Form, columns_needed, parse_power
from p2law.laws.profile import profiles, sandwich
from p2law.laws.splits import Split, all_splits
from p2law.laws.table import check_table, prepare
from p2law.laws.uncertainty import LEVEL, bootstrap

POOLED = "all"
HEADLINE = ("p2", "damage_power", "damage_rectified")
"""Forms that carry full intervals everywhere; the others are compared by their errors."""
RESTARTS = 12
"""Starts followed to their end where a fit is one of hundreds; a headline fit follows 40."""
HOLDOUT_REPLICATES = 200
"""Bootstrap replicates for the interval of a headline form's held-out prediction."""
SPEC = {"forms", "objective", "delta", "bootstrap", "seed", "key", "signs", "schedule"}


LISTS = ("fits", "holdouts", "predictions", "draws", "skipped")


def fit_study(table: pd.DataFrame, spec: Mapping[str, Any], processes: int = 1) -> dict[str, Any]:
    """Fit, compare and hold out; ``processes`` share the work and do not change the result.

    ``spec``: forms (names, or absent for all), objective, delta (number or "noise"), bootstrap
    (replicates), seed, signs (default "nonnegative"), key. Raises UserError for a bad spec or row.

    Returns ``fits`` (one a family, method and form), ``holdouts``, ``predictions`` (one row a
    point, form and split), ``draws`` (bootstrap constants of headline forms), ``rises`` (runs whose
    loss does not fall with D), ``healed`` (points below L0), ``skipped``, ``coverage``; every
    number is finite, or None where there is none.
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
    baseline = [row for label, group in labelled for row in _baseline_rows(group, label)]
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
    one = _PerRun(form, spec) if form.per_run else _Whole(form, spec)
    record, rows = _fit_record(one, usable, label, note)
    out["fits"].append(record)
    out["draws"] += one.draw_rows(label)
    found, held, missed = _holdout_records(one, usable, label)
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


# ------------------------------------------------------------------- one law, or one a run


class _Whole:
    """A form fitted to all rows of a group at once."""

    def __init__(self, form: Form, spec: Mapping[str, Any]):
        self.form, self.spec = form, spec

    def fit(self, rows: pd.DataFrame, replicates: int, restarts: int = RESTARTS) -> None:
        """Fit, and draw replicates for the intervals of a headline form."""
        spec = self.spec
        replicates = replicates if self.form.name in HEADLINE else 0
        self.result: Fit = fit(
            self.form, rows, objective=spec["objective"], delta=spec["delta"],
            signs=spec["signs"], restarts=restarts,
        )  # fmt: skip
        self.draws = None
        if replicates:
            self.draws = bootstrap(self.result, rows["run"].to_numpy(), replicates, spec["seed"])
        self.rows = rows
        self.constants = len(self.result.phi)
        self.identified = self.result.rank == self.constants

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        """Predicted losses [m]."""
        return self.result.predict(rows)

    def interval(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Interval of measured losses [m], [m]; NaN without replicates."""
        if self.draws is None:
            return np.full(len(rows), np.nan), np.full(len(rows), np.nan)
        return self.draws.prediction_interval(rows)

    def record(self) -> dict[str, Any]:
        """What the fit says of itself."""
        record = fit_dict(self.result, self.draws)
        if self.form.name in HEADLINE:
            runs = self.rows["run"].to_numpy()
            record["sandwich"] = sandwich(self.result, runs)
            record["profiles"] = [asdict(p) for p in profiles(self.result, runs)]
        return record

    def draw_rows(self, label: dict[str, str]) -> list[dict[str, Any]]:
        """The bootstrap's constants, one row a replicate."""
        if self.draws is None:
            return []
        table = pd.DataFrame(self.draws.constants()).assign(**label, form=self.form.name)
        return table.to_dict("records")


class _PerRun:
    """A form of one curve, fitted to each run by itself: it can only extrapolate in D."""

    def __init__(self, form: Form, spec: Mapping[str, Any]):
        self.form, self.spec = form, spec

    def fit(self, rows: pd.DataFrame, replicates: int, restarts: int = RESTARTS) -> None:
        """Fit every run; runs are single units, so there is no run-level interval."""
        self.laws = {}
        for run, points in rows.groupby("run"):
            law = _Whole(self.form, self.spec)
            law.fit(points.reset_index(drop=True), 0, restarts)
            self.laws[run] = law
        self.constants = sum(law.constants for law in self.laws.values())
        self.identified = all(law.identified for law in self.laws.values())

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        """Predicted losses [m]."""
        predicted = np.full(len(rows), np.nan)
        for run, law in self.laws.items():
            at = (rows["run"] == run).to_numpy()
            if at.any():
                predicted[at] = law.predict(rows[at])
        return predicted

    def interval(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """None: NaN [m], [m]."""
        return np.full(len(rows), np.nan), np.full(len(rows), np.nan)

    def draw_rows(self, label: dict[str, str]) -> list[dict[str, Any]]:
        """None."""
        return []

    def record(self) -> dict[str, Any]:
        """Totals over runs, and each run's constants."""
        laws = self.laws.values()
        return {
            "constants": {},
            "constants_fitted": self.constants,
            "objective": sum(law.result.objective for law in laws),
            "converged": any(law.result.converged for law in laws),
            "rank": sum(law.result.rank for law in laws),
            "notes": [
                "one curve a run; no interval",
                f"{sum(law.result.converged for law in laws)} of {len(laws)} runs converged",
            ],
            "per_run": {run: law.result.constants for run, law in self.laws.items()},
        }


def fit_dict(result: Fit, draws) -> dict[str, Any]:
    """A fit as JSON: constants by the source's names with units and intervals, and its health."""
    intervals = draws.intervals() if draws is not None else {}
    # The paper's unpublished twins (rectified) have no counterpart in the engine's names.
    units = {name: unit(result.form, name) for name in result.constants}
    constants = {
        name: {
            "value": value,
            "low": intervals.get(name, (None, None))[0],
            "high": intervals.get(name, (None, None))[1],
            "unit": units[name],
            "identified": name not in result.unidentified,
            "at_bound": name in result.at_bounds,
        }
        for name, value in result.constants.items()
    }
    return {
        "constants": constants,
        "constants_fitted": len(result.phi),
        "objective": result.objective,
        "objective_kind": result.kind,
        "delta": None if np.isinf(result.delta) else result.delta,
        "signs": result.signs,
        "converged": result.converged,
        "gain": result.gain,
        "rank": result.rank,
        "condition": result.condition,
        "unidentified": result.unidentified,
        "at_bounds": result.at_bounds,
        "starts_at_optimum": result.starts_at_optimum,
        "objectives_over_starts": result.starts.tolist(),
        "centred": dict(zip(result.form.constants, result.phi.tolist(), strict=True)),
        "centres": {k: math.exp(v) for k, v in result.problem.means.items()},
        "replicates": 0 if draws is None else len(draws.phi),
        "notes": result.notes,
    }


def unit(form: Form, name: str) -> str:
    """Unit of a constant: N0 and N in parameters, D in tokens, losses in nats per token."""
    if form.bend and name == form.bend.t0:
        return "tokens x " + " ".join(f"{q}^-{e}" for q, e in form.bend.by.items())
    if name not in form.terms:
        return "1"
    measured = {"N0": "parameters", "N": "parameters", "D": "tokens", "damage": "nats"}
    parts = ["nats"]
    for quantity, power in form.terms[name].items():
        if quantity in measured:
            flipped = "".join(
                f"{'-' if sign > 0 else '+'}{e}" for e, sign in parse_power(power).items()
            )
            parts.append(f"{measured[quantity]}^({flipped.lstrip('+')})")
    return " ".join(parts)


# ------------------------------------------------------------------- records


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
    return record, _prediction_rows(rows, predicted, low, high, label, one.form.name, "fit", "")


def _holdout_records(one, rows: pd.DataFrame, label: dict):
    records, predictions, skipped = [], [], []
    for split in all_splits(rows):
        reason = split.reason
        if not reason and one.form.per_run and split.name != "budget":
            reason = "a law of one run cannot predict another"
        if not reason and one.form.per_run:
            reason = _too_few_points(one.form, rows[split.train])
        if reason:
            skipped.append({**label, "form": one.form.name, "split": split.name, "reason": reason})
            continue
        train = rows[split.train].reset_index(drop=True)
        test = rows[split.test].reset_index(drop=True)
        one.fit(train, min(HOLDOUT_REPLICATES, one.spec["bootstrap"]))
        predicted = one.predict(test)
        low, high = one.interval(test)
        records.append(_holdout_record(one, split, test, predicted, low, high, label))
        predictions += _prediction_rows(
            test, predicted, low, high, label, one.form.name, split.name, split.held
        )
    return records, predictions, skipped


def _too_few_points(form: Form, train: pd.DataFrame) -> str:
    fewest = int(train.groupby("run").size().min())
    needed = len(form.constants)
    return "" if fewest >= needed else f"a run has {fewest} points for {needed} constants"


def _holdout_record(one, split: Split, test, predicted, low, high, label) -> dict[str, Any]:
    loss = test["loss"].to_numpy()
    covered = (low <= loss) & (loss <= high)
    known = bool(np.isfinite(low).all())
    return {
        **label,
        "form": one.form.name,
        "split": split.name,
        "held": split.held,
        **metrics.errors(test, predicted),
        "covered": float(covered.mean()) if known else None,
        "interval_width": float(((high - low) / loss).mean()) if known else None,
        "identified": one.identified,
        "fitted_points": int(split.train.sum()),
    }


def _baseline_rows(rows: pd.DataFrame, label: dict) -> Iterator[dict]:
    for split in all_splits(rows):
        if split.reason:
            continue
        train, test = rows[split.train], rows[split.test].reset_index(drop=True)
        for name, predicted in baselines.for_split(split.name, train, test).items():
            if np.isfinite(predicted).all():
                yield {
                    **label, "form": name, "split": split.name, "held": split.held,
                    **metrics.errors(test, predicted), "covered": None, "interval_width": None,
                    "identified": None, "fitted_points": int(split.train.sum()),
                }  # fmt: skip


def _prediction_rows(rows, predicted, low, high, label, form, split, held) -> list[dict]:
    kept = [c for c in ("run", "model", "N0", "rho", "D", "L0", "Lp", "loss") if c in rows]
    table = rows[kept].assign(
        predicted=predicted, low=low, high=high, error=predicted / rows["loss"] - 1.0
    )
    source = rows.get("method", "")
    table = table.assign(point_method=source, form=form, split=split, held=held, **label)
    return table.to_dict("records")


# ------------------------------------------------------------------- looks at the table itself


def coverage(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Points, sizes, rates and budgets that each method has."""
    keys = [c for c in ("family", "method") if c in table]
    parts = table.groupby(keys, sort=True) if keys else [((), table)]
    rows = []
    for values, part in parts:
        rows.append(
            dict(zip(keys, values, strict=True))
            | {
                "sizes": int(part["N0"].nunique()),
                "rates": int(part.groupby("N0")["rho"].nunique().max()),
                "budgets": int(part["D"].nunique()),
                "runs": int(part["run"].nunique()),
                "points": len(part),
            }
        )
    return rows


def rises(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Places where a run's loss does not fall from one budget to the next."""
    found = []
    for run, points in table.sort_values("D").groupby("run"):
        d, loss = points["D"].to_numpy(), points["loss"].to_numpy()
        for i in np.flatnonzero(np.diff(loss) >= 0):
            found.append(
                {"run": run, "from_D": d[i], "to_D": d[i + 1], "rise": loss[i + 1] - loss[i]}
            )
    return found


def healed(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Points whose loss is below their base's L0: a base that post-training improves."""
    low = table[table["loss"] < table["L0"]]
    return [
        {"run": r.run, "D": r.D, "loss": r.loss, "L0": r.L0, "below": r.L0 - r.loss}
        for r in low.itertuples()
    ]


def finite(obj: Any) -> Any:
    """The same object in plain Python types, numbers that are not finite as None."""
    if isinstance(obj, Mapping):
        return {str(k): finite(v) for k, v in obj.items()}
    if isinstance(obj, list | tuple | np.ndarray):
        return [finite(v) for v in obj]
    if isinstance(obj, np.bool_ | bool):
        return bool(obj)
    if isinstance(obj, np.integer | int):
        return int(obj)
    if isinstance(obj, np.floating | float):
        return float(obj) if math.isfinite(obj) else None
    return obj
