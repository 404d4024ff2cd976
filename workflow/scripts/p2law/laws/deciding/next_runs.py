"""The runs that may be made next, the points whose losses are wanted, and what a run costs."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from p2law.errors import UserError
from p2law.laws.deciding.candidates import one_family
from p2law.laws.fitting.problem import Array
from p2law.laws.rows import POOLED, families, methods, of_recipe, recipes, rows_of

Cost = Callable[[Mapping[str, float]], float]
"""A run's row of largest D -> its cost, in any one unit."""
Trained = Callable[[Sequence[float]], float]
"""Budgets of one run, rising -> the tokens that it trains on under its recipe's schedule."""


def training_cost(run: Mapping[str, float]) -> float:
    """Post-training FLOPs of one run to its largest budget, 6 N D."""
    return 6.0 * run["N"] * run["D"]


def run_cost(
    table: pd.DataFrame,
    trained: Trained | None = None,
    base_tokens: float | None = None,
    masked: bool = False,
) -> Cost:
    """FLOPs of one run among those of ``table`` (one family and recipe).

    Post-training costs 6 N on the tokens that ``trained`` gives for the run's budgets (default its
    largest), 6 N0 where zeros stay in place (``masked``). A size that the table lacks also costs
    its unpruned model, 6 N0 on ``base_tokens``, where the study trains its own.
    """
    known = table["N0"].unique()
    budgets = sorted(table["D"].unique())

    def cost(run: Mapping[str, float]) -> float:
        at = [d for d in budgets if d < run["D"]] + [run["D"]]
        tokens = run["D"] if trained is None else trained(at)
        flops = 6.0 * (run["N0"] if masked else run["N"]) * tokens
        if base_tokens is not None and not np.isclose(known, run["N0"]).any():
            flops += 6.0 * run["N0"] * base_tokens
        return flops

    return cost


def chosen_rows(
    table: pd.DataFrame, family: str | None, recipe: str | None, method: str
) -> pd.DataFrame:
    """The rows of one family under one recipe, of one method or of "all".

    The recipe is the first one where none is named. Raises :class:`UserError` for several families
    of which none is named, and for a name that the table lacks.
    """
    why = "the table has several families, whose losses differ"
    table = rows_of(table, one_family(families(table), family, why))
    found = recipes(table)
    if recipe is not None and recipe not in found:
        raise UserError(f"--recipe {recipe}: the table has {', '.join(found) or 'no recipes'}")
    table = of_recipe(table, recipe or next(iter(found), None))
    if method not in {POOLED, *methods(table)}:
        raise UserError(f"--method {method}: the table has {', '.join(methods(table))}")
    return rows_of(table, families(table)[0], method)


def described(table: pd.DataFrame) -> str:
    """Whose runs these are, in words."""
    words = [f"{k} {table[k].iloc[0]}" for k in ("family", "recipe") if k in table]
    one = methods(table)
    words.append(f"method {one[0]}" if len(one) == 1 else "all methods")
    return ", ".join(words)


def runs_asked(
    table: pd.DataFrame,
    sizes: Sequence[float] | None,
    rates: Sequence[float] | None,
    budgets: Sequence[float] | None,
) -> pd.DataFrame:
    """The runs that the user names, what is left out taken from the table; the default ones where
    nothing is named.
    """
    if not (sizes or rates or budgets):
        return default_runs(table)
    rates = rates or sorted(table["rho"].unique())
    for rate in rates:
        if not 0 < rate < 1:
            raise UserError(f"--rates {rate:g}: each must lie in (0, 1)")
    return candidate_runs(table, sizes or sorted(table["N0"].unique()), rates, budgets)


def target_asked(
    table: pd.DataFrame, size: float | None, rate: float | None, tokens: float | None
) -> pd.DataFrame:
    """The point whose loss the user wants to know; the default ones where nothing is named."""
    named = {"N0": size, "rho": rate, "D": tokens}
    if all(value is None for value in named.values()):
        return default_targets(table)
    for name, value in named.items():
        if value is None or not value > 0:
            raise UserError(f"--target-{name} {value}: a target needs N0, rho and D, all above 0")
    assert size is not None and rate is not None and tokens is not None
    if rate >= 1:
        raise UserError(f"--target-rho {rate:g}: must lie in (0, 1)")
    return candidate_runs(table, [size], [rate], [tokens])


def candidate_runs(
    table: pd.DataFrame,
    sizes: Sequence[float],
    rates: Sequence[float],
    budgets: Sequence[float] | None = None,
) -> pd.DataFrame:
    """Runs of every size x rate, each to all budgets (default the table's), as rows without loss.

    L0 of an unknown size follows a power law in N0 through the known ones; Lp - L0, where the table
    has it, one in N0 and the rate.
    """
    budgets = sorted(table["D"].unique()) if budgets is None else sorted(budgets)
    known = table.groupby("N0")["L0"].first()
    slope, level = np.polyfit(np.log(known.index), np.log(known), 1) if len(known) > 1 else (0, 0)
    rows = []
    for size in sizes:
        near = known.index[np.isclose(known.index, size)]
        loss = known[near[0]] if len(near) else np.exp(level + slope * np.log(size))
        if len(known) == 1:
            loss = known.iloc[0]
        rows += [
            {"run": f"N0 = {size:.4g}, rho = {rate:.3g}", "N0": size, "N": size * (1 - rate),
             "rho": rate, "L0": loss, "D": d}
            for rate in rates
            for d in budgets
        ]  # fmt: skip
    found = pd.DataFrame(rows)
    return found.assign(Lp=found["L0"] + _damage(table, found)) if "Lp" in table else found


def _damage(table: pd.DataFrame, rows: pd.DataFrame) -> Array:
    """Lp - L0 [m] by least squares of its logarithm on log N0 and log rho.

    At most ten times beyond what was measured: a few runs that hardly hurt may give any slope.
    """
    hurt = table[table["Lp"] > table["L0"]]
    if hurt.empty:
        return np.full(len(rows), 1e-3)
    measured = hurt["Lp"] - hurt["L0"]

    def design(frame: pd.DataFrame) -> Array:
        return np.column_stack([np.ones(len(frame)), np.log(frame["N0"]), np.log(frame["rho"])])

    solved = np.linalg.lstsq(design(hurt), np.log(measured), rcond=1e-8)[0]
    lowest, highest = np.log(measured.min() / 10), np.log(measured.max() * 10)
    return np.exp(np.clip(design(rows) @ solved, lowest, highest))


def default_runs(table: pd.DataFrame) -> pd.DataFrame:
    """The runs offered where the user names none: the table's sizes and one half and twice their
    ends, its rates and those between and one step beyond, up to .9, at its budgets.
    """
    sizes = sorted(table["N0"].unique())
    rates = sorted(table.loc[table["N0"] == sizes[0], "rho"].unique())
    steps = np.sqrt(np.array(rates[1:]) * rates[:-1]).tolist()
    beyond = [rates[0] / 1.5, min(rates[-1] * 1.5, 0.9)]
    found = candidate_runs(
        table, [sizes[0] / 2, *sizes, sizes[-1] * 2], sorted({*rates, *steps, *beyond})
    )
    measured = set(zip(table["N0"], table["rho"].round(6), strict=True))
    again = [(n, round(r, 6)) in measured for n, r in zip(found["N0"], found["rho"], strict=True)]
    return found[~np.array(again)].reset_index(drop=True)


def default_targets(table: pd.DataFrame) -> pd.DataFrame:
    """What is to be predicted where the user names nothing: twice the largest size, at the smallest
    and largest rate of the table, four times its largest budget.
    """
    rates = [table["rho"].min(), table["rho"].max()]
    size, budget = 2 * table["N0"].max(), 4 * table["D"].max()
    return candidate_runs(table, [size], sorted(set(rates)), [budget])
