"""What every part of a study file is made of: the base section, its types, and its faults in words.

Everything here says the same thing thrice from one declaration: what is accepted, what an editor is
told (the JSON schema), and what a fault reads like.
"""

import difflib
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError, core_schema

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


def whole_from(least: int) -> WithJsonSchema:
    """What editors are told: in their YAML, 1.2, 4_096 is text; in ours, 1.1, it is not."""
    return WithJsonSchema({"type": ["integer", "string"], "minimum": least, "pattern": "^[0-9_]+$"})


Real = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(number)]
Count = Annotated[int, Field(ge=1), BeforeValidator(count), whole_from(1)]
Whole = Annotated[int, Field(ge=0), BeforeValidator(count), whole_from(0)]
Share = Annotated[float, Field(gt=0, lt=1), BeforeValidator(number)]
Name = Annotated[str, Field(pattern=NAME)]


class Section(BaseModel):
    """A part of the study file: unknown keys and wrong types are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def allowed(value: Any, names: Iterable[str]) -> str:
    """'must be one of a, b; did you mean 'a'?' of a name that is not among ``names``."""
    names = list(names)
    close = difflib.get_close_matches(str(value), names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"must be one of {', '.join(names)}{hint}"


@dataclass(frozen=True, eq=False)
class Among:
    """Marks a text as one of some names, each with what it means."""

    meanings: Mapping[str, str]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {
            "type": "string",
            "enum": list(self.meanings),
            "enumDescriptions": list(self.meanings.values()),
        }

    def _check(self, value: str) -> str:
        if value not in self.meanings:
            raise ValueError(allowed(value, self.meanings))
        return value


@dataclass(frozen=True)
class Tagged:
    """Marks a value as one of several sections, told apart by their key ``key``.

    ``classes`` are the sections; left out, those of the union that is marked. Unlike pydantic's
    discriminator, a fault's path holds only keys of the file.
    """

    key: str
    classes: tuple[type[Section], ...] = ()

    def kinds(self, source: Any = None) -> dict[str, type[Section]]:
        """The sections by the value of their key."""
        classes = self.classes or typing.get_args(source)
        return {typing.get_args(c.model_fields[self.key].annotation)[0]: c for c in classes}

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        kinds = self.kinds(source)
        choices = {tag: handler.generate_schema(cls) for tag, cls in kinds.items()}

        def read(value: Any, otherwise: Any) -> Any:
            if not isinstance(value, Mapping):
                return otherwise(value)
            if self.key not in value:
                raise _line("missing", self.key, value)
            if (tag := value[self.key]) not in kinds:
                raise _line(PydanticCustomError("name", allowed(tag, kinds)), self.key, tag)
            return kinds[tag].model_validate(value)

        union = core_schema.tagged_union_schema(choices, discriminator=self.key)
        return core_schema.no_info_wrap_validator_function(read, union)


def _line(kind: str | PydanticCustomError, key: str, value: Any) -> ValidationError:
    return ValidationError.from_exception_data(
        "section", [{"type": kind, "loc": (key,), "input": value}]
    )


def faults(error: ValidationError, section: type[Section], value: Any) -> str:
    """Every fault of ``value``, read as a ``section``, as ``key = value: what is allowed``."""
    return "; ".join(_fault(item, section, value) for item in error.errors())


def _fault(item: Mapping[str, Any], section: type[Section], value: Any) -> str:
    path = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        found = _section_at(section, value, item["loc"][:-1])
        keys = found.model_fields if found else ()
        return f"{path}: unknown key; {allowed(item['loc'][-1], keys)}"
    if item["type"] == "missing":
        return f"{path}: missing"
    message = re.sub(r"^(Value error, |Input )", "", item["msg"])
    shown = repr(item["input"])
    if not path:
        return message
    return f"{path}: {message}" if len(shown) > 80 else f"{path} = {shown}: {message}"


def _section_at(section: type[Section], value: Any, loc: tuple) -> type[Section] | None:
    """The section that a path of keys leads to in a value."""
    at: Any = section
    for part in loc:
        if isinstance(at, type) and issubclass(at, Section):
            field = at.model_fields[part]
            at = typing.Annotated[field.annotation, *field.metadata, "field"]
        elif typing.get_origin(at) is dict:
            at = typing.get_args(at)[1]
        value = value[part]
        at = _chosen(at, value)
    return at if isinstance(at, type) and issubclass(at, Section) else None


def _chosen(annotation: Any, value: Any) -> Any:
    """What an annotation makes of a value: a section, or a dict of them."""
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is Annotated:
        for mark in parts[1:]:
            if isinstance(mark, Tagged):
                return mark.kinds(parts[0]).get(value[mark.key])
        return _chosen(parts[0], value)
    if typing.get_origin(annotation) in (typing.Union, UnionType):
        sections = (part for part in parts if isinstance(part, type) and issubclass(part, Section))
        return next(sections, None)
    return annotation
