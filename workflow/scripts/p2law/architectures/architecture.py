"""The architectures that are known, by ``model_type``. To add one is to declare it and list it."""

from p2law.architectures import decoders
from p2law.architectures.declaration import Architecture, Axes, Config
from p2law.architectures.mamba import MAMBA
from p2law.errors import UserError

__all__ = ["ARCHITECTURES", "Architecture", "Axes", "Config", "architecture_of"]

ARCHITECTURES = {
    architecture.model_type: architecture
    for architecture in (
        decoders.LLAMA,
        decoders.MISTRAL,
        decoders.QWEN2,
        decoders.QWEN3,
        decoders.OLMO2,
        MAMBA,
    )
}


def architecture_of(config: Config) -> Architecture:
    """The description that a config's ``model_type`` names; :class:`UserError` if there is none."""
    model_type = config.get("model_type")
    if model_type not in ARCHITECTURES:
        raise UserError(
            f"model_type {model_type!r} cannot be pruned; known: {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[model_type]
