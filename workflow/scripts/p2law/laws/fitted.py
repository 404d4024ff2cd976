"""One form on one group of runs: fitted to all of them at once, or to each run by itself.

Both answer alike (fit, predict, interval, record), so that the study and its hold-outs need not
know which kind of form they handle.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from p2law.laws.deciding.advisor import advice_record
from p2law.laws.fitting.fit import Fit, fit
from p2law.laws.forms.form import Form
from p2law.laws.forms.registry import HEADLINE
from p2law.laws.judging.intervals import ModelError, model_error
from p2law.laws.judging.likelihood import profiles, sandwich
from p2law.laws.judging.uncertainty import bootstrap
from p2law.laws.records import fit_dict

RESTARTS = 12
"""Starts followed to their end where a fit is one of hundreds; a headline fit follows 40."""


class Whole:
    """A form fitted to all rows of a group at once."""

    def __init__(self, form: Form, spec: Mapping[str, Any]):
        self.form, self.spec = form, spec

    def fit(self, rows: pd.DataFrame, replicates: int, restarts: int = RESTARTS) -> None:
        """Fit; for a headline form also draw replicates and measure the model's error."""
        spec = self.spec
        self.result: Fit = fit(
            self.form, rows, objective=spec["objective"], delta=spec["delta"],
            signs=spec["signs"], restarts=restarts,
        )  # fmt: skip
        self.draws, self.error = None, None
        if replicates and self.form.name in HEADLINE:
            self.draws = bootstrap(self.result, rows["run"].to_numpy(), replicates, spec["seed"])
            self.error: ModelError | None = model_error(self.result, rows)
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
        low, high = self.draws.prediction_interval(rows)
        return self.error.widen(rows, self.predict(rows), low, high)

    def record(self) -> dict[str, Any]:
        """What the fit says of itself."""
        record = fit_dict(self.result, self.draws)
        if self.form.name in HEADLINE:
            runs = self.rows["run"].to_numpy()
            record["sandwich"] = sandwich(self.result, runs)
            record["profiles"] = [asdict(p) for p in profiles(self.result, runs)]
        if self.error is not None:
            record["model_error"] = self.error.record()
        return record

    def draw_rows(self, label: dict[str, str]) -> list[dict[str, Any]]:
        """The bootstrap's constants, one row a replicate."""
        if self.draws is None:
            return []
        table = pd.DataFrame(self.draws.constants()).assign(**label, form=self.form.name)
        return table.to_dict("records")

    def advice(self) -> dict[str, Any] | None:
        """What the rows leave open and the runs to cure it; None where nothing is open."""
        return advice_record(self.result, self.rows) if self.form.name in HEADLINE else None


class PerRun:
    """A form of one curve, fitted to each run by itself: it can only extrapolate in D."""

    def __init__(self, form: Form, spec: Mapping[str, Any]):
        self.form, self.spec = form, spec

    def fit(self, rows: pd.DataFrame, replicates: int, restarts: int = RESTARTS) -> None:
        """Fit every run; runs are single units, so there is no run-level interval."""
        self.laws = {}
        for run, points in rows.groupby("run"):
            law = Whole(self.form, self.spec)
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

    def advice(self) -> None:
        """None: what one run teaches helps no other."""

    def record(self) -> dict[str, Any]:
        """Totals over runs, and each run's constants."""
        laws = self.laws.values()
        return {
            "constants": {},
            "constants_fitted": self.constants,
            "objective": sum(law.result.objective for law in laws),
            "converged": all(law.result.converged for law in laws),
            "rank": sum(law.result.rank for law in laws),
            "notes": [
                "one curve a run; no interval",
                f"{sum(law.result.converged for law in laws)} of {len(laws)} runs converged",
            ],
            "per_run": {run: law.result.constants for run, law in self.laws.items()},
        }
