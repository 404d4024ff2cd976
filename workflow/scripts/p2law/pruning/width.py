"""Width pruning: FFN neurons go, the same number in every block, by a score per unit.

Activation importance, Minitron 2407.14679: of the input of down_proj, the mean of |a| over the
sequence, then the L2 norm over windows.
"""

from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from p2law.pruning.calibration import Source

Scores = dict[str, list[torch.Tensor]]


def activation(source: Source, dimensions: list[str]) -> Scores:
    """Scores of every unit: ``{"ffn": [one tensor [ffn] a block]}``."""
    sums: Scores = {name: [] for name in dimensions}

    def watch(module: nn.Module, into: list[torch.Tensor]) -> Any:
        total = torch.zeros(module.in_features, dtype=torch.float64, device=module.weight.device)
        into.append(total)

        def hook(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            total.add_(inputs[0].abs().mean(dim=1).double().square().sum(dim=0))

        return module.register_forward_pre_hook(hook)

    with ExitStack() as hooks:
        for block in source.walk(lambda *_: None):
            hooks.callback(watch(block.get_submodule("mlp.down_proj"), sums["ffn"]).remove)
    return {name: [total.sqrt() for total in totals] for name, totals in sums.items()}


CRITERIA = {"activation": activation}


def kept_units(scores: torch.Tensor, width: int) -> torch.Tensor:
    """Indices of the ``width`` units of highest score, ascending; ties go to the earlier."""
    order = torch.argsort(scores, descending=True, stable=True)
    return order[:width].sort().values.cpu()
