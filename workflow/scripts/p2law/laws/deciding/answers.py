"""Answers of the fitted laws for one candidate: tokens for a rule, with interval and price.

Rules: a target loss, a marginal gain, a residual (:mod:`p2law.laws.deciding.curves`). P² answers
from the rate; the damage laws answer from the loss right after pruning, also for a method that was
never post-trained (through the law over all methods). What to buy with a budget is
:mod:`p2law.laws.deciding.buy`.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from p2law.errors import UserError
from p2law.laws.deciding.candidates import Candidate
from p2law.laws.deciding.curves import Curve, for_marginal, for_residual, for_target
from p2law.laws.deciding.study_laws import Laws
from p2law.laws.forms.registry import HEADLINE
from p2law.laws.records import FittedLaw

TrainingFlops = Callable[[float, float], float]
"""(parameters while training, tokens) -> FLOPs."""


def training_flops(parameters: float, tokens: float) -> float:
    """6 N D, the FLOPs of training N parameters on D tokens."""
    return 6.0 * parameters * tokens


@dataclass(frozen=True)
class Answer:
    """Tokens for one rule with a 95 % interval and their price; ``status`` says what they mean.

    ``status``: "ok", "already there" (0 tokens), "out of reach at any budget" (tokens None), or
    "beyond the data" when the answer lies over 10 x outside the fitted budgets. ``high`` is
    infinite where no budget is sure to be enough. ``loss`` is the law's at that many tokens,
    ``loss_low`` and ``loss_high`` its interval there.
    """

    candidate: Candidate
    form: str
    law: str
    rule: str
    level: float
    tokens: float | None
    low: float | None
    high: float | None
    loss: float | None
    loss_low: float | None
    loss_high: float | None
    flops: float | None
    gpu_hours: float | None
    status: str
    trust: str


def answer(
    laws: Laws,
    candidate: Candidate,
    rules: Mapping[str, float],
    flops_per_hour: float,
    forms: Iterable[str] = HEADLINE,
    cost: TrainingFlops = training_flops,
) -> list[Answer]:
    """Tokens for every rule under every form that can speak of this candidate.

    ``rules``: "target" (nats), "marginal" (nats per 1e6 tokens), "residual" (nats).
    ``flops_per_hour`` is what one GPU (or core) sustains. Intervals are the run-level bootstrap's;
    a target's is widened by the law's own error, since an error of the level moves the tokens that
    reach it, while the other two rules rest on the curve's slope alone.
    """
    found = []
    for name in forms:
        fit = laws.fit(candidate, name)
        if fit is None:
            continue
        for rule, level in rules.items():
            tokens, low, high = _tokens(laws, candidate, fit, rule, level)
            price = _price(laws, candidate, fit, tokens, flops_per_hour, cost)
            found.append(Answer(candidate=candidate, form=name, law=fit.method, rule=rule,
                                level=level, low=low, high=high, **price))  # fmt: skip
    return found


def _tokens(
    laws: Laws, candidate: Candidate, fit: FittedLaw, rule: str, level: float
) -> tuple[float, float | None, float | None]:
    """Tokens for one rule and their interval; infinite where no budget is enough."""
    if rule == "target" and candidate.Lp is not None and level >= candidate.Lp:
        return 0.0, 0.0, 0.0  # no law is asked: P² has no value at D = 0
    best, several = laws.curves(candidate.measured(), fit)
    tokens = float(_solve(best, rule, level)[0])
    if several is None:
        return tokens, None, None
    low, high = laws.interval(fit, tokens, _solve(several, rule, level))
    if rule == "target":
        at = tokens if math.isfinite(tokens) else float(laws.fitted_rows(fit)["D"].max())
        widen = math.exp(laws.error(candidate, fit, max(at, 1.0)))
        low = min(low, float(for_target(best, level * widen)[0]))
        high = max(high, float(for_target(best, level / widen)[0]))
    return tokens, low, high


def _solve(curve: Curve, rule: str, level: float) -> np.ndarray:
    if rule == "target":
        return for_target(curve, level)
    if rule == "marginal":
        return for_marginal(curve, level / 1e6)
    if rule == "residual":
        return for_residual(curve, level)
    raise UserError(f"plan rule {rule!r} is unknown; allowed: target, marginal, residual")


def _price(
    laws: Laws,
    candidate: Candidate,
    fit: FittedLaw,
    tokens: float,
    per_hour: float,
    cost: TrainingFlops,
) -> dict[str, Any]:
    """What an answer costs and what loss it buys."""
    trust = laws.trust(candidate, fit)
    if math.isinf(tokens):
        empty = ("tokens", "loss", "loss_low", "loss_high", "flops", "gpu_hours")
        return dict.fromkeys(empty) | {"status": "out of reach at any budget", "trust": trust}
    flops = cost(candidate.trained, tokens)
    loss, low, high = laws.loss(candidate, fit, tokens)
    if tokens == 0 and candidate.Lp is not None:
        loss, low, high = candidate.Lp, None, None
    status = "already there" if tokens == 0 else laws.within(fit, tokens)
    return {"tokens": tokens, "loss": loss, "loss_low": low, "loss_high": high, "flops": flops,
            "gpu_hours": flops / per_hour, "status": status, "trust": trust}  # fmt: skip


def as_rows(found: Iterable[Any]) -> list[dict[str, Any]]:
    """Flat rows of answers or choices, the candidate's fields first."""
    rows = []
    for item in found:
        row = asdict(item)
        rows.append(row.pop("candidate") | row)
    return rows
