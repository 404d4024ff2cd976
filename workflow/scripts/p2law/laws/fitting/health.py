"""What a fit is worth: is it at an optimum, and what can the table determine?"""

from enum import StrEnum

import numpy as np

from p2law.laws.fitting.engine import huber
from p2law.laws.fitting.problem import Array, Problem
from p2law.laws.forms.form import NEAR_ZERO

GAIN = 1e-8
"""Relative decrease of the objective, promised by one more step, at which a fit has converged."""
RANK = 1e-7
"""Singular values of the column-scaled Jacobian below this share of the largest are zeros."""


class Status(StrEnum):
    """What may be done with a fit's constants; of several that hold, the first here is told."""

    NOT_CONVERGED = "not converged"
    """One more step promises more than ``GAIN`` of the objective: use none of them."""
    UNDETERMINED = "undetermined"
    """An optimum, but the table leaves some constants open."""
    AT_FENCE = "at a fence"
    """An optimum that a fence limits: the data may ask for a value beyond it."""
    CONVERGED = "converged"


def status_of(converged: bool, undetermined: bool, fenced: bool) -> Status:
    """The status of a fit."""
    if not converged:
        return Status.NOT_CONVERGED
    if undetermined:
        return Status.UNDETERMINED
    return Status.AT_FENCE if fenced else Status.CONVERGED


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


def gradient_norm(problem: Problem, phi: Array, delta: float, signs: str) -> float:
    """Norm of the objective's gradient, Jacobian columns scaled to one, relative to its terms'.

    0 at an optimum, 1 where every point pulls the same way. Constants whose bound stops them are
    left out.
    """
    low, high = problem.limits(signs)
    residuals, jacobian = (a[0] for a in problem.linearise(phi[None]))
    norms = np.asarray(np.linalg.norm(jacobian, axis=0))
    pull = np.clip(residuals, -delta, delta)
    gradient = pull @ (jacobian / np.where(norms > 0, norms, 1.0))
    free = ~(((phi <= low) & (gradient > 0)) | ((phi >= high) & (gradient < 0)))
    return float(np.linalg.norm(gradient[free])) / max(float(np.linalg.norm(pull)), 1e-300)


def identifiability(problem: Problem, phi: Array) -> tuple[int, float, list[int]]:
    """Rank and condition number of the column-scaled Jacobian, and the constants in its kernel.

    A constant is lost when some direction that leaves every residual as it is moves it by more
    than a tenth of that direction's length. A constant whose column is zero is lost by itself.
    An exponent at its fence near zero is taken as zero: its term then reads like another.
    """
    low, _ = problem.limits("free")
    phi = np.where((phi == low) & (low == NEAR_ZERO), 0.0, phi)
    jacobian = problem.linearise(phi[None])[1][0]
    norms = np.linalg.norm(jacobian, axis=0)
    scaled = jacobian / np.where(norms > 0, norms, 1.0)
    _, singular, right = np.linalg.svd(scaled, full_matrices=False)
    if len(singular) < problem.size:  # fewer points than constants: the kernel needs all of V
        _, singular, right = np.linalg.svd(scaled, full_matrices=True)
    singular = np.concatenate([singular, np.zeros(problem.size - len(singular))])
    rank = int((singular > RANK * singular[0]).sum())
    kernel = np.abs(right[rank:])
    lost = np.flatnonzero(kernel.max(0, initial=0.0) > 0.1)
    condition = float(singular[0] / max(singular[rank - 1], 1e-300))
    return rank, condition, [int(i) for i in lost]
