"""Gradients of the calibration loss with one block resident at a time.

Forward once, keeping the hidden states between blocks; then backward block by block, running each
again on its kept input. Loss is the mean cross-entropy over all calibration tokens.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from p2law.pruning.calibration import Source, States

Weighted = Mapping[str, tuple[torch.Tensor, torch.Tensor]]


def boundaries(source: Source, extra: int = 0) -> list[States]:
    """Hidden states before every block and after the last: ``len(blocks) + 1`` sets.

    ``extra`` says how many more sets the caller will hold.
    """
    copies = len(source.blocks) + 1 + extra
    states = [source.embedded(copies)]
    for i in range(len(source.blocks)):
        states.append(source.states(copies))
        with source.blocks.block(i) as block:
            source.through(block, i, states[i], states[i + 1])
    return states


def gradients(source: Source) -> Iterator[tuple[int | None, Weighted]]:
    """Weights and their gradients: ``(block, {state-dict name: (weight, gradient)})``, fp32.

    Blocks come from the last to the first; then block None, all tensors outside the blocks
    together, since a tied matrix gathers the embedding's and the head's gradients.
    """
    blocks, arch = source.blocks, source.blocks.arch
    states = boundaries(source, extra=1)
    upstream, outer = _tail(source, states.pop())
    for i in reversed(range(len(blocks))):
        inputs = states.pop()
        with blocks.block(i) as block:
            block.requires_grad_(True)
            for b in range(len(inputs)):
                hidden = inputs[b].to(blocks.device).requires_grad_(True)
                blocks.run(block, i, hidden).backward(upstream[b].to(blocks.device))
                upstream[b] = _gradient(hidden)
            named = {
                blocks.prefix(i) + name: (parameter.detach(), _gradient(parameter))
                for name, parameter in block.named_parameters()
            }
            block.zero_grad(set_to_none=True)
            yield i, named
    name = f"{arch.embedding}.weight"
    weight = blocks.reader.read([name])[name].to(blocks.device, torch.float32)
    gradient = outer[name][1] if name in outer else torch.zeros_like(weight)
    for b, tokens in enumerate(source.calibration.batches()):
        at = source.calibration.tokens[tokens].flatten().to(blocks.device)
        gradient.index_add_(0, at, upstream[b].to(blocks.device).flatten(0, 1))
    yield None, outer | {name: (weight, gradient)}


def _tail(
    source: Source, last: States
) -> tuple[States, dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    """Gradient of the loss at the last hidden states, and of final norm and head."""
    blocks, arch = source.blocks, source.blocks.arch
    upstream = source.states(len(blocks) + 2)
    with blocks.tail() as tail:
        tail.requires_grad_(True)
        for b in range(len(last)):
            hidden = last[b].to(blocks.device).requires_grad_(True)
            token_losses(tail, hidden, source.targets(b)).backward()
            upstream[b] = _gradient(hidden) / source.calibration.tokens.numel()
        norm, head = (module.get_parameter("weight") for module in tail)
        tokens = source.calibration.tokens.numel()
        stored = arch.embedding if arch.tied(blocks.config) else arch.head
        named = {
            f"{arch.final_norm}.weight": (norm.detach(), _gradient(norm) / tokens),
            f"{stored}.weight": (head.detach(), _gradient(head) / tokens),
        }
        tail.zero_grad(set_to_none=True)
    return upstream, named


def _gradient(of: torch.Tensor) -> torch.Tensor:
    assert of.grad is not None, "everything that is run has a gradient"
    return of.grad


def token_losses(tail: nn.Module, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sum of the cross-entropies of all tokens of a batch, nats, window by window."""
    total = hidden.new_zeros(())
    for window, wanted in zip(hidden, targets, strict=True):
        total = total + cross_entropy(tail(window), wanted, reduction="sum")
    return total


@torch.no_grad()
def mean_loss(source: Source, last: States) -> float:
    """Mean cross-entropy over the calibration tokens from the last hidden states, nats."""
    total = 0.0
    with source.blocks.tail() as tail:
        for b in range(len(last)):
            hidden = last[b].to(source.blocks.device)
            total += float(token_losses(tail, hidden, source.targets(b)).double())
    return total / source.calibration.tokens.numel()
