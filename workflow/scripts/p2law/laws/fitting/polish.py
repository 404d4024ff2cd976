"""The last digits: scipy's optimisers in the full space, and linear programs for LAD.

``least_squares`` with ``loss="huber"`` has the summed Huber as its cost; BFGS stops at a gradient
scaled by delta. Least absolute deviation ends in a sequence of linear programs, which stops exactly
where the optimum interpolates points.
"""

from dataclasses import dataclass

import numpy as np
from scipy import optimize, sparse

from p2law.laws.fitting.engine import huber, minimise
from p2law.laws.fitting.health import GAIN, promised_gain
from p2law.laws.fitting.problem import Array, Problem

PROGRAMS = 60
"""Linear programs at most; a dozen are usual, more where the optimum is a long way off."""
ENOUGH = 1e-2 * GAIN
"""Promised relative decrease below which no more polishing is tried."""


@dataclass
class Polished:
    """Constants [K + p], their objective, and the relative decrease that a step still promises."""

    phi: Array
    value: float
    gain: float


def polish(problem: Problem, starts: Array, delta: float, signs: str, settled: bool) -> Polished:
    """The lowest end from starts [R, K + p], best first, on all points.

    ``settled`` says that the first is where the engine ends on these points.
    """
    phi = starts[0]
    if not settled:
        found = minimise(problem, starts, delta=delta, signs=signs)
        phi = found.phi[np.argmin(found.objective)]
    best = _by_scipy(problem, phi, delta, signs)
    for _ in range(3):  # where most points are outliers one round may stop early
        if best.gain < ENOUGH:
            break
        again = minimise(problem, best.phi[None], delta=delta, signs=signs)
        other = _by_scipy(problem, again.phi[0], delta, signs)
        if not other.value < best.value * (1 - 1e-10):
            break
        best = other
    return best


def _by_scipy(problem: Problem, best: Array, delta: float, signs: str) -> Polished:
    """The lowest of a start and scipy's ends from it; the start itself where it is converged."""
    low, high = problem.limits(signs)

    def residuals(phi: Array) -> Array:
        found = problem.residuals(problem.predict(phi[None])[0])
        return np.where(np.isfinite(found), found, 1e3)

    def jacobian(phi: Array) -> Array:
        return problem.linearise(phi[None])[1][0]

    def value(phi: Array) -> float:
        return float(huber(residuals(phi), delta))

    def worth(phi: Array) -> Polished:
        at = (phi <= low), (phi >= high)
        return Polished(phi, value(phi), promised_gain(residuals(phi), jacobian(phi), delta, *at))

    start = worth(best)
    if start.gain < ENOUGH:
        return start
    span = np.where(np.isfinite(high - low), high - low, 1.0)
    inside = np.clip(best, low + 1e-10 * span, high - 1e-10 * span)
    robust = {} if np.isinf(delta) else {"loss": "huber", "f_scale": delta}
    try:
        found = optimize.least_squares(
            residuals, inside, jacobian, bounds=(low, high), x_scale="jac",
            xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=50, **robust,
        )  # fmt: skip
        best = min((best, found.x), key=value)
    except np.linalg.LinAlgError:  # a start at a degenerate corner: the engine's end point stands
        pass
    return worth(min((best, _bfgs(problem, best, delta, low, high)), key=value))


def _bfgs(problem: Problem, phi: Array, delta: float, low: Array, high: Array) -> Array:
    """BFGS in coordinates scaled by the Jacobian's columns, constants at their bounds held."""
    free = (phi > low) & (phi < high)
    scale = np.linalg.norm(problem.linearise(phi[None])[1][0], axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    small = 1.0 if np.isinf(delta) else delta

    def full(u: Array) -> Array:
        point = phi.copy()
        point[free] = np.clip(phi[free] + u / scale[free], low[free], high[free])
        return point

    def both(u: Array) -> tuple[float, Array]:
        residuals, jacobian = problem.linearise(full(u)[None])
        if not np.isfinite(residuals).all():
            return 1e30, np.zeros_like(u)
        pull = np.clip(residuals[0], -delta, delta) @ jacobian[0]
        return float(huber(residuals[0], delta)), pull[free] / scale[free]

    found = optimize.minimize(
        both, np.zeros(free.sum()), jac=True, method="BFGS", options={"gtol": 1e-9 * small}
    )
    return full(found.x)


# ------------------------------------------------------------------- least absolute deviation


def polish_lad(problem: Problem, phi: Array, signs: str) -> Polished:
    """Sequential linear programs for min sum |r|: each minimises |r + J s| in a trust region.

    ``gain`` is the decrease that the last program promises within a thousandth of each constant:
    zero at a vertex, where no direction descends.
    """
    low, high = problem.limits(signs)
    value, radius = float(np.abs(problem.residuals(problem.predict(phi[None])[0])).sum()), 0.1
    for _ in range(PROGRAMS):
        step, _ = _program(problem, phi, low, high, radius)
        trial = np.clip(phi + step, low, high)
        reached = float(np.abs(problem.residuals(problem.predict(trial[None])[0])).sum())
        if reached < value:
            fell = value - reached
            phi, value = trial, reached
            radius *= 2.0
            if fell < 1e-14 * value:
                break
        else:
            radius *= 0.25
        if radius < 1e-14:
            break
    _, promised = _program(problem, phi, low, high, 1e-3)
    return Polished(phi, value, max(value - promised, 0.0) / max(value, 1e-300))


def _program(
    problem: Problem, phi: Array, low: Array, high: Array, radius: float
) -> tuple[Array, float]:
    """Step [K + p] that minimises sum |r + J s| for |s| <= radius x |constant|, and that sum."""
    residuals, jacobian = (a[0] for a in problem.linearise(phi[None]))
    scale = np.maximum(np.abs(phi), 1e-3)
    n = len(residuals)
    unit = sparse.identity(n, format="csc")
    matrix = sparse.hstack([sparse.csc_matrix(jacobian * scale), -unit, unit], format="csc")
    bounds = np.column_stack(
        [np.maximum(-radius, (low - phi) / scale), np.minimum(radius, (high - phi) / scale)]
    )
    over = np.column_stack([np.zeros(2 * n), np.full(2 * n, np.inf)])
    solved = optimize.linprog(
        np.r_[np.zeros(len(phi)), np.ones(2 * n)], A_eq=matrix, b_eq=-residuals,
        bounds=np.concatenate([bounds, over]), method="highs",
    )  # fmt: skip
    if solved.status != 0:
        return np.zeros(len(phi)), float(np.abs(residuals).sum())
    return scale * solved.x[: len(phi)], float(solved.fun)
