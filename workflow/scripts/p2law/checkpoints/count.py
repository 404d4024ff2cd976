"""Counting parameters: N0 and N of the law are measured here, never computed from a config."""

from collections.abc import Mapping
from typing import Any

import torch

EMBEDDINGS = ("embed_tokens.weight", "embeddings.weight", "embed_in.weight", "wte.weight")
HEADS = ("lm_head.weight", "embed_out.weight", "wpe.weight")


def count(
    model: torch.nn.Module | Mapping[str, torch.Tensor],
    masks: Mapping[str, Any] | None = None,
) -> dict[str, int]:
    """Parameters of a model or a state dict: total, embedding, nonembedding, nonzero.

    Tied weights count once. ``embedding`` holds the token (and learnt position) embeddings and
    the output head. ``nonzero``: the ones of its mask for a weight that has one (a kept weight
    that happens to be zero is a parameter), entries other than zero for all others.
    """
    # named_parameters() gives tied parameters once.
    is_model = isinstance(model, torch.nn.Module)
    named = dict(model.named_parameters()) if is_model else _untied(model)
    masks = masks or {}
    if unknown := sorted(set(masks) - set(named)):
        raise ValueError(f"masks of weights that the model does not hold: {unknown[:4]}")
    total = sum(weight.numel() for weight in named.values())
    embedding = sum(w.numel() for name, w in named.items() if name.endswith(EMBEDDINGS + HEADS))
    nonzero = sum(int(torch.count_nonzero(masks.get(name, w))) for name, w in named.items())
    return {
        "total": total,
        "embedding": embedding,
        "nonembedding": total - embedding,
        "nonzero": nonzero,
    }


def _untied(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a state dict without second names of the same memory."""
    seen: set[tuple[int, tuple[int, ...]]] = set()
    kept = {}
    for name, weight in state.items():
        place = (weight.data_ptr(), tuple(weight.shape))
        if weight.numel() and place[0] and place in seen:
            continue
        seen.add(place)
        kept[name] = weight
    return kept
