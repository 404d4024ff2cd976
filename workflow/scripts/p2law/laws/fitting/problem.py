"""A form bound to a table: predictions, residuals and analytic Jacobians for many starts at once.

Everything is batched over R parameter vectors, because restarts and bootstrap replicates are the
same computation with other starts and weights. A parameter vector is [K amplitudes | p exponents]
with quantities centred at their geometric means, which takes the condition number of the Jacobian
from 3e8 (raw constants) to about 1e2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from p2law.laws.forms.broken_power import BoundBrokenPower
from p2law.laws.forms.form import ONE, Form, log_quantity, parse_power

Array = np.ndarray


@dataclass
class Problem:
    """A form's data. n points, K linear and p nonlinear constants.

    ``slopes`` [T, n, p] and ``base`` [T, n] give each term's logarithm, slopes @ theta + base;
    T counts the terms (K of them, or one more with a fixed amplitude, then first).
    """

    form: Form
    y: Array
    offset: Array
    slopes: Array
    base: Array
    means: dict[str, float]
    broken: BoundBrokenPower | None
    fixed_term: bool
    raw: bool

    @property
    def K(self) -> int:
        """Number of amplitudes."""
        return len(self.form.amplitudes)

    @property
    def size(self) -> int:
        """Number of constants."""
        return len(self.form.constants)

    @property
    def bent(self) -> int:
        """Index of the term that the smoothly broken power multiplies."""
        assert self.form.broken is not None
        return list(self.form.terms).index(self.form.broken.term)

    def limits(self, signs: str) -> tuple[Array, Array]:
        """Lower and upper bounds of the constants; ``signs`` is "nonnegative" or "free"."""
        floor = 0.0 if signs == "nonnegative" else -np.inf
        exponents = self.form.exponents.values()
        low = np.array([floor] * self.K + [e.low for e in exponents])
        high = np.array([np.inf] * self.K + [e.high for e in exponents])
        if self.broken and self.broken.shaped:
            self.broken.fence(low[self.K :], high[self.K :])
        return low, high

    # ------------------------------------------------------------------ other coordinates

    def reshaped(self) -> "Problem":
        """The same problem in the coordinates of ``forms.broken_power``, where it has one."""
        if not (self.broken and self.broken.broken.depth):
            return self
        return replace(self, broken=replace(self.broken, shaped=True))

    def to_shape(self, phi: Array) -> Array:
        """This problem's constants [R, K + p] for :meth:`reshaped`."""
        if not (self.broken and self.broken.broken.depth):
            return phi
        return np.concatenate([phi[:, : self.K], self.broken.shape_of(phi[:, self.K :])], axis=1)

    def from_shape(self, phi: Array) -> Array:
        """Constants [R, K + p] of :meth:`reshaped` for this problem."""
        if not (self.broken and self.broken.broken.depth):
            return phi
        return np.concatenate([phi[:, : self.K], self.broken.plain(phi[:, self.K :])], axis=1)

    def subset(self, rows: Array) -> "Problem":
        """The same problem on some rows, with the same centres."""
        return replace(
            self, y=self.y[rows], offset=self.offset[rows], slopes=self.slopes[:, rows],
            base=self.base[:, rows], broken=self.broken.subset(rows) if self.broken else None,
        )  # fmt: skip

    # ------------------------------------------------------------------ values

    def terms(self, theta: Array) -> Array:
        """Terms without amplitudes [R, T, n] for exponents [R, p]."""
        T, n, p = self.slopes.shape
        logs = (theta @ self.slopes.reshape(T * n, p).T).reshape(len(theta), T, n) + self.base
        if self.broken:
            logs[:, self.bent] += self.broken.log_factor(theta)
        return np.exp(np.minimum(logs, 200.0))

    def split(self, terms: Array) -> tuple[Array, Array]:
        """What no amplitude scales [R, n] and the terms that amplitudes scale [R, K, n]."""
        if self.fixed_term:
            return self.offset + terms[:, 0], terms[:, 1:]
        return np.broadcast_to(self.offset, (len(terms), len(self.offset))), terms

    def predict(self, phi: Array) -> Array:
        """Predicted losses [R, n] for constants [R, K + p]."""
        constant, scaled = self.split(self.terms(phi[:, self.K :]))
        return constant + (phi[:, None, : self.K] @ scaled)[:, 0]

    def residuals(self, predicted: Array) -> Array:
        """log prediction - log loss (or their difference); infinite where a log is undefined."""
        if self.raw:
            return predicted - self.y
        positive = predicted > 0
        return np.where(
            positive, np.log(np.where(positive, predicted, 1.0)) - np.log(self.y), np.inf
        )

    def linearise(self, phi: Array) -> tuple[Array, Array]:
        """Residuals [R, n] and their Jacobian [R, n, K + p] at constants [R, K + p]."""
        theta, K = phi[:, self.K :], self.K
        terms = self.terms(theta)
        constant, scaled = self.split(terms)
        predicted = constant + (phi[:, None, :K] @ scaled)[:, 0]
        amplitudes = phi[:, :K]
        if self.fixed_term:
            amplitudes = np.concatenate([np.ones((len(phi), 1)), amplitudes], axis=1)
        weighted = amplitudes[:, :, None] * terms
        jacobian = np.empty((*predicted.shape, phi.shape[1]))
        jacobian[..., :K] = scaled.transpose(0, 2, 1)
        # Per point a product over terms: [n, R, T] @ [n, T, p].
        product = weighted.transpose(2, 0, 1) @ self.slopes.transpose(1, 0, 2)
        jacobian[..., K:] = product.transpose(1, 0, 2)
        if self.broken:
            jacobian[..., K:] += weighted[:, self.bent, :, None] * self.broken.gradient(theta)
        if not self.raw:
            jacobian /= np.where(predicted > 0, predicted, 1.0)[..., None]
        return self.residuals(predicted), jacobian

    # ------------------------------------------------------------------ the paper's constants

    def to_raw(self, phi: Array) -> dict[str, Array]:
        """Constants [R, K + p] in the source's units, one array [R] a name."""
        names = list(self.form.exponents)
        theta = dict(zip(names, phi[:, self.K :].T, strict=True))
        shift = np.zeros(len(phi))
        raw: dict[str, Array] = {}
        for i, amplitude in enumerate(self.form.amplitudes):
            shift = sum(
                (
                    sign * theta[name] * self.means[quantity]
                    for quantity, power in self.form.terms[amplitude].items()
                    for name, sign in parse_power(power).items()
                    if name != ONE
                ),
                np.zeros(len(phi)),
            )
            raw[amplitude] = phi[:, i] * np.exp(-shift)
        raw |= theta
        if self.form.broken:
            broken = self.form.broken
            log_t0 = theta[broken.t0] + self.means["D"]
            for quantity, name in broken.by.items():
                log_t0 = log_t0 - theta[name] * self.means[quantity]
            # A draw of a t0 that the table leaves open may lie beyond the largest float.
            raw[broken.t0] = np.exp(np.minimum(log_t0, 700.0))
        return raw

    def from_raw(self, raw: Mapping[str, float]) -> Array:
        """The engine's constants [1, K + p] of one set in the source's units."""
        theta = {name: float(raw[name]) for name in self.form.exponents}
        if self.form.broken:
            broken = self.form.broken
            theta[broken.t0] = np.log(raw[broken.t0]) - self.means["D"]
            for quantity, name in broken.by.items():
                theta[broken.t0] += theta[name] * self.means[quantity]
        phi = [0.0] * self.K + list(theta.values())
        shift = self.to_raw(np.array([[1.0] * self.K + list(theta.values())]))
        for i, amplitude in enumerate(self.form.amplitudes):
            phi[i] = float(raw[amplitude]) / shift[amplitude][0]
        return np.array([phi])


def bind(
    form: Form, frame: pd.DataFrame, *, raw: bool = False, means: Mapping[str, float] | None = None
) -> Problem:
    """Bind a form to a table (columns as :mod:`p2law.laws.table` gives them).

    ``raw`` measures residuals in nats instead of in logs. ``means`` reuses another problem's
    centres, so that constants fitted there apply to these rows.
    """
    logs = {name: log_quantity(frame, name) for name in form.quantities}
    centre = dict(means) if means else {name: float(v.mean()) for name, v in logs.items()}
    centred = {name: logs[name] - centre[name] for name in logs}
    names = list(form.exponents)
    n = len(frame)
    fixed = ONE in form.terms
    order = list(form.terms)
    slopes, base = np.zeros((len(order), n, len(names))), np.zeros((len(order), n))
    for t, amplitude in enumerate(order):
        # A term without an amplitude has nothing to take up a shift: its logs stay uncentred.
        x = logs if amplitude == ONE else centred
        for quantity, power in form.terms[amplitude].items():
            for name, sign in parse_power(power).items():
                if name == ONE:
                    base[t] += sign * x[quantity]
                else:
                    slopes[t, :, names.index(name)] += sign * x[quantity]
    broken = None
    if form.broken:
        places = {name: i for i, name in enumerate(names)}
        broken = BoundBrokenPower(
            form.broken, places, {q: centred[q] for q in ("D", *form.broken.by)}
        )
    offset = np.exp(logs[form.offset]) if form.offset else np.zeros(n)
    y = frame["loss"].to_numpy(dtype=float)
    return Problem(form, y, offset, slopes, base, centre, broken, fixed, raw)
