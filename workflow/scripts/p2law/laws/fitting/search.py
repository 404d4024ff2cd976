"""Where to begin, and how far every beginning gets: a Sobol grid and batched variable projection.

Exponents come from a Sobol sequence, amplitudes by weighted least squares at each; the best of them
are followed until every one has settled, and ends that stand in a corner, or above another, look
along single exponents for a lower place. What share of the starts then arrives says whether the
objective has other minima, not whether time was up.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

from p2law.laws.fitting.engine import Minimum, minimise, nonnegative, solve_linear
from p2law.laws.fitting.problem import Array, Problem
from p2law.laws.forms import form as forms

GRID = 1024
"""Points of the Sobol sequence."""
KEPT = 40
"""The best of them, which are followed."""
POINTS = 2000
"""The search reads at most this many points of the table; the polish reads all of them."""
ARRIVED = 1e-6
"""Relative distance of an objective from the optimum's within which a start has arrived."""
HOPS = 3
"""Rounds in which ends look for lower minima along single exponents."""
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
    small = plain.reshaped()
    starts = plain.to_shape(grid(plain, signs)[:restarts])
    found = minimise(small, starts, delta=delta, signs=signs, max_steps=STEPS)
    for _ in range(HOPS):
        if not _hop(small, found, delta, signs):
            break
    return Search(small, found, plain is problem)


def _hop(problem: Problem, found: Minimum, delta: float, signs: str) -> bool:
    """Move ends to lower minima that differ in one term's own exponents, in place; was there one?

    Where an amplitude is zero those exponents have no slope, and where one is near zero its term
    reads like a constant: corners and saddles that only look like optima. Along such an exponent
    the objective, of absolute residuals for most points, also has minima of its own. Ends of one
    objective stand in one place, which is left once and for all of them.
    """
    low, high = problem.limits(signs)
    rounded = np.round(np.log(np.maximum(found.objective, 1e-300)), 7)
    _, first, same = np.unique(rounded, return_index=True, return_inverse=True)
    moved = False
    for k, own in own_exponents(problem):
        phi, value = found.phi[first], found.objective[first]
        fenced = (phi[:, own] == low[own]) | (phi[:, own] == high[own])
        asked = fenced.any(1) | (phi[:, k] == 0.0) | (value > value.min())
        if not asked.any():
            continue
        ended = spread(problem, phi[asked], k, own, delta, signs)
        better = ended.objective < value[asked] * (1 - 1e-9)
        for place, at in enumerate(np.flatnonzero(asked)):
            if better[place]:
                found.phi[same == at] = ended.phi[place]
                found.objective[same == at] = ended.objective[place]
                found.settled[same == at] = ended.settled[place]
                moved = True
    return moved


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
    problem: Problem, phi: Array, k: int, own: list[int], delta: float, signs: str,
    weights: Array | None = None, quick: bool = False,
) -> Minimum:  # fmt: skip
    """The best end for each of phi [R, K + p] with one term's own exponents begun elsewhere.

    They begin near both fences and over the range of starts. ``quick`` takes three places and few
    steps (bootstrap).
    """
    places = [np.linspace(0.0, 1.0, 5), np.array([0.5])][quick]
    exponents = list(problem.form.exponents.values())
    shares = len(places) + 2
    starts = np.repeat(phi, shares, axis=0)
    starts[:, k] = 0.05 * np.abs(starts[:, : problem.K]).max(1)
    for j in own:
        e = exponents[j - problem.K]
        inner = e.start[0] + places * (e.start[1] - e.start[0])
        edge = 0.003 * (e.high - e.low)
        starts[:, j] = np.tile(np.r_[e.low + edge, inner, e.high - 20 * edge], len(phi))
    if weights is not None:
        weights = np.repeat(weights, shares, axis=0)
    ended = minimise(
        problem, starts, delta=delta, signs=signs, weights=weights,
        max_steps=40 if quick else STEPS, tolerance=1e-6 if quick else 1e-13,
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
