"""What share each block loses, given the mean: uniform, OWL, AlphaPruning."""

import math
from collections.abc import Callable

import torch

from p2law.errors import UserError
from p2law.pruning.blocks import Blocks
from p2law.pruning.calibration import Source
from p2law.pruning.curvature import one_thread
from p2law.pruning.statistics import Collector

OWL_SPREAD, OWL_TIMES = 0.08, 5.0
ALPHA_SPREAD = 0.3
BINS, NEAR_PEAK = 100, (0.95, 1.5)
MOST = 0.99


def uniform(blocks: Blocks, _: Source | None, share: float) -> list[float]:
    """The same share in every block."""
    return [share] * len(blocks)


def owl(blocks: Blocks, source: Source | None, share: float) -> list[float]:
    """OWL 2310.05175: blocks with more outliers among |W| ||X|| keep more.

    An outlier is ``OWL_TIMES`` above the block's mean; outlier shares are stretched to a range of
    2 x ``OWL_SPREAD`` and centred on the asked mean. Measured on the unpruned model.
    """
    assert source is not None
    outliers = []
    states = source.embedded()
    for i in range(len(blocks)):
        with blocks.block(i) as block:
            arch, where = blocks.arch, blocks.prefix(i)
            with Collector(block, arch.inputs, False, fed_by=arch.fed_by, where=where) as collector:
                source.through(block, i, states, states)
            scores = [
                (block.get_parameter(f"{name}.weight").abs() * inputs.norms().float()).flatten()
                for name, inputs in collector.of.items()
            ]
            score = torch.cat(scores)
            outliers.append(float((score > OWL_TIMES * score.mean()).double().mean()))
    keep = _stretched(outliers, 2 * OWL_SPREAD)
    mean = sum(keep) / len(keep)
    return [share - (k - mean) for k in keep]


def alpha(blocks: Blocks, _: Source | None, share: float) -> list[float]:
    """AlphaPruning 2410.10912: blocks whose spectra have lighter tails (larger exponent) lose more.

    The block mean of the layers' exponents (:func:`hill_exponent` of W W^T) maps linearly to
    1 -+ ``ALPHA_SPREAD`` and is rescaled to the asked mean. Reads weights only.
    """
    exponents = []
    for i in range(len(blocks)):
        names = [blocks.prefix(i) + name for name in blocks.arch.linear_weights()]
        weights = blocks.reader.read(names).values()
        with one_thread():
            each = [hill_exponent(spectrum(w)) for w in weights]
        exponents.append(sum(each) / len(each))
    factors = [1 - ALPHA_SPREAD + x for x in _stretched(exponents, 2 * ALPHA_SPREAD)]
    mean = sum(factors) / len(factors)
    return [share * factor / mean for factor in factors]


def spectrum(W: torch.Tensor) -> torch.Tensor:
    """Squared singular values of W, ascending, fp64, less those that are zero to rounding."""
    W = W.double() if W.shape[0] <= W.shape[1] else W.double().T
    values = torch.linalg.eigvalsh(W @ W.T)  # 7 times faster than singular values
    return values[values > values[-1] * len(values) * torch.finfo(torch.float64).eps]


def hill_exponent(eigenvalues: torch.Tensor) -> float:
    """Power-law exponent of the tail of a spectrum (ascending), by Hill's estimator.

    1 + k / sum log(lambda_i / lambda_min) over the k eigenvalues from lambda_min on, which is
    aligned with the spectrum's peak ("fix-finger", 2410.10912): the peak is the left edge of the
    fullest of ``BINS`` equal bins of log lambda; of the eigenvalues .95 to 1.5 times as large,
    lambda_min is the one whose fitted tail is nearest the found one (Kolmogorov-Smirnov).
    """
    logs = eigenvalues.log()
    low, high = float(logs[0]), float(logs[-1])
    peak = low + int(torch.histc(logs, BINS).argmax()) * (high - low) / BINS
    first, last = (int((logs < peak + math.log(near)).sum()) for near in NEAR_PEAK)
    best = (math.inf, math.inf)
    end = max(len(logs) - 1, 1)  # the largest alone is no tail
    first = min(first, end - 1)
    for i in range(first, min(max(last, first + 1), end)):
        above = logs[i:] - logs[i]
        exponent = 1 + len(above) / max(float(above.sum()), 1e-12)
        below = torch.arange(len(above), dtype=torch.float64) / len(above)
        distance = (1 - ((1 - exponent) * above).exp() - below).abs().max()
        best = min(best, (float(distance), exponent))
    return best[1]


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
