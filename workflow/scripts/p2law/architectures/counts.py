"""Parameter counts of a model, from its Hugging Face config alone. Imports no torch."""

import math
from collections.abc import Mapping
from typing import Any

from p2law.architectures.architecture import architecture_of
from p2law.architectures.declaration import Architecture, Axes, Config


def _elements(tensors: Mapping[str, Axes], sizes: Mapping[str, int]) -> int:
    return sum(math.prod(sizes[axis] for axis in axes) for axes in tensors.values())


def parameters(config: Config) -> dict[str, Any]:
    """Parameter counts by part of the model that a config describes.

    ``total`` counts each parameter once; ``embedding`` is the token embedding and an untied
    ``lm_head`` (also given alone; 0 when ``tied``); ``nonembedding`` the rest. ``layer`` holds one
    block's ``total``, its ``linear`` weights (those that weight pruning may zero) and its parts
    (``attention``, ``ffn``, ``norms``; a Mamba block has ``mixer``). ``linear`` sums all blocks.
    Raises :class:`UserError` for an architecture without a description.
    """
    arch = architecture_of(config)
    sizes = arch.sizes(config)
    layers = config["num_hidden_layers"]
    block, outer = arch.block_tensors(config), arch.outer_tensors(config)
    head = _elements({k: v for k, v in outer.items() if k == f"{arch.head}.weight"}, sizes)
    embedding = sizes["vocab"] * sizes["hidden"] + head
    linear = _elements({name: block[name] for name in arch.linear_weights()}, sizes)
    layer = {"total": _elements(block, sizes), "linear": linear, **_parts(arch, block, sizes)}
    total = _elements(outer, sizes) + layers * layer["total"]
    return {
        "total": total,
        "embedding": embedding,
        "nonembedding": total - embedding,
        "lm_head": head,
        "final_norm": sizes["hidden"],
        "tied": arch.tied(config),
        "layers": layers,
        "layer": layer,
        "linear": layers * linear,
    }


def _parts(
    arch: Architecture, block: Mapping[str, Axes], sizes: Mapping[str, int]
) -> dict[str, int]:
    parts = {"norms": 0}
    for name, axes in block.items():
        part = arch.parts.get(name.split(".")[0], "norms")
        parts[part] = parts.get(part, 0) + _elements({name: axes}, sizes)
    return parts
