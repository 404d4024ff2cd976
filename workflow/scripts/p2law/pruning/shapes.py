"""What a rate asks of a model's shape, from its Hugging Face config alone. Imports no torch.

Rate = share of all N0 parameters removed, embeddings included, tied ones once. Answers how many
layers or what width a rate asks for, what rate that really gives, and whether Hugging Face can
load the result, so that a study is checked before any job runs.
"""

import math
from collections.abc import Mapping
from typing import Any

from p2law.architectures.architecture import architecture_of
from p2law.architectures.configs import loadable, with_layers
from p2law.architectures.counts import Config, parameters
from p2law.errors import UserError
from p2law.pruning import names


def solve(config: Config, settings: Mapping[str, Any], rate: float | None) -> dict[str, Any]:
    """The shape that a method gives at an asked rate.

    ``settings`` is a method's "prune" dict, ``rate`` the asked share of N0 in (0, 1). Returns
    ``rate`` (achieved), ``N``, ``N0``, ``N_nonembedding``, ``N0_nonembedding``, ``removed`` (what
    goes: layers, widths, or zeros) and ``config`` (the new one; for depth the layers removed are
    taken from the end, since which ones go is measured later). For weights, N counts non-zeros and
    an n:m pattern accepts only :func:`names.fixed_rate` (or None) as its rate. Rate 0 changes
    nothing. Raises :class:`UserError` when no shape comes within ``tolerance`` of the rate or the
    shape cannot be loaded.
    """
    settings = names.complete(settings)
    before = parameters(config)
    fixed = names.fixed_rate(settings)
    if fixed is not None and rate not in (None, 0, 0.0) and not math.isclose(rate, fixed):
        raise UserError(
            f"rate {rate}: pattern {settings['pattern']} has one rate, {fixed:g} (the share of"
            " zeros in the pruned layers; the achieved share of all parameters is counted)"
        )
    rate = fixed if rate is None else rate
    if rate is None or not 0 <= rate < 1:
        raise UserError(f"rate {rate}: allowed is a share of all parameters from 0 to below 1")
    if rate == 0:
        return _answer(before, before["total"], config, {}, before["embedding"])
    solver = {"depth": _depth, "width": _width, "weights": _weights}[settings["prune"]]
    return solver(config, settings, rate, before)


def _answer(
    before: Mapping[str, Any], N: int, config: Config, removed: dict[str, Any], embedding: int
) -> dict[str, Any]:
    return {
        "rate": 1 - N / before["total"],
        "N": N,
        "N0": before["total"],
        "N_nonembedding": N - embedding,
        "N0_nonembedding": before["nonembedding"],
        "removed": removed,
        "config": dict(config),
    }


def _demand_near(asked: float, achieved: float, settings: Mapping[str, Any], what: str) -> None:
    if abs(achieved - asked) > settings["tolerance"]:
        raise UserError(
            f"rate {asked}: the nearest {what} gives {achieved:.4f}, farther than tolerance"
            f" {settings['tolerance']} allows; ask for about {achieved:.2f} or raise tolerance"
        )


def _depth(
    config: Config, settings: Mapping[str, Any], rate: float, before: Mapping[str, Any]
) -> dict[str, Any]:
    layers, each, total = before["layers"], before["layer"]["total"], before["total"]
    removable = layers - max(1, settings["guard_first"] + settings["guard_last"])
    if removable < 1:
        raise UserError(
            f"rate {rate}: no layer can go of {layers}, with guard_first"
            f" {settings['guard_first']} and guard_last {settings['guard_last']}"
        )
    n = min(range(1, removable + 1), key=lambda n: (abs(n * each / total - rate), n))
    _demand_near(rate, n * each / total, settings, f"number of layers ({n} of {layers})")
    shape = with_layers(config, range(layers - n))
    return _answer(before, total - n * each, shape, {"layers": n}, before["embedding"])


def _weights(
    config: Config, settings: Mapping[str, Any], rate: float, before: Mapping[str, Any]
) -> dict[str, Any]:
    arch, pattern = architecture_of(config), names.pattern_of(settings["pattern"])
    linear, removed = before["linear"], {}
    if pattern is None:
        share = rate * before["total"] / before["linear"]
        if share > 0.99:
            most = 0.99 * before["linear"] / before["total"]
            raise UserError(
                f"rate {rate}: the linear layers hold {before['linear']} of {before['total']}"
                f" parameters, so at most {most:.3f} can become zeros"
            )
    else:
        kept, m = pattern
        share = (m - kept) / m
        sizes, block = arch.sizes(config), arch.block_tensors(config)
        fit = {f"{name}.weight" for group in arch.divisible(config, m) for name in group}
        stay = [name for name in arch.linear_weights() if name not in fit]
        if not fit:
            raise UserError(
                f"pattern {settings['pattern']}: {stay[0]} has {sizes[block[stay[0]][1]]} inputs,"
                f" not a multiple of {m}, and no other layer fits either"
            )
        # Layers that the pattern does not divide stay dense, and the answer says which.
        removed = {"left_dense": stay} if stay else {}
        dense = sum(sizes[block[name][0]] * sizes[block[name][1]] for name in stay)
        linear -= before["layers"] * dense
    zeros = round(share * linear)
    removed |= {"zeros": zeros, "share_of_linear": share}
    return _answer(before, before["total"] - zeros, config, removed, before["embedding"])


def _width(
    config: Config, settings: Mapping[str, Any], rate: float, before: Mapping[str, Any]
) -> dict[str, Any]:
    if not architecture_of(config).structured:
        raise UserError(
            f"width pruning does not know the dimensions of {config['model_type']};"
            " allowed: depth and weights"
        )
    menus = {name: _widths(config, settings, name) for name in settings["dimensions"]}
    target = (1 - rate) * before["total"]
    shape = _nearest(config, menus, settings["split"], target)
    after = parameters(shape)
    what = ", ".join(f"{name} {_width_of(shape, name)}" for name in menus)
    _demand_near(rate, 1 - after["total"] / before["total"], settings, f"width ({what})")
    removed = {
        name: {"from": _width_of(config, name), "to": _width_of(shape, name)} for name in menus
    }
    return _answer(before, after["total"], loadable(shape), removed, after["embedding"])


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


def _widths(config: Config, settings: Mapping[str, Any], dimension: str) -> list[int]:
    """The allowed smaller widths of a dimension, ascending, and the present one last."""
    full = _width_of(config, dimension)
    step = settings["multiple"] if dimension in ("ffn", "hidden") else 1
    widths = list(range(step, full, step))
    if not widths:
        hint = {
            "groups": '; with one group, prune "queries"',
            "queries": '; with one query head a group, prune "groups"',
        }.get(dimension, "")
        raise UserError(
            f"width: {dimension} is {full}, so no smaller width is a multiple of {step}{hint}"
        )
    return [*widths, full]


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
    config: Config, menus: Mapping[str, list[int]], split: Mapping[str, float], target: float
) -> dict[str, Any]:
    """The shape whose parameter count is nearest ``target``.

    All dimensions but the finest lose the share ``s x split`` of their width (rounded to the
    menu) with one s for all, found by bisection; the finest takes up what is left.
    """

    def miss(shape: Config) -> float:
        return abs(parameters(shape)["total"] - target)

    def at(s: float) -> dict[str, int]:
        wanted = {name: menu[-1] * (1 - s * split.get(name, 1.0)) for name, menu in menus.items()}
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
