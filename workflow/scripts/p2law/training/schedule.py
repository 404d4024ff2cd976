"""Learning rates as pure functions of the step, and the legs a run is made of.

A *leg* is a stretch of steps under one learning-rate function. The three schedules differ only
in the legs that lead to each budget:

- ``wsd``: one trunk at constant rate; at each budget D a branch over the last share of D tokens,
  decayed by 1 - sqrt to zero (Haegele et al. 2024, arXiv 2405.18392). Every budget ends annealed
  and a larger one costs only its new tokens.
- ``cosine``: one whole run a budget, half a cosine down to a tenth (Hoffmann et al. 2022).
- ``trajectory``: one cosine run for the largest budget, read along the way (the P2 law's own).

A step's rate is that of the middle of its tokens, so that no step has rate zero and the area
under the curve does not depend on the batch size to first order.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from p2law.errors import UserError

COSINE_FLOOR = 0.1
"""Share of the peak at which a cosine ends."""


@dataclass(frozen=True)
class Leg:
    """A stretch of steps under one rate function, a branch of ``origin`` or a start of its own.

    name     its folder in the run's state
    origin   the leg it branches from at step ``start``; None where it starts at the beginning
    start    its first step
    stop     the step at which it ends (the number of steps then done)
    rate     learning rate of a step, a pure function of the step
    """

    name: str
    origin: "Leg | None"
    start: int
    stop: int
    rate: Callable[[int], float]


def warmup(step: int, steps: int) -> float:
    """Share of the peak during a linear warm-up of ``steps`` steps; 1 after it."""
    return min(1.0, (step + 0.5) / steps) if steps else 1.0


def wsd(step: int, *, peak: float, warmup_steps: int, total: int | None, decay_steps: int) -> float:
    """Warm-up, constant, 1 - sqrt to zero over the last ``decay_steps`` of ``total`` steps.

    ``total`` None is the trunk: it never decays.
    """
    if total is None or step < total - decay_steps:
        return peak * warmup(step, warmup_steps)
    done = (step + 0.5 - (total - decay_steps)) / decay_steps
    return peak * warmup(step, warmup_steps) * (1.0 - math.sqrt(done))


def cosine(step: int, *, peak: float, warmup_steps: int, total: int) -> float:
    """Warm-up, then half a cosine from the peak to a tenth of it at ``total`` steps."""
    if step < warmup_steps:
        return peak * warmup(step, warmup_steps)
    done = (step + 0.5 - warmup_steps) / (total - warmup_steps)
    wave = 0.5 * (1.0 + math.cos(math.pi * done))
    return peak * (COSINE_FLOOR + (1.0 - COSINE_FLOOR) * wave)


def decay_steps(total: int, share: float) -> int:
    """Steps of a branch that ends at ``total``: its share rounded to whole steps, at least one."""
    return max(1, round(share * total))


def legs(
    schedule: str, steps: Iterable[int], *, peak: float, warmup_steps: int, decay: float
) -> dict[int, Leg]:
    """The leg that ends at (or passes through) each budget, by the budget's steps.

    Raises :class:`UserError` for an unknown schedule or a budget that ends before the constant
    rate begins.
    """
    budgets = sorted(steps)
    short = budgets[0] - (decay_steps(budgets[0], decay) if schedule == "wsd" else 0)
    if short < warmup_steps:
        raise UserError(
            f"budgets: the smallest ({budgets[0]} steps) leaves {max(short, 0)} steps before its"
            f" decay; the warm-up takes {warmup_steps}: enlarge it or shorten warmup_tokens"
        )
    shape: dict[str, Any] = {"peak": peak, "warmup_steps": warmup_steps}
    if schedule == "wsd":
        return _branches(budgets, decay, shape)
    if schedule == "cosine":
        return {
            n: Leg(f"cosine-{n}", None, 0, n, partial(cosine, total=n, **shape)) for n in budgets
        }
    if schedule == "trajectory":
        last = budgets[-1]
        leg = Leg(f"trajectory-{last}", None, 0, last, partial(cosine, total=last, **shape))
        return dict.fromkeys(budgets, leg)
    raise UserError(f"schedule: {schedule!r}; allowed are 'wsd', 'cosine' and 'trajectory'")


def work(
    plan: Mapping[int, Leg], saved: Callable[[str, int], int] = lambda leg, until: 0
) -> dict[int, int]:
    """Steps that each budget adds to those trained for the smaller ones, by the budget's steps.

    ``saved(leg, until)`` is the furthest step of a leg, up to ``until``, that need not be trained.
    """
    reached: dict[str, int] = {}
    added = {}
    for steps, leg in sorted(plan.items()):
        added[steps] = 0
        if leg.origin is not None:
            trunk = leg.origin.name
            start = max(reached.get(trunk, 0), saved(trunk, leg.start))
            added[steps] += leg.start - start
            reached[trunk] = leg.start
        added[steps] += steps - reached.get(leg.name, leg.start)
        reached[leg.name] = steps
    return added


def _branches(budgets: list[int], decay: float, shape: dict) -> dict[int, Leg]:
    """A trunk long enough for every budget and the branches from it."""
    forks = {n: n - decay_steps(n, decay) for n in budgets}
    rate = partial(wsd, total=None, decay_steps=0, **shape)
    trunk = Leg("trunk", None, 0, max(forks.values()), rate)
    return {
        n: Leg(f"branch-{n}", trunk, fork, n, partial(wsd, total=n, decay_steps=n - fork, **shape))
        for n, fork in forks.items()
    }
