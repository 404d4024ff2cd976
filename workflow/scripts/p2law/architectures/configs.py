"""Configs of changed models: fewer blocks, other widths, in a form that Hugging Face loads."""

from collections.abc import Iterable
from typing import Any

from p2law.architectures.architecture import ARCHITECTURES, architecture_of
from p2law.architectures.declaration import Config
from p2law.errors import UserError


def with_layers(config: Config, kept: Iterable[int]) -> dict[str, Any]:
    """The config with only the blocks ``kept`` (indices in order), per-layer lists sliced."""
    kept = list(kept)
    layers = config["num_hidden_layers"]
    shape = {**config, "num_hidden_layers": len(kept)}
    for key, value in config.items():
        if isinstance(value, list) and len(value) == layers and key.startswith("layer"):
            shape[key] = [value[i] for i in kept]
    return shape


def loadable(config: Config) -> dict[str, Any]:
    """The same shape as a config that Hugging Face loads.

    A Llama whose hidden size is no multiple of its heads is refused by transformers and is written
    as its ``uneven`` twin, Mistral without a sliding window: same tensors, same logits. Raises
    :class:`UserError` when its biases rule that out, or when ``head_dim`` is odd (rotary embeddings
    pair channels).
    """
    architecture = architecture_of(config)
    head_dim = architecture.sizes(config).get("head", 2)
    if head_dim % 2:
        raise UserError(f"head_dim {head_dim}: rotary embeddings need an even number")
    hidden, heads = config["hidden_size"], config.get("num_attention_heads", 1)
    if architecture.uneven is None or hidden % heads == 0:
        return dict(config)
    twin = ARCHITECTURES[architecture.uneven]
    biased = sorted({flag for _, flag in architecture.optional.values() if config.get(flag)})
    if biased:
        raise UserError(
            f"hidden size {hidden} with {heads} heads: Hugging Face refuses such a Llama, and"
            f" Mistral, which would take it, has no {' or '.join(biased)}"
        )
    lost = architecture.settings.known - twin.settings.known
    # Said, since a key left out means another number of heads there.
    shape = {"num_key_value_heads": heads} | {k: v for k, v in config.items() if k not in lost}
    shape |= {"model_type": twin.model_type, "architectures": [twin.model_class]}
    return shape | {"sliding_window": None}
