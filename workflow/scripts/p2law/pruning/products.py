"""Which kernels multiply fp32 matrices, and how they round.

torch hands fp32 products to MKL, whose kernels run at half speed on AMD CPUs, unless it may round
their inputs ("medium"). That means TF32 on a GPU and bf16 on a CPU with AMX; on any other CPU with
AVX-512 it means oneDNN's kernels in plain fp32 (2.3 times MKL's speed on AMD Zen 5).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache

import torch


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
