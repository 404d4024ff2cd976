"""DSnoT (2310.08915): swap kept for pruned weights, row by row, without training.

The mean output error of a row is e = sum over pruned j of W_j E[X_j]. A cycle revives the pruned
weight that moves e most towards zero, per unit of variance of its input, and prunes the kept one
of least Wanda score among those whose loss also moves e towards zero.

The authors' code differs in two ways. It sums inputs over the T tokens of a sequence where the
paper has expectations, so that its e is T times ours and the same threshold T times as strict: a
threshold of .1 / T here is theirs (more rows swap, no lower loss: docs/pruning.md). And it leaves
the layers of the MLP alone unless told otherwise.
"""

import torch

from p2law.pruning.masks import Pattern
from p2law.pruning.statistics import Statistics

CYCLES, THRESHOLD = 50, 0.1


def dsnot(
    W: torch.Tensor,
    kept: torch.Tensor,
    inputs: Statistics,
    pattern: Pattern,
    threshold: float = THRESHOLD,
) -> torch.Tensor:
    """A refined mask with the same counts: per row, or per group of m for an n:m pattern.

    A row rests when |e| is at most ``threshold``, when no swap helps, or when a swap would turn
    e's sign or not shrink it; at most ``CYCLES`` swaps a row.
    """
    mean = inputs.sums / inputs.tokens
    variance = (inputs.squares / inputs.tokens - mean.square()).clamp_min(1e-12)
    effect = W.double() * mean
    score = W.double().abs() * inputs.norms()
    kept, rows = kept.clone(), torch.arange(len(W), device=W.device)
    error = (effect * ~kept).sum(dim=1)
    awake = error.abs() > threshold
    for _ in range(CYCLES):
        if not awake.any():
            break
        towards = error.sign()[:, None] * effect
        gain = torch.where(~kept & (towards > 0), towards / variance, -torch.inf)
        revive = gain.argmax(dim=1)
        candidates = kept & (towards < 0)
        if pattern is not None:
            m = pattern[1]
            group = torch.arange(W.shape[1], device=W.device) // m
            candidates &= group == (revive // m)[:, None]
        cost = torch.where(candidates, score, torch.inf)
        prune = cost.argmin(dim=1)
        new = error - effect[rows, revive] + effect[rows, prune]
        possible = gain[rows, revive].isfinite() & cost[rows, prune].isfinite()
        awake &= possible & (new.abs() < error.abs()) & (new * error >= 0)
        kept[rows[awake], revive[awake]] = True
        kept[rows[awake], prune[awake]] = False
        error = torch.where(awake, new, error)
        awake &= error.abs() > threshold
    return kept
