"""What calibration tells about a linear layer's input: X^T X, or only its diagonal."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from p2law.errors import UserError

PANELS = 4


class Statistics:
    """Sums over all tokens of one linear layer's input X ``[tokens, in]``.

    ``gram`` asks for X^T X ``[in, in]``; without it only sums of squares and of values. fp32
    products, accumulated in fp32 (fp64 for fp64 inputs). Feed with :meth:`add`.
    """

    def __init__(self, width: int, gram: bool, device: Any, dtype: torch.dtype) -> None:
        self.tokens = 0
        self.sums = torch.zeros(width, dtype=torch.float64, device=device)
        self._squares = torch.zeros(width, dtype=torch.float64, device=device)
        self._gram = torch.zeros(width, width, dtype=dtype, device=device) if gram else None

    def add(self, x: torch.Tensor) -> None:
        """Count the rows of ``x [..., in]`` in."""
        x = x.reshape(-1, x.shape[-1])
        self.tokens += len(x)
        self.sums += x.sum(dim=0)
        if self._gram is None:
            self._squares += x.square().sum(dim=0)
            return
        # Only the panels on and above the diagonal: X^T X is symmetric.
        width = x.shape[1]
        step = -(-width // PANELS)
        for start in range(0, width, step):
            panel = x[:, start : start + step]
            self._gram[start : start + step, start:] += panel.T @ x[:, start:]

    @property
    def squares(self) -> torch.Tensor:
        """Sum of x_j^2 of every input j: fp64 ``[in]``."""
        return self._squares if self._gram is None else self._gram.diagonal().double()

    def norms(self) -> torch.Tensor:
        """||X_j|| of every input j, divided by sqrt(tokens): fp64 ``[in]``."""
        return (self.squares / self.tokens).sqrt()

    def hessian(self) -> torch.Tensor:
        """H = 2/n X^T X ``[in, in]``, undamped, n tokens."""
        assert self._gram is not None, "these statistics were collected without X^T X"
        upper = self._gram.triu()
        return (upper + upper.triu(1).T) * (2 / self.tokens)


class Collector:
    """Hooks that gather :class:`Statistics` of a block's inputs while it runs.

    ``groups`` name linear layers that share one input; its statistics are gathered once, under
    each of their names. ``fed_by`` is the architecture's: layers that are never called, and whose
    first outputs they read. Use as a context manager: on leaving it raises :class:`UserError` for
    a layer that saw no token, since nothing can be said of its weights then; ``where`` is the
    start of the layers' names.
    """

    def __init__(
        self,
        block: nn.Module,
        groups: tuple[tuple[str, ...], ...],
        gram: bool,
        *,
        fed_by: Mapping[str, str] = MappingProxyType({}),
        where: str = "",
    ) -> None:
        self.of: dict[str, Statistics] = {}
        self._handles = []
        self._where = where
        for group in groups:
            weight = block.get_parameter(f"{group[0]}.weight")
            into = Statistics(weight.shape[1], gram, weight.device, weight.dtype)
            self.of |= dict.fromkeys(group, into)
            self._handles.append(self._watch(block, group[0], into, fed_by))

    @staticmethod
    def _watch(block: nn.Module, name: str, into: Statistics, fed_by: Mapping[str, str]) -> Any:
        """Feed ``into`` whenever the block runs; the hook's handle."""
        if name not in fed_by:
            linear = block.get_submodule(name)
            return linear.register_forward_pre_hook(lambda _, inputs: into.add(inputs[0]))
        width, source = len(into.sums), block.get_submodule(fed_by[name])
        return source.register_forward_hook(lambda _, _x, output: into.add(output[..., :width]))

    def __enter__(self) -> "Collector":
        return self

    def __exit__(self, failed: Any, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()
        unseen = [name for name, inputs in self.of.items() if not inputs.tokens]
        if unseen and failed is None:
            raise UserError(
                f"{self._where}{unseen[0]}: saw no token on the calibration windows (the model uses"
                " its weight without calling it): its input is unknown, so it cannot be pruned"
            )
