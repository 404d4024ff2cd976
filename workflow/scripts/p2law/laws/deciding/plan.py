"""The plan: what the fitted laws say to buy for a model, method and rate.

For each variant: tokens for a target loss, for a marginal gain, for a residual, each with an
interval, FLOPs and GPU-hours. P² answers from the rate; the damage laws answer from the loss right
after pruning, also for a method that was never post-trained (through the law over all methods).
What to buy with a budget is :mod:`p2law.laws.deciding.buy`.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from p2law.errors import UserError
from p2law.laws.deciding.answers import Curve, curve, for_marginal, for_residual, for_target
from p2law.laws.deciding.variants import Variant
from p2law.laws.forms import registry
from p2law.laws.forms.form import columns_needed
from p2law.laws.judging.intervals import new_in, total_widths
from p2law.laws.judging.splits import ORDERED
from p2law.laws.judging.uncertainty import small_sample
from p2law.laws.table import read_table

Cost = Callable[[float, float], float]
"""(parameters while training, tokens) -> FLOPs."""
FORMS = ("p2", registry.DAMAGE)
"""The laws that answer, side by side."""
FAR = 10.0
"""Answers this factor outside the measured budgets are beyond the data."""


def training_flops(parameters: float, tokens: float) -> float:
    """6 N D, the FLOPs of training N parameters on D tokens."""
    return 6.0 * parameters * tokens


@dataclass(frozen=True)
class Answer:
    """Tokens for one rule with a 95 % interval and their price; ``status`` says what they mean.

    ``status``: "ok", "already there" (0 tokens), "out of reach at any budget" (tokens None), or
    "beyond the data" when the answer lies over 10 x outside the measured budgets. ``high`` is
    infinite where no budget is sure to be enough. ``loss`` is the law's at that many tokens,
    ``loss_low`` and ``loss_high`` its interval there.
    """

    variant: Variant
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


class Laws:
    """The law stage's results and the loss table that they were fitted to."""

    def __init__(self, law: Mapping[str, Any], draws: pd.DataFrame, table: pd.DataFrame):
        self.law, self.draws, self.table = law, draws, table
        self.budgets = float(table["D"].min()), float(table["D"].max())

    @classmethod
    def read(cls, law: Path, losses: Path) -> "Laws":
        """Read a law folder (law.json, draws.parquet) and its loss table."""
        for name in ("law.json", "draws.parquet"):
            if not (Path(law) / name).is_file():
                raise UserError(f"{Path(law) / name}: missing; run the law stage first")
        found = json.loads((Path(law) / "law.json").read_text(encoding="utf-8"))
        return cls(found, pd.read_parquet(Path(law) / "draws.parquet"), read_table(losses))

    def fit(self, variant: Variant, form: str) -> dict[str, Any] | None:
        """The law to use: the method's own, else the one over all methods; None if none serves.

        A fit that had to leave a constant out (one rate, one size) serves only where it was made.
        """
        if not set(columns_needed(registry.get(form))) - {"D"} <= set(variant.measured()):
            return None
        for method in (variant.method, "all"):
            for fit in self.law["fits"]:
                same = fit["family"] == variant.family and fit["method"] == method
                same = same and fit["form"] == form and fit["converged"]
                if same and self._serves(fit, variant):
                    return fit
        return None

    def _serves(self, fit: Mapping[str, Any], variant: Variant) -> bool:
        if set(registry.get(fit["form"]).constants) <= set(fit["constants"]):
            return True
        row = pd.DataFrame([{**variant.measured(), "D": self.budgets[0]}])
        new = new_in(self.fitted_rows(fit), row)
        return not (new["rate"] | new["size"]).any()

    def fitted_rows(self, fit: Mapping[str, Any]) -> pd.DataFrame:
        """The rows of the loss table that a fit has seen."""
        rows = self.table
        if "family" in rows:
            rows = rows[rows["family"].astype(str) == fit["family"]]
        return rows if fit["method"] == "all" else rows[rows["method"] == fit["method"]]

    def curves(self, variant: Variant, fit: Mapping[str, Any]) -> tuple[Curve, Curve | None]:
        """The variant's loss curve at the fit, and under every bootstrap draw."""
        form = registry.get(fit["form"])
        best = {n: c["value"] for n, c in fit["constants"].items()}
        drawn = self.draws
        for key in ("family", "method", "form"):
            drawn = drawn[drawn[key] == fit[key]]
        measured, several = variant.measured(), None
        if len(drawn):
            several = curve(form, {n: drawn[n].to_numpy() for n in best}, measured)
        return curve(form, best, measured), several

    def spread(self, fit: Mapping[str, Any], best: float, drawn: np.ndarray) -> tuple[float, float]:
        """Percentile interval of draws, widened for the number of runs in logs where all are above
        zero and finite (see :func:`p2law.laws.judging.uncertainty.small_sample`).
        """
        drawn = np.nan_to_num(drawn, posinf=np.inf)
        low, high = (float(x) for x in np.percentile(drawn, [2.5, 97.5], method="nearest"))
        factor = small_sample(int(self.fitted_rows(fit)["run"].nunique()))
        if low > 0 and best > 0 and math.isfinite(best):
            low = best * (low / best) ** factor if low < best else low
            high = best * (high / best) ** factor if best < high < math.inf else high
        return low, high

    def error(self, variant: Variant, fit: Mapping[str, Any], tokens: float) -> float:
        """Half width of the law's own error in log loss at so many tokens; 0 where not measured."""
        if "model_error" not in fit:
            return 0.0
        widths = {kind: found["half_width"] for kind, found in fit["model_error"].items()}
        row = pd.DataFrame([{**variant.measured(), "D": tokens}])
        return float(total_widths(widths, self.fitted_rows(fit), row)[0])

    def loss(self, variant: Variant, fit: Mapping[str, Any], tokens: float):
        """Loss at so many tokens with its interval (low, high None without replicates)."""
        best, several = self.curves(variant, fit)
        at = np.log([max(tokens, 1.0)])
        loss, low, high = float(best.loss(at)[0, 0]), None, None
        if several is not None:
            drawn = self.spread(fit, loss, several.loss(at)[:, 0])
            widen = math.exp(self.error(variant, fit, tokens))
            low, high = min(drawn[0], loss / widen), max(drawn[1], loss * widen)
        return loss, low, high

    def trust(self, variant: Variant, fit: Mapping[str, Any]) -> str:
        """How far the held-out tests let one trust this law for this variant."""
        unseen = fit["method"] != variant.method
        basis = "method's own law"
        if unseen:
            seen = "method" in self.table and variant.method in set(self.table["method"])
            why = "its own law cannot tell" if seen else "method never post-trained"
            basis = f"{why}: law over all methods"
        if variant.note and "Lp" in columns_needed(registry.get(fit["form"])):
            basis = f"{basis}; {variant.note}"
        errors = []
        for split in ("leave-one-method",) if unseen else ORDERED:
            rows = [
                r["mean_abs_rel_error"] for r in self.law["holdouts"] if r["split"] == split
                and all(r[k] == fit[k] for k in ("family", "method", "form"))
            ]  # fmt: skip
            if rows:
                errors.append(f"{split} up to {100 * max(rows):.2g} %")
        return f"{basis}; held-out error: {', '.join(errors) or 'none measured'}"


def answer(
    laws: Laws,
    variant: Variant,
    rules: Mapping[str, float],
    flops_per_hour: float,
    forms: tuple[str, ...] = FORMS,
    cost: Cost = training_flops,
) -> list[Answer]:
    """Tokens for every rule under every form that can speak of this variant.

    ``rules``: "target" (nats), "marginal" (nats per 1e6 tokens), "residual" (nats).
    ``flops_per_hour`` is what one GPU (or core) sustains. Intervals are the run-level bootstrap's;
    a target's is widened by the law's own error, since an error of the level moves the tokens that
    reach it, while the other two rules rest on the curve's slope alone.
    """
    found = []
    for name in forms:
        fit = laws.fit(variant, name)
        if fit is None:
            continue
        best, several = laws.curves(variant, fit)
        for rule, level in rules.items():
            # Of a target above the measured Lp no law is asked: P² has no value at D = 0.
            met = rule == "target" and variant.Lp is not None and level >= variant.Lp
            tokens = 0.0 if met else float(_solve(best, rule, level)[0])
            low = high = 0.0 if met else None
            if several is not None and not met:
                low, high = laws.spread(fit, tokens, _solve(several, rule, level))
                if rule == "target":
                    at = tokens if math.isfinite(tokens) else laws.budgets[1]
                    widen = math.exp(laws.error(variant, fit, max(at, 1.0)))
                    low = min(low, float(for_target(best, level * widen)[0]))
                    high = max(high, float(for_target(best, level / widen)[0]))
            price = _price(laws, variant, fit, tokens, flops_per_hour, cost)
            found.append(Answer(variant=variant, form=name, law=fit["method"], rule=rule,
                                level=level, low=low, high=high, **price))  # fmt: skip
    return found


def _solve(curve: Curve, rule: str, level: float) -> np.ndarray:
    if rule == "target":
        return for_target(curve, level)
    if rule == "marginal":
        return for_marginal(curve, level / 1e6)
    if rule == "residual":
        return for_residual(curve, level)
    raise UserError(f"plan rule {rule!r} is unknown; allowed: target, marginal, residual")


def _price(laws: Laws, variant, fit, tokens: float, flops_per_hour: float, cost: Cost) -> dict:
    """What an answer costs and what loss it buys."""
    trust = laws.trust(variant, fit)
    if math.isinf(tokens):
        empty = ("tokens", "loss", "loss_low", "loss_high", "flops", "gpu_hours")
        return dict.fromkeys(empty) | {"status": "out of reach at any budget", "trust": trust}
    flops = cost(variant.trained, tokens)
    loss, low, high = laws.loss(variant, fit, tokens)
    if tokens == 0 and variant.Lp is not None:
        loss, low, high = variant.Lp, None, None
    status = "already there" if tokens == 0 else within(laws, tokens)
    return {"tokens": tokens, "loss": loss, "loss_low": low, "loss_high": high, "flops": flops,
            "gpu_hours": flops / flops_per_hour, "status": status, "trust": trust}  # fmt: skip


def within(laws: Laws, tokens: float) -> str:
    """ "ok", or "beyond the data" where tokens lie far outside the measured budgets."""
    lowest, highest = laws.budgets
    return "ok" if lowest / FAR <= tokens <= highest * FAR else "beyond the data"


def as_rows(found: list) -> list[dict[str, Any]]:
    """Flat rows of answers or choices, the variant's fields first."""
    rows = []
    for item in found:
        row = asdict(item)
        rows.append(row.pop("variant") | row)
    return rows
