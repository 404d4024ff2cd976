"""Width pruning: neurons, heads and channels go, by a score per unit.

Dimensions: ``ffn`` (neurons), ``groups`` (key-value heads with all their query heads),
``queries`` (the same number of query heads in each group), ``hidden`` (channels of the residual
stream, the same in all blocks). Hugging Face configs have one number for each, so every block keeps
the same number; which ones is ranked within the block.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from p2law.pruning.blocks import Blocks
from p2law.pruning.calibration import Source
from p2law.pruning.gradients import gradients
from p2law.pruning.statistics import Collector
from p2law.pruning.store import Writer
from p2law.pruning.variant import Index

DOWN, OUT = "mlp.down_proj", "self_attn.o_proj"


@dataclass
class Scores:
    """Importance, fp64: ``ffn`` [ffn] and ``heads`` [groups, queries] a block, ``hidden`` once."""

    ffn: dict[int, torch.Tensor] = field(default_factory=dict)
    heads: dict[int, torch.Tensor] = field(default_factory=dict)
    hidden: torch.Tensor | None = None


def head_counts(config: Mapping[str, Any]) -> tuple[int, int]:
    """Groups (key-value heads) and query heads per group."""
    heads = config["num_attention_heads"]
    groups = config.get("num_key_value_heads") or heads
    return groups, heads // groups


def activation(source: Source) -> Scores:
    """Minitron 2407.14679: mean |activation| over the sequence, then L2 over windows.

    FFN: input of down_proj. Heads: L2 over head_dim of the input of o_proj, first. Hidden: output
    of every norm over the residual width, summed over the norms.
    """
    blocks, scores = source.blocks, Scores()
    config, width = blocks.config, blocks.config["hidden_size"]
    counts = head_counts(config)
    norms: list[torch.Tensor] = []

    def accumulate(into: torch.Tensor, a: torch.Tensor) -> None:
        into.add_(a.abs().mean(dim=1).double().square().sum(dim=0))

    def zeros(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=blocks.device)

    def on_input(module: nn.Module, into: torch.Tensor, heads: bool) -> Any:
        def hook(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            x = inputs[0]
            accumulate(into, x.reshape(*x.shape[:2], *counts, -1).norm(dim=-1) if heads else x)

        return module.register_forward_pre_hook(hook)

    def on_norm(module: nn.Module) -> Any:
        norms.append(zeros(width))
        into = norms[-1]
        return module.register_forward_hook(lambda _m, _i, output: accumulate(into, output))

    with ExitStack() as hooks:
        for i, block in enumerate(source.walk(lambda *_: None)):
            scores.ffn[i] = zeros(config["intermediate_size"])
            scores.heads[i] = zeros(*counts)
            hooks.callback(on_input(block.get_submodule(DOWN), scores.ffn[i], False).remove)
            hooks.callback(on_input(block.get_submodule(OUT), scores.heads[i], True).remove)
            for name, axes in blocks.arch.block.items():
                if axes == ("hidden",) and name.endswith("norm.weight"):
                    norm = block.get_submodule(name.removesuffix(".weight"))
                    hooks.callback(on_norm(norm).remove)
    scores.ffn = {i: total.sqrt() for i, total in scores.ffn.items()}
    scores.heads = {i: total.sqrt() for i, total in scores.heads.items()}
    scores.hidden = torch.stack([total.sqrt() for total in norms]).sum(dim=0)
    return scores


def taylor(source: Source) -> Scores:
    """LLM-Pruner 2305.11627: sum of |w g| over all weights that go with a unit.

    Which those are is read off the axes of the architecture's table.
    """
    blocks, arch = source.blocks, source.blocks.arch
    sizes, scores = arch.sizes(blocks.config), Scores()
    groups, queries = head_counts(blocks.config)
    hidden = torch.zeros(sizes["hidden"], dtype=torch.float64, device=blocks.device)
    for i, named in gradients(source):
        axes = arch.outer_tensors(blocks.config)
        if i is not None:
            tensors = arch.block_tensors(blocks.config)
            axes = {blocks.prefix(i) + name: each for name, each in tensors.items()}
        along = _sums_along(named, axes)
        hidden += along["hidden"]
        if i is not None:
            scores.ffn[i] = along["ffn"]
            own = along["q"].reshape(groups, queries, -1).sum(dim=-1)
            shared = along["kv"].reshape(groups, -1).sum(dim=-1, keepdim=True)
            scores.heads[i] = own + shared / queries
    scores.hidden = hidden
    return scores


def _sums_along(
    named: Mapping[str, tuple[torch.Tensor, torch.Tensor]], axes: Mapping[str, tuple[str, ...]]
) -> dict[str, torch.Tensor]:
    """Sum of |w g| over everything but one axis, for each axis name, fp64."""
    sums: dict[str, torch.Tensor] = {}
    for name, (weight, gradient) in named.items():
        product = (weight * gradient).abs().double()
        for dim, axis in enumerate(axes[name]):
            others = [d for d in range(product.ndim) if d != dim]
            along = product.sum(dim=others) if others else product
            sums[axis] = sums.get(axis, 0) + along
    return sums


def flap(source: Source) -> Scores:
    """FLAP's score, 2312.11983: S_j = Var(X_j) ||W_:j||^2 on the inputs of down_proj and o_proj.

    Ranked within a block, where FLAP ranks over all of them; its bias is a choice of its own
    (:mod:`columns`). Hidden channels have no such input: they get no score.
    """
    blocks, scores = source.blocks, Scores()
    groups, queries = head_counts(blocks.config)
    states = source.embedded()
    for i in range(len(blocks)):
        with (
            blocks.block(i) as block,
            Collector(block, ((DOWN,), (OUT,)), gram=False) as collector,
        ):
            source.through(block, i, states, states)
            each = {}
            for name, inputs in collector.of.items():
                mean = inputs.sums / inputs.tokens
                variance = inputs.squares / inputs.tokens - mean.square()
                weight = block.get_submodule(name).weight.double()
                each[name] = variance * weight.square().sum(dim=0)
        scores.ffn[i] = each[DOWN]
        scores.heads[i] = each[OUT].reshape(groups, queries, -1).sum(dim=-1)
    return scores


CRITERIA: dict[str, Callable[[Source], Scores]] = {
    "activation": activation,
    "taylor": taylor,
    "flap": flap,
}


def kept_units(scores: torch.Tensor, width: int) -> torch.Tensor:
    """Indices of the ``width`` highest along the last axis, ascending; ties to the earlier."""
    order = torch.argsort(scores, dim=-1, descending=True, stable=True)
    return order[..., :width].sort(dim=-1).values.cpu()


def kept_indices(
    scores: Scores, i: int | None, config: Mapping[str, Any], head_dim: int, to: Mapping[str, int]
) -> dict[str, torch.Tensor]:
    """What stays along each axis of block i's tensors (of those outside the blocks for None).

    ``to`` gives the new width of every dimension pruned.
    """
    index = {}
    if "hidden" in to:
        assert scores.hidden is not None, "the settings refuse flap for hidden"
        index["hidden"] = kept_units(scores.hidden, to["hidden"])
    if i is None:
        return index
    if "ffn" in to:
        index["ffn"] = kept_units(scores.ffn[i], to["ffn"])
    if {"groups", "queries"} & to.keys():
        groups, queries = head_counts(config)
        every = torch.arange(groups * queries).reshape(groups, queries)
        stay = torch.arange(groups)
        if "groups" in to:
            stay = kept_units(scores.heads[i].sum(dim=1), to["groups"])
        heads = every[stay]
        if "queries" in to:
            heads = heads.gather(1, kept_units(scores.heads[i][stay], to["queries"]))
        within = torch.arange(head_dim)
        index["q"] = (heads.reshape(-1, 1) * head_dim + within).flatten()
        index["kv"] = (stay.reshape(-1, 1) * head_dim + within).flatten()
    return index


def kept_everywhere(
    scores: Scores, blocks: Blocks, to: Mapping[str, int]
) -> tuple[Index, list[Index]]:
    """What stays along each axis: of the tensors outside the blocks, and of every block's."""
    config, head_dim = blocks.config, blocks.arch.sizes(blocks.config)["head"]
    outside: Index = kept_indices(scores, None, config, head_dim, to)
    return outside, [kept_indices(scores, i, config, head_dim, to) for i in range(len(blocks))]


def write_kept(folder: Path, blocks: Blocks, outside: Index, inside: Sequence[Index]) -> list[str]:
    """Write which units stayed: ``kept.safetensors``, uint8 ``[size]``, 1 = kept; file names.

    Tensors are called as the axis, after its block's prefix where each block has its own.
    """
    sizes, kept = blocks.arch.sizes(blocks.config), dict(outside)
    for i, index in enumerate(inside):
        kept |= {f"{blocks.prefix(i)}{a}": at for a, at in index.items() if a not in outside}
    plan = {name: ("U8", (sizes[name.rpartition(".")[2]],)) for name in kept}
    writer = Writer(folder, plan, "kept", shard_bytes=float("inf"))
    for name, index in kept.items():
        mask = torch.zeros(plan[name][1], dtype=torch.uint8)
        mask[index] = 1
        writer.add(name, mask)
    return writer.close()
