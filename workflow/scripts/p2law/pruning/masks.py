"""Masks: which weights of a linear layer stay (pruning.md section 1).

A mask is bool ``[out, in]``, True = kept. Scoring masks give every weight a score and keep the
highest; the counts are exact, ties go to the later index (the earlier one is pruned).
"""

from collections.abc import Callable

import torch

from p2law.pruning.statistics import Statistics

Pattern = tuple[int, int] | None


def magnitude(W: torch.Tensor, _: Statistics) -> torch.Tensor:
    """|W|."""
    return W.abs()


def wanda(W: torch.Tensor, inputs: Statistics) -> torch.Tensor:
    """|W_ij| * ||X_j||, Wanda 2306.11695 eq. 1."""
    return W.abs() * inputs.norms().to(W.dtype)


SCORES: dict[str, Callable[[torch.Tensor, Statistics], torch.Tensor]] = {
    "magnitude": magnitude,
    "wanda": wanda,
}


def select(score: torch.Tensor, pattern: Pattern, share: float, scope: str) -> torch.Tensor:
    """Keep the highest scores: exactly n of every m along the input, or all but ``share``.

    ``score`` is ``[out, in]``; ``scope`` "row" prunes round(share x in) in every row, "layer"
    round(share x out x in) over the matrix.
    """
    if pattern is not None:
        return _select_groups(score, *pattern)
    if scope == "layer":
        return _keep_top(score.reshape(1, -1), share).reshape(score.shape)
    return _keep_top(score, share)


def _keep_top(score: torch.Tensor, share: float) -> torch.Tensor:
    pruned = round(share * score.shape[1])
    order = torch.argsort(score, dim=1, stable=True)
    kept = torch.ones_like(score, dtype=torch.bool)
    return kept.scatter_(1, order[:, :pruned], False)


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
