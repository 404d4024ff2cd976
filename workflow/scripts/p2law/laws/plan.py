"""The plan: what the fitted laws say to buy for a model, method and rate.

For each variant: tokens for a target loss, for a marginal gain, for a residual, each with a
run-level interval, FLOPs and GPU-hours; and the best (method, rate, budget) under a compute budget
or a parameter count. P² answers from the rate; the damage laws answer from the loss right after
pruning, also for a method that was never post-trained (through the law over all methods).
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
from p2law.laws import registry
from p2law.laws.answers import Curve, curve, for_marginal, for_residual, for_target
from p2law.laws.forms import columns_needed

Cost = Callable[[float, float], float]
"""(parameters while training, tokens) -> FLOPs."""


def training_flops(parameters: float, tokens: float) -> float:
    """6 N D, the FLOPs of training N parameters on D tokens."""
    return 6.0 * parameters * tokens


@dataclass(frozen=True)
class Variant:
    """What a plan is asked about. ``Lp`` None leaves the damage laws out.

    ``N0`` and ``N`` in parameters before and after pruning, ``rho`` the rate, losses in nats.
    """

    family: str
    method: str
    model: str
    N0: float
    N: float
    rho: float
    L0: float
    Lp: float | None = None


@dataclass(frozen=True)
class Answer:
    """Tokens for one rule with a 95 % interval and their price; ``status`` says what they mean.

    ``status``: "ok", "already there" (0 tokens), "out of reach at any budget" (tokens None),
    or "beyond the data" when the answer lies over 10 x outside the measured budgets.
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
    flops: float | None
    gpu_hours: float | None
    status: str
    trust: str


class Laws:
    """The law stage's results: constants and bootstrap draws of the headline forms."""

    def __init__(self, law: Mapping[str, Any], draws: pd.DataFrame, budgets: tuple[float, float]):
        self.law, self.draws, self.budgets = law, draws, budgets

    @classmethod
    def read(cls, folder: Path) -> "Laws":
        """Read a law folder (law.json, draws.parquet, predictions.csv)."""
        folder = Path(folder)
        for name in ("law.json", "draws.parquet", "predictions.csv"):
            if not (folder / name).is_file():
                raise UserError(f"{folder / name}: missing; run the law stage first")
        law = json.loads((folder / "law.json").read_text(encoding="utf-8"))
        seen = pd.read_csv(folder / "predictions.csv", usecols=["D"])["D"]
        return cls(law, pd.read_parquet(folder / "draws.parquet"), (seen.min(), seen.max()))

    def fit(self, variant: Variant, form: str) -> dict[str, Any] | None:
        """The law to use: the method's own, else the one over all methods; None if none serves."""
        for method in (variant.method, "all"):
            for fit in self.law["fits"]:
                same = fit["family"] == variant.family and fit["method"] == method
                if same and fit["form"] == form and fit["converged"]:
                    return fit
        return None

    def curves(self, variant: Variant, fit: Mapping[str, Any]) -> tuple[Curve, Curve | None]:
        """The variant's loss curve at the fit, and under every bootstrap draw."""
        form = registry.get(fit["form"])
        measured = {k: v for k, v in asdict(variant).items() if v is not None}
        best = {n: c["value"] for n, c in fit["constants"].items()}
        drawn = self.draws
        if len(drawn):
            drawn = drawn[(drawn["family"] == fit["family"]) & (drawn["method"] == fit["method"])]
            drawn = drawn[drawn["form"] == fit["form"]]
        several = None
        if len(drawn):
            several = curve(form, {n: drawn[n].to_numpy() for n in best}, measured)
        return curve(form, best, measured), several

    def trust(self, variant: Variant, fit: Mapping[str, Any]) -> str:
        """How far the held-out tests let one trust this law for this variant."""
        unseen = fit["method"] != variant.method
        split = "leave-one-method" if unseen else "rate"
        rows = [
            r for r in self.law["holdouts"]
            if all(r[k] == fit[k] for k in ("family", "method", "form")) and r["split"] == split
        ]  # fmt: skip
        basis = "method never post-trained: law over all methods" if unseen else "method's own law"
        if not rows:
            return f"{basis}; no held-out test"
        worst = max(r["mean_abs_rel_error"] for r in rows)
        return f"{basis}; held-out {split} error up to {100 * worst:.2g} %"


def answer(
    laws: Laws,
    variant: Variant,
    rules: Mapping[str, float],
    flops_per_hour: float,
    forms: tuple[str, ...] = ("p2", "damage_rectified"),
    cost: Cost = training_flops,
) -> list[Answer]:
    """Tokens for every rule under every form that can speak of this variant.

    ``rules``: "target" (nats), "marginal" (nats per 1e6 tokens), "residual" (nats).
    ``flops_per_hour`` is what one GPU (or core) sustains.
    """
    found = []
    for name in forms:
        fit = laws.fit(variant, name)
        needs = columns_needed(registry.get(name))
        if fit is None or (variant.Lp is None and "Lp" in needs):
            continue
        best, several = laws.curves(variant, fit)
        for rule, level in rules.items():
            tokens = float(_solve(best, rule, level)[0])
            low = high = None
            if several is not None:
                spread = np.nan_to_num(_solve(several, rule, level), posinf=np.inf)
                low, high = np.percentile(spread, [2.5, 97.5], method="nearest")
            found.append(
                _price(laws, variant, fit, rule, level, best, (tokens, low, high), flops_per_hour,
                       cost)
            )  # fmt: skip
    return found


def _solve(curve: Curve, rule: str, level: float) -> np.ndarray:
    if rule == "target":
        return for_target(curve, level)
    if rule == "marginal":
        return for_marginal(curve, level / 1e6)
    if rule == "residual":
        return for_residual(curve, level)
    raise UserError(f"plan rule {rule!r} is unknown; allowed: target, marginal, residual")


def _price(laws, variant, fit, rule, level, best, answers, flops_per_hour, cost) -> Answer:
    tokens, low, high = (None if x is None or math.isinf(x) else float(x) for x in answers)
    status = "ok"
    if tokens is None:
        status = "out of reach at any budget"
    elif tokens == 0:
        status = "already there"
    elif tokens < laws.budgets[0] / 10 or tokens > laws.budgets[1] * 10:
        status = "beyond the data"
    loss = flops = hours = None
    if tokens is not None:
        flops = cost(variant.N, tokens)
        hours = flops / flops_per_hour
        loss = float(best.loss(np.log([max(tokens, 1.0)]))[0, 0])
    return Answer(
        variant, fit["form"], fit["method"], rule, level, tokens, low, high, loss, flops, hours,
        status, laws.trust(variant, fit),
    )  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """A variant trained as far as a compute budget allows, and the loss that a law expects."""

    variant: Variant
    form: str
    tokens: float
    flops: float
    loss: float
    low: float | None
    high: float | None


def best_choices(
    laws: Laws,
    variants: list[Variant],
    *,
    flops: float,
    parameters: float | None = None,
    form: str = "p2",
    cost: Cost = training_flops,
) -> list[Choice]:
    """Variants from lowest to highest expected loss when each spends ``flops``.

    ``parameters`` drops variants that keep more than that. Cost must be linear in tokens.
    """
    found = []
    for variant in variants:
        fit = laws.fit(variant, form)
        if fit is None or (parameters is not None and parameters < variant.N):
            continue
        tokens = flops / cost(variant.N, 1.0)
        best, several = laws.curves(variant, fit)
        at = np.log([tokens])
        low = high = None
        if several is not None:
            low, high = (float(x) for x in np.percentile(several.loss(at)[:, 0], [2.5, 97.5]))
        loss = float(best.loss(at)[0, 0])
        found.append(Choice(variant, form, tokens, flops, loss, low, high))
    return sorted(found, key=lambda choice: choice.loss)


def variants_of(table: pd.DataFrame) -> list[Variant]:
    """The variants of a loss table, one a run's first seed."""
    rows = table.drop_duplicates([c for c in ("family", "model", "method", "rho") if c in table])
    return [
        Variant(
            str(row.get("family", "")), str(row.get("method", "all")), str(row.get("model", "")),
            float(row["N0"]), float(row.get("N", row["N0"])), float(row["rho"]), float(row["L0"]),
            float(row["Lp"]) if "Lp" in row and row["Lp"] > row["L0"] else None,
        )
        for _, row in rows.iterrows()
    ]  # fmt: skip


def as_rows(found: list[Answer] | list[Choice]) -> list[dict[str, Any]]:
    """Flat rows, the variant's fields first."""
    rows = []
    for item in found:
        row = asdict(item)
        rows.append(row.pop("variant") | row)
    return rows
