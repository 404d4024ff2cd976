"""One-shot weight pruning, block by block.

Each block sees inputs that came through the blocks already pruned; its layers' inputs are
measured before any of its own weights change. Mask and weights are chosen independently.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from p2law.checkpoints import products
from p2law.errors import UserError
from p2law.pruning import layer as one_layer
from p2law.pruning import shapes
from p2law.pruning.blocks import Blocks
from p2law.pruning.calibration import Source, States
from p2law.pruning.curvature import Curvature
from p2law.pruning.layer import Problem
from p2law.pruning.layer_rates import block_shares
from p2law.pruning.statistics import Collector, Statistics
from p2law.pruning.store import Writer, stored_as
from p2law.pruning.variant import Variant

ALREADY = 0.01
"""Share of exact zeros in a linear layer from which a checkpoint counts as pruned already."""


@dataclass
class OneShot:
    """A method's complete settings on one model; ``source`` is None when nothing is measured."""

    blocks: Blocks
    settings: Mapping[str, Any]
    source: Source | None
    layers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The layers to prune, by shared input: those that an n:m pattern divides."""
        pattern = shapes.pattern_of(self.settings["pattern"])
        return self.blocks.arch.divisible(self.blocks.config, pattern[1] if pattern else 1)

    def prune(self, share: float, variant: Variant) -> dict[str, Any]:
        """Prune ``share`` of the linear weights; write blocks and ``masks.safetensors``.

        Returns the zeros counted in the masks, each block's share of them and, where text was
        read, its squared output error relative to its output before, on inputs through the
        pruned blocks; where weights were compensated, each layer's error before and after; where
        a pattern does not divide a layer's inputs, the names of the layers left dense.
        """
        linear = [f"{name}.weight" for group in self.groups for name in group]
        prefix = self.blocks.prefix
        inside = [prefix(i) + name for i in range(len(self.blocks)) for name in linear]
        plan = {name: ("U8", self.blocks.reader.shapes[name]) for name in inside}
        writer = Writer(variant.folder, plan, "masks", shard_bytes=float("inf"))
        shares = block_shares(self.settings["layer_rates"], self.blocks, self.source, share)
        states = dense = None
        if self.source:
            states, dense = self.source.embedded(copies=2), self.source.states(copies=2)
        variant.outer_first()
        zeros, errors = [], []
        for i in range(len(self.blocks)):
            with self.blocks.block(i) as block:
                kept = self._prune_block(i, block, shares[i], states, dense)
                if self.source and states and dense:
                    errors.append(_pass_on(self.source, i, block, states, dense))
                variant.block(i, weights={name: block.get_parameter(name) for name in linear})
            for name in linear:
                writer.add(prefix(i) + name, kept[name].to(torch.uint8))
            zeros.append(sum(int((~mask).sum()) for mask in kept.values()))
        variant.outer_last()
        measured: dict[str, Any] = {"block_error": errors} if self.source else {}
        measured |= {"layer_error": self.layers} if self.layers else {}
        dense_layers = [n for n in self.blocks.arch.linear_weights() if n not in linear]
        measured |= {"left_dense": dense_layers} if dense_layers else {}
        files = writer.close()
        return {"zeros": sum(zeros), "block_zeros": zeros, "mask_files": files, **measured}

    def _prune_block(
        self, i: int, block: nn.Module, share: float, states: States | None, dense: States | None
    ) -> dict[str, torch.Tensor]:
        """Prune one block's linear layers in place; masks by weight name."""
        groups, of = self.groups, {}
        if self.source and states:
            gram = one_layer.needs_curvature(self.settings)
            fed_by, where = self.blocks.arch.fed_by, self.blocks.prefix(i)
            with Collector(block, groups, gram, fed_by=fed_by, where=where) as collector:
                self.source.through(block, i, states, dense)
            of = collector.of
        kept: dict[str, torch.Tensor] = {}
        with products.exact(self.blocks.device):
            for group in groups:
                kept |= self._prune_group(i, block, group, of.pop(group[0], None), share)
                for name in group[1:]:
                    of.pop(name, None)
        return kept

    def _prune_group(
        self,
        i: int,
        block: nn.Module,
        group: tuple[str, ...],
        inputs: Statistics | None,
        share: float,
    ) -> dict[str, torch.Tensor]:
        """Prune the layers that share one input together; masks by weight name."""
        where = f"{self.blocks.prefix(i)}{group[0]}"
        weights: list[torch.Tensor] = [block.get_parameter(f"{name}.weight") for name in group]
        for name, weight in zip(group, weights, strict=True):
            _refuse_pruned(weight, f"{self.blocks.prefix(i)}{name}")
        W, curvature = torch.cat(weights), None
        rule = one_layer.make_rule(self.settings, share, tuple(len(w) for w in weights))
        if one_layer.needs_curvature(self.settings):
            assert inputs is not None
            curvature = Curvature(inputs.hessian(), self.settings["damp"], where)
        problem = Problem(W, inputs, curvature, rule)
        V, kept = one_layer.prune_layer(problem, self.settings)
        if curvature:
            self._report(i, group, problem, V, kept)
        for name, part in zip(group, V.split(rule.rows), strict=True):
            # What follows sees the weights as they will be stored.
            full = f"{self.blocks.prefix(i)}{name}"
            stored = stored_as(part, self.blocks.reader.dtypes[f"{full}.weight"], full)
            block.get_submodule(name).weight.data = stored.float()
        named = zip(group, kept.split(rule.rows), strict=True)
        return {f"{name}.weight": mask for name, mask in named}

    def _report(
        self, i: int, group: tuple[str, ...], p: Problem, V: torch.Tensor, kept: torch.Tensor
    ) -> None:
        masked, final = one_layer.relative_errors(p, p.W * kept, V)
        for name, before, after in zip(group, masked, final, strict=True):
            self.layers.append(
                {
                    "layer": f"{self.blocks.prefix(i)}{name}",
                    "masked": before,
                    "compensated": after,
                    "damp": p.curvature.damp if p.curvature else None,
                }
            )


def _pass_on(source: Source, i: int, block: nn.Module, states: States, dense: States) -> float:
    """Run the pruned block over ``states`` in place; its squared error relative to ``dense``."""
    lost = whole = 0.0

    def see(batch: int, _: torch.Tensor, y: torch.Tensor) -> None:
        nonlocal lost, whole
        before = dense[batch].to(y.device)
        lost += float((y - before).square().sum(dtype=torch.float64))
        whole += float(before.square().sum(dtype=torch.float64))

    source.through(block, i, states, states, see)
    return lost / whole


def _refuse_pruned(W: torch.Tensor, where: str) -> None:
    share = 1 - int(torch.count_nonzero(W)) / W.numel()
    if share > ALREADY:
        raise UserError(
            f"{where}: {share:.1%} of its weights are zero already; weight pruning starts from a"
            " dense checkpoint"
        )
