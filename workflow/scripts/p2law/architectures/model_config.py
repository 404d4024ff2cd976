"""The Hugging Face config of a model that a study trains itself: checked before transformers is.

transformers refuses a wrong config when the model is built, which is a job that has started, and
takes keys that it does not know without a word. Here a study file's ``config`` is read with no
import of transformers; a test holds the declared keys to those of its config classes.
"""

import difflib
from typing import Any

from p2law.architectures.architecture import architecture_of
from p2law.architectures.declaration import Config, Settings
from p2law.errors import UserError


def check_config(config: Config) -> None:
    """Raise :class:`UserError` for a missing, unknown or ill-typed key or heads that do not divide.

    What may stand in it is the architecture's ``settings``.
    """
    settings = architecture_of(config).settings
    for key, value in config.items():
        if key != "model_type":
            _check_key(settings, config["model_type"], key, value)
    if missing := [key for key in settings.required if key not in config]:
        raise UserError(f"{', '.join(missing)}: missing")
    heads = config.get("num_attention_heads", 1)
    groups = config.get("num_key_value_heads") or heads
    if heads % groups:
        raise UserError(
            f"num_key_value_heads = {groups}: must divide num_attention_heads = {heads}"
        )


def _check_key(settings: Settings, model_type: str, key: str, value: Any) -> None:
    if key not in settings.known:
        close = difflib.get_close_matches(key, [*settings.known, "model_type"], n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UserError(f"{model_type} has no setting {key!r}{hint}")
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if key in settings.sizes and not (whole or value is None and key in settings.nullable):
        raise UserError(f"{key} = {value!r}: must be a whole number of at least 1")
    if key in settings.flags and not isinstance(value, bool):
        raise UserError(f"{key} = {value!r}: must be true or false")
