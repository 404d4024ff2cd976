"""What to buy: the best (method, rate, budget) for a compute budget, or for a target loss.

Candidates compete inside their family only, since nats per token are of its tokenizer, and under
one law at a time; one that a law cannot speak of (no Lp for a damage law) does not take part in
that law's ranking.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from p2law.errors import UserError
from p2law.laws.deciding.answers import (
    Answer,
    TrainingFlops,
    answer,
    as_rows,
    training_flops,
)
from p2law.laws.deciding.candidates import Candidate, by_family
from p2law.laws.deciding.study_laws import Laws
from p2law.laws.forms.registry import HEADLINE


@dataclass(frozen=True)
class Choice:
    """A candidate trained as far as a compute budget allows, and the loss that a law expects.

    ``rank`` counts from 1 within a family, form and budget; ``low`` and ``high`` bound the loss.
    """

    candidate: Candidate
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


def small_enough(candidates: Iterable[Candidate], parameters: float | None) -> list[Candidate]:
    """Candidates that keep at most so many parameters."""
    return [c for c in candidates if parameters is None or parameters >= c.N]


def lowest_loss(
    laws: Laws,
    candidates: Iterable[Candidate],
    flops: float,
    flops_per_hour: float,
    forms: Sequence[str] = HEADLINE,
    cost: TrainingFlops = training_flops,
) -> list[Choice]:
    """Each family's candidates from lowest to highest expected loss when each spends ``flops``.

    ``cost`` must be linear in tokens.
    """
    found = []
    for rivals in by_family(candidates).values():
        for form in forms:
            rows = []
            for candidate in rivals:
                fit = laws.fit(candidate, form)
                if fit is not None:
                    tokens = flops / cost(candidate.trained, 1.0)
                    rows.append((laws.loss(candidate, fit, tokens), candidate, fit, tokens))
            rows.sort(key=lambda row: row[0][0])
            found += [
                Choice(candidate, form, fit.method, rank, tokens, flops, flops / flops_per_hour,
                       *loss, laws.within(fit, tokens))
                for rank, (loss, candidate, fit, tokens) in enumerate(rows, 1)
            ]  # fmt: skip
    return found


def fewest_flops(answers: Iterable[Answer]) -> list[Answer]:
    """Of the answers to a target loss those within reach, from cheapest to dearest: family by
    family, and form by form in the order in which they come.
    """
    reached = [a for a in answers if a.rule == "target" and a.flops is not None]
    families = list(dict.fromkeys(a.candidate.family for a in reached))
    forms = list(dict.fromkeys(a.form for a in reached))
    return sorted(
        reached, key=lambda a: (families.index(a.candidate.family), forms.index(a.form), a.flops)
    )


def plan_tables(
    laws: Laws,
    candidates: Sequence[Candidate],
    rules: Mapping[str, float],
    flops: float | None,
    flops_per_hour: float,
) -> dict[str, list[dict[str, Any]]]:
    """A plan's tables as flat rows: "answers" to the rules; of several candidates the "cheapest"
    ways to a target; with ``flops`` to spend, the "choices" by lowest loss. Raises UserError where
    no law can answer.
    """
    answers = [a for c in candidates for a in answer(laws, c, rules, flops_per_hour)]
    choices = lowest_loss(laws, candidates, flops, flops_per_hour) if flops is not None else []
    if not answers and not choices:
        raise UserError("no fitted law can answer for these variants; see law/law.json 'skipped'")
    return {
        "answers": as_rows(answers),
        "cheapest": as_rows(fewest_flops(answers)) if len(candidates) > 1 else [],
        "choices": as_rows(choices),
    }
