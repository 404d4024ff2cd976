"""Depth pruning: whole blocks go, by what is measured on the unpruned model.

A criterion measures once and then names the blocks to remove for any number n. Averages run over
tokens, never over one flattened tensor. Guarded blocks at either end never go.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cosine_similarity, normalize

from p2law.pruning.calibration import Source, States
from p2law.pruning.gradients import boundaries, gradients, mean_loss

Settings = Mapping[str, Any]
TOKENS_AT_ONCE = 128
"""Of which :func:`angular` holds every block's state in fp64: .14 GB for 32 blocks 4,096 wide."""


def block_influence(source: Source) -> list[float]:
    """ShortGPT 2403.03853: BI_i = 1 - mean over tokens of cos(x_i, x_{i+1})."""
    sums = [0.0] * len(source.blocks)

    def see(i: int, _: int, x: torch.Tensor, y: torch.Tensor) -> None:
        sums[i] += float(cosine_similarity(x.double(), y.double(), dim=-1).sum())

    for _ in source.walk(see):
        pass
    tokens = source.calibration.tokens.numel()
    return [1 - total / tokens for total in sums]


def angular(source: Source) -> list[list[float]]:
    """Mean cosine between the inputs of blocks l and l + k (the last: the output), by [l][k - 1].

    LLM-Streamline 2403.19135; 2403.17887 takes its arccos, which orders single tokens alike. Every
    state is read once: with unit vectors u_l [tokens x hidden] all cosines are one product U U^T.
    """
    states, device = boundaries(source), source.blocks.device
    places = len(states)
    sums = torch.zeros(places, places, dtype=torch.float64, device=device)
    for b in range(len(states[0])):
        held = [at[b].flatten(0, 1) for at in states]
        for start in range(0, len(held[0]), TOKENS_AT_ONCE):
            few = [state[start : start + TOKENS_AT_ONCE] for state in held]
            here = torch.stack(few).to(device).double()
            unit = normalize(here, dim=-1).flatten(1)
            sums += unit @ unit.T
    cosines = (sums / source.calibration.tokens.numel()).tolist()
    return [cosines[left][left + 1 :] for left in range(places - 1)]


def perplexity(source: Source) -> list[float]:
    """Shortened LLaMA 2402.02834: loss (nats) of the model without each block, alone.

    One pass over the blocks: the run that skips block i leaves the common one there.
    """
    copies = len(source.blocks) + 2
    common = source.embedded(copies)
    skipping: list[States] = []
    for i in range(len(source.blocks)):
        with source.blocks.block(i) as block:
            for states in skipping:
                source.through(block, i, states, states)
            skipping.append(common)
            common = source.states(copies)
            source.through(block, i, skipping[-1], common)
    return [mean_loss(source, states) for states in skipping]


def taylor(source: Source) -> list[float]:
    """Shortened LLaMA 2402.02834: sum of |w g| over the block's linear weights."""
    linear = tuple(source.blocks.arch.linear_weights())
    scores = [0.0] * len(source.blocks)
    for i, named in gradients(source):
        if i is not None:
            terms = [
                (w * g).abs().double().sum() for n, (w, g) in named.items() if n.endswith(linear)
            ]
            scores[i] = float(sum(terms))
    return scores


def last(source: Source) -> None:
    """The last n blocks (2411.15558): nothing is measured."""


def _lowest(scores: list[float], n: int, removable: range) -> list[int]:
    """The n removable blocks of lowest score, ascending; ties go to the later block."""
    return sorted(sorted(removable, key=lambda i: (scores[i], -i))[:n])


def _contiguous(cosines: list[list[float]], n: int, removable: range) -> list[int]:
    """The run of n removable blocks with the highest cosine; ties go to the later run."""
    starts = range(removable.start, removable.stop - n + 1)
    left = max(starts, key=lambda start: (cosines[start][n - 1], start))
    return list(range(left, left + n))


def _final(_: None, n: int, removable: range) -> list[int]:
    return list(removable)[len(removable) - n :]


@dataclass(frozen=True)
class Criterion:
    """What is measured (JSON-able; None when nothing is), and which n blocks it removes."""

    measure: Callable[[Source], Any]
    choose: Callable[[Any, int, range], list[int]]
    reads_text: bool = True


CRITERIA = {
    "block_influence": Criterion(block_influence, _lowest),
    "angular": Criterion(angular, _contiguous),
    "perplexity": Criterion(perplexity, _lowest),
    "taylor": Criterion(taylor, _lowest),
    "last": Criterion(last, _final, reads_text=False),
}


def removed_blocks(measured: Any, blocks: int, n: int, settings: Settings) -> list[int]:
    """Which n of ``blocks`` go, ascending, outside the guarded ends."""
    removable = range(settings["guard_first"], blocks - settings["guard_last"])
    return CRITERIA[settings["criterion"]].choose(measured, n, removable)
