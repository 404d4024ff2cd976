"""Masks: which weights of a linear layer stay (pruning.md section 1).

A mask is bool ``[out, in]``, True = kept. Scoring masks give every weight a score and keep the
highest; counts are exact, and of equal scores the earlier is pruned. ``rows`` are the heights of
the layers that are stacked because they share an input: "layer" scope ranks each on its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import torch

from p2law.pruning.curvature import Curvature
from p2law.pruning.statistics import Statistics

Pattern = tuple[int, int] | None
Score = Callable[[torch.Tensor, Statistics | None, Curvature | None], torch.Tensor]


@dataclass(frozen=True)
class Rule:
    """How many go: an n:m pattern, or a share within a scope ("row" or "layer")."""

    pattern: Pattern
    share: float
    scope: str
    rows: tuple[int, ...]


def magnitude(W: torch.Tensor, *_: object) -> torch.Tensor:
    """|W|."""
    return W.abs()


def wanda(W: torch.Tensor, inputs: Statistics, _: object = None) -> torch.Tensor:
    """|W_ij| ||X_j||, Wanda 2306.11695 eq. 1."""
    return W.abs() * inputs.norms().to(W.dtype)


def ria(W: torch.Tensor, inputs: Statistics, _: object = None) -> torch.Tensor:
    """(|W_ij| / column sum + |W_ij| / row sum) ||X_j||^0.5, relative importance and activations."""
    A = W.abs()
    tiny = torch.finfo(W.dtype).tiny
    relative = A / A.sum(0, keepdim=True).clamp(tiny) + A / A.sum(1, keepdim=True).clamp(tiny)
    return relative * inputs.norms().sqrt().to(W.dtype)


def obs(W: torch.Tensor, _: object, curvature: Curvature) -> torch.Tensor:
    """w_j^2 / (2 [H^-1]_jj): what removing one weight alone costs; mask "S" of APT 2410.15567."""
    return W.square() / (2 * curvature.inverse_diagonal)


@dataclass(frozen=True)
class Scored:
    """A scoring mask: its score, the scope of its paper, and whether it needs H."""

    score: Score
    scope: str
    curved: bool = False


SCORED = {
    "magnitude": Scored(magnitude, "layer"),
    "wanda": Scored(wanda, "row"),
    "ria": Scored(ria, "row"),
    "obs": Scored(obs, "layer", curved=True),
}


def select(score: torch.Tensor, rule: Rule) -> torch.Tensor:
    """Keep the highest of ``score [out, in]`` by the rule: exactly n of m, or all but the share."""
    if rule.pattern is not None:
        return _select_groups(score, *rule.pattern)
    columns = score.shape[1]
    if rule.scope == "row":
        return keep_all_but(score, round(rule.share * columns))
    parts = [
        keep_all_but(part.reshape(1, -1), round(rule.share * part.numel())).reshape(part.shape)
        for part in score.split(rule.rows)
    ]
    return torch.cat(parts)


def keep_all_but(score: torch.Tensor, pruned: int) -> torch.Tensor:
    """Per row of ``score`` False at the ``pruned`` lowest, ties to the earlier."""
    if pruned == 0:
        return torch.ones_like(score, dtype=torch.bool)
    last = score.kthvalue(pruned, dim=1, keepdim=True).values
    kept, ties = score > last, score == last
    spare = pruned - (score < last).sum(dim=1, keepdim=True)
    if (ties.sum(dim=1, keepdim=True) > spare).any():
        kept |= ties & (ties.cumsum(dim=1) > spare)
    return kept


def _select_groups(score: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """Rank within each group by counting: exact for ties, no sort of millions of tiny rows."""
    groups = score.reshape(score.shape[0], -1, m)
    columns = groups.unbind(-1)
    kept = torch.empty_like(groups, dtype=torch.bool)
    for j, mine in enumerate(columns):
        lower = torch.zeros_like(mine, dtype=torch.int8)
        for i, other in enumerate(columns):
            if i != j:
                lower += (other <= mine) if i < j else (other < mine)
        kept[..., j] = lower >= m - n
    return kept.reshape(score.shape)


def group(W: torch.Tensor, curvature: Curvature, pattern: tuple[int, int]) -> torch.Tensor:
    """Mask "M" of APT 2410.15567: per group of m the m - n weights cheapest to remove together.

    The cost of removing the set P is L* = 1/2 w_P ([H^-1]_PP)^-1 w_P^T; every set is tried.
    """
    n, m = pattern
    groups = W.reshape(W.shape[0], -1, m)
    starts = torch.arange(0, W.shape[1], m, device=W.device)
    sets = torch.tensor(list(combinations(range(m), m - n)), device=W.device)
    best = torch.full(groups.shape[:2], torch.inf, dtype=W.dtype, device=W.device)
    chosen = torch.zeros(groups.shape[:2], dtype=torch.long, device=W.device)
    for i, removed in enumerate(sets):
        at = starts[:, None] + removed
        inverse = torch.linalg.inv(curvature.inverse[at[:, :, None], at[:, None, :]])
        w = groups[..., removed]
        cost = torch.einsum("rgi,gij,rgj->rg", w, inverse, w) / 2
        chosen = torch.where(cost < best, i, chosen)
        best = torch.minimum(cost, best)
    kept = torch.ones(len(sets), m, dtype=torch.bool, device=W.device)
    kept[torch.arange(len(sets), device=W.device)[:, None], sets] = False
    return kept[chosen].reshape(W.shape)
