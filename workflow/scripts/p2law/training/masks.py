"""Kept masks: weights that pruning set to zero and that post-training leaves at zero.

A masked weight trains dense: its gradient is masked before the norm is taken (so that clipping
sees only what is trained), which leaves its moments and its AdamW update at zero; the weight is
masked again after the step, so that nothing that reads weights ever sees a dropped one.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from p2law.errors import UserError
from p2law.training import parallel


class Masks:
    """The masked parameters of a model with their masks, on the parameters' device.

    ``masks`` maps state-dict names to uint8 tensors of the weight's shape, 1 = kept. Raises
    :class:`UserError` for a name or shape that the model does not have.
    """

    def __init__(self, model: nn.Module, masks: Mapping[str, Tensor]) -> None:
        parameters = dict(model.named_parameters())
        self.kept: dict[str, Tensor] = {}
        self.weights: list[nn.Parameter] = []
        for name, mask in masks.items():
            weight = parameters.get(name)
            if weight is None or weight.shape != mask.shape:
                found = "no such weight" if weight is None else f"shape {tuple(weight.shape)}"
                raise UserError(
                    f"masks.safetensors: {name} has shape {tuple(mask.shape)}, the model {found}"
                )
            self.kept[name] = parallel.like(mask.to(weight.dtype), weight)
            self.weights.append(weight)

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Zero the gradients of dropped weights; to be called before clipping."""
        for weight, kept in zip(self.weights, self.kept.values(), strict=True):
            if weight.grad is not None:
                weight.grad.mul_(kept)

    @torch.no_grad()
    def mask_weights(self) -> None:
        """Zero the dropped weights; to be called after the optimizer's step."""
        if self.weights:
            torch._foreach_mul_(self.weights, list(self.kept.values()))

    @torch.no_grad()
    def check(self, optimizer: torch.optim.Optimizer) -> None:
        """Raise :class:`AssertionError` if a dropped weight or one of its moments is not zero."""
        for (name, kept), weight in zip(self.kept.items(), self.weights, strict=True):
            moments = optimizer.state.get(weight, {})
            for what, tensor in {"weight": weight, **moments}.items():
                if what == "step":
                    continue
                if torch.any(parallel.local(tensor)[parallel.local(kept) == 0] != 0):
                    raise AssertionError(f"{name}: {what} is not zero where its mask is")
