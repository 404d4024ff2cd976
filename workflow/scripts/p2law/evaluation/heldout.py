"""The held-out loss: mean nats per token of the same rows for every model, row by row.

Cross entropy in fp32, one sum a row, sums over rows in float64, every target once, the training
length, plain causal attention. Rows are drawn over the whole validation split (``order(rows, 0)``),
since its start would be a few documents. Row sums are kept: a paired difference between two
models, and any bootstrap, needs them and no rerun.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from p2law.corpus.packed import Packed, order
from p2law.errors import UserError


@dataclass(frozen=True)
class Rows:
    """The rows on which every model of a study is evaluated.

    tokens   int64 [n, T + 1]
    bytes    bytes of text that all their targets stand for
    sha256   of the tokens
    """

    tokens: np.ndarray
    bytes: int
    sha256: str

    @property
    def targets(self) -> int:
        """How many tokens are predicted."""
        return self.tokens.shape[0] * (self.tokens.shape[1] - 1)


def choose(corpus: Packed, tokens: int) -> Rows:
    """The evaluation rows of so many tokens. Raises :class:`UserError` where there are fewer."""
    T = corpus.sequence_length
    available, wanted = corpus.rows("validation"), tokens // T
    if not 0 < wanted <= available:
        raise UserError(
            f"evaluate.tokens: {tokens}; allowed are {T} to {available * T}, the whole rows of the"
            " validation split"
        )
    chosen = np.sort(order(available, 0)[:wanted])
    tokens_read = corpus.read("validation", chosen)
    sha256 = hashlib.sha256(tokens_read.astype("<u4").tobytes()).hexdigest()
    return Rows(tokens_read, int(corpus.row_bytes()[chosen].sum()), sha256)


@torch.inference_mode()
def row_losses(model: nn.Module, rows: Rows, batch_rows: int) -> np.ndarray:
    """Summed nats of each row's targets, float64 [n]; ``batch_rows`` rows at a time.

    The batch size moves the sums by fp32 rounding of the matrix products only.
    """
    device = next(model.parameters()).device
    sums = np.empty(len(rows.tokens), np.float64)
    for start in range(0, len(sums), batch_rows):
        batch = torch.from_numpy(rows.tokens[start : start + batch_rows]).to(device)
        logits = model(input_ids=batch[:, :-1], use_cache=False).logits
        losses = nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), batch[:, 1:].flatten(), reduction="none"
        )
        sums[start : start + batch_rows] = losses.view(len(batch), -1).double().sum(1).cpu()
    return sums


def summary(sums: np.ndarray, rows: Rows) -> dict[str, Any]:
    """Loss (nats per token), its standard error over rows, and bits per byte.

    Raises :class:`UserError` where the loss is not finite.
    """
    total = float(sums.sum())
    if not math.isfinite(total):
        raise UserError(f"the held-out loss is {total}: the checkpoint holds no usable weights")
    per_row = sums / (rows.targets / len(sums))
    spread = float(np.std(per_row, ddof=1)) if len(sums) > 1 else 0.0
    return {
        "loss": total / rows.targets,
        "loss_se": spread / math.sqrt(len(sums)),
        "bits_per_byte": total / math.log(2) / rows.bytes,
    }
