"""What is trained: the summed token losses of a language model, in as few passes as possible.

torch's cross entropy keeps the log-probabilities and, backwards, fills a second tensor of the
logits' size with the gradient of the picked entries before it reads both: 13 % of a small
model's step on a CPU. The gradient of the summed loss is softmax - targets, so the softmax is all
that is made, and the loss is read from it. Where the vocabulary is large the head and its loss
are computed in chunks instead, and no tensor of all logits exists.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from p2law.training import chunked_head
from p2law.training.recipe import Distil


class _TokenLoss(torch.autograd.Function):
    """Sum of the cross entropies; its gradient is ready when the loss is."""

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, targets: Tensor) -> Tensor:
        gradient = torch.softmax(logits, dim=-1, dtype=torch.float32)
        picked = gradient.gather(1, targets[:, None])
        # A probability below fp32's smallest would count as infinitely many nats.
        loss = -picked.clamp_min(torch.finfo(torch.float32).tiny).log_().sum()
        gradient.scatter_add_(1, targets[:, None], torch.full_like(picked, -1.0))
        ctx.save_for_backward(gradient.to(logits.dtype))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        if upstream.is_cuda or upstream != 1.0:  # reading a GPU's number would wait for it
            gradient = gradient.mul_(upstream)
        return gradient, None


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Summed cross entropy in nats, fp32: logits [n, V] (any float type), targets [n] (int64).

    To be differentiated once: the gradient's memory is handed to the caller.
    """
    return _TokenLoss.apply(logits, targets)


def taught_loss(logits: Tensor, targets: Tensor, teacher: Tensor, how: Distil) -> Tensor:
    """Summed loss of a taught model: the text's cross entropy and the teacher's, by weight.

    ``teacher`` are the unpruned model's logits [n, V]; see :class:`recipe.Distil`.
    """
    loss = how.weight * how.temperature**2 * _soft(logits, teacher, how.temperature)
    if how.weight < 1.0:
        loss = loss + (1.0 - how.weight) * token_loss(logits, targets)
    return loss


def _soft(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Summed cross entropy of the two softmaxes at a temperature."""
    scaled, taught = (tensor.float() / temperature for tensor in (logits, teacher))
    return -(torch.softmax(taught, -1) * torch.log_softmax(scaled, -1)).sum()


class Objective(nn.Module):
    """A causal language model with its loss: rows [n, T + 1] -> summed nats of their targets.

    ``teacher`` is the unpruned model that the logits are drawn towards as ``distil`` says; without
    it the model trains on the text alone.
    """

    def __init__(
        self, model: nn.Module, teacher: nn.Module | None = None, distil: Distil | None = None
    ) -> None:
        super().__init__()
        assert (teacher is None) == (distil is None)
        self.model = model
        self.aside = (teacher,)  # in a tuple: no part of what is trained, sharded or saved
        self.distil = distil
        self.chunked = chunked_head(model.config.to_dict()) and teacher is None

    def forward(self, rows: Tensor) -> Tensor:
        inputs, targets = rows[:, :-1], rows[:, 1:].flatten()
        if self.chunked:
            hidden = self.model.base_model(input_ids=inputs, use_cache=False).last_hidden_state
            return nn.functional.linear_cross_entropy(
                hidden.flatten(0, 1),
                self.model.get_output_embeddings().weight.to(hidden.dtype),
                targets,
                reduction="sum",
                options=nn.LinearCrossEntropyOptions(),
            )
        logits = self.model(input_ids=inputs, use_cache=False).logits.flatten(0, 1)
        (teacher,) = self.aside
        if teacher is None:
            return token_loss(logits, targets)
        with torch.no_grad():
            taught = teacher(input_ids=inputs, use_cache=False).logits.flatten(0, 1)
        return taught_loss(logits, targets, taught, self.distil)
