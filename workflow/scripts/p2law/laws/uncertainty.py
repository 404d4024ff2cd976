"""How far a fit can be trusted: run-level bootstrap and prediction intervals.

Checkpoints of one run share their error, so runs are resampled, never points: 95 % intervals from
points covered 32 to 43 % in simulation, from runs 93 to 97 % (law.md section 4).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from p2law.laws.engine import Minimum, minimise
from p2law.laws.fit import Fit
from p2law.laws.problem import Array, Problem, bind
from p2law.laws.search import own_exponents, spread

LEVEL = 0.95
FEW_RUNS = 6
"""Runs below which a run-level interval is to be read with care."""


@dataclass
class Bootstrap:
    """Replicates of a fit: engine constants [B, K + p] of those that ended at a finite value."""

    fit: Fit
    phi: Array
    seed: int

    def constants(self) -> dict[str, Array]:
        """The source's constants, one array [B] a name."""
        raw = self.fit.problem.to_raw(self.phi)
        published = self.fit.form.published
        if published and set(raw) == set(self.fit.form.constants):
            return published(raw)
        return raw

    def intervals(self, level: float = LEVEL) -> dict[str, tuple[float, float]]:
        """Percentile interval of each constant."""
        return {name: percentiles(values, level) for name, values in self.constants().items()}

    def predict(self, frame: pd.DataFrame) -> Array:
        """Predicted losses [B, m] of other rows (no ``loss`` needed), without noise."""
        problem = self.fit.problem
        rows = bind(self.fit.form, frame.assign(loss=1.0), raw=problem.raw, means=problem.means)
        return rows.predict(self.phi)

    def prediction_interval(self, frame: pd.DataFrame, level: float = LEVEL) -> tuple[Array, Array]:
        """Interval [m], [m] that holds a *measured* loss: constants' spread and residual noise.

        Noise is drawn from the fit's own residuals, widened by sqrt(n / (n - constants)).
        """
        drawn = self.predict(frame)
        rng = np.random.default_rng(self.seed + 1)
        residuals = self.fit.residuals
        n, spent = len(residuals), min(self.fit.rank, len(residuals) - 1)
        pool = residuals * np.sqrt(n / (n - spent))
        noise = rng.choice(pool, size=drawn.shape) * rng.choice([-1.0, 1.0], size=drawn.shape)
        drawn = drawn + noise if self.fit.problem.raw else drawn * np.exp(noise)
        tail = 50 * (1 - level)
        low, high = np.percentile(drawn, [tail, 100 - tail], axis=0)
        return low, high


def percentiles(values: Array, level: float = LEVEL) -> tuple[float, float]:
    """Two-sided percentile interval of draws [B]."""
    tail = 50 * (1 - level)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def run_weights(runs: Array, replicates: int, seed: int) -> Array:
    """How often each point counts [B, n] when whole runs are drawn with replacement."""
    names, index = np.unique(np.asarray(runs), return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(names), size=(replicates, len(names)))
    counts = np.zeros((replicates, len(names)))
    np.add.at(counts, (np.arange(replicates)[:, None], drawn), 1.0)
    return counts[:, index]


def bootstrap(fit: Fit, runs: Array, replicates: int, seed: int) -> Bootstrap:
    """Refit with whole runs drawn with replacement.

    ``runs`` [n] names the run of each point. Replicates start from the fit; where the table does
    not determine it, from the ends of all restarts that are as good, so that the spread along the
    undetermined direction is seen. LAD replicates minimise its smoothed form (Huber, 1e-4).
    """
    weights = run_weights(runs, replicates, seed)
    starts = fit.phi[None]
    if fit.rank < fit.problem.size and len(fit.ends) > 1:
        starts = fit.ends
    starts = starts[np.arange(replicates) % len(starts)]
    problem = fit.problem.straightened()
    # 1e-6 of the objective is far below the replicates' own spread.
    found = minimise(
        problem, fit.problem.to_straight(starts), delta=fit.delta, signs=fit.signs,
        weights=weights, tolerance=1e-6, max_steps=60,
    )  # fmt: skip
    _unstick(problem, found, fit, weights)
    kept = np.isfinite(found.objective)
    return Bootstrap(fit, fit.problem.from_straight(found.phi[kept]), seed)


def _unstick(problem: Problem, found: Minimum, fit: Fit, weights: Array) -> None:
    """Try other starts for replicates whose exponent stands at a fence or whose term is gone.

    Begun from such a fit they would all stay there, and an interval of no width would claim that
    the table determines what it does not.
    """
    low, high = problem.limits(fit.signs)
    for k, own in own_exponents(problem):
        at_fence = (found.phi[:, own] == low[own]) | (found.phi[:, own] == high[own])
        at = np.flatnonzero(at_fence.any(1) | (found.phi[:, k] == 0.0))
        if not len(at):
            continue
        other = spread(
            problem, found.phi[at], k, own, 2, fit.delta, fit.signs, weights[at], tolerance=1e-6
        )
        better = other.objective < found.objective[at]
        found.phi[at[better]] = other.phi[better]
        found.objective[at[better]] = other.objective[better]
