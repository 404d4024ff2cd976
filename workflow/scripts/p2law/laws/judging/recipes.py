"""What the choice of the recipe does to the P² law, and what it costs in tokens.

A study may post-train its variants by several recipes. Its laws rest on the first; here the P² law
(arXiv 2411.10272) is fitted to each recipe's points by itself. A recipe may change the law itself:
losses read along one cosine run are not annealed where they are read, which can turn a data
exponent of .4 into .1 while its curve looks as smooth.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from p2law.laws.describe import constants_of
from p2law.laws.fitting.fit import fit
from p2law.laws.forms import registry
from p2law.laws.judging import metrics
from p2law.laws.judging.soundness import usable_rows
from p2law.laws.judging.uncertainty import bootstrap, run_level_interval
from p2law.laws.records import Estimate, RecipeLaw
from p2law.laws.rows import groups, of_recipe, recipes

SAME = ("family", "model", "method", "variant", "rho", "seed", "D")
"""What names the same point under every recipe, as far as the table has it."""


def compare(table: pd.DataFrame, spec: Mapping[str, Any]) -> list[RecipeLaw]:
    """One record a family, method and recipe; none where the table has one recipe only.

    ``spec`` is the law stage's, checked; its ``recipe`` is the one that the others are compared
    with. A method whose table cannot take the law is left to the law stage's ``skipped``.
    """
    names = recipes(table)
    if len(names) < 2:
        return []
    found = []
    for family, method, group in groups(table):
        present = recipes(group)
        chosen = of_recipe(group, spec["recipe"]) if spec["recipe"] in present else None
        for name in present:
            rows, _ = usable_rows(registry.get(registry.P2), of_recipe(group, name))
            if rows is not None:
                first = rows if chosen is None else chosen
                found.append(_law(rows, first, spec, family, method, name))
    return found


def _law(
    rows: pd.DataFrame,
    first: pd.DataFrame,
    spec: Mapping[str, Any],
    family: str,
    method: str,
    recipe: str,
) -> RecipeLaw:
    """The P² fit to one recipe's points, and its losses against the first recipe's."""
    result = fit(
        registry.get(registry.P2),
        rows,
        objective=spec["objective"],
        delta=spec["delta"],
        signs=spec["signs"],
    )
    runs = int(rows["run"].nunique())
    middle = first.drop_duplicates([c for c in ("model", "variant", "N0", "rho") if c in first])
    middle = middle.assign(D=float(np.exp(np.log(first["D"]).mean())))
    value = float(result.predict(middle).mean())
    draws, low, high = None, None, None
    if spec["bootstrap"] and runs > 1:
        draws = bootstrap(result, rows["run"].to_numpy(), spec["bootstrap"], spec["seed"])
        low, high = run_level_interval(value, draws.predict(middle).mean(1), runs)
    return RecipeLaw(
        family=family,
        method=method,
        recipe=recipe,
        runs=runs,
        points=len(rows),
        status=result.status,
        determined=not result.undetermined,
        constants=constants_of(result, draws),
        middle=Estimate(value, low, high),
        mean_abs_rel_error=metrics.errors(rows, result.predicted).mean_abs_rel_error,
        **_tokens(rows),
        **_difference(rows, first),
    )


def _tokens(rows: pd.DataFrame) -> dict[str, Any]:
    """Tokens that all runs trained on, and their share of one whole run a budget."""
    if "tokens_trained" not in rows:
        return {}
    trained = float(rows.groupby("run")["tokens_trained"].max().sum())
    return {"tokens_trained": trained, "share_of_separate_runs": trained / float(rows["D"].sum())}


def _difference(rows: pd.DataFrame, first: pd.DataFrame) -> dict[str, Any]:
    """The relative difference of the losses to the first recipe's, at equal points."""
    same = [c for c in SAME if c in rows and c in first]
    both = rows.merge(first[[*same, "loss"]], on=same, suffixes=("", "_first"))
    gap = np.log(both["loss"] / both["loss_first"])
    by_budget = gap.groupby(both["D"]).mean()
    return {
        "difference": float(gap.mean()) if len(gap) else None,
        "difference_sd": float(gap.std(ddof=1)) if len(gap) > 1 else None,
        "difference_by_budget": {str(int(budget)): float(v) for budget, v in by_budget.items()},
    }
