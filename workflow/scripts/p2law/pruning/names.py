"""What a study may ask of pruning: names, allowed values and defaults. Imports no torch.

The registries of the modules that do the work carry the same names (a test holds them together);
this module exists so that a study is checked before anything heavy is imported.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from p2law.errors import UserError

DEPTH_CRITERIA = {
    "block_influence": "ShortGPT (2403.03853): blocks that turn the hidden state least",
    "angular": "LLM-Streamline (2403.19135): the run of blocks that turns the state least",
    "perplexity": "Shortened LLaMA (2402.02834): least loss without the block",
    "taylor": "Shortened LLaMA (2402.02834): least sum of |w g| over the block",
    "last": "the last blocks (2411.15558); measures nothing",
}
WIDTH_CRITERIA = {
    "activation": "Minitron (2407.14679): mean |activation| over tokens, L2 over windows",
    "taylor": "LLM-Pruner (2305.11627): sum of |w g| over all weights of a unit",
    "flap": "FLAP (2312.11983): variance of the input times its weights' norm; not for hidden",
}
DIMENSIONS = {
    "ffn": "FFN neurons: rows of gate and up, columns of down",
    "groups": "key-value heads, each with all its query heads",
    "queries": "query heads, the same number in every group",
    "hidden": "channels of the residual stream, the same in all blocks",
}
MASKS = {
    "magnitude": "|W|",
    "wanda": "Wanda (2306.11695): |W| times the norm of the input",
    "ria": "RIA: |W| relative to its row and column, times the input norm's root",
    "obs": "mask S of APT (2410.15567): w^2 / (2 [H^-1]_jj)",
    "group": "mask M of APT (2410.15567), n:m only: the set cheapest to remove together",
    "sparsegpt": "SparseGPT (2301.00774): w^2 / U_jj^2 on the weights as updated so far",
}
WEIGHTS = {
    "keep": "kept weights stay as they are",
    "sparsegpt": "SparseGPT (2301.00774): column by column, later columns make up for it",
    "mrp": "APT (2410.15567): all kept weights at their optimum, exactly",
    "mrp-cg": "the same optimum by conjugate gradients: large layers in little time",
}
LAYER_RATES = {
    "uniform": "the same share in every block",
    "owl": "OWL (2310.05175): blocks with more outliers keep more",
    "alpha": "AlphaPruning (2410.10912): blocks with lighter-tailed spectra lose more",
}
REFINEMENTS = {
    "none": "the mask stays as chosen",
    "dsnot": "DSnoT (2310.08915): swaps that shrink each row's mean error",
}
SCOPES = {
    "own": "the scope of the mask's paper: layer for magnitude, obs and sparsegpt, else row",
    "row": "the same count in every output row (n:m has its own groups)",
    "layer": "one ranking over the whole matrix",
}


@dataclass(frozen=True)
class Setting:
    """One key of a method's settings: its default, what is allowed, and the test for it."""

    default: Any
    allowed: str
    valid: Callable[[Any], bool]


def choice(default: str, names: Mapping[str, str]) -> Setting:
    """A name out of a registry."""
    return Setting(default, ", ".join(names), lambda value: value in tuple(names))


def number(default: float, low: float, high: float) -> Setting:
    """A number in [low, high]; booleans are not numbers."""

    def valid(value: Any) -> bool:
        return type(value) in (int, float) and low <= value <= high

    return Setting(default, f"a number from {low:g} to {high:g}", valid)


def count(default: int, low: int) -> Setting:
    """A whole number of at least ``low``."""
    return Setting(
        default,
        f"a whole number of at least {low}",
        lambda value: type(value) is int and value >= low,
    )


def pattern_of(text: Any) -> tuple[int, int] | None:
    """``(n, m)`` of a pattern "n:m" (keep n of every m along the input); None if unstructured.

    Raises :class:`UserError` for anything else.
    """
    if text == "unstructured":
        return None
    match = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", text) if isinstance(text, str) else None
    if match is None or int(match[1]) >= int(match[2]):
        raise UserError(
            f'prune pattern: {text!r} is neither "unstructured" nor "n:m" with n < m, as in "2:4"'
        )
    return int(match[1]), int(match[2])


def _is_pattern(value: Any) -> bool:
    try:
        pattern_of(value)
    except UserError:
        return False
    return True


def _are_dimensions(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(name in tuple(DIMENSIONS) for name in value)
        and len(set(value)) == len(value)
        and not {"groups", "queries"} <= set(value)
    )


def _is_split(value: Any) -> bool:
    return isinstance(value, dict) and all(
        name in DIMENSIONS and type(share) in (int, float) and share > 0
        for name, share in value.items()
    )


SETTINGS: dict[str, dict[str, Setting]] = {
    "depth": {
        "criterion": choice("block_influence", DEPTH_CRITERIA),
        "guard_first": count(0, 0),
        "guard_last": count(0, 0),
        "tolerance": number(0.05, 0.0, 1.0),
    },
    "width": {
        "dimensions": Setting(
            ["ffn"], f"a list of {', '.join(DIMENSIONS)} without repeats", _are_dimensions
        ),
        "criterion": choice("activation", WIDTH_CRITERIA),
        "multiple": count(8, 1),
        "split": Setting({}, "a positive number for each dimension named", _is_split),
        "tolerance": number(0.05, 0.0, 1.0),
    },
    "weights": {
        "pattern": Setting("2:4", '"unstructured" or "n:m" with n < m', _is_pattern),
        "scope": choice("own", SCOPES),
        "mask": choice("wanda", MASKS),
        "weights": choice("keep", WEIGHTS),
        "layer_rates": choice("uniform", LAYER_RATES),
        "refine": choice("none", REFINEMENTS),
        "damp": number(0.01, 1e-6, 1.0),
    },
}


def complete(settings: Mapping[str, Any], where: str = "prune") -> dict[str, Any]:
    """A method's settings with every default filled in, in a fixed order.

    ``where`` names the settings' place in the study file for the message. Raises
    :class:`UserError` for an unknown ``prune``, key or value, naming what is allowed.
    """
    kind = settings.get("prune")
    if kind not in tuple(SETTINGS):
        raise UserError(f"{where}: prune is {kind!r}; allowed: {', '.join(SETTINGS)}")
    known = SETTINGS[kind]
    for key in settings:
        if key != "prune" and key not in known:
            raise UserError(
                f"{where}: unknown key {key!r} for {kind} pruning; allowed: {', '.join(known)}"
            )
    full: dict[str, Any] = {"prune": kind}
    for key, setting in known.items():
        value = settings.get(key, setting.default)
        if not setting.valid(value):
            raise UserError(f"{where}: {key} is {value!r}; allowed: {setting.allowed}")
        full[key] = value
    _check_together(full, where)
    return full


def _check_together(full: Mapping[str, Any], where: str) -> None:
    """Settings that are each allowed but not with one another."""
    if full["prune"] == "width":
        stray = set(full["split"]) - set(full["dimensions"])
        if stray:
            raise UserError(
                f"{where}: split names {', '.join(sorted(stray))}, not among its dimensions"
                f" {', '.join(full['dimensions'])}"
            )
        if full["criterion"] == "flap" and "hidden" in full["dimensions"]:
            raise UserError(
                f'{where}: criterion "flap" has no score for dimension "hidden"; allowed there:'
                " activation, taylor"
            )
    if full["prune"] == "weights":
        structured = pattern_of(full["pattern"]) is not None
        if full["mask"] == "group" and not structured:
            raise UserError(
                f'{where}: mask "group" ranks sets within n:m groups; pattern is unstructured'
            )
        if structured and full["layer_rates"] != "uniform":
            raise UserError(
                f"{where}: layer_rates is {full['layer_rates']!r}, but pattern"
                f" {full['pattern']} fixes every layer's share; allowed: uniform"
            )


def described(settings: Mapping[str, Any]) -> str:
    """Complete settings in a few words: what goes, by what, and what is not at its default."""
    kind = settings["prune"]
    if kind == "depth":
        main, shown = f"blocks by {settings['criterion']}", ("guard_first", "guard_last")
    elif kind == "width":
        main = f"{' + '.join(settings['dimensions'])} by {settings['criterion']}"
        shown = ("split",)
    else:
        main = f"{settings['pattern']} by {settings['mask']}, weights {settings['weights']}"
        shown = ("scope", "layer_rates", "refine", "damp")
    changed = [n for n in shown if settings[n] != SETTINGS[kind][n].default]
    return ", ".join([main, *(f"{name} {settings[name]}" for name in changed)])


def fixed_rate(settings: Mapping[str, Any]) -> float | None:
    """The only rate that may be asked of an n:m method: the share of zeros, (m - n) / m.

    None for every other method, whose rates are the study's to choose. The achieved rate of an
    n:m variant is lower (embeddings and norms stay dense); it is counted and stored.
    """
    if settings["prune"] != "weights":
        return None
    pattern = pattern_of(settings.get("pattern", SETTINGS["weights"]["pattern"].default))
    return None if pattern is None else (pattern[1] - pattern[0]) / pattern[1]
