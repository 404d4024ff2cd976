"""Intervals beside the bootstrap: the cluster sandwich and the profile of the objective.

Both allow for points of one run sharing their error: the score of a run is the sum over its
points. A dozen runs leave the plain sandwich too small, since each run pulls the fit towards
itself, so the scores are those of the fit without the run, to first order (the jackknife form,
CR3, of Bell and McCaffrey 2002), and Student's t has runs - 1 degrees. The profile's threshold is
scaled by the ratio of naive to sandwich variance (a Huber objective is no likelihood, and
correlated points are fewer than they seem), so that the interval is where
2 (S(x) - S_min) x ratio <= t²(runs - 1). A profile that never leaves the threshold is flat on that
side: the table does not bound the exponent there, and the end is None.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from p2law.laws.fitting.engine import Minimum, minimise
from p2law.laws.fitting.fit import Fit
from p2law.laws.fitting.health import RANK
from p2law.laws.fitting.problem import Array
from p2law.laws.forms import form as forms

FEWEST_RUNS = 10
"""Runs below which a sandwich is too optimistic to be shown."""


@dataclass
class Profile:
    """Objective [m] along one exponent's values [m], others refitted, and where it is too high."""

    name: str
    values: Array
    objective: Array
    threshold: float
    low: float | None
    high: float | None


def _variances(fit: Fit, runs: Array) -> tuple[Array, Array, int]:
    """Naive and cluster variance [K + p] of the engine's constants, and the number of runs."""
    residuals, jacobian = (a[0] for a in fit.problem.linearise(fit.phi[None]))
    delta = fit.delta
    # The mean curvature of the objective stands for each point's: few points sit inside delta.
    inside = np.mean(np.abs(residuals) <= delta) if np.isfinite(delta) else 1.0
    inside = max(float(inside), 1.0 / len(residuals))
    norms = np.linalg.norm(jacobian, axis=0)
    norms = np.where(norms > 0, norms, 1.0)
    scaled = jacobian / norms
    names, index = np.unique(runs, return_inverse=True)
    pull = np.clip(residuals, -delta, delta)
    whole = inside * scaled.T @ scaled
    moved = np.zeros((len(names), len(norms)))  # of the constants, when a run is left out
    for run in range(len(names)):
        mine = scaled[index == run]
        rest = np.linalg.pinv(whole - inside * mine.T @ mine, rcond=RANK**2, hermitian=True)
        moved[run] = rest @ (pull[index == run] @ mine)
    G = len(names)
    naive = np.diag(np.linalg.pinv(whole, rcond=RANK**2, hermitian=True))
    return naive / norms**2, (G - 1) / G * (moved**2).sum(0) / norms**2, G


def sandwich(fit: Fit, runs: Array) -> dict[str, tuple[float, float]]:
    """95 % interval of each exponent from the cluster sandwich, t with runs - 1 degrees.

    It is a first-order interval: none is given for exponents that stand at a fence, that the table
    does not determine, or whose term is gone, and none at all with fewer than ``FEWEST_RUNS`` runs.
    """
    _, robust, G = _variances(fit, runs)
    if G < FEWEST_RUNS:
        return {}
    error = np.sqrt(robust)
    t = stats.t.ppf(0.975, G - 1)
    K = fit.problem.K
    lost = set(fit.at_fences) | set(fit.undetermined)
    for amplitude in lost & set(fit.form.amplitudes):
        lost |= forms.only_in(fit.form, amplitude)
    found = {}
    for i, name in enumerate(fit.form.exponents):
        if name in lost or (fit.form.broken and name == fit.form.broken.t0):
            continue  # the reported t0 is not the engine's logarithm
        x, e = fit.phi[K + i], error[K + i]
        found[name] = (float(x - t * e), float(x + t * e))
    return found


def profiles(fit: Fit, runs: Array, steps: int = 25) -> list[Profile]:
    """The profile of every exponent, over a range that doubles until the threshold is left."""
    naive, robust, G = _variances(fit, runs)
    robust = np.maximum(robust, 1e-300)
    t = stats.t.ppf(0.975, max(G - 1, 1))
    found = []
    for i, name in enumerate(fit.form.exponents):
        if fit.form.broken and name == fit.form.broken.t0:
            continue  # a scale in tokens, not an exponent
        at = fit.problem.K + i
        width = t * np.sqrt(robust[at])
        rise = 0.5 * t**2 * robust[at] / max(naive[at], 1e-300)
        # Where the exponent is not determined neither variance means anything.
        if name in fit.undetermined or not np.isfinite(width) or width <= 0:
            width, rise = 1.0, 0.5 * fit.objective
        found.append(_profile(fit, name, at, 1.5 * width, fit.objective + rise, steps))
    return found


def _profile(fit: Fit, name: str, at: int, width: float, limit: float, steps: int) -> Profile:
    exponent = fit.form.exponents[name]
    for _ in range(4):
        low = max(exponent.low, fit.phi[at] - width)
        high = min(exponent.high, fit.phi[at] + width)
        values = np.unique(np.r_[np.linspace(low, high, steps), fit.phi[at]])
        starts = np.repeat(fit.phi[None], len(values), axis=0)
        starts[:, at] = values
        ended = _descend(fit, starts, at)
        bounded = [
            ended.objective[0] > limit or low == exponent.low,
            ended.objective[-1] > limit or high == exponent.high,
        ]
        if all(bounded):
            break
        width *= 2.0
    # The estimate itself is inside, also where the threshold is no higher than its objective.
    below = np.flatnonzero(ended.objective <= max(limit, float(ended.objective.min())))
    first, last = int(below[0]), int(below[-1])
    left = None if first == 0 else _cross(values, ended.objective, first - 1, first, limit)
    right = None
    if last < len(values) - 1:
        right = _cross(values, ended.objective, last, last + 1, limit)
    return Profile(name, values, ended.objective, limit, left, right)


def _descend(fit: Fit, starts: Array, at: int) -> Minimum:
    """Ends [m] with one constant held; neighbours' ends are tried as starts until none helps."""
    held = np.arange(fit.problem.size) == at

    def end(phi: Array) -> Minimum:
        return minimise(
            fit.problem, phi, delta=fit.delta, signs=fit.signs, held=held, tolerance=1e-7,
            max_steps=40,
        )  # fmt: skip

    found = end(starts)
    for _ in range(8):
        moved = False
        for shift in (1, -1):
            phi = np.roll(found.phi, shift, axis=0)
            phi[:, at] = starts[:, at]
            other = end(phi)
            better = other.objective < found.objective * (1 - 1e-4)
            found.phi[better], found.objective[better] = other.phi[better], other.objective[better]
            moved |= bool(better.any())
        if not moved:
            break
    return found


def _cross(x: Array, y: Array, i: int, j: int, level: float) -> float:
    return float(x[i] + (x[j] - x[i]) * (level - y[i]) / (y[j] - y[i]))
