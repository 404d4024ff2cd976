"""The bend of a rectified law on a table's rows, and the coordinates that its search walks in.

The factor (1 + (D/tau)^power)^-depth has two limits that data often prefer: a pure power of D
(power to infinity, power x depth held) and a stretched exponential (depth to infinity). Towards
both, constants run off along a curved valley in which least squares crawls for thousands of steps.
The search therefore describes the curve by what the data see: at the centre of the table the log of
its drop q, the log of its slope w in log D, and its turn u = power x log(D/tau) there. With
softplus(u) = log(1 + e^u), sigma its slope and h = sigma/softplus,

    depth = e^q / softplus(u),  power = e^(w-q) / h(u),  log tau = -u / power,

and either limit is an end of u alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from p2law.laws.forms import Bend

Array = np.ndarray

TURN, DROP, SLOPE = (-8.0, 30.0), (-9.0, 3.0), (-9.0, 3.0)
"""Range of u (at either end the limit is reached to 2e-4), of q and of w."""


def _sigma(x: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


@dataclass
class BoundBend:
    """A bend bound to n rows. ``logs`` [n] are centred; ``index`` places constants in theta.

    ``straight`` reads theta's places of power, t0 and depth as u, w and q.
    """

    bend: Bend
    index: Mapping[str, int]
    logs: Mapping[str, Array]
    straight: bool = False

    @property
    def places(self) -> tuple[int, int, int]:
        """Places in theta of the power, the scale and the depth."""
        return tuple(self.index[n] for n in (self.bend.power, self.bend.t0, self.bend.depth))

    def subset(self, rows: Array) -> "BoundBend":
        """The same bend on some rows."""
        return replace(self, logs={name: values[rows] for name, values in self.logs.items()})

    def limits(self, low: Array, high: Array) -> None:
        """Set the straight coordinates' bounds in place."""
        for place, (lo, hi) in zip(self.places, (TURN, SLOPE, DROP), strict=True):
            low[place], high[place] = lo, hi

    def straighten(self, theta: Array) -> Array:
        """Straight coordinates [R, p] of plain constants [R, p]."""
        power, t0, depth = self.places
        turn = np.clip(-theta[:, power] * theta[:, t0], *TURN)
        soft = np.logaddexp(0.0, turn)
        drop = np.log(theta[:, depth] * soft)
        out = theta.copy()
        out[:, power], out[:, depth] = turn, drop
        out[:, t0] = drop + np.log(theta[:, power] * _sigma(turn) / soft)
        return out

    def plain(self, theta: Array) -> Array:
        """Plain constants [R, p] of straight coordinates [R, p]."""
        power, t0, depth = self.places
        turn, slope, drop = theta[:, power], theta[:, t0], theta[:, depth]
        soft = np.logaddexp(0.0, turn)
        out = theta.copy()
        out[:, power] = np.exp(slope - drop) * soft / _sigma(turn)
        out[:, depth] = np.exp(drop) / soft
        out[:, t0] = -turn / out[:, power]
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
        for quantity, name in self.bend.by.items():
            found[..., self.index[name]] += -fall * power * self.logs[quantity]
        if self.straight:
            at_turn, at_slope, at_drop = self.places
            turn = theta[:, at_turn, None]
            h = _sigma(turn) / np.logaddexp(0.0, turn)
            value, along = -depth * np.logaddexp(0.0, z), fall * power * distance
            found[..., at_drop] = value - along
            found[..., at_slope] = along
            found[..., at_turn] = -h * value + fall + along * (h - 1.0 + _sigma(turn))
            return found
        found[..., self.index[self.bend.power]] = fall * distance
        found[..., self.index[self.bend.t0]] = -fall * power
        if self.bend.depth:
            found[..., self.index[self.bend.depth]] = -np.logaddexp(0.0, z)
        return found

    def _argument(self, theta: Array) -> tuple[Array, Array, Array, Array]:
        """power log(D/tau) [R, n], its factor beside the power [R, n], power and depth [R, 1].

        Straight, the factor leaves t0 out: its part of the argument is the turn.
        """
        shift = theta[:, self.index[self.bend.t0], None]
        start = 0.0
        if self.straight:
            start, shift = theta[:, self.index[self.bend.power], None], 0.0
            theta = self.plain(theta)
        distance = self.logs["D"] - shift
        for quantity, name in self.bend.by.items():
            distance = distance - theta[:, self.index[name], None] * self.logs[quantity]
        power = theta[:, self.index[self.bend.power], None]
        depth = theta[:, self.index[self.bend.depth], None] if self.bend.depth else 1.0
        return np.clip(start + power * distance, -500, 500), distance, power, depth
