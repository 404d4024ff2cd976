"""What the choice of the learning-rate schedule does to the P² law, and what it costs in tokens.

A study may train its runs under several schedules. Its laws rest on the first; here the P² law is
fitted to each schedule's points by itself. Losses read along one cosine run are not annealed where
they are read, which can turn a data exponent of .4 into .1 while its curve looks as smooth.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from p2law.errors import UserError
from p2law.laws.fitting.fit import fit
from p2law.laws.forms import registry
from p2law.laws.judging import metrics
from p2law.laws.judging.uncertainty import bootstrap, percentiles
from p2law.laws.records import fit_dict
from p2law.laws.study import check_spec, groups, usable_rows

FORM = "p2"
SAME = ["family", "model", "variant", "seed", "D"]
"""What names the same point under every schedule."""


def names(table: pd.DataFrame) -> list[str]:
    """The table's schedules in the order in which they come; none where no column says."""
    return list(dict.fromkeys(table["recipe"])) if "recipe" in table else []


def first(table: pd.DataFrame, spec: Mapping[str, Any]) -> pd.DataFrame:
    """The points that a study's laws rest on: those of ``spec["recipe"]``, where it is given.

    Raises :class:`UserError` where a table holds several schedules and none is chosen.
    """
    found, chosen = names(table), spec.get("recipe")
    if chosen is None and len(found) < 2:
        return table
    if chosen not in found:
        raise UserError(f"law schedule {chosen!r}: the table has {', '.join(found)}; choose one")
    return table[table["recipe"] == chosen].reset_index(drop=True)


def compare(table: pd.DataFrame, spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One record a family, method and schedule; none where there is one schedule only.

    Each holds the P² fit (``constants`` with run-level intervals, ``mean_abs_rel_error``), its
    ``middle``: the loss it gives at the middle budget, the mean over the first schedule's variants
    (nats per token, with interval), the measured ``difference`` to the first schedule at equal
    points (relative, mean and standard deviation), ``tokens_trained`` and their share of one whole
    run a budget. A method whose table cannot take the law is left to the law stage's ``skipped``.
    """
    spec = check_spec(spec)
    if len(names(table)) < 2:
        return []
    records = []
    for family, method, group in groups(table):
        rows, _ = usable_rows(registry.get(FORM), group)
        if rows is None:
            continue
        chosen = first(rows, spec)
        for name in names(rows):
            mine = rows[rows["recipe"] == name].reset_index(drop=True)
            record = {"family": family, "method": method, "recipe": name}
            records.append(record | _law(mine, chosen, spec) | _tokens(mine) | _gap(mine, chosen))
    return records


def _law(rows: pd.DataFrame, chosen: pd.DataFrame, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The P² fit to one schedule's points and its loss at the middle budget."""
    result = fit(
        registry.get(FORM),
        rows,
        objective=spec["objective"],
        delta=spec["delta"],
        signs=spec["signs"],
    )
    draws = bootstrap(result, rows["run"].to_numpy(), spec["bootstrap"], spec["seed"])
    described = fit_dict(result, draws if spec["bootstrap"] else None)
    middle = chosen.drop_duplicates(["model", "variant"])
    middle = middle.assign(D=float(np.exp(np.log(chosen["D"]).mean())))
    low = high = None
    if spec["bootstrap"]:
        low, high = percentiles(draws.predict(middle).mean(1))
    errors = metrics.errors(rows, result.predicted)
    return {
        "runs": int(rows["run"].nunique()),
        "points": len(rows),
        "constants": described["constants"],
        "converged": described["converged"],
        "identified": result.rank == len(result.phi),
        "mean_abs_rel_error": errors["mean_abs_rel_error"],
        "middle": {"value": float(result.predict(middle).mean()), "low": low, "high": high},
    }


def _tokens(rows: pd.DataFrame) -> dict[str, Any]:
    """Tokens that all runs trained on, and their share of one whole run a budget."""
    trained = float(rows.groupby("run")["tokens_trained"].max().sum())
    return {"tokens_trained": trained, "share_of_separate_runs": trained / float(rows["D"].sum())}


def _gap(rows: pd.DataFrame, chosen: pd.DataFrame) -> dict[str, Any]:
    """The relative difference of the losses to the first schedule's, at equal points."""
    both = rows.merge(chosen[[*SAME, "loss"]], on=SAME, suffixes=("", "_first"))
    gap = np.log(both["loss"] / both["loss_first"])
    by_budget = gap.groupby(both["D"]).mean()
    return {
        "difference": float(gap.mean()),
        "difference_sd": float(gap.std(ddof=1)) if len(gap) > 1 else None,
        "difference_by_budget": {str(int(budget)): float(v) for budget, v in by_budget.items()},
    }


def as_table(records: list[dict[str, Any]]) -> pd.DataFrame:
    """The records as one row each: every constant and the middle loss with their intervals."""
    rows = []
    for record in records:
        row = {k: v for k, v in record.items() if not isinstance(v, Mapping)}
        for name, found in {"middle": record["middle"], **record["constants"]}.items():
            row |= {
                name: found["value"],
                f"{name}_low": found["low"],
                f"{name}_high": found["high"],
            }
        rows.append(row)
    return pd.DataFrame(rows)
