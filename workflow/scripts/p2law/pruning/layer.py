"""One linear layer (or several that share an input): its mask, then its weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch

from p2law.pruning import compensate, masks, shapes
from p2law.pruning.curvature import Curvature
from p2law.pruning.masks import Rule
from p2law.pruning.refine import dsnot
from p2law.pruning.statistics import Statistics

CURVED_MASKS = ("group", "sparsegpt")
MASKS = (*masks.SCORED, *CURVED_MASKS)


@dataclass(frozen=True)
class Problem:
    """Stacked weights W ``[out, in]`` of layers that share an input, and what is known of it."""

    W: torch.Tensor
    inputs: Statistics | None
    curvature: Curvature | None
    rule: Rule

    @property
    def seen(self) -> Statistics:
        """What is known of the inputs, by a choice that reads them (see needs_calibration)."""
        assert self.inputs is not None
        return self.inputs

    @property
    def curved(self) -> Curvature:
        """The curvature, by a choice that needs it (see needs_curvature)."""
        assert self.curvature is not None
        return self.curvature


Swept: TypeAlias = torch.Tensor | None


def _keep(p: Problem, kept: torch.Tensor, _: Swept) -> torch.Tensor:
    return p.W * kept


def _sparsegpt(p: Problem, kept: torch.Tensor, swept: Swept) -> torch.Tensor:
    if swept is not None:
        return swept
    return compensate.sparsegpt(p.W, p.curved, kept, p.rule)[0]


def _mrp(p: Problem, kept: torch.Tensor, _: Swept) -> torch.Tensor:
    return compensate.mrp(p.W, p.curved, kept)


def _mrp_cg(p: Problem, kept: torch.Tensor, swept: Swept) -> torch.Tensor:
    """Started from SparseGPT's answer, whosever the mask: never above it, and nearer the end."""
    return compensate.mrp_cg(p.W, p.curved, kept, start=_sparsegpt(p, kept, swept))


WEIGHTS: dict[str, Callable[[Problem, torch.Tensor, Swept], torch.Tensor]] = {
    "keep": _keep,
    "sparsegpt": _sparsegpt,
    "mrp": _mrp,
    "mrp-cg": _mrp_cg,
}


def needs_curvature(settings: Mapping[str, Any]) -> bool:
    """Whether a choice needs X^T X of every layer's input."""
    mask = settings["mask"]
    curved = mask in CURVED_MASKS or masks.SCORED[mask].curved
    return curved or settings["weights"] != "keep"


def make_rule(settings: Mapping[str, Any], share: float, rows: tuple[int, ...]) -> Rule:
    """How many weights go; scope "own" is the mask's own paper's."""
    mask, scope = settings["mask"], settings["scope"]
    if scope == "own":
        scope = masks.SCORED[mask].scope if mask in masks.SCORED else "layer"
    return Rule(shapes.pattern_of(settings["pattern"]), share, scope, rows)


def prune_layer(p: Problem, settings: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """New weights and mask, both ``[out, in]``; removed weights are exactly zero.

    The weights of a dead input do nothing on the windows: they are the first to go, and those
    that stay stay as they were.
    """
    if p.curvature is None or not (dead := p.curvature.dead).any():
        return _prune_live(p, settings)
    V, kept = _prune_live(replace(p, W=p.W.masked_fill(dead, 0)), settings)
    return torch.where(dead, p.W * kept, V), kept


def _prune_live(p: Problem, settings: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`prune_layer` of a problem whose dead inputs have no weights."""
    swept: Swept = None
    if settings["mask"] == "sparsegpt":
        swept, kept = compensate.sparsegpt(p.W, p.curved, None, p.rule)
    elif settings["mask"] == "group":
        assert p.rule.pattern is not None, "names refuses it"
        kept = masks.group(p.W, p.curved, p.rule.pattern)
    else:
        score = masks.SCORED[settings["mask"]].score(p.W, p.inputs, p.curvature)
        kept = masks.select(score, p.rule)
    if settings["refine"] == "dsnot":
        kept, swept = dsnot(p.W, kept, p.seen, p.rule.pattern), None
    return WEIGHTS[settings["weights"]](p, kept, swept), kept


def relative_errors(p: Problem, *versions: torch.Tensor) -> list[list[float]]:
    """||(V - W) X||^2 / ||W X||^2 of each stacked layer, for each V; without the damping."""
    curvature = p.curved

    def losses(change: torch.Tensor) -> list[float]:
        change = change.masked_fill(curvature.dead, 0)
        damping = curvature.added / 2 * change.square().sum(dim=1, dtype=torch.float64)
        plain = curvature.loss(change) - damping
        return [float(part.sum().clamp_min(0)) for part in plain.split(p.rule.rows)]

    whole = losses(p.W)
    lost = [losses(V - p.W) for V in versions]
    return [[d / w if w else 0.0 for d, w in zip(each, whole, strict=True)] for each in lost]
