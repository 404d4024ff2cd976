"""The decoder layers of a transformers model: found, frozen, compiled, recomputed."""

from torch import nn

from p2law.errors import UserError
from p2law.training.recipe import LastLayers


def of(model: nn.Module) -> list[nn.Module]:
    """A model's decoder layers in order: the modules that its class says must not be split."""
    names = set(model._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in names]


def freeze(model: nn.Module, asked: LastLayers | None) -> None:
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


def prepare(model: nn.Module, *, compiled: bool, recomputed: bool) -> None:
    """Compile each layer, and recompute activations in the backward pass, where asked for."""
    if recomputed:
        model.activation_checkpointing_enable()
    if compiled:
        for layer in of(model):
            layer.compile()
