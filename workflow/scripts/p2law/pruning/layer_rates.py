"""What share each block loses, given the mean: uniform, OWL, AlphaPruning."""

from collections.abc import Callable

import torch

from p2law.errors import UserError
from p2law.pruning.blocks import Blocks
from p2law.pruning.calibration import Source
from p2law.pruning.curvature import one_thread
from p2law.pruning.statistics import Collector

OWL_SPREAD, OWL_TIMES = 0.08, 5.0
ALPHA_SPREAD = 0.3
MOST = 0.99


def uniform(blocks: Blocks, _: Source | None, share: float) -> list[float]:
    """The same share in every block."""
    return [share] * len(blocks)


def owl(blocks: Blocks, source: Source, share: float) -> list[float]:
    """OWL 2310.05175: blocks with more outliers among |W| ||X|| keep more.

    An outlier is ``OWL_TIMES`` above the block's mean; outlier shares are stretched to a range of
    2 x ``OWL_SPREAD`` and centred on the asked mean. Measured on the unpruned model.
    """
    outliers = []
    states = source.embedded()
    for i in range(len(blocks)):
        with blocks.block(i) as block:
            with Collector(block, blocks.arch.inputs, gram=False) as collector:
                source.through(block, i, states, states)
            scores = [
                (block.get_submodule(name).weight.abs() * inputs.norms().float()).flatten()
                for name, inputs in collector.of.items()
            ]
            score = torch.cat(scores)
            outliers.append(float((score > OWL_TIMES * score.mean()).double().mean()))
    keep = _stretched(outliers, 2 * OWL_SPREAD)
    mean = sum(keep) / len(keep)
    return [share - (k - mean) for k in keep]


def alpha(blocks: Blocks, _: Source | None, share: float) -> list[float]:
    """AlphaPruning 2410.10912: blocks whose spectra have lighter tails (larger exponent) lose more.

    The block mean of Hill's exponent maps linearly to 1 -+ ``ALPHA_SPREAD`` and is rescaled to the
    asked mean. Reads weights only.
    """
    exponents = []
    for i in range(len(blocks)):
        names = [blocks.prefix(i) + name for name in blocks.arch.linear_weights()]
        weights = blocks.reader.read(names).values()
        with one_thread():
            each = [hill_exponent(torch.linalg.svdvals(w.double()).square()) for w in weights]
        exponents.append(sum(each) / len(each))
    factors = [1 - ALPHA_SPREAD + x for x in _stretched(exponents, 2 * ALPHA_SPREAD)]
    mean = sum(factors) / len(factors)
    return [share * factor / mean for factor in factors]


def hill_exponent(eigenvalues: torch.Tensor) -> float:
    """Power-law exponent of a spectrum's upper half: 1 + k / sum log(lambda_i / lambda_median)."""
    ordered = eigenvalues.sort().values
    upper = ordered[len(ordered) // 2 :]
    logs = (upper / upper[0].clamp_min(1e-300)).log().sum()
    return 1 + len(upper) / max(float(logs), 1e-12)


def _stretched(values: list[float], width: float) -> list[float]:
    """Values mapped linearly onto [0, width]; all 0 where they are equal."""
    low, high = min(values), max(values)
    return [width * (v - low) / (high - low) if high > low else 0.0 for v in values]


LAYER_RATES: dict[str, Callable[[Blocks, Source | None, float], list[float]]] = {
    "uniform": uniform,
    "owl": owl,
    "alpha": alpha,
}
MEASURED = ("owl",)


def block_shares(name: str, blocks: Blocks, source: Source | None, share: float) -> list[float]:
    """Every block's share of zeros in its linear layers; their mean is ``share``.

    Raises :class:`UserError` naming the block that would lose less than nothing or over 99 %.
    """
    shares = LAYER_RATES[name](blocks, source, share)
    for i, each in enumerate(shares):
        if not 0 <= each <= MOST:
            raise UserError(
                f"layer_rates {name}: block {i} would lose {each:.3f} of its linear weights at a"
                f" mean of {share:.3f}; allowed are 0 to {MOST}: ask for another rate or uniform"
            )
    return shares
