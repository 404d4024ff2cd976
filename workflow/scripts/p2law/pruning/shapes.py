"""What a rate asks of a model's shape, from its Hugging Face config alone. Imports no torch.

Rate = share of all N0 parameters removed, embeddings included, tied ones once. What the methods of
pruning share in solving for layers, widths or zeros, so that a study is checked before any job
runs; each method's own ``solve`` calls it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from p2law.architectures.architecture import architecture_of
from p2law.architectures.configs import loadable, with_layers
from p2law.architectures.counts import Config, parameters
from p2law.errors import UserError

Counts = Mapping[str, Any]
"""Parameters by part, see :func:`p2law.architectures.counts.parameters`."""


def pattern_of(text: Any) -> tuple[int, int] | None:
    """``(n, m)`` of a pattern "n:m" (keep n of every m along the input); None if unstructured.

    Raises :class:`UserError` for anything else.
    """
    if text == "unstructured":
        return None
    match = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", text) if isinstance(text, str) else None
    if match is None or int(match[1]) >= int(match[2]):
        raise UserError('must be "unstructured" or "n:m" with n < m, as in "2:4"')
    return int(match[1]), int(match[2])


def answer(
    before: Counts, N: int, config: Config, removed: dict[str, Any], embedding: int
) -> dict[str, Any]:
    """A solved shape, as ``Method.solve`` gives it: N parameters are left, ``embedding`` of them
    in embedding and head."""
    return {
        "rate": 1 - N / before["total"],
        "N": N,
        "N0": before["total"],
        "N_nonembedding": N - embedding,
        "N0_nonembedding": before["nonembedding"],
        "removed": removed,
        "config": dict(config),
    }


def _demand_near(asked: float, achieved: float, tolerance: float, what: str) -> None:
    if abs(achieved - asked) > tolerance:
        raise UserError(
            f"rate {asked}: the nearest {what} gives {achieved:.4f}, farther than tolerance"
            f" {tolerance} allows; ask for about {achieved:.2f} or raise tolerance"
        )


def fewer_layers(
    config: Config, rate: float, before: Counts, tolerance: float, first: int = 0, last: int = 0
) -> dict[str, Any]:
    """The shape with the number of layers nearest a rate; ``first`` and ``last`` ones stay.

    The layers are taken from the end here, since which ones go is measured later.
    """
    layers, each, total = before["layers"], before["layer"]["total"], before["total"]
    removable = layers - max(1, first + last)
    if removable < 1:
        raise UserError(
            f"rate {rate}: no layer can go of {layers}, with guard_first {first} and"
            f" guard_last {last}"
        )
    n = min(range(1, removable + 1), key=lambda n: (abs(n * each / total - rate), n))
    _demand_near(rate, n * each / total, tolerance, f"number of layers ({n} of {layers})")
    shape = with_layers(config, range(layers - n))
    return answer(before, total - n * each, shape, {"layers": n}, before["embedding"])


def narrower(
    config: Config,
    rate: float,
    before: Counts,
    tolerance: float,
    dimensions: Sequence[str],
    multiple: int,
    split: Mapping[str, float],
) -> dict[str, Any]:
    """The shape with the widths nearest a rate; ``dimensions`` all lose some of theirs.

    Each loses the share ``s x split`` of its width with one s for all, and at least one step: a
    dimension that is asked for never stays whole. ``ffn`` and ``hidden`` end at multiples of
    ``multiple``.
    """
    if not architecture_of(config).structured:
        raise UserError(
            f"width pruning does not know the dimensions of {config['model_type']};"
            " allowed: depth and weights"
        )
    menus = {name: _widths(config, multiple, name) for name in dimensions}
    full = {name: _width_of(config, name) for name in dimensions}
    shape = _nearest(config, full, menus, split, (1 - rate) * before["total"])
    after = parameters(shape)
    widths = {name: _width_of(shape, name) for name in menus}
    what = ", ".join(f"{name} {width}" for name, width in widths.items())
    _demand_near(rate, 1 - after["total"] / before["total"], tolerance, f"width ({what})")
    removed = {name: {"from": full[name], "to": width} for name, width in widths.items()}
    return answer(before, after["total"], loadable(shape), removed, after["embedding"])


def _width_of(config: Config, dimension: str) -> int:
    config = {**architecture_of(config).defaults, **config}
    heads = config["num_attention_heads"]
    groups = config.get("num_key_value_heads") or heads
    return {
        "ffn": config["intermediate_size"],
        "hidden": config["hidden_size"],
        "groups": groups,
        "queries": heads // groups,
    }[dimension]


def _widths(config: Config, multiple: int, dimension: str) -> list[int]:
    """The allowed smaller widths of a dimension, ascending."""
    full = _width_of(config, dimension)
    step = multiple if dimension in ("ffn", "hidden") else 1
    widths = list(range(step, full, step))
    if not widths:
        hint = {
            "groups": '; with one group, prune "queries"',
            "queries": '; with one query head a group, prune "groups"',
        }.get(dimension, "")
        raise UserError(
            f"width: {dimension} is {full}, so no smaller width is a multiple of {step}{hint}"
        )
    return widths


def _resized(config: Config, widths: Mapping[str, int]) -> dict[str, Any]:
    """The config with new widths; ``head_dim`` is written out, since it no longer follows."""
    arch = architecture_of(config)
    defaulted = {**arch.defaults, **config}
    heads = defaulted["num_attention_heads"]
    groups = defaulted.get("num_key_value_heads") or heads
    shape = {**config, "head_dim": arch.sizes(config)["head"]}
    if "ffn" in widths:
        shape["intermediate_size"] = widths["ffn"]
    if "hidden" in widths:
        shape["hidden_size"] = widths["hidden"]
    queries = widths.get("queries", heads // groups)
    shape["num_key_value_heads"] = widths.get("groups", groups)
    shape["num_attention_heads"] = queries * shape["num_key_value_heads"]
    return shape


def _nearest(
    config: Config,
    full: Mapping[str, int],
    menus: Mapping[str, list[int]],
    split: Mapping[str, float],
    target: float,
) -> dict[str, Any]:
    """The shape whose parameter count is nearest ``target``.

    All dimensions but the finest lose the share ``s x split`` of their width (rounded to the
    menu) with one s for all, found by bisection; the finest takes up what is left.
    """

    def miss(shape: Config) -> float:
        return abs(parameters(shape)["total"] - target)

    def at(s: float) -> dict[str, int]:
        wanted = {name: width * (1 - s * split.get(name, 1.0)) for name, width in full.items()}
        return {
            name: min(menu, key=lambda w: abs(w - wanted[name])) for name, menu in menus.items()
        }

    low, high = 0.0, 1.0 / max(split.get(name, 1.0) for name in menus)
    for _ in range(40):
        middle = (low + high) / 2
        if parameters(_resized(config, at(middle)))["total"] > target:
            low = middle
        else:
            high = middle
    widths = at(high)
    finest = max(menus, key=lambda name: len(menus[name]))
    best = min(menus[finest], key=lambda w: (miss(_resized(config, widths | {finest: w})), -w))
    return _resized(config, widths | {finest: best})
