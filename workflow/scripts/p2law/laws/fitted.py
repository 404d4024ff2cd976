"""One form on one group of runs: fitted to all of them jointly, or to each run by itself.

Both answer alike (fit, predict, interval, record), so that the study and its hold-outs need not
know which kind of form they handle.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from p2law.laws.deciding.advisor import advice_record
from p2law.laws.describe import described, log_errors, warning
from p2law.laws.fitting.fit import KEPT, Fit, fit
from p2law.laws.fitting.health import Status
from p2law.laws.forms.form import Form
from p2law.laws.forms.registry import HEADLINE
from p2law.laws.judging import metrics
from p2law.laws.judging.intervals import ModelError, model_error
from p2law.laws.judging.likelihood import profiles, sandwich
from p2law.laws.judging.uncertainty import Bootstrap, bootstrap
from p2law.laws.records import ExponentProfile, FittedLaw, NextRuns
from p2law.laws.rows import Group

RESTARTS = 12
"""Starts followed to their end where a fit is one of hundreds; a headline fit follows ``KEPT``."""
LOSS_COLUMNS = ("run", "model", "N0", "rho", "D", "L0", "Lp", "loss")


class JointFit:
    """A form fitted to all rows of a group at once, in full where it is a headline form."""

    def __init__(self, form: Form, spec: Mapping[str, Any]) -> None:
        self.form, self.spec = form, spec
        self.headline = form.name in HEADLINE
        self.draws: Bootstrap | None = None
        self.error: ModelError | None = None

    def fit(self, rows: pd.DataFrame, replicates: int, restarts: int = RESTARTS) -> None:
        """Fit; for a headline form also draw replicates and measure the model's error."""
        spec = self.spec
        self.result: Fit = fit(
            self.form, rows, objective=spec["objective"], delta=spec["delta"],
            signs=spec["signs"], restarts=restarts,
        )  # fmt: skip
        self.draws, self.error = None, None
        # One run has nothing to resample: its interval would have no width.
        if replicates and self.headline and rows["run"].nunique() > 1:
            self.draws = bootstrap(self.result, rows["run"].to_numpy(), replicates, spec["seed"])
            self.error = model_error(self.result, rows)
        self.rows = rows
        self.constants = len(self.result.phi)
        self.determined = not self.result.undetermined

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        """Predicted losses [m]."""
        return self.result.predict(rows)

    def interval(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Interval of measured losses [m], [m]; NaN without replicates."""
        if self.draws is None or self.error is None:
            return np.full(len(rows), np.nan), np.full(len(rows), np.nan)
        low, high = self.draws.prediction_interval(rows)
        return self.error.widen(rows, self.predict(rows), low, high)

    def record(self, label: Group) -> FittedLaw:
        """What the fit says of itself."""
        found = described(self.result, self.rows, self.draws, label)
        if self.headline:
            runs = self.rows["run"].to_numpy()
            found = replace(
                found,
                sandwich=sandwich(self.result, runs),
                profiles=[ExponentProfile(**asdict(p)) for p in profiles(self.result, runs)],
            )
        if self.error is not None:
            found = replace(found, model_error=self.error.record())
        return found

    def draw_rows(self, label: Group) -> list[dict[str, Any]]:
        """The bootstrap's constants, one row a replicate."""
        if self.draws is None:
            return []
        table = pd.DataFrame(self.draws.constants()).assign(**label._asdict(), form=self.form.name)
        return table.to_dict("records")

    def advice(self, label: Group) -> list[NextRuns]:
        """What the rows leave open and the runs to cure it; none where nothing is open."""
        found = advice_record(self.result, self.rows) if self.headline else None
        return [NextRuns(*label, self.form.name, **found)] if found else []


class RunByRunFit:
    """A form of one curve, fitted to each run by itself: it can only extrapolate in D."""

    def __init__(self, form: Form, spec: Mapping[str, Any]) -> None:
        self.form, self.spec = form, spec

    def fit(self, rows: pd.DataFrame, replicates: int, restarts: int = RESTARTS) -> None:
        """Fit every run; runs are single units, so there is no run-level interval."""
        self.laws: dict[str, JointFit] = {}
        for run, points in rows.groupby("run"):
            law = JointFit(self.form, self.spec)
            law.fit(points.reset_index(drop=True), 0, restarts)
            self.laws[str(run)] = law
        self.rows = rows
        self.constants = sum(law.constants for law in self.laws.values())
        self.determined = all(law.determined for law in self.laws.values())

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

    def draw_rows(self, label: Group) -> list[dict[str, Any]]:
        """None."""
        return []

    def advice(self, label: Group) -> list[NextRuns]:
        """None: what one run teaches helps no other."""
        return []

    def record(self, label: Group) -> FittedLaw:
        """Totals over runs, and each run's constants."""
        fits = [law.result for law in self.laws.values()]
        predicted = self.predict(self.rows)
        done = sum(f.converged for f in fits)
        first = next(s for s in Status if any(f.status is s for f in fits))
        return FittedLaw(
            *label,
            form=self.form.name,
            formula=self.form.formula,
            status=first,
            constants={},
            constants_fitted=self.constants,
            rank=sum(f.rank for f in fits),
            objective=sum(f.objective for f in fits),
            errors=metrics.errors(self.rows, predicted),
            aicc=metrics.aicc(log_errors(self.rows, predicted), self.constants),
            notes=[
                "one curve a run; no interval",
                f"{done} of {len(fits)} runs converged",
                *warning(first),
            ],
            objective_kind=fits[0].kind,
            delta=None if np.isinf(fits[0].delta) else fits[0].delta,
            signs=fits[0].signs,
            per_run={run: law.result.constants for run, law in self.laws.items()},
        )


def fitted(
    form: Form, spec: Mapping[str, Any], rows: pd.DataFrame
) -> tuple[JointFit | RunByRunFit, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """The form fitted to rows, its predictions there [n] and their interval [n], [n]."""
    law = RunByRunFit(form, spec) if form.per_run else JointFit(form, spec)
    law.fit(rows, spec["bootstrap"], KEPT if form.name in HEADLINE else RESTARTS)
    return law, law.predict(rows), law.interval(rows)


def prediction_rows(
    rows: pd.DataFrame, predicted: np.ndarray, interval: tuple[np.ndarray, np.ndarray],
    label: Group, form: str, split: str = "fit", held: str = "",
) -> list[dict[str, Any]]:  # fmt: skip
    """A row a point: its loss, what was predicted and the interval of a measured loss."""
    low, high = interval
    table = rows[[c for c in LOSS_COLUMNS if c in rows]].assign(
        predicted=predicted, low=low, high=high, error=predicted / rows["loss"] - 1.0
    )
    source = rows.get("method", "")
    table = table.assign(point_method=source, form=form, split=split, held=held, **label._asdict())
    return table.to_dict("records")
