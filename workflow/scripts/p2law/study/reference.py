"""docs/config.md, made from the schema, so that the reference cannot say what the code does not.

Run by hand after a change of the schema: ``python workflow/scripts/config_reference.py``.
"""

import inspect
import re
import types
import typing
from collections.abc import Iterator

from p2law.pruning.names import SETTINGS
from p2law.study.schema import Section, Settings

HEAD = """# The study file

Made by `workflow/scripts/config_reference.py` from `p2law/study/schema.py`; a test holds the two
together. A study is a YAML file with the sections below; `config.yaml` is the default study and
`studies/` holds others, each a whole file (`--configfile` replaces, it does not merge).
"""


def markdown() -> str:
    """The whole reference."""
    parts = [HEAD]
    for path, section in _sections(Settings, ""):
        parts.append(f"\n## {path or 'top level'}\n")
        parts.append(inspect.cleandoc(section.__doc__ or "") + "\n")
        parts.append("| key | type | default | meaning |\n|---|---|---|---|")
        for name, field in section.model_fields.items():
            default = "required" if field.is_required() else f"`{_default(field)}`"
            meaning = (field.description or "").replace("|", "\\|")
            parts.append(f"| `{name}` | {_type(field.annotation)} | {default} | {meaning} |")
        parts.append("")
    parts.append(_methods())
    return "\n".join(parts).rstrip() + "\n"


def _methods() -> str:
    lines = [
        "\n## methods.NAME\n",
        "How to prune; `rates` (rising shares in (0, 1)) and by `prune`:",
    ]
    for kind, settings in SETTINGS.items():
        lines += [f"\n### prune: {kind}\n", "| key | default | allowed |", "|---|---|---|"]
        for name, setting in settings.items():
            lines.append(f"| `{name}` | `{setting.default!r}` | {setting.allowed} |")
    return "\n".join(lines)


def _default(field: typing.Any) -> str:
    value = field.get_default()
    return "its own defaults" if isinstance(value, Section) else repr(value)


def _sections(section: type[Section], path: str) -> Iterator[tuple[str, type[Section]]]:
    """Every section with its path; NAME stands for a key the user chooses."""
    yield path, section
    for name, field in section.model_fields.items():
        below = f"{path}.{name}".lstrip(".")
        for nested, keyed in _nested(field.annotation):
            label = below + (".NAME" if keyed else "")
            tag = nested.model_fields.get("kind") or nested.model_fields.get("source")
            if tag is not None and typing.get_origin(tag.annotation) is typing.Literal:
                (value,) = typing.get_args(tag.annotation)
                key = "kind" if "kind" in nested.model_fields else "source"
                label += f" ({key}: {value})"
            yield from _sections(nested, label)


def _nested(annotation: typing.Any, keyed: bool = False) -> Iterator[tuple[type[Section], bool]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation, keyed
    keyed = keyed or typing.get_origin(annotation) is dict
    for part in typing.get_args(annotation):
        yield from _nested(part, keyed)


def _type(annotation: typing.Any) -> str:
    """A type as people say it."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin is typing.Annotated:
        return _type(parts[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(part) for part in parts)
    if origin is list:
        return f"list of {_type(parts[0])}"
    if origin is dict:
        return f"mapping of {_type(parts[1])}"
    if annotation is type(None):
        return "null"
    names = {int: "whole number", float: "number", str: "text", bool: "true or false"}
    if annotation in names:
        return names[annotation]
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", getattr(annotation, "__name__", "value"))
    return words.lower().replace("any", "value")
