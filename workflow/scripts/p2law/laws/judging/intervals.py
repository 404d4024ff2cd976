"""The law's own error: how wrong it is where nothing was measured, from hold-outs inside the data.

A bootstrap resamples runs under the form as if the form were true, so its intervals carry no model
error: where the form bends away from the losses they hold far fewer than their nominal share. Here
the fitted rows themselves are held out again, one size, one rate, one method, the last budgets,
one run at a time, and the log errors of these refits are the model error of each kind of question.

What a question has that the fitted rows lack (:func:`new_in`) decides which errors count: a new
size, rate or method is a new level, and all held-out levels are taken to err alike, which the
default study's do to within a factor of two; later budgets, and a further run between the fitted
ones, have errors of their own. The half width in log loss is t x rms: the rms over held-out groups
of the group's mean square error, and Student's t with as many degrees of freedom as the kind with
most groups has, since points of one held-out group err together and the kinds hold out the same
rows (with three groups t is 3.2, not 1.96). A question that is new in two ways has both. The wider
of this and the bootstrap's interval counts, on each side. Choice and coverage: docs/damage.md,
"Intervals".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from p2law.laws.fitting.engine import minimise
from p2law.laws.fitting.fit import Fit
from p2law.laws.fitting.problem import Array
from p2law.laws.forms import form as forms
from p2law.laws.judging.splits import last_budgets, rate_rank
from p2law.laws.judging.uncertainty import LEVEL
from p2law.laws.records import KindOfError

KINDS = ("method", "size", "rate", "budget", "run")
"""What a question can have that the fitted rows lack."""
LEVELS = ("method", "size", "rate")
FOLDS = 30
"""Runs are held out one by one, or in this many groups where there are more."""
NEAR = 1.1
"""Rates this factor beyond the fitted ones are not new: whole layers make them differ by size."""


@dataclass
class ModelError:
    """Log errors of inner hold-outs: kind -> mean square error of each held-out group [G]."""

    squares: dict[str, Array]
    rows: pd.DataFrame

    def groups(self, kind: str) -> list[Array]:
        """Errors [G] of each kind of hold-out that speaks for this kind of question."""
        asked = LEVELS if kind in LEVELS else (kind,)
        return [self.squares[k] for k in asked if k in self.squares]

    def half_width(self, kind: str, level: float = LEVEL) -> float:
        """Half width in log loss; of a kind that could not be held out, the widest of the others.

        Zero where nothing could be held out at all.
        """
        found = self.groups(kind)
        if not found:
            others = [k for k in KINDS if self.groups(k)]
            return max((self.half_width(k, level) for k in others), default=0.0)
        t = stats.t.ppf(0.5 + level / 2, max(map(len, found)))
        return float(t * np.sqrt(np.concatenate(found).mean()))

    def widths(self, rows: pd.DataFrame) -> Array:
        """Half widths in log loss [m] of rows asked for."""
        return total_widths({k: self.half_width(k) for k in KINDS}, self.rows, rows)

    def widen(
        self, rows: pd.DataFrame, predicted: Array, low: Array, high: Array
    ) -> tuple[Array, Array]:
        """The interval [m], [m] with the model's error in it."""
        factor = np.exp(self.widths(rows))
        return np.minimum(low, predicted / factor), np.maximum(high, predicted * factor)

    def record(self) -> dict[str, KindOfError]:
        """For each kind: half width in log loss, and of its own hold-outs rms error and number."""
        return {
            kind: KindOfError(
                half_width=self.half_width(kind),
                rms=float(np.sqrt(self.squares[kind].mean())) if kind in self.squares else None,
                groups=len(self.squares.get(kind, ())),
            )
            for kind in KINDS
        }


def total_widths(
    half_widths: Mapping[str, float], fitted: pd.DataFrame, rows: pd.DataFrame
) -> Array:
    """Half widths in log loss [m] of rows asked for, from those of every kind of question."""
    asked = new_in(fitted, rows)
    squares = [half_widths[kind] ** 2 * asked[kind] for kind in KINDS]
    return np.sqrt(np.sum(squares, axis=0))


def new_in(fitted: pd.DataFrame, rows: pd.DataFrame) -> dict[str, Array]:
    """Kind -> whether each row [m] is new in it; a new run is only that where nothing else is.

    A rate is new outside the range of the method's fitted rates, a budget beyond all fitted ones;
    of a method that was never fitted not the rate but the damage counts, where it is known.
    """
    sizes = fitted["N0"].unique()
    methods = fitted["method"] if "method" in fitted else pd.Series("", fitted.index)
    method = (rows["method"] if "method" in rows else pd.Series("", rows.index)).to_numpy()
    new = {
        "method": ~np.isin(method, methods.unique()),
        "size": ~np.isclose(rows["N0"].to_numpy()[:, None], sizes, rtol=1e-6).any(1),
        "budget": rows["D"].to_numpy() > fitted["D"].max() * (1 + 1e-9),
        "rate": np.zeros(len(rows), dtype=bool),
    }
    if "rho" in fitted and "rho" in rows:
        for name, rates in fitted["rho"].groupby(methods):
            rho = rows["rho"].to_numpy()
            outside = (rho > rates.max() * NEAR) | (rho < rates.min() / NEAR)
            new["rate"] |= (method == name) & outside
    if {"Lp", "L0"} <= set(fitted) & set(rows):
        damage, asked = (t["Lp"].to_numpy() - t["L0"].to_numpy() for t in (fitted, rows))
        outside = (asked > damage.max() * NEAR) | (asked < damage.min() / NEAR)
        new["rate"] |= new["method"] & outside
    known = np.isin(rows["run"].to_numpy(), fitted["run"].unique()) if "run" in rows else False
    new["run"] = ~known & ~(new["method"] | new["size"] | new["budget"] | new["rate"])
    return new


def model_error(fit: Fit, rows: pd.DataFrame) -> ModelError:
    """Hold out the fitted rows again, kind by kind."""
    groups = list(held_groups(rows))
    if not groups:
        return ModelError({}, rows)
    errors = _refit(fit, rows, np.concatenate([masks for _, masks in groups]))
    squares, first = {}, 0
    for kind, masks in groups:
        mine = errors[first : first + len(masks)]
        first += len(masks)
        if kind == "budget":  # all runs at once: each run's last budgets are a group
            runs, held = rows["run"].to_numpy()[masks[0]], mine[0][masks[0]]
            found = pd.Series(held**2).groupby(runs).mean().to_numpy()
        else:
            found = np.array([(e[m] ** 2).mean() for e, m in zip(mine, masks, strict=True)])
        if np.isfinite(found).all():
            squares[kind] = found
    return ModelError(squares, rows)


def held_groups(rows: pd.DataFrame) -> Iterator[tuple[str, Array]]:
    """(kind, masks [G, n] of the rows to hold out) for every kind that the rows allow."""
    levels = {"size": rows["N0"].to_numpy()}
    if "rho" in rows:
        levels["rate"] = rate_rank(rows)
    if "method" in rows:
        levels["method"] = rows["method"].to_numpy()
    runs = np.unique(rows["run"].to_numpy(), return_inverse=True)[1]
    levels["run"] = runs % FOLDS
    for kind, level in levels.items():
        values = np.unique(level)
        if len(values) > 1:
            yield kind, np.array([level == value for value in values])
    last = last_budgets(rows)
    if last.any() and not last.all() and rows.loc[~last, "D"].nunique() > 1:
        yield "budget", last[None]


def _refit(fit: Fit, rows: pd.DataFrame, masks: Array) -> Array:
    """Log errors [G, n] of the fits without each mask's rows.

    All of them are one batch of the engine, started from the fit: zero weights hold a group out,
    and exponents that the rest cannot determine are zero, as in a fit of that rest.
    """
    names = fit.form.constants
    errors = np.zeros(masks.shape)
    lost = [tuple(_undetermined(fit, rows[~mask])) for mask in masks]
    for dropped in sorted(set(lost)):
        chosen = np.array([each == dropped for each in lost])
        held = np.isin(names, dropped)
        starts = np.repeat(np.where(held, 0.0, fit.phi)[None], chosen.sum(), axis=0)
        shaped = fit.problem.reshaped()
        found = minimise(
            shaped, fit.problem.to_shape(starts), delta=fit.delta, signs=fit.signs, held=held,
            weights=(~masks[chosen]).astype(float), tolerance=1e-6, max_steps=40,
        )  # fmt: skip
        predicted = np.maximum(shaped.predict(found.phi), 1e-12)
        errors[chosen] = np.log(predicted) - np.log(rows["loss"].to_numpy(dtype=float))
    return errors


def _undetermined(fit: Fit, rest: pd.DataFrame) -> list[str]:
    kept = forms.reduce(fit.form, rest)[0].exponents
    return [name for name in fit.form.exponents if name not in kept]
