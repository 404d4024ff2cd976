"""What calibration tells about a linear layer's input: X^T X, or only its diagonal."""

from typing import Any

import torch
from torch import nn

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
        return (self.squares / max(1, self.tokens)).sqrt()

    def hessian(self) -> torch.Tensor:
        """H = 2/n X^T X ``[in, in]``, undamped, n tokens."""
        assert self._gram is not None, "these statistics were collected without X^T X"
        upper = self._gram.triu()
        return (upper + upper.triu(1).T) * (2 / max(1, self.tokens))


class Collector:
    """Hooks that gather :class:`Statistics` of a block's inputs while it runs.

    ``groups`` name linear layers that share one input; its statistics are gathered once, under
    each of their names. Use as a context manager.
    """

    def __init__(self, block: nn.Module, groups: tuple[tuple[str, ...], ...], gram: bool) -> None:
        self.of: dict[str, Statistics] = {}
        self._handles = []
        for group in groups:
            linear = block.get_submodule(group[0])
            weight = linear.weight
            statistics = Statistics(weight.shape[1], gram, weight.device, weight.dtype)
            self.of |= dict.fromkeys(group, statistics)

            def hook(_: Any, inputs: tuple[torch.Tensor], into: Statistics = statistics) -> None:
                into.add(inputs[0])

            self._handles.append(linear.register_forward_pre_hook(hook))

    def __enter__(self) -> "Collector":
        return self

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()
