"""How far a fit can be trusted: run-level bootstrap and prediction intervals.

Checkpoints of one run share their error, so runs are resampled, never points: 95 % intervals from
points covered 32 to 43 % in simulation. A dozen runs are few, and the percentile interval of G
resampled runs is too narrow by t(G - 1)/z x sqrt(G/(G - 1)), as for a mean: both ends are moved
away from the estimate by that factor (in logs for what is positive), which brings its coverage from
85-96 % to 92-98 % (benchmarks/law_coverage.py). :func:`run_level_interval` does it for any number.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from p2law.laws.fitting.engine import Minimum, minimise
from p2law.laws.fitting.fit import Fit
from p2law.laws.fitting.problem import Array, Problem, bind
from p2law.laws.fitting.search import own_exponents, spread

LEVEL = 0.95
FEW_RUNS = 6
"""Runs below which a run-level interval is to be read with care."""


@dataclass
class Bootstrap:
    """Replicates of a fit: engine constants [B, K + p] of those that ended at a finite value.

    ``runs`` counts the runs that were resampled.
    """

    fit: Fit
    phi: Array
    seed: int
    runs: int

    def constants(self) -> dict[str, Array]:
        """The source's constants, one array [B] a name."""
        raw = self.fit.problem.to_raw(self.phi)
        published = self.fit.form.published
        if published and set(raw) == set(self.fit.form.constants):
            return published(raw)
        return raw

    def intervals(self, level: float = LEVEL) -> dict[str, tuple[float, float]]:
        """Percentile interval of each constant, widened for the number of runs.

        It holds the estimate and stays inside the fences of exponents.
        """
        found = {}
        for name, values in self.constants().items():
            best = self.fit.constants[name]
            fence = self.fit.form.exponents.get(name)
            scale = self.fit.form.broken and name == self.fit.form.broken.t0
            logs = fence is None or bool(scale)
            low, high = run_level_interval(best, values, self.runs, level, logs=logs)
            if fence is not None and not scale:
                low, high = max(low, min(fence.low, best)), min(high, max(fence.high, best))
            found[name] = (low, high)
        return found

    def predict(self, frame: pd.DataFrame) -> Array:
        """Predicted losses [B, m] of other rows (no ``loss`` needed), without noise."""
        problem = self.fit.problem
        rows = bind(self.fit.form, frame.assign(loss=1.0), raw=problem.raw, means=problem.means)
        return rows.predict(self.phi)

    def prediction_interval(self, frame: pd.DataFrame, level: float = LEVEL) -> tuple[Array, Array]:
        """Interval [m], [m] that holds a *measured* loss: constants' spread and residual noise.

        The spread is widened for the number of runs, and noise is drawn from the fit's own
        residuals, widened by sqrt(n / (n - constants)).
        """
        drawn, best = self.predict(frame), self.fit.predict(frame)
        factor = small_sample(self.runs, level)
        if self.fit.problem.raw:
            drawn = best + factor * (drawn - best)
        else:
            drawn = best * (np.maximum(drawn, 1e-12) / best) ** factor
        rng = np.random.default_rng(self.seed + 1)
        residuals = self.fit.residuals
        n, spent = len(residuals), min(self.fit.rank, len(residuals) - 1)
        pool = residuals * np.sqrt(n / (n - spent))
        noise = rng.choice(pool, size=drawn.shape) * rng.choice([-1.0, 1.0], size=drawn.shape)
        drawn = drawn + noise if self.fit.problem.raw else drawn * np.exp(noise)
        tail = 50 * (1 - level)
        low, high = np.percentile(drawn, [tail, 100 - tail], axis=0)
        return low, high


def run_level_interval(
    best: float, drawn: Array, runs: int, level: float = LEVEL, *, logs: bool = True
) -> tuple[float, float]:
    """The run-level interval of any number: the percentiles of its draws, widened for few runs.

    ``best`` is the number at the fit, ``drawn`` [B] at the replicates, ``runs`` how many were
    resampled. Both ends move away from the estimate by :func:`small_sample`, in logs (``logs``:
    what is positive) or in the plain unit; the interval holds the estimate. Answers may be
    infinite (no budget suffices): ends are then draws themselves, and an infinite one stays so.
    """
    drawn = np.asarray(drawn, dtype=float)
    drawn = np.where(np.isnan(drawn), np.inf, drawn)
    tails = [50 * (1 - level), 100 - 50 * (1 - level)]
    if np.isfinite(drawn).all():
        low, high = map(float, np.percentile(drawn, tails))
    else:
        low, high = map(float, np.percentile(drawn, tails, method="nearest"))
    if not np.isfinite(best):
        return min(best, low), max(best, high)
    factor = small_sample(runs, level)
    widen = _widen_positive if logs else _widen
    return widen(best, low, high, factor)


def small_sample(runs: int, level: float = LEVEL) -> float:
    """Factor by which a percentile interval of so many resampled runs is too narrow."""
    if runs < 2:
        return 1.0
    tail = 0.5 + level / 2
    student = stats.t.ppf(tail, runs - 1) / stats.norm.ppf(tail)
    return float(student * np.sqrt(runs / (runs - 1)))


def _widen(best: float, low: float, high: float, factor: float) -> tuple[float, float]:
    """The interval with both ends moved away from the estimate, which it then holds."""
    return (
        min(best, low, best + factor * (low - best)),
        max(best, high, best + factor * (high - best)),
    )


def _widen_positive(best: float, low: float, high: float, factor: float) -> tuple[float, float]:
    """The same in logs; an end at zero, or constants of either sign, in the plain unit.

    What the table leaves open may reach beyond the largest float: its end is infinite then.
    """
    if min(best, low) < 0:
        return _widen(best, low, high, factor)
    if best == 0:
        return 0.0, factor * high
    log_low, log_high = (np.log(max(x / best, 1e-300)) for x in (low, high))
    first, last = _widen(0.0, log_low, log_high, factor)
    with np.errstate(over="ignore"):
        return (best * float(np.exp(first)) if low > 0 else 0.0), best * float(np.exp(last))


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
    problem = fit.problem.reshaped()
    # 1e-6 of the objective is far below the replicates' own spread.
    found = minimise(
        problem, fit.problem.to_shape(starts), delta=fit.delta, signs=fit.signs,
        weights=weights, tolerance=1e-6, max_steps=60,
    )  # fmt: skip
    _unstick(problem, found, fit, weights)
    kept = np.isfinite(found.objective)
    return Bootstrap(fit, fit.problem.from_shape(found.phi[kept]), seed, len(np.unique(runs)))


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
            problem, found.phi[at], k, own, fit.delta, fit.signs, weights[at], quick=True
        )
        better = other.objective < found.objective[at]
        found.phi[at[better]] = other.phi[better]
        found.objective[at[better]] = other.objective[better]
