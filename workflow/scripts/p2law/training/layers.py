"""The decoder layers of a transformers model: found, frozen, compiled, recomputed."""

from typing import TYPE_CHECKING

from torch import nn

from p2law.architectures.architecture import architecture_of
from p2law.errors import UserError
from p2law.training.recipe import LastLayers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def of(model: "PreTrainedModel") -> list[nn.Module]:
    """A model's decoder layers in order, as its architecture's declaration names them."""
    blocks = model.get_submodule(architecture_of(model.config.to_dict()).blocks)
    assert isinstance(blocks, nn.ModuleList)
    return list(blocks)


def freeze(model: "PreTrainedModel", asked: LastLayers | None) -> None:
    """Leave only the asked layers trainable; None leaves all.

    A head that is tied to the embeddings trains them with it. Raises :class:`UserError` where the
    model has fewer layers.
    """
    if asked is None:
        return
    found = of(model)
    if not 0 < asked.last <= len(found):
        raise UserError(f"train.layers.last: {asked.last}; the model has {len(found)} layers")
    model.requires_grad_(False)
    head = [model.get_output_embeddings()] if asked.head else []
    for module in (*found[-asked.last :], *head):
        module.requires_grad_(True)


def prepare(model: "PreTrainedModel", *, compiled: bool, recomputed: bool) -> None:
    """Compile each layer, and recompute activations in the backward pass, where asked for."""
    if recomputed:
        model.activation_checkpointing_enable()
    if compiled:
        for layer in of(model):
            layer.compile()
