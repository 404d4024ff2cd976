"""A smoothly broken power law of D on a table's rows, and the coordinates its search walks in.

The factor (1 + (D/tau)^power)^-depth (arXiv 2210.14891, eq. 1 with
one break; arXiv 2402.02314 has depth 1) has two limits that data often prefer: a pure power of D
(power to infinity, power x depth held) and a stretched exponential (depth to infinity). Towards
both, constants run off along a curved valley in which least squares crawls for thousands of steps.
The search therefore describes the curve by what the data see at their smallest D, called D1: the
log of its drop q, the log of its slope w in log D, and its turn k = 1/(1 + e^u), where
u = power x log(D1/tau). With softplus(u) = log(1 + e^u) = -log k and its slope sigma = 1 - k,

    depth = e^q / softplus,  power = e^(w-q) softplus / sigma,  log tau = log D1 - u / power:

a pure power is k = 0, a stretched exponential k = 1, and the loss is smooth in k towards both.
These *shape coordinates* carry the fences: in them a limit is a place. At a limit two numbers of
the curve are determined and its three constants are not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from p2law.laws.forms.form import BrokenPower

Array = np.ndarray

TURN, DROP, SLOPE = (1e-7, 1.0 - 1e-6), (-9.0, 3.0), (-9.0, 3.0)
"""Fences of k, q and w. Those of k are its two limits but for 1e-7 and 1e-6: closer to a stretched
exponential t0 would leave the floats."""
LIMITS = (
    ("a pure power of D", "a stretched exponential of D"),
    ("no slope at the smallest D", "the steepest slope at the smallest D"),
    ("no drop by the smallest D", "the deepest drop by the smallest D"),
)
"""What it means to stand at the lower or upper fence of k, w and q."""


def _sigma(x: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


@dataclass
class BoundBrokenPower:
    """A smoothly broken power law bound to n rows.

    ``logs`` [n] are centred; ``index`` places constants in theta. ``shaped`` reads theta's places
    of power, t0 and depth as k, w and q.
    """

    broken: BrokenPower
    index: Mapping[str, int]
    logs: Mapping[str, Array]
    shaped: bool = False

    @property
    def edge(self) -> float:
        """Centred log of the smallest D."""
        return float(self.logs["D"].min())

    @property
    def names(self) -> tuple[str, str, str]:
        """Names of the power, the scale and the depth; only of one whose depth is fitted."""
        assert self.broken.depth is not None
        return self.broken.power, self.broken.t0, self.broken.depth

    @property
    def places(self) -> list[int]:
        """Places in theta of the power, the scale and the depth."""
        return [self.index[name] for name in self.names]

    def subset(self, rows: Array) -> "BoundBrokenPower":
        """The same on some rows."""
        return replace(self, logs={name: values[rows] for name, values in self.logs.items()})

    def fence(self, low: Array, high: Array) -> None:
        """Set the shape coordinates' fences in place."""
        for place, (lo, hi) in zip(self.places, (TURN, SLOPE, DROP), strict=True):
            low[place], high[place] = lo, hi

    def limits(self, shape: Array) -> list[str]:
        """What theta [p] in shape coordinates stands at a fence of, in words."""
        found = []
        for place, fences, words in zip(self.places, (TURN, SLOPE, DROP), LIMITS, strict=True):
            found += [word for fence, word in zip(fences, words, strict=True)
                      if shape[place] == fence]  # fmt: skip
        return found

    def shape_of(self, theta: Array) -> Array:
        """Shape coordinates [R, p] of plain constants [R, p]."""
        power, t0, depth = self.places
        turn = np.clip(_sigma(theta[:, power] * (theta[:, t0] - self.edge)), *TURN)
        drop = np.log(theta[:, depth] * -np.log(turn))
        out = theta.copy()
        out[:, power], out[:, depth] = turn, drop
        out[:, t0] = drop + np.log(theta[:, power] * (1.0 - turn) / -np.log(turn))
        return out

    def plain(self, theta: Array) -> Array:
        """Plain constants [R, p] of shape coordinates [R, p]."""
        power, t0, depth = self.places
        turn, slope, drop = theta[:, power], theta[:, t0], theta[:, depth]
        soft = -np.log(turn)
        out = theta.copy()
        out[:, power] = np.exp(slope - drop) * soft / (1.0 - turn)
        out[:, depth] = np.exp(drop) / soft
        out[:, t0] = self.edge + (np.log(turn) - np.log1p(-turn)) / out[:, power]
        return out

    def log_factor(self, theta: Array) -> Array:
        """Log of the factor [R, n]."""
        z, _, _, depth = self._argument(theta)
        return -depth * np.logaddexp(0.0, z)

    def gradient(self, theta: Array) -> Array:
        """Derivatives of the log factor by theta [R, n, p]."""
        z, distance, power, depth = self._argument(theta)
        fall = -depth * _sigma(z)  # by z
        found = np.zeros((*z.shape, theta.shape[1]))
        for quantity, name in self.broken.by.items():
            found[..., self.index[name]] += -fall * power * self.logs[quantity]
        if self.shaped:
            at_turn, at_slope, at_drop = self.places
            turn = theta[:, at_turn, None]
            h = (1.0 - turn) / -np.log(turn)
            value, along = -depth * np.logaddexp(0.0, z), fall * power * distance
            found[..., at_drop] = value - along
            found[..., at_slope] = along
            by_u = -h * value + fall + along * (h - turn)
            found[..., at_turn] = -by_u / (turn * (1.0 - turn))
            return found
        found[..., self.index[self.broken.power]] = fall * distance
        found[..., self.index[self.broken.t0]] = -fall * power
        if self.broken.depth:
            found[..., self.index[self.broken.depth]] = -np.logaddexp(0.0, z)
        return found

    def _argument(self, theta: Array) -> tuple[Array, Array, Array, Array | float]:
        """power log(D/tau) [R, n], its factor beside the power [R, n], power and depth [R, 1].

        In shape coordinates the factor leaves t0 out: its part of the argument is u.
        """
        shift: Array | float = theta[:, self.index[self.broken.t0], None]
        start: Array | float = 0.0
        if self.shaped:
            turn = theta[:, self.index[self.broken.power], None]
            start, shift = np.log1p(-turn) - np.log(turn), self.edge
            theta = self.plain(theta)
        distance = self.logs["D"] - shift
        for quantity, name in self.broken.by.items():
            distance = distance - theta[:, self.index[name], None] * self.logs[quantity]
        power = theta[:, self.index[self.broken.power], None]
        depth = theta[:, self.index[self.broken.depth], None] if self.broken.depth else 1.0
        return np.clip(start + power * distance, -500, 500), distance, power, depth
