"""Counting parameters: N0 and N of the law are measured here, never computed from a config."""

from collections.abc import Mapping

import torch

EMBEDDINGS = ("embed_tokens.weight", "embeddings.weight", "embed_in.weight", "wte.weight")
HEADS = ("lm_head.weight", "embed_out.weight", "wpe.weight")


def count(
    model: torch.nn.Module | Mapping[str, torch.Tensor],
    masks: Mapping[str, torch.Tensor] | None = None,
) -> dict[str, int]:
    """Parameters of a model or a state dict: total, embedding, nonembedding, nonzero.

    Tied weights count once. ``embedding`` holds the token (and learnt position) embeddings and
    the output head. ``nonzero`` is what pruning left: the ones of its mask for a weight that
    has one, every entry of all others. Values are not looked at: a parameter that happens to be
    zero (0.2 % of a checkpoint read from GGUF are) is still one.
    """
    # named_parameters() gives tied parameters once.
    if isinstance(model, torch.nn.Module):
        named: dict[str, torch.Tensor] = dict(model.named_parameters())
    else:
        named = _untied(model)
    masks = masks or {}
    if unknown := sorted(set(masks) - set(named)):
        raise ValueError(f"masks of weights that the model does not hold: {unknown[:4]}")
    for name, mask in masks.items():
        if mask.shape != named[name].shape:
            raise ValueError(f"mask of {name}: shape {tuple(mask.shape)} is not the weight's")
    total = sum(weight.numel() for weight in named.values())
    embedding = sum(w.numel() for name, w in named.items() if name.endswith(EMBEDDINGS + HEADS))
    removed = sum(mask.numel() - int(torch.count_nonzero(mask)) for mask in masks.values())
    return {
        "total": total,
        "embedding": embedding,
        "nonembedding": total - embedding,
        "nonzero": total - removed,
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
