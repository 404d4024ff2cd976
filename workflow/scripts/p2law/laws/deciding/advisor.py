"""The next-run advisor: which further run would teach the law most per unit of cost.

Criterion (ours): the expected reduction of the mean prediction variance at the user's targets, in
squared log loss, divided by the run's cost. The law is linearised at the fit; the noise of a run is
a shared part and a part of each point, estimated from the residuals; a weak normal prior on the
engine's centred constants (``PRIOR``) keeps the variance finite where the table does not determine
a constant, which makes exactly the runs that would determine it the most valuable. Ranking by the
variance at targets is V-optimality; it ignores constants that no target depends on.

Constants that the fit had to leave out (one rate, one size) take part again here, at zero, and a
term that the fit put at zero is given a twentieth of the largest: otherwise no run could be seen to
teach what the table hides.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from p2law.laws.deciding.next_runs import Cost, default_runs, default_targets, training_cost
from p2law.laws.fitting.fit import Fit
from p2law.laws.fitting.problem import Array, Problem, bind
from p2law.laws.forms import registry
from p2law.laws.forms.form import columns_needed
from p2law.laws.records import NextRun

PRIOR = 1.0
"""Prior standard deviation of exponents and, relative to their value plus 0.1, of amplitudes."""
LEARNT = 0.5
"""A constant is determined when its standard deviation is below this share of the prior's."""
SHOWN = 5
"""Runs named in a record."""


@dataclass
class Advice:
    """One candidate run: cost, the targets' variance (squared log loss) before and after it.

    ``learns`` are the constants that the table leaves open and this run would determine.
    """

    run: str
    N0: float
    rho: float
    D: float
    cost: float
    before: float
    after: float
    learns: list[str] = field(default_factory=list)

    @property
    def score(self) -> float:
        """Reduction of the mean prediction variance per unit of cost."""
        return (self.before - self.after) / self.cost

    @property
    def interval(self) -> tuple[float, float]:
        """Half width of a 95 % interval at the targets in log loss, before and after."""
        return 1.96 * self.before**0.5, 1.96 * self.after**0.5


def noise_parts(residuals: Array, runs: Array, spent: int) -> tuple[float, float]:
    """Variance of the part of log residuals that a run shares, and of the part that is a point's.

    A one-way analysis of variance, the total widened for the ``spent`` constants.
    """
    n = len(residuals)
    frame = pd.DataFrame({"r": residuals, "run": runs})
    total = float((residuals**2).sum()) / max(n - spent, 1)
    within = float(frame.groupby("run")["r"].var().fillna(0.0).mean())
    within = min(within, total)
    return max(total - within, 0.0), max(within, 1e-12)


def advise(
    fit: Fit,
    table: pd.DataFrame,
    candidates: pd.DataFrame,
    targets: pd.DataFrame,
    cost: Cost = training_cost,
) -> list[Advice]:
    """Candidates from best to worst.

    ``candidates`` has one row a point (columns of the form and ``run``), several rows a run;
    ``targets`` has the rows whose losses the user wants to know. Neither needs a ``loss``.
    ``cost`` takes a run's row of largest D and returns its cost in any one unit.
    """
    law = _Linear(fit, table)
    shared, own = noise_parts(fit.residuals, table["run"].to_numpy(), fit.rank)
    known = _update(law.prior, law.jacobian(table), table["run"], shared, own)
    at = law.jacobian(targets)
    before = float(np.einsum("mi,ij,mj->m", at, known, at).mean())
    found = []
    for run, rows in candidates.groupby("run", sort=True):
        updated = _update(known, law.jacobian(rows), rows["run"], shared, own)
        after = float(np.einsum("mi,ij,mj->m", at, updated, at).mean())
        last = rows.loc[rows["D"].idxmax()]
        learns = [n for n in law.open(known) if n not in law.open(updated)]
        found.append(Advice(
            str(run), float(last["N0"]), float(last["rho"]), float(last["D"]),
            float(cost(last.to_dict())), before, after, learns,
        ))  # fmt: skip
    return sorted(found, key=lambda advice: -advice.score)


def undetermined(fit: Fit, table: pd.DataFrame) -> list[str]:
    """Constants of the full form that the table leaves open, by the measure of ``LEARNT``."""
    law = _Linear(fit, table)
    shared, own = noise_parts(fit.residuals, table["run"].to_numpy(), fit.rank)
    return law.open(_update(law.prior, law.jacobian(table), table["run"], shared, own))


class _Linear:
    """The full form linearised at a fit, in the engine's centred constants."""

    def __init__(self, fit: Fit, table: pd.DataFrame) -> None:
        self.form = registry.FORMS.get(fit.form.name, fit.form)
        self.problem: Problem = bind(self.form, table)
        K = self.problem.K
        known = dict(zip(fit.form.constants, fit.phi, strict=True))
        phi = np.array([known.get(name, 0.0) for name in self.form.constants])
        phi[:K] = np.maximum(np.abs(phi[:K]), 0.05 * np.abs(phi[:K]).max(initial=0.0))
        self.phi = phi
        self.spread = np.r_[PRIOR * (phi[:K] + 0.1), np.full(len(phi) - K, PRIOR)]

    @property
    def prior(self) -> Array:
        """Prior covariance [P, P]."""
        return np.diag(self.spread**2)

    def jacobian(self, rows: pd.DataFrame) -> Array:
        """Derivatives of log loss [m, P] with respect to the constants."""
        problem = bind(self.form, rows.assign(loss=1.0), means=self.problem.means)
        return problem.linearise(self.phi[None])[1][0]

    def open(self, covariance: Array) -> list[str]:
        """Constants that a posterior leaves nearly as wide as the prior."""
        share = np.sqrt(np.maximum(np.diag(covariance), 0.0)) / self.spread
        return [n for n, s in zip(self.form.constants, share, strict=True) if s > LEARNT]


def _update(
    covariance: Array, jacobian: Array, runs: pd.Series, shared: float, own: float
) -> Array:
    """Posterior covariance after measuring these points (Kalman update, run by run)."""
    for run in runs.unique():
        rows = jacobian[(runs == run).to_numpy()]
        noise = own * np.eye(len(rows)) + shared
        gain = np.linalg.solve(rows @ covariance @ rows.T + noise, rows @ covariance)
        covariance = covariance - (rows @ covariance).T @ gain
        covariance = 0.5 * (covariance + covariance.T)
    return covariance


def advice_record(
    fit: Fit, table: pd.DataFrame, cost: Cost = training_cost
) -> dict[str, Any] | None:
    """What the table leaves open and the runs to cure it; None where nothing is open.

    First the cheapest run for each open constant that one run can determine, then the best scores.
    Half widths are of 95 % intervals at the default targets, in log loss.
    """
    form = registry.FORMS.get(fit.form.name, fit.form)
    if not set(columns_needed(form)) <= {"N0", "N", "rho", "D", "L0", "Lp"}:
        return None
    missing = undetermined(fit, table)
    if not missing:
        return None
    found = advise(fit, table, default_runs(table), default_targets(table), cost)
    teachers = [[a for a in found if name in a.learns] for name in missing]
    cheapest = [min(runs, key=lambda a: a.cost) for runs in teachers if runs]
    cures = sorted({a.run: a for a in cheapest}.values(), key=lambda a: a.cost)
    rest = [a for a in found if a not in cures][: max(SHOWN - len(cures), 0)]
    return {"open": missing, "runs": [as_record(a) for a in cures + rest]}


def as_record(advice: Advice) -> NextRun:
    """One run's advice as the law stage writes it down."""
    before, after = advice.interval
    return NextRun(
        run=advice.run, N0=advice.N0, rho=advice.rho, D=advice.D, cost=advice.cost,
        half_width_before=before, half_width_after=after, determines=advice.learns,
        score=advice.score,
    )  # fmt: skip
