"""The study's own plan: what its laws say of every variant, and what a budget should buy."""

import pandas as pd

from p2law.laws.deciding import buy, plan
from p2law.laws.deciding.variants import Variant
from p2law.report.html import table, text

TARGET = 1.05
"""The target loss, over the unpruned model's."""
RESIDUAL = 0.01
"""What may be left above the loss of endless post-training, over the unpruned model's loss."""
BUDGETS = (0.25, 1.0, 4.0)
"""Compute budgets, over the median variant's cost at the study's largest budget."""
SHOWN = 3
"""Choices shown for each budget, limit and law."""


def end_slope(losses: pd.DataFrame) -> float:
    """The median run's gain per 1e6 tokens between its two largest budgets, in nats."""
    slopes = []
    for _, run in losses.sort_values("D").groupby("run"):
        if len(run) > 1:
            before, after = run.iloc[-2], run.iloc[-1]
            slopes.append((before["loss"] - after["loss"]) / (after["D"] - before["D"]) * 1e6)
    return float(pd.Series(slopes).median()) if slopes else 0.0


def answers(laws: plan.Laws, variants: list[Variant], per_hour: float) -> pd.DataFrame:
    """A row a variant, law and rule."""
    marginal = end_slope(laws.table)
    found = []
    for variant in variants:
        rules = {"target": TARGET * variant.L0, "residual": RESIDUAL * variant.L0}
        if marginal > 0:
            rules["marginal"] = marginal
        found += plan.answer(laws, variant, rules, per_hour)
    return pd.DataFrame(plan.as_rows(found))


def choices(laws: plan.Laws, variants: list[Variant], per_hour: float) -> pd.DataFrame:
    """A row a compute budget, limit of parameters, law and variant, best first."""
    costs = pd.Series([plan.training_flops(v.trained, laws.budgets[1]) for v in variants])
    kept = pd.Series([v.N for v in variants])
    found = []
    for share in BUDGETS:
        for limit in (None, float(kept.median())):
            few = buy.small_enough(variants, limit)
            rows = plan.as_rows(buy.lowest_loss(laws, few, share * costs.median(), per_hour))
            found += [{"parameters": limit, **row} for row in rows]
    return pd.DataFrame(found)


def page(answered: pd.DataFrame, chosen: pd.DataFrame, hours: str) -> str:
    """The plan as HTML; ``hours`` says of what machine the hours are."""
    if answered.empty:
        return text("No law converged that could answer for a variant of this study.")
    note = text(
        f"Three rules for every variant, P² beside the damage law: tokens that bring the loss to"
        f" {TARGET:g} L0 (target), those beyond which 1e6 more save less than the median run saved"
        f" between its two largest budgets (marginal), and those that leave {RESIDUAL:g} L0 above"
        f" the loss of endless post-training (residual). Intervals are 95 %; a target's carries the"
        f" law's own error. Hours are {hours}. Other rules, models and methods: plan.py."
    )
    head = {
        "method": "method", "model": "model", "rho": "rate", "form": "law", "rule": "rule",
        "level": "level", "tokens": "tokens", "low": "low", "high": "high", "loss": "loss",
        "flops": "FLOPs", "gpu_hours": "hours", "status": "status",
    }  # fmt: skip
    body = table("Tokens to buy", list(head.values()), answered[list(head)].values.tolist())
    few = chosen[chosen["rank"] <= SHOWN]
    head = {
        "flops": "FLOPs to spend", "parameters": "parameters at most", "form": "law",
        "rank": "rank", "method": "method", "model": "model", "rho": "rate", "tokens": "tokens",
        "loss": "loss", "low": "low", "high": "high", "status": "status",
    }  # fmt: skip
    return note + body + table("Best buys", list(head.values()), few[list(head)].values.tolist())
