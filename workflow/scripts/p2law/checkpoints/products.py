"""Which kernels multiply fp32 matrices on a CPU, and how products round.

torch hands fp32 products to MKL, which on a processor that is not Intel's uses its AVX2 kernels
and so half of an AVX-512 machine: 105 to 115 GFLOP/s of 255 on an AMD Zen 5 core. oneDNN, which the
same torch holds, asks the processor instead of its maker. There are two doors to it:

- :func:`by_onednn` for models that train or are evaluated: their linear layers call its operator,
  always in plain fp32. Small batches of small layers gain too (a training step of a model 40 wide
  takes 50 ms; MKL's 54; through the other door, where torch packs operands at each call, 106).
- :func:`fast` and :func:`exact` for the large products of pruning, whatever writes them: torch
  itself takes oneDNN once it may round their inputs ("medium"). That means TF32 on a GPU and bf16
  on a CPU with AMX, and plain fp32 on any other CPU with AVX-512.

Sums are ordered otherwise than MKL's, always the same on one machine: whoever uses this makes other
bits than who does not. Measured in benchmarks/train_speed.py and prune_layer.py.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
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

    ``other`` may be a transposed view, which is read as it lies; one that is copied first, as is a
    part of wider rows, for which oneDNN has only its reference kernel (a thousand times slower).
    """
    if not (other.is_contiguous() or other.t().is_contiguous()):
        other = other.contiguous()
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


@contextmanager
def _precision(name: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def fast() -> AbstractContextManager[None]:
    """For forward passes and X^T X: inputs rounded to 8 bits move H far less than its damping."""
    return _precision("medium")


def exact(device: torch.device) -> AbstractContextManager[None]:
    """For solvers: never less than fp32, and still the faster kernels where they round nothing."""
    return _precision("medium" if device.type == "cpu" and _rounds_nothing() else "highest")


@cache
def _rounds_nothing() -> bool:
    """Whether this CPU's fast products are as accurate as fp32: tried, since flags mislead."""
    a = torch.linspace(-1, 1, 256 * 256).sin().reshape(256, 256)
    with fast():
        product = a @ a.T
    error = (product.double() - a.double() @ a.double().T).norm() / product.double().norm()
    return float(error) < 1e-5  # fp32 gives 1e-7, bf16 inputs 1e-3
