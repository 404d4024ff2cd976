"""The next-run advisor: which further run would teach the law most per unit of cost.

Criterion (ours): the expected reduction of the prediction variance at the user's targets, in
squared log loss, divided by the run's cost. The law is linearised at the fit; the noise of a run is
a shared part and a part of each point, estimated from the residuals; a weak normal prior on the
engine's centred constants (``PRIOR``) keeps the variance finite where the table does not determine
a constant, which makes exactly the runs that would determine it the most valuable. Ranking by the
variance at targets is V-optimality; it ignores constants that no target depends on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from p2law.laws.fit import Fit
from p2law.laws.problem import Array, bind

PRIOR = 1.0
"""Prior standard deviation of exponents and, relative to their value plus 0.1, of amplitudes."""


def default_cost(run: Mapping[str, float]) -> float:
    """Training FLOPs of one run to its largest budget, 6 N0 D."""
    return 6.0 * run["N0"] * run["D"]


@dataclass
class Advice:
    """One candidate run: its cost, the targets' variance (squared log loss) before and after."""

    run: str
    cost: float
    before: float
    after: float

    @property
    def score(self) -> float:
        """Reduction of the mean prediction variance per unit of cost."""
        return (self.before - self.after) / self.cost


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
    cost: Callable[[Mapping[str, float]], float] = default_cost,
) -> list[Advice]:
    """Candidates from best to worst.

    ``candidates`` has one row a point (columns of the form and ``run``), several rows a run;
    ``targets`` has the rows whose losses the user wants to know. Neither needs a ``loss``.
    ``cost`` takes a run's row of largest D and returns its cost in any one unit.
    """
    shared, own = noise_parts(fit.residuals, table["run"].to_numpy(), fit.rank)
    covariance = _update(_prior(fit), _jacobian(fit, table), table["run"], shared, own)
    at = _jacobian(fit, targets)
    before = float(np.einsum("mi,ij,mj->m", at, covariance, at).mean())
    found = []
    for run, rows in candidates.groupby("run", sort=True):
        updated = _update(covariance, _jacobian(fit, rows), rows["run"], shared, own)
        after = float(np.einsum("mi,ij,mj->m", at, updated, at).mean())
        price = cost(rows.loc[rows["D"].idxmax()].to_dict())
        found.append(Advice(str(run), float(price), before, after))
    return sorted(found, key=lambda advice: -advice.score)


def candidate_runs(table: pd.DataFrame, sizes: list[float], rates: list[float]) -> pd.DataFrame:
    """Runs of every size x rate at the table's budgets; L0 by a power law in N0 where unknown."""
    known = table.groupby("N0")["L0"].first()
    slope, level = np.polyfit(np.log(known.index), np.log(known), 1) if len(known) > 1 else (0, 0)
    rows = []
    for size in sizes:
        near = known.index[np.isclose(known.index, size)]
        loss = known[near[0]] if len(near) else np.exp(level + slope * np.log(size))
        if len(known) == 1:
            loss = known.iloc[0]
        rows += [
            {"run": f"N0 = {size:.4g}, rho = {rate:.3g}", "N0": size, "N": size * (1 - rate),
             "rho": rate, "L0": loss, "D": d}
            for rate in rates
            for d in sorted(table["D"].unique())
        ]  # fmt: skip
    return pd.DataFrame(rows)


def _jacobian(fit: Fit, rows: pd.DataFrame) -> Array:
    """Derivatives of log loss [m, P] with respect to the engine's constants."""
    problem = bind(fit.form, rows.assign(loss=1.0), means=fit.problem.means)
    return problem.linearise(fit.phi[None])[1][0]


def _prior(fit: Fit) -> Array:
    K = fit.problem.K
    spread = np.r_[PRIOR * (np.abs(fit.phi[:K]) + 0.1), np.full(len(fit.phi) - K, PRIOR)]
    return np.diag(spread**2)


def _update(covariance: Array, jacobian: Array, runs: pd.Series, shared: float, own: float):
    """Posterior covariance after measuring these points (Kalman update, run by run)."""
    for run in runs.unique():
        rows = jacobian[(runs == run).to_numpy()]
        noise = own * np.eye(len(rows)) + shared
        gain = np.linalg.solve(rows @ covariance @ rows.T + noise, rows @ covariance)
        covariance = covariance - (rows @ covariance).T @ gain
        covariance = 0.5 * (covariance + covariance.T)
    return covariance
