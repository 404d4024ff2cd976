"""The Hugging Face config of a model that a study trains itself: checked before transformers is.

transformers refuses a wrong config when the model is built, which is a job that has started, and
takes keys that it does not know without a word. Here a study file's ``config`` is read with no
import of transformers; a test holds the keys to those of its config classes.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from p2law.errors import UserError

_SIZES = {"hidden_size", "num_hidden_layers", "vocab_size"}
_ATTENTION_SIZES = {
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_key_value_heads",
}
_WHOLE = {"bos_token_id", "eos_token_id", "pad_token_id"}
_FLAGS = {"tie_word_embeddings", "use_cache"}
_DECODER = {
    "sizes": _SIZES | _ATTENTION_SIZES,
    "flags": _FLAGS,
    "others": {"attention_dropout", "hidden_act", "initializer_range", "rms_norm_eps"}
    | {"rope_parameters"}
    | _WHOLE,
}
_QWEN = {"layer_types", "max_window_layers", "sliding_window"}

SETTINGS: dict[str, dict[str, set[str]]] = {
    "llama": {
        "sizes": _DECODER["sizes"] | {"head_dim"},
        "flags": _FLAGS | {"attention_bias", "mlp_bias"},
        "others": _DECODER["others"] | {"pretraining_tp"},
    },
    "mistral": {
        "sizes": _DECODER["sizes"] | {"head_dim"},
        "flags": _FLAGS,
        "others": _DECODER["others"] | {"sliding_window"},
    },
    "qwen2": {
        "sizes": _DECODER["sizes"],
        "flags": _FLAGS | {"use_sliding_window"},
        "others": _DECODER["others"] | _QWEN,
    },
    "qwen3": {
        "sizes": _DECODER["sizes"] | {"head_dim"},
        "flags": _FLAGS | {"attention_bias", "use_sliding_window"},
        "others": _DECODER["others"] | _QWEN,
    },
    "olmo2": {
        "sizes": _DECODER["sizes"],
        "flags": _FLAGS | {"attention_bias"},
        "others": _DECODER["others"],
    },
    "mamba": {
        "sizes": _SIZES | {"conv_kernel", "expand", "state_size"},
        "flags": _FLAGS
        | {"rescale_prenorm_residual", "residual_in_fp32", "use_associative_scan"}
        | {"use_bias", "use_conv_bias", "use_mambapy"},
        "others": {"hidden_act", "initializer_range", "layer_norm_epsilon"}
        | {"time_step_floor", "time_step_init_scheme", "time_step_max", "time_step_min"}
        | {"time_step_rank", "time_step_scale"}
        | _WHOLE,
    },
}
"""model_type -> its settings: positive whole numbers, flags, and what transformers alone checks."""

REQUIRED = {
    model_type: ["hidden_size", "num_hidden_layers"]
    + ([] if model_type == "mamba" else ["intermediate_size", "num_attention_heads"])
    for model_type in SETTINGS
}
"""What a study must say: transformers' defaults are those of a model with billions of weights."""


def check_config(config: Mapping[str, Any]) -> None:
    """Raise :class:`UserError` for a missing, unknown or ill-typed key or heads that do not divide.

    ``model_type`` must be one of :data:`SETTINGS` (see ``architecture_of``). ``head_dim`` and the
    key-value heads may be null, as in transformers.
    """
    kinds = SETTINGS[config["model_type"]]
    known = set().union(*kinds.values()) | {"model_type"}
    for key, value in config.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"{config['model_type']} has no setting {key!r}{hint}")
        if key in kinds["sizes"] and not _is_size(value, key):
            raise UserError(f"{key} = {value!r}: must be a whole number of at least 1")
        if key in kinds["flags"] and not isinstance(value, bool):
            raise UserError(f"{key} = {value!r}: must be true or false")
    if missing := [key for key in REQUIRED[config["model_type"]] if key not in config]:
        raise UserError(f"{', '.join(missing)}: missing")
    heads = config.get("num_attention_heads", 1)
    groups = config.get("num_key_value_heads") or heads
    if heads % groups:
        raise UserError(
            f"num_key_value_heads = {groups}: must divide num_attention_heads = {heads}"
        )


def _is_size(value: Any, key: str) -> bool:
    if value is None:
        return key in ("head_dim", "num_key_value_heads")
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
