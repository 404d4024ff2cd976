"""The search for a damage law: candidate variables and forms, judged by held-out error alone.

The protocol, fixed before the search was run (docs/damage.md says what came of it):

1. A candidate is a form, a damage variable u and the quantity S that stands for size. One law over
   all methods is fitted, since the law must answer for a method that it never saw.
2. A candidate's score is the geometric mean of four held-out errors (mean |relative|, each point
   once): leave-one-method, leave-one-size, leave-one-rate, and the last budgets.
3. The lowest score is chosen; within 2 % of it the one with fewest constants, then the first.
4. What the choice itself is worth: every hold-out is kept out once more, the choice made by the
   hold-outs inside the rest, and only the chosen candidate asked (:func:`nested`).
5. Another study is opened once, after 3: its own hold-outs, and its points predicted by the law
   chosen and fitted on the first (:func:`confirm`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from p2law.laws.fitted import JointFit
from p2law.laws.fitting.fit import fit
from p2law.laws.forms import registry
from p2law.laws.forms.form import ONE, QUANTITIES, BrokenPower, Form
from p2law.laws.judging.splits import all_splits
from p2law.laws.table import prepare

VARIABLES = {
    "damage": lambda t: t["Lp"] - t["L0"],
    "relative": lambda t: t["Lp"] / t["L0"] - 1.0,
    "kl": lambda t: t["kl"],
    "state": lambda t: t["state_error"],
    "layer": lambda t: t["layer_error"],
}
"""Damage variables by name; the last three are measured by benchmarks/damage_measures.py."""
SIZES = ("N0", "N", "L0", "")
"""Quantities that may stand for size; empty for none."""
KINDS = {
    "method": "leave-one-method", "size": "leave-one-size", "rate": "leave-one-rate",
    "budget": "budget",
}  # fmt: skip
RESTARTS = 4
TIE = 1.02
"""Scores within this factor of the best are ties: fewest constants win."""
U = "damage variable"
QUANTITIES[U] = ((U,), lambda t: t[U])


@dataclass(frozen=True)
class Candidate:
    """A form in one variable; ``label`` says which."""

    shape: str
    variable: str
    size: str

    @property
    def label(self) -> str:
        """For tables: shape, u = variable, S = size."""
        return f"{self.shape}, u = {self.variable}, S = {self.size or 'none'}"

    @property
    def form(self) -> Form:
        """Its declaration."""
        make = {"power": _power, "rectified": _rectified, "rectified, floor": _floor}[self.shape]
        return make(self.label, self.size)

    def rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with the variable in it."""
        return table.assign(**{U: VARIABLES[self.variable](table)})


def candidates(variables: tuple[str, ...]) -> list[Candidate]:
    """All shapes x variables x sizes; the floor only for the loss's own damage."""
    found = [Candidate(shape, u, s) for shape in ("power", "rectified") for u in variables
             for s in SIZES]  # fmt: skip
    return found + [Candidate("rectified, floor", "damage", s) for s in SIZES]


def _power(name: str, size: str) -> Form:
    known = registry.get("damage_power")
    common = {U: "kappa"} | ({size: "-delta"} if size else {})
    exponents = {k: e for k, e in known.exponents.items() if size or k != "delta"}
    terms = {"D_C": common | {"D": "-beta"}, "E": common}
    return Form(name, "L0 + u^kappa S^-delta (D_C D^-beta + E)", "search", terms, exponents, "L0")


def _rectified(name: str, size: str) -> Form:
    known = registry.get("damage_rectified")
    by = {U: "a"} | ({size: "c"} if size else {})
    exponents = {k: e for k, e in known.exponents.items() if size or k != "c"}
    broken = BrokenPower(ONE, power="epsilon", t0="t0", depth="b", by=by)
    formula = "L0 + (Lp-L0) (1 + (D/tau)^epsilon)^-b, tau = t0 u^a S^c"
    return Form(name, formula, "search", {ONE: {"damage": ONE}}, exponents, "L0", broken)


def _floor(name: str, size: str) -> Form:
    """Rectified with a share of the damage that never heals."""
    form = _rectified(name, size)
    broken = BrokenPower("K", power="epsilon", t0="t0", depth="b", by=form.broken.by)
    terms = {"K": {"damage": ONE}, "E": {"damage": ONE}}
    formula = "L0 + (Lp-L0) (K (1 + (D/tau)^epsilon)^-b + E), tau = t0 u^a S^c"
    return Form(name, formula, "search", terms, form.exponents, "L0", broken)


def usable(table: pd.DataFrame, variables: tuple[str, ...]) -> pd.DataFrame:
    """Rows that every candidate can take: pruning hurt and all variables are above zero."""
    table = prepare(table)
    above = [VARIABLES[u](table) > 0 for u in ("damage", *variables)]
    return table[np.logical_and.reduce(above)].reset_index(drop=True)


def after_first(table: pd.DataFrame) -> pd.DataFrame:
    """The table as seen after the first budget: that loss is Lp, tokens count from there.

    For the question how much a short post-training tells beyond the one-shot loss.
    """
    first = table["D"] == table.groupby("run")["D"].transform("min")
    start = table[first].set_index("run")[["loss", "D"]]
    rest = table[~first].reset_index(drop=True)
    runs = rest["run"]
    return rest.assign(
        Lp=runs.map(start["loss"]).to_numpy(), D=rest["D"] - runs.map(start["D"]).to_numpy()
    )


def held_out(candidate: Candidate, table: pd.DataFrame) -> Iterator[tuple[str, str, np.ndarray]]:
    """(kind, what was held out, |relative error| of its points) for every possible hold-out."""
    rows = candidate.rows(table)
    for split in all_splits(rows):
        for kind, name in KINDS.items():
            if split.name != name or split.reason:
                continue
            result = fit(candidate.form, rows[split.train].reset_index(drop=True),
                         restarts=RESTARTS)  # fmt: skip
            test = rows[split.test].reset_index(drop=True)
            yield kind, split.held, np.abs(result.predict(test) / test["loss"] - 1.0).to_numpy()


def score(candidate: Candidate, table: pd.DataFrame) -> dict[str, float]:
    """Held-out error of each kind as a fraction, and the score, their geometric mean."""
    errors: dict[str, list[np.ndarray]] = {}
    for kind, _, found in held_out(candidate, table):
        errors.setdefault(kind, []).append(found)
    means = {kind: float(np.concatenate(parts).mean()) for kind, parts in errors.items()}
    return means | {"score": float(np.exp(np.mean(np.log(list(means.values())))))}


def scores(table: pd.DataFrame, among: list[Candidate]) -> pd.DataFrame:
    """One row a candidate, from best to worst."""
    rows = [
        {"candidate": c.label, "constants": len(c.form.constants), **score(c, table)}
        for c in among
    ]  # fmt: skip
    return pd.DataFrame(rows).sort_values("score", ignore_index=True, kind="stable")


def choose(found: pd.DataFrame) -> str:
    """The label of the candidate that the protocol chooses from :func:`scores`."""
    near = found[found["score"] <= found["score"].min() * TIE]
    return str(near.sort_values("constants", kind="stable")["candidate"].iloc[0])


def nested(table: pd.DataFrame, among: list[Candidate]) -> pd.DataFrame:
    """For every hold-out: the choice made without it, and that candidate's error on it.

    One row a hold-out: kind, held, the chosen candidate, its mean error, points.
    """
    by_label = {c.label: c for c in among}
    rows = []
    for split in all_splits(table):
        kind = next((k for k, name in KINDS.items() if name == split.name), None)
        if kind is None or split.reason:
            continue
        chosen = choose(scores(table[split.train].reset_index(drop=True), among))
        candidate = by_label[chosen]
        data = candidate.rows(table)
        result = fit(candidate.form, data[split.train].reset_index(drop=True), restarts=RESTARTS)
        test = data[split.test]
        error = float(np.abs(result.predict(test) / test["loss"].to_numpy() - 1.0).mean())
        rows.append({"kind": kind, "held": split.held, "chosen": chosen, "error": error,
                     "points": len(test)})  # fmt: skip
    return pd.DataFrame(rows)


def confirm(
    form: Form, fitted: pd.DataFrame, asked: pd.DataFrame, spec: Mapping[str, object]
) -> pd.DataFrame:
    """Points of another study predicted by a form fitted to the first, with intervals.

    ``form`` must be a headline form (the others carry no interval); ``spec`` as of the law stage.
    """
    law = JointFit(form, spec)
    law.fit(fitted, int(spec["bootstrap"]))
    asked = asked.assign(run="asked/" + asked["run"])  # another study's runs, whatever their names
    low, high = law.interval(asked)
    kept = [
        c for c in ("model", "method", "run", "N0", "rho", "D", "L0", "Lp", "loss") if c in asked
    ]
    predicted = law.predict(asked)
    return asked[kept].assign(
        form=form.name, predicted=predicted, low=low, high=high,
        error=predicted / asked["loss"].to_numpy() - 1.0,
    )  # fmt: skip
