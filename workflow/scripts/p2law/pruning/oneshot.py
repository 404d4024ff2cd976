"""One-shot weight pruning, block by block (pruning.md section 1).

Each block sees inputs that came through the blocks already pruned; its layers' inputs are
measured before any of its own weights change. Mask and weights are chosen independently.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from p2law.errors import UserError
from p2law.pruning import masks, names
from p2law.pruning.blocks import Blocks
from p2law.pruning.calibration import Source, States
from p2law.pruning.statistics import Collector, Statistics
from p2law.pruning.store import Writer
from p2law.pruning.variant import Variant

ALREADY = 0.01
"""Share of exact zeros in a linear layer from which a checkpoint counts as pruned already."""


@dataclass(frozen=True)
class OneShot:
    """A method's complete settings on one model; ``source`` is None when nothing is measured."""

    blocks: Blocks
    settings: Mapping[str, Any]
    source: Source | None

    def prune(self, share: float, variant: Variant) -> dict[str, Any]:
        """Prune ``share`` of the linear weights; write blocks and ``masks.safetensors``.

        Returns the zeros counted in the masks and, where text was read, each block's squared
        output error relative to its output before, on inputs through the pruned blocks.
        """
        linear, shapes = self.blocks.arch.linear_weights(), self.blocks.reader.shapes
        inside = [self.blocks.prefix(i) + name for i in range(len(self.blocks)) for name in linear]
        plan = {name: ("U8", shapes[name]) for name in inside}
        writer = Writer(variant.folder, plan, "masks", shard_bytes=float("inf"))
        states = dense = None
        if self.source:
            states, dense = self.source.embedded(copies=2), self.source.states(copies=2)
        variant.outer_first()
        zeros, errors = 0, []
        for i in range(len(self.blocks)):
            with self.blocks.block(i) as block:
                kept = self._prune_block(i, block, share, states, dense)
                if self.source and states and dense:
                    errors.append(_pass_on(self.source, i, block, states, dense))
                variant.block(i, weights={name: block.get_parameter(name) for name in linear})
            for name in linear:
                zeros += int((~kept[name]).sum())
                writer.add(self.blocks.prefix(i) + name, kept[name].to(torch.uint8))
        variant.outer_last()
        measured = {"block_error": errors} if self.source else {}
        return {"zeros": zeros, "mask_files": writer.close(), **measured}

    def _prune_block(
        self, i: int, block: nn.Module, share: float, states: States | None, dense: States | None
    ) -> dict[str, torch.Tensor]:
        """Prune one block's linear layers in place; masks by weight name."""
        groups, of = self.blocks.arch.inputs, {}
        if self.source and states:
            with Collector(block, groups, gram=False) as collector:
                self.source.through(block, i, states, dense)
            of = collector.of
        kept = {}
        for name in [name for group in groups for name in group]:
            layer = block.get_submodule(name)
            _refuse_pruned(layer.weight, f"{self.blocks.prefix(i)}{name}")
            mask = self._mask(layer.weight, of.get(name), share)
            layer.weight.data = layer.weight * mask
            kept[f"{name}.weight"] = mask
        return kept

    def _mask(self, W: torch.Tensor, inputs: Statistics | None, share: float) -> torch.Tensor:
        pattern = names.pattern_of(self.settings["pattern"])
        score = masks.SCORES[self.settings["mask"]](W, inputs)
        return masks.select(score, pattern, share, self.settings["scope"])


def needs_calibration(settings: Mapping[str, Any]) -> bool:
    """Whether any choice looks at activations; magnitude alone reads no text."""
    return settings["mask"] != "magnitude" or settings["weights"] != "keep"


def _pass_on(source: Source, i: int, block: nn.Module, states: States, dense: States) -> float:
    """Run the pruned block over ``states`` in place; its squared error relative to ``dense``."""
    lost = whole = 0.0

    def see(batch: int, _: torch.Tensor, y: torch.Tensor) -> None:
        nonlocal lost, whole
        before = dense[batch].to(y.device)
        lost += float((y - before).double().square().sum())
        whole += float(before.double().square().sum())

    source.through(block, i, states, states, see)
    return lost / whole


def _refuse_pruned(W: torch.Tensor, where: str) -> None:
    share = 1 - int(torch.count_nonzero(W)) / W.numel()
    if share > ALREADY:
        raise UserError(
            f"{where}: {share:.1%} of its weights are zero already; weight pruning starts from a"
            " dense checkpoint"
        )
