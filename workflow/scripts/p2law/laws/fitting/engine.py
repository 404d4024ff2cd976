"""Batched variable projection: many starts, or many bootstrap replicates, in one loop.

Each step solves the damped Gauss-Newton system, with light damping on the exponents only, then
solves the amplitudes again at the new exponents: Ruhe and Wedin's form of variable projection,
equal to Kaufman's to first order. The Huber objective enters by its own curvature (zero for
outliers, as a Newton step has it) with the reweighted one as the damping's metric, so steps stay
bounded where most points are outliers (small delta).
"""

from dataclasses import dataclass

import numpy as np

from p2law.laws.fitting.problem import Array, Problem

CHUNK = 3_000_000
"""Largest number of Jacobian entries held at once (24 MB)."""


@dataclass
class Minimum:
    """End points [R, K + p], their objectives [R] and whether each stopped by itself [R]."""

    phi: Array
    objective: Array
    settled: Array


def huber(residuals: Array, delta: float, weights: Array | float = 1.0) -> Array:
    """Summed Huber loss over the last axis: r²/2 inside delta, delta (|r| - delta/2) beyond.

    ``delta`` infinite is half the sum of squares.
    """
    size = np.abs(residuals)
    inner = np.minimum(size, delta)
    with np.errstate(over="ignore"):
        return (weights * inner * (size - 0.5 * inner)).sum(-1)


def minimise(
    problem: Problem,
    starts: Array,
    *,
    delta: float = np.inf,
    signs: str = "nonnegative",
    weights: Array | None = None,
    held: Array | None = None,
    max_steps: int = 200,
    tolerance: float = 1e-13,
) -> Minimum:
    """Minimise the summed Huber loss from every start.

    ``starts`` [R, K + p]; ``weights`` [R, n] are multiplicities of points (bootstrap), default 1;
    ``held`` [K + p] marks exponents that stay where they start (profiles).
    ``tolerance`` is the relative decrease of the objective at which a start stops.
    """
    n, P = len(problem.y), problem.size
    held = np.zeros(P, dtype=bool) if held is None else held
    rows = max(1, CHUNK // (n * P))
    if len(starts) <= rows:
        return _minimise(problem, starts, delta, signs, weights, held, max_steps, tolerance)
    parts = []
    for first in range(0, len(starts), rows):
        chosen = slice(first, first + rows)
        some = None if weights is None else weights[chosen]
        parts.append(
            _minimise(problem, starts[chosen], delta, signs, some, held, max_steps, tolerance)
        )
    return Minimum(
        np.concatenate([p.phi for p in parts]),
        np.concatenate([p.objective for p in parts]),
        np.concatenate([p.settled for p in parts]),
    )


def _minimise(
    problem: Problem, starts: Array, delta: float, signs: str, weights: Array | None, held: Array,
    max_steps: int, tolerance: float,
) -> Minimum:  # fmt: skip
    low, high = problem.limits(signs)
    phi = np.clip(np.array(starts, dtype=float), low, high)
    weights = np.ones((len(phi), len(problem.y))) if weights is None else weights
    phi, objective = _solve_amplitudes(problem, phi, delta, weights, low)
    damping = np.full(len(phi), 1e-2)
    settled = np.zeros(len(phi), dtype=bool)
    quiet = np.zeros(len(phi), dtype=int)
    since = np.full(len(phi), np.inf)
    for _ in range(max_steps):
        at = np.flatnonzero(~settled)
        if not len(at):
            break
        trial, reached = _step(problem, phi[at], delta, weights[at], damping[at], low, high, held)
        better = reached < objective[at]
        with np.errstate(invalid="ignore"):
            small = np.abs(objective[at] - reached) <= tolerance * objective[at]
        phi[at[better]] = trial[better]
        objective[at[better]] = reached[better]
        damping[at] = np.where(better, damping[at] * 0.2, np.minimum(damping[at] * 5.0, 1e16))
        quiet[at] = np.where(small, quiet[at] + 1, np.where(better, 0, quiet[at]))
        stopped = (quiet[at] >= 2) | (damping[at] >= 1e12) | (objective[at] == 0.0)
        # Heavy damping makes steps small anywhere: a stop counts if a fresh attempt gains nothing.
        with np.errstate(invalid="ignore"):  # a start without a finite value never settles
            gained = since[at] - objective[at]
            settled[at] = stopped & (gained <= 1e3 * tolerance * objective[at])
        again = at[stopped & ~settled[at]]
        since[again], damping[again], quiet[again] = objective[again], 1e-2, 0
    return Minimum(phi, objective, settled)


def _value(residuals: Array, delta: float, weights: Array) -> Array:
    """Objectives [R] of residuals [R, n]; infinite where a prediction has no logarithm."""
    finite = np.isfinite(residuals)
    if finite.all():
        return huber(residuals, delta, weights)
    return np.where(finite.all(-1), huber(np.where(finite, residuals, 0.0), delta, weights), np.inf)


def _step(
    problem: Problem, phi: Array, delta: float, weights: Array, damping: Array, low: Array,
    high: Array, held: Array,
) -> tuple[Array, Array]:  # fmt: skip
    """One damped step for each start, amplitudes solved anew at the new exponents, and values."""
    residuals, jacobian = problem.linearise(phi)
    residuals = np.where(np.isfinite(residuals), residuals, 0.0)
    with np.errstate(divide="ignore"):
        reweight = weights * np.minimum(1.0, delta / np.maximum(np.abs(residuals), 1e-300))
    curvature = weights * (np.abs(residuals) <= delta)
    across = jacobian.transpose(0, 2, 1)
    gradient = (across @ (reweight * residuals)[..., None])[..., 0]
    newton = across @ (jacobian * curvature[..., None])
    metric = across @ (jacobian * reweight[..., None]) if np.isfinite(delta) else newton
    frozen = ((phi <= low) & (gradient > 0)) | ((phi >= high) & (gradient < 0)) | held
    none = np.zeros_like(phi)
    step = _solve(newton, metric, gradient, damping, frozen, none, problem.K)
    # Clipping alone would leave the others a step that counts on what was clipped: constants that
    # would cross a bound go to it, and the rest is solved again knowing that.
    for _ in range(2):
        reached = np.clip(phi - step, low, high)
        crossed = (reached != phi - step) & ~frozen
        if not crossed.any():
            break
        fixed = np.where(crossed, phi - reached, 0.0)
        step = _solve(newton, metric, gradient, damping, frozen | crossed, fixed, problem.K)
    return _solve_amplitudes(problem, np.clip(phi - step, low, high), delta, weights, low)


def _solve(
    newton: Array,
    metric: Array,
    gradient: Array,
    damping: Array,
    frozen: Array,
    fixed: Array,
    K: int,
) -> Array:
    """Damped step; frozen constants move by ``fixed`` and the others allow for it."""
    scale = np.sqrt(np.einsum("rpp->rp", metric))
    scale = np.where(scale > 0, scale, 1.0)
    outer = scale[:, :, None] * scale[:, None, :]
    system, metric = newton / outer, metric / outer
    P = gradient.shape[1]
    # Amplitudes are damped only where light damping failed: their own step can overshoot a kink.
    heavy = np.maximum(damping - 1.0, 0.0)[:, None]
    ridge = np.where(np.arange(P) >= K, damping[:, None], heavy) + 1e-12
    system = system + np.minimum(damping, 1.0)[:, None, None] * metric
    system = system / (1.0 + np.minimum(damping, 1.0))[:, None, None]
    system[:, np.arange(P), np.arange(P)] += ridge
    right = gradient / scale - (system @ (fixed * scale)[..., None])[..., 0]
    right = np.where(frozen, fixed * scale, right)
    system = np.where(frozen[:, :, None] | frozen[:, None, :], 0.0, system)
    system[:, np.arange(P), np.arange(P)] += np.where(frozen, 1.0, 0.0)
    return np.linalg.solve(system, right[..., None])[..., 0] / scale


def _solve_amplitudes(
    problem: Problem, trial: Array, delta: float, weights: Array, low: Array
) -> tuple[Array, Array]:
    """One reweighted solve for the amplitudes at fixed exponents: the better of both, its value."""
    K = problem.K
    constant, scaled = problem.split(problem.terms(trial[:, K:]))
    predicted = constant + (trial[:, None, :K] @ scaled)[:, 0]
    residuals = problem.residuals(predicted)
    value = _value(residuals, delta, weights)
    if K == 0:
        return trial, value
    around = predicted if problem.raw else np.where(predicted > 0, predicted, problem.y)
    curvature = np.where(np.isfinite(residuals), np.abs(residuals), 0.0)
    curvature = weights * np.minimum(1.0, delta / np.maximum(curvature, 1e-300))
    slopes, target = scaled, residuals
    if not problem.raw:
        slopes = scaled / around[:, None, :]
        target = problem.residuals(around) + (predicted - around) / around
    design = slopes.transpose(0, 2, 1)
    amplitudes = trial[:, :K] + solve_linear(design, -target, curvature)
    negative = (amplitudes < 0).any(-1) if low[0] == 0.0 else np.zeros(len(trial), dtype=bool)
    if negative.any():
        wanted = (design[negative] @ trial[negative, :K, None])[..., 0] - target[negative]
        amplitudes[negative] = nonnegative(design[negative], wanted, curvature[negative])
    solved = problem.residuals(constant + (amplitudes[:, None] @ scaled)[:, 0])
    reached = _value(solved, delta, weights)
    better = reached <= value
    found = trial.copy()
    found[better, :K] = amplitudes[better]
    return found, np.where(better, reached, value)


def solve_linear(design: Array, target: Array, weights: Array) -> Array:
    """Weighted least squares [R, K] for designs [R, n, K], targets [R, n], weights [R, n]."""
    gram, right, scale = _normal(design, target, weights)
    return np.linalg.solve(gram, right[..., None])[..., 0] / scale


def _normal(design: Array, target: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Normal equations [R, K, K], [R, K] of columns scaled to one, and their scales [R, K]."""
    weighted = (design * weights[..., None]).transpose(0, 2, 1)
    gram = weighted @ design
    right = (weighted @ target[..., None])[..., 0]
    scale = np.sqrt(np.einsum("rkk->rk", gram))
    scale = np.where(scale > 0, scale, 1.0)
    gram = gram / (scale[:, :, None] * scale[:, None, :])
    K = gram.shape[1]
    gram[:, np.arange(K), np.arange(K)] += 1e-13
    return gram, right / scale, scale


def nonnegative(design: Array, target: Array, weights: Array) -> Array:
    """Non-negative weighted least squares [R, K], by trying every set of zeros (K is at most 4)."""
    gram, right, scale = _normal(design, target, weights)
    R, K = right.shape
    best, lowest = np.zeros((R, K)), np.zeros(R)
    for mask in range(1, 2**K):
        kept = [k for k in range(K) if mask >> k & 1]
        some, pull = gram[:, kept][:, :, kept], right[:, kept]
        solved = np.linalg.solve(some, pull[..., None])[..., 0]
        # The cost less the targets' own: -right x at the solution of the normal equations.
        cost = -(pull * solved).sum(-1)
        good = (solved >= 0).all(-1) & (cost < lowest)
        lowest = np.where(good, cost, lowest)
        full = np.zeros((R, K))
        full[:, kept] = solved
        best[good] = full[good]
    return best / scale
