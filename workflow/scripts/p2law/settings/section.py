"""What every part of a study file is made of: the base section, its types, and its faults in words.

Everything here says the same thing thrice from one declaration: what is accepted, what an editor is
told (the JSON schema), and what a fault reads like.
"""

import difflib
import inspect
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

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

    RETIRED: ClassVar[Mapping[str, str]] = {}
    """Key that was -> what to write today; ``{name}`` stands for the section's own key."""


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
                raise fault_at(self.key, None, value)
            tag = value[self.key]
            if not isinstance(tag, str) or tag not in kinds:
                raise fault_at(self.key, allowed(tag, kinds), tag)
            return kinds[tag].model_validate(value)

        union = core_schema.tagged_union_schema(choices, discriminator=self.key)
        return core_schema.no_info_wrap_validator_function(read, union)


def fault_at(key: str, what: str | None, value: Any) -> ValidationError:
    """The fault of one key of a section, for its validators to raise; ``what`` None: missing."""
    # Braces would be read as the fields of a template.
    text = what and what.replace("{", "{{").replace("}", "}}")
    kind = PydanticCustomError("fault", text) if text else "missing"
    line = InitErrorDetails(type=kind, loc=(key,), input=value)
    return ValidationError.from_exception_data("section", [line])


def faults(error: ValidationError, section: type[Section], value: Any) -> str:
    """Every fault of ``value``, read as a ``section``, as ``key = value: what is allowed``."""
    found = [(_path(item, value), item) for item in error.errors()]
    told = []
    for path, item in found:
        # Of a union's branches only the one that the value came into speaks.
        if not any(len(other) > len(path) and other[: len(path)] == path for other, _ in found):
            told.append(_fault(path, item, section, value))
    return "; ".join(told)


def _path(item: Mapping[str, Any], value: Any) -> tuple:
    """The keys that lead to a fault; pydantic also names the branches of unions on the way."""
    path: list[Any] = []
    for part in item["loc"]:
        listed = isinstance(value, list) and isinstance(part, int)
        if listed or (isinstance(value, Mapping) and part in value):
            value = value[part]
        elif item["type"] != "missing" or part != item["loc"][-1]:
            continue
        path.append(part)
    return tuple(path)


def _fault(path: tuple, item: Mapping[str, Any], section: type[Section], value: Any) -> str:
    where = ".".join(str(part) for part in path)
    if item["type"] == "extra_forbidden":
        at = _section_at(section, value, path[:-1])
        if at and (today := at.RETIRED.get(path[-1])):
            return f"{where}: {today.replace('{name}', str(path[-2]))}"
        return f"{where}: unknown key" + (f"; {allowed(path[-1], at.model_fields)}" if at else "")
    if item["type"] == "missing":
        return f"{where}: missing"
    message = re.sub(r"^(Value error, |Input )", "", item["msg"])
    shown = repr(item["input"])
    if not path:
        return message
    return f"{where}: {message}" if len(shown) > 80 else f"{where} = {shown}: {message}"


def _section_at(section: type[Section], value: Any, path: tuple) -> type[Section] | None:
    """The section that a path of keys leads to in a value."""
    at: Any = section
    for key in path:
        value = value[key]
        if inspect.isclass(at) and issubclass(at, Section):
            field = at.model_fields[key]
            at = Annotated[field.annotation, *field.metadata, ""]
        else:
            at = (typing.get_args(at) or (None,))[-1]  # what a dict or list holds
        at = _chosen(at, value)
    return at if inspect.isclass(at) and issubclass(at, Section) else None


def _chosen(annotation: Any, value: Any) -> Any:
    """What an annotation makes of a value: a section, or a dict or list of them."""
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is Annotated:
        for mark in parts[1:]:
            if isinstance(mark, Tagged):
                return mark.kinds(parts[0]).get(str(value[mark.key]))
        return _chosen(parts[0], value)
    if typing.get_origin(annotation) in (typing.Union, UnionType):
        chosen = (_chosen(part, value) for part in parts)
        return next((c for c in chosen if inspect.isclass(c) and issubclass(c, Section)), None)
    return annotation
