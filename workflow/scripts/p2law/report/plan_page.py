"""The study's own plan: what its laws say of every variant, and what a budget should buy."""

from collections.abc import Sequence

import pandas as pd

from p2law.laws.deciding.answers import answer, as_rows, training_flops
from p2law.laws.deciding.buy import lowest_loss, small_enough
from p2law.laws.deciding.candidates import Candidate, by_family
from p2law.laws.deciding.study_laws import Laws
from p2law.laws.rows import rows_of
from p2law.report.html import table, text

TARGET = 1.05
"""The target loss, over the unpruned model's."""
RESIDUAL = 0.01
"""What may be left above the loss of endless post-training, over the unpruned model's loss."""
BUDGETS = (0.25, 1.0, 4.0)
"""Compute budgets, over the family's median variant's cost at its largest budget."""
SHOWN = 3
"""Choices shown for each family, budget, limit and law."""
ANSWERS = {
    "family": "family", "method": "method", "model": "model", "rho": "rate", "form": "law",
    "rule": "rule", "level": "level", "tokens": "tokens", "low": "low", "high": "high",
    "loss": "loss", "flops": "FLOPs", "gpu_hours": "hours", "status": "status",
}  # fmt: skip
CHOICES = {
    "family": "family", "flops": "FLOPs to spend", "parameters": "parameters at most",
    "form": "law", "rank": "rank", "method": "method", "model": "model", "rho": "rate",
    "tokens": "tokens", "loss": "loss", "low": "low", "high": "high", "status": "status",
}  # fmt: skip


def end_slope(losses: pd.DataFrame) -> float:
    """The median run's gain per 1e6 tokens between its two largest budgets, in nats.

    ``losses`` are of one family and recipe: nats of two tokenizers have no common median.
    """
    slopes = []
    for _, run in losses.sort_values("D").groupby("run"):
        if len(run) > 1:
            before, after = run.iloc[-2], run.iloc[-1]
            slopes.append((before["loss"] - after["loss"]) / (after["D"] - before["D"]) * 1e6)
    return float(pd.Series(slopes).median()) if slopes else 0.0


def answers(laws: Laws, candidates: Sequence[Candidate], per_hour: float) -> pd.DataFrame:
    """A row a candidate, law and rule, family by family."""
    found = []
    for family, mine in by_family(candidates).items():
        marginal = end_slope(rows_of(laws.table, family))
        for candidate in mine:
            rules = {"target": TARGET * candidate.L0, "residual": RESIDUAL * candidate.L0}
            if marginal > 0:
                rules["marginal"] = marginal
            found += answer(laws, candidate, rules, per_hour)
    return pd.DataFrame(as_rows(found))


def choices(laws: Laws, candidates: Sequence[Candidate], per_hour: float) -> pd.DataFrame:
    """A row a family, compute budget, limit of parameters, law and candidate, best first.

    Budgets and limits are each family's own: of its median candidate.
    """
    found = []
    for family, mine in by_family(candidates).items():
        largest = float(rows_of(laws.table, family)["D"].max())
        cost = float(pd.Series([training_flops(c.trained, largest) for c in mine]).median())
        for share in BUDGETS:
            for limit in (None, float(pd.Series([c.N for c in mine]).median())):
                few = small_enough(mine, limit)
                rows = as_rows(lowest_loss(laws, few, share * cost, per_hour))
                found += [{"parameters": limit, **row} for row in rows]
    return pd.DataFrame(found)


def page(answered: pd.DataFrame, chosen: pd.DataFrame, hours: str) -> str:
    """The plan as HTML; ``hours`` says of what machine the hours are."""
    if answered.empty:
        return text("No law converged that could answer for a variant of this study.")
    note = text(
        f"Three rules for every variant, P² beside the damage law: tokens that bring the loss to"
        f" {TARGET:g} L0 (target), those beyond which 1e6 more save less than its family's median"
        f" run saved between its two largest budgets (marginal), and those that leave {RESIDUAL:g}"
        f" L0 above the loss of endless post-training (residual). Intervals are 95 %; a target's"
        f" carries the law's own error. Families, each of its own tokenizer, are ranked apart."
        f" Hours are {hours}. Other rules, models and methods: plan.py."
    )
    few = chosen[chosen["rank"] <= SHOWN]
    return "".join([
        note,
        table("Tokens to buy", list(ANSWERS.values()), answered[list(ANSWERS)].values.tolist()),
        table("Best buys", list(CHOICES.values()), few[list(CHOICES)].values.tolist()),
    ])  # fmt: skip
