"""Masks: which weights of a linear layer stay.

A mask is bool ``[out, in]``, True = kept. Scoring masks give every weight a score and keep the
highest; counts are exact, and of equal scores the earlier is pruned. ``rows`` are the heights of
the layers that are stacked because they share an input: "layer" scope ranks each on its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import torch

from p2law.pruning.curvature import Curvature
from p2law.pruning.statistics import Statistics

CHUNK = 2**18
"""Scores compared at once: what stays in a CPU's cache."""
Pattern = tuple[int, int] | None
Score = Callable[..., torch.Tensor]
"""Of W, statistics and curvature; only a curved one may count on curvature."""


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
    """Rank within each group by comparing its pairs, a few rows at a time: no sort of tiny rows."""
    rows = len(score) if score.is_cuda else max(1, CHUNK // score.shape[1])
    parts = [
        keep_of_each(part.reshape(-1, m).T, n).T.reshape(part.shape) for part in score.split(rows)
    ]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def keep_of_each(columns: torch.Tensor, n: int) -> torch.Tensor:
    """Per group True at the ``n`` highest of m; ``columns [m, groups]``, ties keep the later."""
    m = len(columns)
    earlier, later, signs, least = _pairs(m, columns.device)
    below = columns.index_select(0, earlier) <= columns.index_select(0, later)
    return torch.addmm(least, signs, below.float()) >= m - n


@cache
def _pairs(m: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """All pairs of m, and how "earlier <= later" of each counts towards the ranks of its two."""
    earlier, later = torch.triu_indices(m, m, 1, device=device)
    pairs = torch.arange(len(later), device=device)
    signs = torch.zeros(m, len(later), device=device)
    signs[later, pairs], signs[earlier, pairs] = 1.0, -1.0
    least = torch.arange(m - 1, -1, -1, device=device, dtype=torch.float32)[:, None]
    return earlier, later, signs, least


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
