"""Width pruning's kept columns, made up for those that went.

Neurons that go are input columns P of ``down_proj``, heads those of ``o_proj``. With K the columns
kept and H = 2/n X^T X of the layer's inputs,
    V_K = (W H)_:K (H_KK)^-1
minimises ||W X - V X_K||^2 over V: the optimum of :mod:`compensate` for one set that all rows
share, so that one factorisation serves them all. Damping draws V_K towards W_K, so the error is
never above that of W_K. A bias takes up what is left of the mean, b + (W - V) E[X] (FLAP's,
2312.11983); H is then that of the inputs about their mean, which makes V and b the optimum
together.

Blocks are made up in order, as in :mod:`oneshot`: each sees inputs that came through the narrower
blocks before it, and both its layers are measured before either changes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from p2law.architectures.architecture import Axes
from p2law.checkpoints import products
from p2law.pruning import compensate
from p2law.pruning.calibration import Source
from p2law.pruning.curvature import Curvature, one_thread
from p2law.pruning.statistics import Collector, Statistics
from p2law.pruning.store import stored_as
from p2law.pruning.variant import Index
from p2law.pruning.width import DOWN, OUT

LAYERS = {"ffn": DOWN, "q": OUT}
"""Axis that gets shorter -> the layer that reads it."""


class Settings(Protocol):
    """Of a method: ``weights`` keep, mrp or mrp-cg, ``bias`` keep or mean, ``damp``."""

    @property
    def weights(self) -> str: ...
    @property
    def bias(self) -> str: ...
    @property
    def damp(self) -> float: ...


def made_up(
    source: Source,
    settings: Settings,
    outside: Index,
    inside: Sequence[Index],
    errors: list[dict[str, Any]],
) -> Iterator[dict[str, torch.Tensor]]:
    """Of each block the tensors that change, by name, unpruned sizes, fp32; zeros in what goes.

    ``outside`` and ``inside`` are what stays along each axis, for all blocks and for each.
    ``errors`` gets a row a layer: its squared output error relative to its output, with the kept
    columns as they were and as they are made up.
    """
    blocks, states = source.blocks, source.embedded()
    axes = blocks.arch.block_tensors(blocks.config)
    for b in range(len(states)):
        states[b] = _only(states[b], ("batch", "token", "hidden"), outside)
    for i, index in enumerate(inside):
        names = tuple((LAYERS[axis],) for axis in LAYERS if axis in index)
        with blocks.block(i) as block:
            _narrow(block, axes, outside)
            gram, where = settings.weights != "keep", blocks.prefix(i)
            with Collector(block, names, gram, where=where) as collector:
                source.through(block, i, states, None)
            changed: dict[str, torch.Tensor] = {}
            for axis, name in LAYERS.items():
                if axis in index:
                    layer = Layer(block.get_submodule(name), where + name)
                    made = layer.made_up(collector.of.pop(name), index[axis], settings, errors)
                    changed |= {f"{name}.{kind}": tensor for kind, tensor in made.items()}
            _narrow(block, axes, {k: v for k, v in index.items() if k not in outside})
            for name, tensor in changed.items():
                # What follows sees the weights as they will be stored.
                stored = stored_as(tensor, blocks.reader.dtypes[where + name], where + name)
                block.get_parameter(name).data = stored.float()
            source.through(block, i, states, states)
        yield changed


def _narrow(block: nn.Module, axes: Mapping[str, Axes], index: Index) -> None:
    """Make a block compute, at its full size, what it will with only ``index`` of each axis.

    What goes becomes zero; a norm then averages over more channels than it will, all but the kept
    ones zero.
    """
    for name, along in axes.items():
        if any(axis in index for axis in along):
            parameter = block.get_parameter(name)
            parameter.data = _only(parameter.data, along, index)
            if name.endswith("norm.weight"):
                parameter.data *= (len(index[along[0]]) / len(parameter)) ** 0.5


def _only(tensor: torch.Tensor, axes: Axes, index: Index) -> torch.Tensor:
    """The tensor with zeros outside what ``index`` keeps along each axis it names."""
    for dim, axis in enumerate(axes):
        if axis in index:
            kept = torch.zeros(tensor.shape[dim], dtype=tensor.dtype, device=tensor.device)
            kept[index[axis]] = 1
            tensor = tensor * kept.reshape(-1, *[1] * (tensor.ndim - dim - 1))
    return tensor


@dataclass(frozen=True)
class Layer:
    """One linear layer that loses input columns; ``where`` names it in messages."""

    linear: nn.Module
    where: str

    def made_up(
        self,
        inputs: Statistics,
        kept: torch.Tensor,
        settings: Settings,
        errors: list[dict[str, Any]],
    ) -> dict[str, torch.Tensor]:
        """New ``weight [out, in]`` and, where it takes up the mean, ``bias [out]``."""
        W = self.linear.weight.data
        stays = torch.zeros(W.shape[1], dtype=torch.bool, device=W.device)
        stays[kept.to(W.device)] = True
        V, mean = W * stays, inputs.sums / inputs.tokens
        if settings.weights != "keep":
            H = inputs.hessian()
            if settings.bias == "mean":
                H -= 2 * torch.outer(mean, mean).to(H.dtype)
            with products.exact(W.device):
                curvature = Curvature(H, settings.damp, self.where)
                masked, V = V, SOLVERS[settings.weights](W, curvature, stays)
                lost = [relative_error(W, each, H) for each in (masked, V)]
            errors.append(
                {
                    "layer": self.where,
                    "masked": lost[0],
                    "compensated": lost[1],
                    "damp": curvature.damp,
                }
            )
        if settings.bias == "keep":
            return {"weight": V}
        bias = self.linear.bias.data
        return {"weight": V, "bias": bias + ((W - V).double() @ mean).to(bias.dtype)}


def least_squares(W: torch.Tensor, curvature: Curvature, stays: torch.Tensor) -> torch.Tensor:
    """V ``[out, in]``: (W H)_:K (H_KK)^-1 in the kept columns, zero in the others; in fp64."""
    H, V = curvature.H.double(), torch.zeros_like(W)
    target = W.double() @ H[:, stays]
    with one_thread():
        L = torch.linalg.cholesky(H[stays][:, stays])
        V[:, stays] = torch.cholesky_solve(target.T, L).T.to(W.dtype)
    return V


def _by_gradients(W: torch.Tensor, curvature: Curvature, stays: torch.Tensor) -> torch.Tensor:
    return compensate.mrp_cg(W, curvature, stays.expand(W.shape))


SOLVERS = {"mrp": least_squares, "mrp-cg": _by_gradients}


def relative_error(W: torch.Tensor, V: torch.Tensor, H: torch.Tensor) -> float:
    """||(V - W) X||^2 / ||W X||^2 of inputs with H = 2/n X^T X, undamped."""

    def size(change: torch.Tensor) -> float:
        return max(0.0, float(((change @ H) * change).sum(dtype=torch.float64)))

    whole = size(W)
    return size(V - W) / whole if whole else 0.0
