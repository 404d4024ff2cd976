"""Where to begin, and how far every beginning gets: a Sobol grid and batched variable projection.

Exponents come from a Sobol sequence, amplitudes by weighted least squares at each; the best of them
are followed until every one has settled, so that the share that arrives says whether the objective
has one minimum, not whether time was up.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

from p2law.laws import forms
from p2law.laws.engine import Minimum, minimise, nonnegative, solve_linear
from p2law.laws.problem import Array, Problem

GRID = 1024
"""Points of the Sobol sequence."""
KEPT = 40
"""The best of them, which are followed."""
POINTS = 2000
"""The search reads at most this many points of the table; the polish reads all of them."""
ARRIVED = 1e-6
"""Relative distance of an objective from the optimum's within which a start has arrived."""
STEPS = 600
"""Steps after which a start that has not settled counts as unfinished."""


@dataclass
class Search:
    """Ends of all starts on ``problem``: the ``whole`` table or ``POINTS`` points of it."""

    problem: Problem
    found: Minimum
    whole: bool

    def best(self, count: int) -> Array:
        """The lowest ends [count, K + p]."""
        return self.found.phi[np.argsort(self.found.objective, kind="stable")[:count]]


def search(problem: Problem, delta: float, signs: str, restarts: int = KEPT) -> Search:
    """Follow the grid's best ``restarts`` starts until they settle."""
    n = len(problem.y)
    plain = problem
    if n > POINTS:
        # Drawn, not every k-th: tables are grids, and a step through one can miss whole rates.
        chosen = np.random.default_rng(0).choice(n, POINTS, replace=False)
        plain = problem.subset(np.sort(chosen))
    small = plain.straightened()
    starts = plain.to_straight(grid(plain, signs)[:restarts])
    found = minimise(small, starts, delta=delta, signs=signs, max_steps=40)
    _leave_corners(small, found, delta, signs)
    at = np.flatnonzero(~found.settled)
    if len(at):
        ended = minimise(small, found.phi[at], delta=delta, signs=signs, max_steps=STEPS)
        found.phi[at], found.objective[at] = ended.phi, ended.objective
        found.settled[at] = ended.settled
    return Search(small, found, plain is problem)


def _leave_corners(problem: Problem, found: Minimum, delta: float, signs: str) -> None:
    """Move ends that stopped with an amplitude at zero, in place.

    There the exponents that act through that term alone have no slope and may stand anywhere: a
    corner that only looks like an optimum.
    """
    for k, own in own_exponents(problem):
        at = np.flatnonzero(found.phi[:, k] == 0.0)
        if not len(at):
            continue
        # Ends of one objective stand in one corner: it is left once, and for all of them.
        _, first, same = np.unique(
            np.round(np.log(np.maximum(found.objective[at], 1e-300)), 7),
            return_index=True, return_inverse=True,
        )  # fmt: skip
        phi, value = found.phi[at[first]], found.objective[at[first]]
        ended = spread(problem, phi, k, own, 5, delta, signs)
        better = (ended.objective < value)[same]
        found.phi[at[better]] = ended.phi[same][better]
        found.objective[at[better]] = ended.objective[same][better]
        found.settled[at[better]] = False


def own_exponents(problem: Problem) -> list[tuple[int, list[int]]]:
    """(place of an amplitude, places of the exponents that act through its term alone)."""
    names = list(problem.form.exponents)
    found = []
    for k, amplitude in enumerate(problem.form.amplitudes):
        own = [problem.K + names.index(n) for n in forms.only_in(problem.form, amplitude)]
        if own:
            found.append((k, own))
    return found


def spread(
    problem: Problem, phi: Array, k: int, own: list[int], shares: int, delta: float, signs: str,
    weights: Array | None = None, tolerance: float = 1e-9,
) -> Minimum:  # fmt: skip
    """The best end for each of phi [R, K + p] with one term's own exponents begun elsewhere."""
    starts = np.repeat(phi, shares, axis=0)
    starts[:, k] = 0.05 * np.abs(starts[:, : problem.K]).max(1)
    exponents = list(problem.form.exponents.values())
    for j in own:
        low, high = exponents[j - problem.K].start
        starts[:, j] = np.tile(np.linspace(low, high, shares + 2)[1:-1], len(phi))
    if weights is not None:
        weights = np.repeat(weights, shares, axis=0)
    ended = minimise(
        problem, starts, delta=delta, signs=signs, weights=weights, max_steps=40,
        tolerance=tolerance,
    )  # fmt: skip
    best = np.arange(len(phi)) * shares + ended.objective.reshape(len(phi), shares).argmin(1)
    return Minimum(ended.phi[best], ended.objective[best], ended.settled[best])


@cache
def _sobol(dimensions: int) -> Array:
    # Shifted by half a cell: the sequence begins at the corner, where exponents are extreme.
    return stats.qmc.Sobol(dimensions, scramble=False).random(GRID) + 0.5 / GRID


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
