"""How many tokens: three rules for any form whose loss falls with D.

Target: L(D) = L_t. Marginal: -dL/dD = tau. Residual: L(D) - L(infinity) = epsilon. Solved by
bisection in log D for a whole batch of constants at once (bootstrap draws), so that P² (arXiv
2411.10272) and the damage laws answer through one code; the closed forms that P² has are the oracle
in the tests.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from p2law.laws.forms.form import ONE, Form, log_quantity, parse_power

LOG_LOW, LOG_HIGH = 0.0, np.log(1e18)
"""Answers are sought between 1 and 1e18 tokens."""


@dataclass
class Curve:
    """Loss against D of one variant under a batch of constants [B].

    loss(D) = floor + sum_k scale_k D^-power_k + broken, the last being scale (1 + (D/tau)^e)^-b.
    """

    floor: np.ndarray
    scales: np.ndarray
    powers: np.ndarray
    broken: tuple[np.ndarray, ...] | None

    def loss(self, log_d: np.ndarray) -> np.ndarray:
        """Loss [B, m] at log D [B, m] or [m]."""
        x = np.atleast_2d(log_d)
        terms = self.scales[:, :, None] * np.exp(-self.powers[:, :, None] * x[:, None, :])
        total = self.floor[:, None] + terms.sum(1)
        if self.broken:
            scale, log_tau, power, depth = (a[:, None] for a in self.broken)
            total = total + scale * np.exp(-depth * np.logaddexp(0.0, power * (x - log_tau)))
        return total

    def slope(self, log_d: np.ndarray) -> np.ndarray:
        """-dL/dD [B, m] in nats per token at log D."""
        x = np.atleast_2d(log_d)
        terms = (self.scales * self.powers)[:, :, None] * np.exp(
            -self.powers[:, :, None] * x[:, None, :]
        )
        total = terms.sum(1)
        if self.broken:
            scale, log_tau, power, depth = (a[:, None] for a in self.broken)
            z = power * (x - log_tau)
            share = 1.0 / (1.0 + np.exp(-np.clip(z, -500, 500)))
            total = total + scale * depth * power * share * np.exp(-depth * np.logaddexp(0.0, z))
        return total * np.exp(-x)

    def limit(self) -> np.ndarray:
        """Loss [B] after endless post-training."""
        return self.floor + np.where(self.powers <= 0, self.scales, 0.0).sum(1)


def curve(form: Form, constants: Mapping[str, Any], variant: Mapping[str, Any]) -> Curve:
    """The loss curve of one variant (N0, rho, L0, Lp, N as the form needs) under constants [B].

    Only forms whose D enters as a power, or as a smoothly broken power, have such a curve.
    """
    frame = pd.DataFrame([{**variant, "D": 1.0, "loss": 1.0}])
    known = {k: np.atleast_1d(np.asarray(v, dtype=float)) for k, v in constants.items()}
    B = len(next(iter(known.values())))
    logs = {q: float(log_quantity(frame, q)[0]) for q in form.quantities if q != "D"}
    floor = np.full(B, np.exp(logs[form.offset]) if form.offset else 0.0)
    scales, powers, broken = [], [], None
    for amplitude, term in form.terms.items():
        level = np.zeros(B)
        for quantity, power in term.items():
            if quantity != "D":
                level = level + _exponent(power, known, B) * logs[quantity]
        scale = np.exp(level) * (1.0 if amplitude == ONE else known.get(amplitude, np.zeros(B)))
        if form.broken and form.broken.term == amplitude:
            broken = (scale, *_broken(form, known, logs, B))
        elif "D" in term:
            scales.append(scale)
            powers.append(-_exponent(term["D"], known, B))
        else:
            floor = floor + scale
    if not scales:
        scales, powers = [np.zeros(B)], [np.ones(B)]
    return Curve(floor, np.stack(scales, 1), np.stack(powers, 1), broken)


def _exponent(power: str, known: Mapping[str, np.ndarray], B: int) -> np.ndarray:
    total = np.zeros(B)
    for name, sign in parse_power(power).items():
        total = total + sign * (1.0 if name == ONE else known.get(name, 0.0))
    return total


def _broken(
    form: Form, known: Mapping[str, np.ndarray], logs: Mapping[str, float], B: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    broken = form.broken
    assert broken is not None  # asked of such forms only
    log_tau = np.log(known[broken.t0])
    for quantity, name in broken.by.items():
        log_tau = log_tau + known.get(name, 0.0) * logs[quantity]
    depth = known[broken.depth] if broken.depth else np.ones(B)
    return log_tau, known[broken.power], depth


# Each answer is tokens [B]: 0 where the pruned model is there already, inf where no D suffices.


def for_target(curve: Curve, target: float) -> np.ndarray:
    """Tokens at which the loss reaches ``target`` nats."""
    return _falling(curve.loss, np.full(len(curve.floor), target))


def for_marginal(curve: Curve, tau: float) -> np.ndarray:
    """Tokens beyond which one more token saves less than ``tau`` nats."""
    return _falling(curve.slope, np.full(len(curve.floor), tau))


def for_residual(curve: Curve, epsilon: float) -> np.ndarray:
    """Tokens that leave ``epsilon`` nats above the loss of endless post-training."""
    return _falling(curve.loss, curve.limit() + epsilon)


def _falling(function: Callable[[np.ndarray], np.ndarray], level: np.ndarray) -> np.ndarray:
    """Where a function of log D is at or below ``level`` [B] for good.

    A loss falls everywhere; the slope of a broken power rises at first, so the last crossing is
    looked for on a grid before it is bisected.
    """
    grid = np.linspace(LOG_LOW, LOG_HIGH, 200)
    above = function(grid[None]) > level[:, None]
    last = np.where(above.any(1), len(grid) - 1 - above[:, ::-1].argmax(1), -1)
    low, high = grid[np.maximum(last, 0)], grid[np.minimum(last + 1, len(grid) - 1)]
    for _ in range(60):
        middle = 0.5 * (low + high)
        below = function(middle[:, None])[:, 0] <= level
        high = np.where(below, middle, high)
        low = np.where(below, low, middle)
    return np.where(last < 0, 0.0, np.where(last == len(grid) - 1, np.inf, np.exp(high)))
