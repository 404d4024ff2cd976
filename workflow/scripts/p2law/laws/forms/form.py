"""Forms of laws: loss = offset + sum of amplitude x powers of measured quantities.

Each form splits into exponents (nonlinear) and amplitudes (linear), which is what the engine's
variable projection needs. A declaration names, for every amplitude, the exponent on each quantity
in the paper's symbols: ``"N_C": {"rho": "-gamma", "N0": "-delta-alpha"}`` is
N_C rho^-gamma N0^-(delta+alpha). The forms themselves are declared in
:mod:`p2law.laws.forms.registry`; adding one is one more declaration there.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from p2law.errors import UserError

ONE = "1"
"""Name of a term whose amplitude is fixed at one (nothing to fit, nothing to report)."""

NEAR_ZERO = 1e-3
"""Fence of exponents that may be zero. At zero a term reads like a constant: amplitudes of either
sign then grow without end as the exponent shrinks, towards a logarithm that no form has."""

Terms = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Exponent:
    """Bounds of a nonlinear constant and the narrower range that starts are drawn from."""

    low: float
    high: float
    start: tuple[float, float]


@dataclass(frozen=True)
class BrokenPower:
    """The factor (1 + (D/tau)^power)^-depth with tau = t0 x powers of other quantities.

    A smoothly broken power law: flat below tau tokens, a power law beyond. Where ``depth`` is
    fitted, the fences of :mod:`p2law.laws.forms.broken_power` hold for the curve's shape, and
    those declared for power, t0 and depth are as wide as these reach.
    ``term`` names the term it multiplies; ``power``, ``depth`` and the values of ``by`` name
    exponents; ``depth`` None is one. ``t0`` names the scale, in tokens; inside the engine it is a
    logarithm.
    """

    term: str
    power: str
    t0: str
    depth: str | None = None
    by: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Form:
    """One law: names, terms, exponents and where it comes from.

    ``offset`` is a quantity added unscaled ("L0") or None. ``per_run`` marks laws of one curve,
    which are fitted to each run by itself. ``published`` turns the engine's constants into the
    source's where the two are parametrised differently. ``title`` is its name in figures.
    """

    name: str
    formula: str
    source: str
    terms: Terms
    exponents: Mapping[str, Exponent]
    offset: str | None = None
    broken: BrokenPower | None = None
    per_run: bool = False
    title: str = ""
    published: Callable[[dict[str, Any]], dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        """Without a title the name is one."""
        if not self.title:
            object.__setattr__(self, "title", self.name)

    @property
    def amplitudes(self) -> tuple[str, ...]:
        """Names of the linear constants, in the order of the terms."""
        return tuple(name for name in self.terms if name != ONE)

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of all fitted constants: amplitudes, then exponents."""
        return (*self.amplitudes, *self.exponents)

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of the measured quantities that the form uses."""
        used = {quantity for powers in self.terms.values() for quantity in powers}
        if self.offset:
            used.add(self.offset)
        if self.broken:
            used |= {"D", *self.broken.by}
        return tuple(sorted(used))


def parse_power(text: str) -> dict[str, float]:
    """Read ``"-delta-alpha"`` as {"delta": -1, "alpha": -1}; ``"1"`` is a fixed power of one."""
    found = re.findall(r"([+-]?)(\w+)", text)
    return {name: -1.0 if sign == "-" else 1.0 for sign, name in found}


# ------------------------------------------------------------------- measured quantities


def _ratio(frame: pd.DataFrame) -> pd.Series:
    return frame["rho"] / (1.0 - frame["rho"])


QUANTITIES: dict[str, tuple[tuple[str, ...], Callable[[pd.DataFrame], pd.Series]]] = {
    "N0": (("N0",), lambda t: t["N0"]),
    "N": (("N",), lambda t: t["N"]),
    "N_average": (("N_average",), lambda t: t["N_average"]),
    "D": (("D",), lambda t: t["D"]),
    "rho": (("rho",), lambda t: t["rho"]),
    "dense": (("rho",), lambda t: 1.0 - t["rho"]),
    "rho/(1-rho)": (("rho",), _ratio),
    "1+rho": (("rho",), lambda t: 1.0 + t["rho"]),
    "1+1/(D+1)": (("D",), lambda t: 1.0 + 1.0 / (t["D"] / 1e9 + 1.0)),
    "L0": (("L0",), lambda t: t["L0"]),
    "damage": (("Lp", "L0"), lambda t: t["Lp"] - t["L0"]),
    "M": (("N", "D"), lambda t: t["D"] / t["N"]),
    "C": (("N", "D"), lambda t: 6.0 * t["N"] * t["D"]),
}
"""Quantity name -> (table columns it needs, its value). D and N in the table's own units."""
RATES = ("rho", "rho/(1-rho)", "1+rho", "dense")
"""Quantities that are the rate in other words."""


def columns_needed(form: Form) -> tuple[str, ...]:
    """Columns of the loss table that a form reads besides ``loss`` and ``run``."""
    needed = {column for name in form.quantities for column in QUANTITIES[name][0]}
    return tuple(sorted(needed))


def log_quantity(frame: pd.DataFrame, name: str) -> np.ndarray:
    """Natural logarithm of a quantity, one value a row.

    Raises UserError naming the row where the quantity is not positive (rho = 0, Lp <= L0).
    """
    columns, value = QUANTITIES[name]
    missing = [column for column in columns if column not in frame]
    if missing:
        raise UserError(
            f"column {missing[0]!r} is missing: the quantity {name!r} of this form needs it;"
            f" the table has {', '.join(map(str, frame.columns))}"
        )
    values = np.asarray(value(frame), dtype=float)
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        row = int(np.argmax(bad))
        found = ", ".join(f"{c} = {frame[c].iloc[row]}" for c in columns)
        raise UserError(f"row {row + 1}: {found}: the form needs {name} > 0 there")
    return np.log(values)


# ------------------------------------------------------------------- prediction and reduction


def predict(form: Form, constants: Mapping[str, float], frame: pd.DataFrame) -> np.ndarray:
    """Loss in nats per token that a form with its reported (raw) constants gives for each row.

    Constants that a reduction dropped are absent or None: exponents count as 0, amplitudes as 0.
    Plain evaluation, independent of the engine (its oracle in the tests).
    """
    known = {name: value for name, value in constants.items() if value is not None}
    total = np.zeros(len(frame))
    if form.offset:
        total = total + np.exp(log_quantity(frame, form.offset))
    for amplitude, powers in form.terms.items():
        scale = 1.0 if amplitude == ONE else known.get(amplitude, 0.0)
        if scale == 0.0:
            continue
        logs = np.zeros(len(frame))
        for quantity, power in powers.items():
            exponent = sum(
                sign * (1.0 if name == ONE else known.get(name, 0.0))
                for name, sign in parse_power(power).items()
            )
            if exponent != 0.0:
                logs = logs + exponent * log_quantity(frame, quantity)
        if form.broken and form.broken.term == amplitude:
            logs = logs + _log_broken(form.broken, known, frame)
        total = total + scale * np.exp(logs)
    return total


def _log_broken(broken: BrokenPower, known: Mapping[str, float], frame: pd.DataFrame) -> np.ndarray:
    log_tau = np.full(len(frame), np.log(known[broken.t0]))
    for quantity, name in broken.by.items():
        log_tau = log_tau + known.get(name, 0.0) * log_quantity(frame, quantity)
    # D = 0 is allowed here: these forms are exact for the model before post-training.
    with np.errstate(divide="ignore"):
        log_d = np.log(np.asarray(frame["D"], dtype=float))
    depth = 1.0 if broken.depth is None else known[broken.depth]
    return -depth * np.logaddexp(0.0, known[broken.power] * (log_d - log_tau))


def without(form: Form, dropped: set[str]) -> Form:
    """The form without the named constants: exponents become 0, amplitudes lose their term."""
    terms = {}
    for amplitude, powers in form.terms.items():
        if amplitude in dropped:
            continue
        kept = {q: _strike(power, dropped) for q, power in powers.items()}
        terms[amplitude] = {q: power for q, power in kept.items() if power}
    broken = form.broken
    if broken:
        broken = replace(broken, by={q: e for q, e in broken.by.items() if e not in dropped})
    exponents = {name: e for name, e in form.exponents.items() if name not in dropped}
    return replace(form, terms=terms, exponents=exponents, broken=broken)


def _strike(power: str, dropped: set[str]) -> str:
    parts = parse_power(power).items()
    return "".join(f"{'-' if s < 0 else '+'}{name}" for name, s in parts if name not in dropped)


def reduce(form: Form, frame: pd.DataFrame) -> tuple[Form, list[str]]:
    """Drop what no fit to this table could determine, and say so.

    A quantity with one value cannot fix its exponent; a rate that takes one value in each model
    cannot be told from the model's size (2:4); two terms that then read alike are one.
    """
    dropped: set[str] = set()
    notes: list[str] = []
    for quantity, reason in _flat_quantities(form, frame).items():
        lost = _exponents_only_on(form, quantity, dropped)
        if lost:
            dropped |= lost
            notes.append(f"{reason}: {', '.join(sorted(lost))} cannot be determined, fixed at 0")
    reduced = without(form, dropped)
    for amplitude in reduced.amplitudes:
        bent = reduced.broken.term if reduced.broken else None
        others = [a for a in reduced.terms if a not in (amplitude, bent) and amplitude != bent]
        if any(reduced.terms[a] == reduced.terms[amplitude] for a in others):
            reduced = without(reduced, {amplitude})
            notes.append(f"{amplitude} then equals another term and is left out")
    return reduced, notes


def _flat_quantities(form: Form, frame: pd.DataFrame) -> dict[str, str]:
    """Quantities whose exponent the table cannot determine, each with the reason."""
    flat = {}
    for quantity in form.quantities:
        if quantity == form.offset and not any(quantity in p for p in form.terms.values()):
            continue
        logs = log_quantity(frame, quantity)
        if np.ptp(logs) < 1e-9:
            flat[quantity] = f"one value of {quantity}"
        elif quantity in RATES and "N0" in frame and _one_rate_a_model(frame):
            flat[quantity] = "one rate in each model"
    return flat


def _one_rate_a_model(frame: pd.DataFrame) -> bool:
    return frame.groupby("N0")["rho"].nunique().max() == 1


def only_in(form: Form, amplitude: str) -> set[str]:
    """Exponents that act through one amplitude's term and no other."""
    used = {
        name: {exponent for power in powers.values() for exponent in parse_power(power)}
        for name, powers in form.terms.items()
    }
    rest = set().union(*(names for name, names in used.items() if name != amplitude))
    return (used[amplitude] - rest) & set(form.exponents)


def _exponents_only_on(form: Form, quantity: str, dropped: set[str]) -> set[str]:
    """Exponents that act on no other quantity than this one."""
    on_this: set[str] = set()
    elsewhere: set[str] = set()
    for powers in form.terms.values():
        for q, power in powers.items():
            (on_this if q == quantity else elsewhere).update(parse_power(power))
    if form.broken:
        for q, name in form.broken.by.items():
            (on_this if q == quantity else elsewhere).add(name)
    return (on_this - elsewhere - dropped) & set(form.exponents)
