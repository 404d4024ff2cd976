"""A study's fitted laws, asked for one candidate: which law serves it, its curve, its trust."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from p2law.laws.deciding.candidates import Candidate
from p2law.laws.deciding.curves import Curve, curve
from p2law.laws.forms import registry
from p2law.laws.forms.form import columns_needed
from p2law.laws.judging.intervals import new_in, total_widths
from p2law.laws.judging.splits import ORDERED
from p2law.laws.judging.uncertainty import run_level_interval
from p2law.laws.records import FittedLaw
from p2law.laws.results import KEYS, LawResults
from p2law.laws.rows import POOLED, methods, of_recipe, rows_of
from p2law.laws.table import read_table

FAR = 10.0
"""Answers this factor outside the measured budgets are beyond the data."""


class Laws:
    """The law stage's results and the rows that they rest on: those of the laws' own recipe."""

    def __init__(self, results: LawResults, table: pd.DataFrame) -> None:
        self.results = results
        self.table = of_recipe(table, results.recipe or None)

    @classmethod
    def read(cls, law: Path, losses: Path) -> "Laws":
        """Read a law folder and its loss table."""
        return cls(LawResults.read(law), read_table(losses))

    def fitted_rows(self, fit: FittedLaw) -> pd.DataFrame:
        """The rows that a fit has seen."""
        return rows_of(self.table, fit.family, fit.method)

    def fit(self, candidate: Candidate, form: str) -> FittedLaw | None:
        """The law to use: the method's own, else the one over all methods; None if none serves.

        A fit that had to leave a constant out (one rate, one size) serves only where it was made.
        """
        measured = set(candidate.measured())
        if not set(columns_needed(registry.get(form))) - {"D"} <= measured:
            return None
        for method in (candidate.method, POOLED):
            fit = self.results.fit(candidate.family, method, form)
            if fit is not None and fit.converged and self._serves(fit, candidate):
                return fit
        return None

    def _serves(self, fit: FittedLaw, candidate: Candidate) -> bool:
        if set(registry.get(fit.form).constants) <= set(fit.constants):
            return True
        rows = self.fitted_rows(fit)
        asked = pd.DataFrame([{**candidate.measured(), "D": rows["D"].min()}])
        new = new_in(rows, asked)
        return not (new["rate"] | new["size"]).any()

    def draws(self, fit: FittedLaw) -> dict[str, np.ndarray]:
        """The bootstrap's constants [B] of a fit by name; none without replicates."""
        drawn = self.results.draws
        for key in KEYS:
            drawn = drawn[drawn[key] == getattr(fit, key)]
        return {name: drawn[name].to_numpy() for name in fit.values} if len(drawn) else {}

    def curves(self, measured: Mapping[str, Any], fit: FittedLaw) -> tuple[Curve, Curve | None]:
        """The loss curve of what was ``measured`` of a candidate (N0, rho, L0, ... as the form
        needs) at the fit, and under every bootstrap draw; None without replicates.
        """
        form, draws = registry.get(fit.form), self.draws(fit)
        return curve(form, fit.values, measured), curve(form, draws, measured) if draws else None

    def interval(self, fit: FittedLaw, best: float, drawn: np.ndarray) -> tuple[float, float]:
        """The run-level interval of an answer of this fit, from its draws [B]."""
        return run_level_interval(best, drawn, fit.errors.runs)

    def error(self, candidate: Candidate, fit: FittedLaw, tokens: float) -> float:
        """Half width of the law's own error in log loss at so many tokens; 0 where not measured."""
        if not fit.model_error:
            return 0.0
        widths = {kind: found.half_width for kind, found in fit.model_error.items()}
        row = pd.DataFrame([{**candidate.measured(), "D": tokens}])
        return float(total_widths(widths, self.fitted_rows(fit), row)[0])

    def loss(
        self, candidate: Candidate, fit: FittedLaw, tokens: float
    ) -> tuple[float, float | None, float | None]:
        """Loss at so many tokens with its interval (low, high None without replicates)."""
        best, several = self.curves(candidate.measured(), fit)
        at = np.log([max(tokens, 1.0)])
        loss, low, high = float(best.loss(at)[0, 0]), None, None
        if several is not None:
            drawn = self.interval(fit, loss, several.loss(at)[:, 0])
            widen = math.exp(self.error(candidate, fit, tokens))
            low, high = min(drawn[0], loss / widen), max(drawn[1], loss * widen)
        return loss, low, high

    def within(self, fit: FittedLaw, tokens: float) -> str:
        """ "ok", or "beyond the data" where tokens lie far outside the budgets that were fitted."""
        budgets = self.fitted_rows(fit)["D"]
        inside = budgets.min() / FAR <= tokens <= budgets.max() * FAR
        return "ok" if inside else "beyond the data"

    def trust(self, candidate: Candidate, fit: FittedLaw) -> str:
        """How far the held-out tests let one trust this law for this candidate."""
        unseen = fit.method != candidate.method
        basis = "law over all methods" if fit.pooled else "method's own law"
        if unseen:
            seen = candidate.method in methods(rows_of(self.table, candidate.family))
            why = "its own law cannot tell" if seen else "method never post-trained"
            basis = f"{why}: law over all methods"
        if candidate.note and "Lp" in columns_needed(registry.get(fit.form)):
            basis = f"{basis}; {candidate.note}"
        errors = []
        for split in ("leave-one-method",) if unseen else ORDERED:
            found = [
                held.errors.mean_abs_rel_error for held in self.results.holdouts
                if held.split == split and all(getattr(held, k) == getattr(fit, k) for k in KEYS)
            ]  # fmt: skip
            if found:
                errors.append(f"{split} up to {100 * max(found):.2g} %")
        return f"{basis}; held-out error: {', '.join(errors) or 'none measured'}"
