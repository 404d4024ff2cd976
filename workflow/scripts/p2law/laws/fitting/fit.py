"""Fit a form to a table: a coarse grid, batched variable projection, and a polish.

``search`` follows the best starts of a Sobol grid, ``polish`` takes the lowest to the last digit,
``health`` says whether it is an optimum and what the table determines.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from p2law.errors import UserError
from p2law.laws.fitting.engine import minimise
from p2law.laws.fitting.health import (
    GAIN,
    Status,
    gradient_norm,
    identifiability,
    status_of,
)
from p2law.laws.fitting.polish import Polished, polish, polish_lad
from p2law.laws.fitting.problem import Array, Problem, bind
from p2law.laws.fitting.search import ARRIVED, KEPT, Search, search
from p2law.laws.forms import form as forms
from p2law.laws.forms.broken_power import LIMITS

OBJECTIVES = ("huber", "least_squares", "lad")
SIGNS = ("nonnegative", "free")
LAD_DELTA = 1e-4
"""Huber threshold of the smooth stand-in for least absolute deviation."""


@dataclass
class Fit:
    """A fitted law. ``phi`` are the engine's constants [K + p]; ``constants`` the source's.

    ``objective`` is in the objective's own unit (summed Huber, half sum of squares, or sum of
    absolute residuals, of log losses unless ``problem.raw``). ``starts`` holds the objectives at
    which the restarts ended, ``ends`` [R, K + p] where; of them ``starts_at_optimum`` arrived,
    ``starts_unfinished`` had not settled, and the rest settled in other local minima.
    ``gradient`` and ``gain`` are defined in :mod:`p2law.laws.fitting.health`. ``at_fences`` maps
    constants that stand at a fence to "low" or "high"; ``limits`` tells in words where a smoothly
    broken power law ended at a limit of its shape.
    """

    problem: Problem
    form: forms.Form
    phi: Array
    constants: dict[str, float]
    objective: float
    kind: str
    delta: float
    signs: str
    status: Status
    rank: int
    condition: float
    gain: float
    gradient: float
    at_fences: dict[str, str]
    limits: list[str]
    undetermined: list[str]
    starts: Array
    starts_at_optimum: float
    starts_unfinished: float
    ends: Array
    notes: list[str] = field(default_factory=list)

    @property
    def converged(self) -> bool:
        """Whether one more step would gain nothing."""
        return self.status is not Status.NOT_CONVERGED

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
    if signs not in SIGNS:
        raise UserError(f"signs {signs!r} is unknown; allowed: {', '.join(SIGNS)}")
    form, notes = forms.reduce(form, frame)
    problem = bind(form, frame, raw=raw)
    if len(problem.y) < problem.size:
        notes = [*notes, f"{len(problem.y)} points for {problem.size} constants"]
    threshold = _threshold(objective, delta, problem, signs)
    searched = search(problem, threshold, signs, restarts)
    shaped = problem.reshaped()
    best = polish(shaped, searched.best(5), threshold, signs, searched.whole)
    if objective == "lad":
        best = polish_lad(shaped, best.phi, signs)
    return _describe(problem, best, searched, objective, threshold, signs, notes)


def _threshold(objective: str, delta: float | str, problem: Problem, signs: str) -> float:
    """Huber's delta for an objective; infinite for least squares."""
    if objective != "huber":
        return {"least_squares": np.inf, "lad": LAD_DELTA}[objective]
    if delta == "noise":
        return noise_delta(problem, signs)
    if not isinstance(delta, int | float) or not delta > 0:
        raise UserError(f'delta {delta!r}: must be a number above 0, or "noise"')
    return float(delta)


def noise_delta(problem: Problem, signs: str) -> float:
    """Huber's delta from the noise: 1.345 x robust sigma of the residuals of a near-LAD fit."""
    phi = search(problem, LAD_DELTA, signs).best(1)
    shaped = problem.reshaped()
    residuals = shaped.residuals(shaped.predict(phi)[0])
    sigma = 1.4826 * np.median(np.abs(residuals - np.median(residuals)))
    return float(max(1.345 * sigma, 1e-6))


def _describe(
    problem: Problem,
    best: Polished,
    searched: Search,
    kind: str,
    delta: float,
    signs: str,
    notes: list[str],
) -> Fit:
    """The fit and all that it says of itself."""
    shaped = problem.reshaped()
    phi = problem.from_shape(best.phi[None])[0]
    rank, condition, lost, limits = _determined(problem, phi, best.phi)
    residuals = problem.residuals(problem.predict(phi[None])[0])
    exact = float(np.abs(residuals).max(initial=0.0)) < 1e-12
    constants = {name: float(v[0]) for name, v in problem.to_raw(phi[None]).items()}
    if problem.form.published and set(constants) == set(problem.form.constants):
        constants = problem.form.published(constants)
        if set(lost) - set(constants):  # the source's names of what the engine lost
            lost = [n for n in constants if n in lost or n not in problem.form.constants]
    fences = _fences(problem, phi, signs)
    notes = [*notes, *(f"{name} stands at its {side} fence" for name, side in fences.items())]
    notes += [f"the curve stands at its limit: {limit}" for limit in limits]
    if lost:
        notes.append(f"the table does not determine {', '.join(lost)}")
    starts, arrived = _arrivals(best, searched, kind, delta, signs)
    return Fit(
        problem=problem, form=problem.form, phi=phi, constants=constants, objective=best.value,
        kind=kind, delta=delta, signs=signs,
        status=status_of(bool(exact or best.gain < GAIN), bool(lost), bool(fences or limits)),
        rank=rank, condition=condition, gain=best.gain,
        gradient=gradient_norm(shaped, best.phi, delta, signs),
        at_fences=fences, limits=limits, undetermined=lost, starts=np.sort(starts),
        starts_at_optimum=float(arrived.mean()),
        starts_unfinished=float((~searched.found.settled & ~arrived).mean()),
        ends=problem.from_shape(searched.found.phi), notes=notes,
    )  # fmt: skip


def _determined(
    problem: Problem, phi: Array, shape: Array
) -> tuple[int, float, list[str], list[str]]:
    """Rank, condition, constants that the table leaves open, and limits of a broken power's shape.

    At a limit of its turn the curve has two numbers left, and none of its three constants.
    """
    rank, condition, lost = identifiability(problem, phi)
    names = [problem.form.constants[i] for i in lost]
    broken = problem.reshaped().broken
    if broken is None or not broken.shaped:
        return rank, condition, names, []
    limits = broken.limits(shape[problem.K :])
    if set(limits) & set(LIMITS[0]):
        rank = min(rank, problem.size - 1)
        names = [n for n in problem.form.constants if n in names or n in broken.names]
    return rank, condition, names, limits


def _fences(problem: Problem, phi: Array, signs: str) -> dict[str, str]:
    """Constants at a fence -> "low" or "high"; an amplitude at zero is at its lower one."""
    low, high = problem.limits(signs)
    return {
        name: "low" if x <= lo else "high"
        for name, x, lo, hi in zip(problem.form.constants, phi, low, high, strict=True)
        if x <= lo or x >= hi
    }


def _arrivals(
    best: Polished, searched: Search, kind: str, delta: float, signs: str
) -> tuple[Array, Array]:
    """Objectives of the starts' ends [R], in the fit's unit, and which are at the optimum [R].

    Starts of LAD are compared in its smooth form, and those of a large table on the points that
    the search reads, with the optimum taken to both.
    """
    ends, here = searched.found, best.value
    if kind == "lad" or not searched.whole:
        here = minimise(searched.problem, best.phi[None], delta=delta, signs=signs).objective[0]
    arrived = ends.objective <= here * (1 + ARRIVED) + 1e-18
    if kind == "lad":
        problem = searched.problem
        return np.abs(problem.residuals(problem.predict(ends.phi))).sum(-1), arrived
    share = best.value / here if here > 0 else 1.0
    return ends.objective * share, arrived
