"""Fit a form to a table: a coarse grid, batched variable projection, and a polish.

The recipe of law.md section 4. Starts are a Sobol grid over the exponents with the amplitudes
solved at each; the best 40 go through :mod:`p2law.laws.engine`; the best few are polished in the
full space by scipy (``least_squares`` whose Huber cost *is* the summed Huber, then BFGS with its
stopping rule scaled by delta), and the lowest objective is kept. Least absolute deviation ends
with a sequence of linear programs, which stops exactly where the optimum interpolates points.
"""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pandas as pd
from scipy import optimize, stats

from p2law.errors import UserError
from p2law.laws import forms
from p2law.laws.engine import Minimum, huber, minimise, nonnegative, solve_linear
from p2law.laws.problem import Array, Problem, bind

OBJECTIVES = ("huber", "least_squares", "lad")
GRID = 1024
KEPT = 40
SEARCH_POINTS = 2000
"""The search for a start reads at most this many points; the polish reads all of them."""
GAIN = 1e-8
"""Relative decrease of the objective, promised by one more step, at which a fit has converged."""
RANK = 1e-7
"""Singular values of the column-scaled Jacobian below this share of the largest are zeros."""


@dataclass
class Fit:
    """A fitted law. ``phi`` are the engine's constants [K + p]; ``constants`` the source's.

    ``objective`` is in the objective's own unit (summed Huber, half sum of squares, or sum of
    absolute residuals, of log losses unless ``problem.raw``).
    """

    problem: Problem
    form: forms.Form
    phi: Array
    constants: dict[str, float]
    objective: float
    kind: str
    delta: float
    signs: str
    converged: bool
    rank: int
    condition: float
    gain: float
    at_bounds: list[str]
    unidentified: list[str]
    starts: Array
    starts_at_optimum: float
    ends: Array
    notes: list[str] = field(default_factory=list)

    @property
    def predicted(self) -> Array:
        """Predicted losses [n] of the table's rows."""
        return self.problem.predict(self.phi[None])[0]

    @property
    def residuals(self) -> Array:
        """Residuals [n] as the objective sees them."""
        return self.problem.residuals(self.predicted)

    def predict(self, frame: pd.DataFrame) -> Array:
        """Predicted losses of other rows, which need no ``loss`` column."""
        rows = frame.assign(loss=1.0)
        other = bind(self.form, rows, raw=self.problem.raw, means=self.problem.means)
        return other.predict(self.phi[None])[0]


def fit(
    form: forms.Form,
    frame: pd.DataFrame,
    *,
    objective: str = "huber",
    delta: float | str = 1e-3,
    signs: str = "nonnegative",
    raw: bool = False,
    restarts: int = KEPT,
) -> Fit:
    """Fit one form to all rows of a table.

    ``delta`` is Huber's threshold in the residual's unit, or "noise" for 1.345 robust sigma of a
    least-absolute-deviation fit. ``signs`` bounds the amplitudes at zero ("nonnegative") or not
    ("free"). ``restarts`` starts of the grid are followed to their end. Raises UserError for an
    unknown setting and for rows that the form cannot take.
    """
    if objective not in OBJECTIVES:
        raise UserError(f"objective {objective!r} is unknown; allowed: {', '.join(OBJECTIVES)}")
    form, notes = forms.reduce(form, frame)
    problem = bind(form, frame, raw=raw)
    if len(problem.y) < problem.size:
        notes = [*notes, f"{len(problem.y)} points for {problem.size} constants"]
    if objective == "huber" and delta == "noise":
        delta = noise_delta(problem, signs)
    threshold = {"huber": delta, "least_squares": np.inf, "lad": 1e-4}[objective]
    if not isinstance(threshold, int | float) or not threshold > 0:
        raise UserError(f'delta {delta!r}: must be a number above 0, or "noise"')
    found = search(problem, float(threshold), signs, restarts)
    best = np.argsort(found.objective, kind="stable")[:5]
    phi, value = _polish(problem, found.phi[best], float(threshold), signs)
    for _ in range(3):  # where most points are outliers one round may stop early
        again = minimise(problem, phi[None], delta=float(threshold), signs=signs)
        moved, lower = _polish(problem, again.phi, float(threshold), signs)
        if not lower < value * (1 - 1e-10):
            break
        phi, value = moved, lower
    starts = found.objective
    if objective == "lad":
        phi, value = _polish_lad(problem, phi, signs)
        starts = np.abs(problem.residuals(problem.predict(found.phi))).sum(-1)
    result = _describe(problem, phi, value, objective, float(threshold), signs, notes)
    result.starts, result.ends = np.sort(starts), found.phi
    # A start has arrived when its objective is the optimum's to 1e-6 (LAD: before its polish).
    near = 1e-2 if objective == "lad" else 1e-6
    result.starts_at_optimum = float(np.mean(starts <= value * (1 + near) + 1e-18))
    return result


def noise_delta(problem: Problem, signs: str) -> float:
    """Huber's delta from the noise: 1.345 x robust sigma of the residuals of a near-LAD fit."""
    found = search(problem, 1e-4, signs)
    phi = found.phi[np.argmin(found.objective)]
    residuals = problem.residuals(problem.predict(phi[None])[0])
    sigma = 1.4826 * np.median(np.abs(residuals - np.median(residuals)))
    return float(max(1.345 * sigma, 1e-6))


# ------------------------------------------------------------------- search


@cache
def _sobol(dimensions: int) -> Array:
    # Shifted by half a cell: the sequence begins at the corner, where exponents are extreme.
    return stats.qmc.Sobol(dimensions, scramble=False).random(GRID) + 0.5 / GRID


def search(problem: Problem, delta: float, signs: str, restarts: int = KEPT) -> Minimum:
    """End points of the grid's best starts, on all points."""
    n = len(problem.y)
    small = problem
    if n > SEARCH_POINTS:
        small = problem.subset(np.linspace(0, n - 1, SEARCH_POINTS).round().astype(int))
    found = minimise(
        small, grid(small, signs)[:restarts], delta=delta, signs=signs, max_steps=60, tolerance=1e-9
    )
    _leave_corners(small, found, delta, signs)
    few = np.argsort(found.objective, kind="stable")[:5]
    refined = minimise(problem, found.phi[few], delta=delta, signs=signs)
    if small is not problem:
        return refined
    found.phi[few], found.objective[few] = refined.phi, refined.objective
    return found


def _leave_corners(problem: Problem, found: Minimum, delta: float, signs: str) -> None:
    """Move ends that stopped with an amplitude at zero, in place.

    There the exponents that act through that term alone have no slope and may stand anywhere: a
    corner that only looks like an optimum. Each such end tries other values of them.
    """
    names = list(problem.form.exponents)
    for k, amplitude in enumerate(problem.form.amplitudes):
        own = [problem.K + names.index(n) for n in forms.only_in(problem.form, amplitude)]
        at = np.flatnonzero(found.phi[:, k] == 0.0)
        if not own or not len(at):
            continue
        scale = np.abs(found.phi[at, : problem.K]).max(1)
        for share in np.linspace(0.05, 0.95, 5):
            starts = found.phi[at].copy()
            starts[:, k] = 0.05 * scale
            for j in own:
                low, high = problem.form.exponents[names[j - problem.K]].start
                starts[:, j] = low + share * (high - low)
            ended = minimise(
                problem, starts, delta=delta, signs=signs, max_steps=40, tolerance=1e-9
            )
            better = ended.objective < found.objective[at]
            found.phi[at[better]] = ended.phi[better]
            found.objective[at[better]] = ended.objective[better]


def grid(problem: Problem, signs: str) -> Array:
    """The best starts [KEPT, K + p] of a Sobol grid, amplitudes by weighted least squares."""
    exponents = list(problem.form.exponents.values())
    K = problem.K
    if not exponents:
        theta = np.zeros((1, 0))
    else:
        low, high = np.array([e.start for e in exponents]).T
        theta = low + (high - low) * _sobol(len(exponents))
    rows = max(1, 2_000_000 // (len(problem.y) * max(K, 1)))
    parts = [_solve_grid(problem, theta[i : i + rows], signs) for i in range(0, len(theta), rows)]
    phi = np.concatenate([p for p, _ in parts])
    cost = np.concatenate([c for _, c in parts])
    return phi[np.argsort(cost, kind="stable")[:KEPT]]


def _solve_grid(problem: Problem, theta: Array, signs: str) -> tuple[Array, Array]:
    constant, scaled = problem.split(problem.terms(theta))
    # Relative residuals: the log residual's first order, and linear in the amplitudes.
    unit = np.ones_like(problem.y) if problem.raw else problem.y
    target = (problem.y - constant) / unit
    design = (scaled / unit).transpose(0, 2, 1)
    ones = np.ones_like(target)
    amplitudes = np.zeros((len(theta), 0))
    if problem.K:
        solve = nonnegative if signs == "nonnegative" else solve_linear
        amplitudes = solve(design, target, ones)
    missed = target - np.einsum("rnk,rk->rn", design, amplitudes)
    return np.concatenate([amplitudes, theta], axis=1), (missed**2).sum(-1)


# ------------------------------------------------------------------- polish


def _polish(problem: Problem, starts: Array, delta: float, signs: str) -> tuple[Array, float]:
    """The lowest of the engine's and scipy's end points from the best few starts."""
    low, high = problem.limits(signs)

    def residuals(phi: Array) -> Array:
        found = problem.residuals(problem.predict(phi[None])[0])
        return np.where(np.isfinite(found), found, 1e3)

    def jacobian(phi: Array) -> Array:
        return problem.linearise(phi[None])[1][0]

    def value(phi: Array) -> float:
        return float(huber(residuals(phi), delta))

    best = min(starts, key=value)
    slopes = jacobian(best)
    if promised_gain(residuals(best), slopes, delta, best <= low, best >= high) < 1e-13:
        return best, value(best)
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
    moved = _bfgs(problem, best, delta, low, high)
    best = min((best, moved), key=value)
    return best, value(best)


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


def _polish_lad(problem: Problem, phi: Array, signs: str) -> tuple[Array, float]:
    """Sequential linear programs for min sum |r|: each minimises |r + J s| in a trust region."""
    low, high = problem.limits(signs)
    residuals, jacobian = (a[0] for a in problem.linearise(phi[None]))
    value, radius = float(np.abs(residuals).sum()), 0.1
    n = len(residuals)
    for _ in range(60):
        scale = np.maximum(np.abs(phi), 1e-3)
        matrix = np.hstack([jacobian * scale, -np.eye(n), np.eye(n)])
        bounds = [
            (max(-radius, (lo - x) / s), min(radius, (hi - x) / s))
            for x, s, lo, hi in zip(phi, scale, low, high, strict=True)
        ]
        cost = np.r_[np.zeros(len(phi)), np.ones(2 * n)]
        solved = optimize.linprog(
            cost, A_eq=matrix, b_eq=-residuals, bounds=bounds + [(0, None)] * (2 * n)
        )
        if solved.status != 0:
            break
        trial = np.clip(phi + scale * solved.x[: len(phi)], low, high)
        reached = np.abs(problem.residuals(problem.predict(trial[None])[0])).sum()
        if reached < value:
            gain = value - reached
            phi, value = trial, float(reached)
            residuals, jacobian = (a[0] for a in problem.linearise(phi[None]))
            radius *= 2.0
            if gain < 1e-14 * value:
                break
        else:
            radius *= 0.25
        if radius < 1e-14:
            break
    return phi, value


# ------------------------------------------------------------------- what the fit is worth


def _describe(problem, phi, value, kind, delta, signs, notes) -> Fit:
    low, high = problem.limits(signs)
    residuals, jacobian = (a[0] for a in problem.linearise(phi[None]))
    names = problem.form.constants
    at_bounds = [n for n, x, lo, hi in zip(names, phi, low, high, strict=True) if x in (lo, hi)]
    gain = promised_gain(residuals, jacobian, delta, phi <= low, phi >= high)
    rank, condition, lost = identifiability(problem, phi)
    exact = float(np.abs(residuals).max(initial=0.0)) < 1e-12
    converged = bool(kind == "lad" or exact or gain < GAIN)
    raw = {name: float(v[0]) for name, v in problem.to_raw(phi[None]).items()}
    if problem.form.published and set(raw) == set(problem.form.constants):
        raw = problem.form.published(raw)
    unidentified = [names[i] for i in lost]
    notes = list(notes)
    if unidentified:
        notes.append(f"the table does not determine {', '.join(unidentified)}")
    return Fit(
        problem, problem.form, phi, raw, value, kind, delta, signs, converged, rank, condition,
        gain, at_bounds, unidentified, np.array([value]), 1.0, phi[None], notes,
    )  # fmt: skip


def promised_gain(
    residuals: Array, jacobian: Array, delta: float, at_low: Array, at_high: Array
) -> float:
    """Relative decrease of the objective that a reweighted Gauss-Newton step would bring.

    Free of units and of the constants' scaling, unlike a gradient's norm; constants at a bound
    that the step would push outwards are left out.
    """
    value = float(huber(residuals, delta))
    if value == 0.0:
        return 0.0
    weights = np.minimum(1.0, delta / np.maximum(np.abs(residuals), 1e-300))
    gradient = jacobian.T @ (weights * residuals)
    free = ~((at_low & (gradient > 0)) | (at_high & (gradient < 0)))
    root = np.sqrt(weights)
    design = jacobian[:, free] * root[:, None]
    norms = np.linalg.norm(design, axis=0)
    left, singular, _ = np.linalg.svd(design / np.where(norms > 0, norms, 1.0), full_matrices=False)
    kept = left[:, singular > RANK * singular.max(initial=0.0)]
    return float(0.5 * ((kept.T @ (root * residuals)) ** 2).sum() / value)


def identifiability(problem: Problem, phi: Array) -> tuple[int, float, list[int]]:
    """Rank and condition number of the column-scaled Jacobian, and the constants in its kernel.

    A constant is lost when some direction that leaves every residual as it is moves it by more
    than a tenth of that direction's length. A constant whose column is zero is lost by itself.
    """
    jacobian = problem.linearise(phi[None])[1][0]
    norms = np.linalg.norm(jacobian, axis=0)
    scaled = jacobian / np.where(norms > 0, norms, 1.0)
    _, singular, right = np.linalg.svd(scaled, full_matrices=True)
    singular = np.concatenate([singular, np.zeros(problem.size - len(singular))])
    rank = int((singular > RANK * singular[0]).sum())
    kernel = np.abs(right[rank:])
    lost = np.flatnonzero(kernel.max(0) > 0.1) if len(kernel) else []
    condition = float(singular[0] / max(singular[rank - 1], 1e-300))
    return rank, condition, [int(i) for i in lost]
