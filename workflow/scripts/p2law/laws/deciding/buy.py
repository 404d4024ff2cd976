"""What to buy: the best (method, rate, budget) for a compute budget, or for a target loss.

Variants compete under one law at a time; a variant that a law cannot speak of (no Lp for a damage
law) does not take part in that law's ranking.
"""

from dataclasses import dataclass

from p2law.laws.deciding.plan import FORMS, Answer, Cost, Laws, training_flops, within
from p2law.laws.deciding.variants import Variant


@dataclass(frozen=True)
class Choice:
    """A variant trained as far as a compute budget allows, and the loss that a law expects.

    ``rank`` counts from 1 within a form and budget; ``low`` and ``high`` bound the loss.
    """

    variant: Variant
    form: str
    law: str
    rank: int
    tokens: float
    flops: float
    gpu_hours: float
    loss: float
    low: float | None
    high: float | None
    status: str


def small_enough(variants: list[Variant], parameters: float | None) -> list[Variant]:
    """Variants that keep at most so many parameters."""
    return [v for v in variants if parameters is None or parameters >= v.N]


def lowest_loss(
    laws: Laws,
    variants: list[Variant],
    flops: float,
    flops_per_hour: float,
    forms: tuple[str, ...] = FORMS,
    cost: Cost = training_flops,
) -> list[Choice]:
    """Variants from lowest to highest expected loss when each spends ``flops`` on post-training.

    ``cost`` must be linear in tokens.
    """
    found = []
    for form in forms:
        rows = []
        for variant in variants:
            fit = laws.fit(variant, form)
            if fit is not None:
                tokens = flops / cost(variant.trained, 1.0)
                rows.append((variant, fit["method"], tokens, laws.loss(variant, fit, tokens)))
        rows.sort(key=lambda row: row[3][0])
        found += [
            Choice(variant, form, law, rank, tokens, flops, flops / flops_per_hour, *loss,
                   within(laws, tokens))
            for rank, (variant, law, tokens, loss) in enumerate(rows, 1)
        ]  # fmt: skip
    return found


def fewest_flops(answers: list[Answer]) -> list[Answer]:
    """Of the answers to a target loss those within reach, form by form from cheapest to dearest."""
    reached = [a for a in answers if a.rule == "target" and a.flops is not None]
    return sorted(reached, key=lambda a: (FORMS.index(a.form), a.flops))
