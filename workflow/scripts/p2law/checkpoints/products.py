"""The matrix products of a model's linear layers by oneDNN instead of MKL, on a CPU in fp32.

torch hands fp32 products to MKL, which on a processor that is not Intel's uses its AVX2 kernels
and so half of an AVX-512 machine: 115 GFLOP/s of 255 on an AMD Zen 5 core. oneDNN, which the
same torch holds, asks the processor instead of its maker. Products are rounded in another order
than MKL's, always the same on one machine; so whoever uses this makes other bits than who does
not. Measured in benchmarks/train_speed.py.
"""

from types import MethodType

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable


def by_onednn(model: nn.Module) -> nn.Module:
    """Send a model's fp32 linear layers on the CPU through oneDNN; returns the model.

    Layers that other code calls otherwise than by ``module(x)`` are not seen. bf16 autocast is
    left to torch, which takes oneDNN itself.
    """
    if torch.backends.mkldnn.is_available():
        for module in model.modules():
            if type(module) is nn.Linear and _plain(module.weight):
                module.forward = MethodType(_forward, module)
    return model


def _plain(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32


def _forward(self: nn.Linear, x: Tensor) -> Tensor:
    if torch.is_autocast_enabled("cpu"):
        return nn.functional.linear(x, self.weight, self.bias)
    return _Linear.apply(x, self.weight, self.bias)


def product(one: Tensor, other: Tensor, bias: Tensor | None = None) -> Tensor:
    """``one @ other.T + bias`` [..., n] for one [..., k] and other [n, k], fp32.

    ``other`` may be a transposed view, which is read as it lies; one that is copied first.
    """
    return torch.ops.mkldnn._linear_pointwise(one, other, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    """y = x W^T + b; for the gradient G of y: G W, G^T x and the sum of G."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        rows = upstream.flatten(0, -2)
        return (
            product(upstream, weight.t()) if for_x else None,
            _outer(rows, x.flatten(0, -2)) if for_weight else None,
            rows.sum(0) if for_bias else None,
        )


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """``left.T @ right``; the narrower of the two is the one that has to be turned in memory."""
    if left.shape[1] <= right.shape[1]:
        return product(left.t(), right.t())
    return product(right.t(), left.t()).t().contiguous()
