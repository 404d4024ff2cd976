"""What every part of a study file is made of: the base section, numbers as people write them."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.]*(-[A-Za-z0-9_.]+)*$"
"""Names become folders: letters, digits, '_', '.', single '-' between them."""


def number(value: Any) -> Any:
    """YAML 1.1 reads ``4e-3`` as text; people mean the number."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9.]+[eE][+-]?[0-9]+", value):
        return float(value)
    return value


def count(value: Any) -> Any:
    """Let whole numbers be written as ``4e6``."""
    value = number(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


Real = Annotated[float, BeforeValidator(number), Field(allow_inf_nan=False)]
Count = Annotated[int, BeforeValidator(count), Field(ge=1)]
Share = Annotated[float, BeforeValidator(number), Field(gt=0, lt=1)]
Name = Annotated[str, Field(pattern=NAME)]


class Section(BaseModel):
    """A part of the study file: unknown keys and wrong types are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
