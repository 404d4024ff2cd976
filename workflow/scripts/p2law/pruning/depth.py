"""Depth pruning: whole blocks go, by a score measured on the unpruned model.

Block influence, ShortGPT 2403.03853: BI_i = 1 - mean over tokens of cos(x_i, x_{i+1}); the n
blocks of lowest influence go.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from p2law.pruning.calibration import Source


def block_influence(source: Source) -> list[float]:
    """BI of every block: 1 - the mean over all tokens of cos(input, output)."""
    sums = [0.0] * len(source.blocks)

    def see(i: int, _: int, x: torch.Tensor, y: torch.Tensor) -> None:
        cosine = torch.nn.functional.cosine_similarity(x.double(), y.double(), dim=-1)
        sums[i] += float(cosine.sum())

    for _ in source.walk(see):
        pass
    tokens = source.calibration.tokens.numel()
    return [1 - total / tokens for total in sums]


CRITERIA = {"block_influence": block_influence}


def removed_blocks(scores: Sequence[float], n: int, settings: Mapping[str, Any]) -> list[int]:
    """The n blocks of lowest score outside the guarded ends, ascending; ties go to the later."""
    first, last = settings["guard_first"], len(scores) - settings["guard_last"]
    order = sorted(range(first, last), key=lambda i: (scores[i], -i))
    return sorted(order[:n])
