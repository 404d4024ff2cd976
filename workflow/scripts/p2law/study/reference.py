"""docs/config.md, made from the schema, so that the reference cannot say what the code does not.

Run by hand after a change of the schema: ``python workflow/scripts/config_reference.py``.
"""

import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator

from p2law.pruning import names
from p2law.study.schema import Settings
from p2law.study.section import Section

BAR = "\\|"
"""A vertical bar inside a table's cell."""

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
            meaning = (field.description or "").replace("|", BAR)
            parts.append(f"| `{name}` | {_type(field.annotation)} | {default} | {meaning} |")
        parts.append("")
    parts.append(_methods())
    return "\n".join(parts).rstrip() + "\n"


METHODS = """
## methods.NAME

How to prune: `prune`, its settings, and `rates`, rising shares of all N0 parameters (embeddings
included, tied ones once) in (0, 1). The achieved rate is counted on the result and is what tables
and laws use; a shape that cannot come within `tolerance` of a rate, or that Hugging Face could not
load, is refused before any job. Within a kind every setting composes with every other, but for the
exceptions named below it.
"""

KINDS = {
    "depth": (
        "Whole blocks go. Guarded blocks at either end stay. Every architecture.",
        "depth: {prune: depth, criterion: taylor, guard_first: 4, guard_last: 2, rates: [0.2]}",
    ),
    "width": (
        "Rows and columns go, the same number in every block: one dimension, or several together to"
        " one rate. Each loses the same share of its width, times its number in `split`; widths of"
        " ffn and hidden are multiples of `multiple`. `groups` and `queries` exclude one another,"
        " and `flap` has no score for `hidden`. Not for mamba.",
        "narrow: {prune: width, dimensions: [ffn, groups, hidden], criterion: activation,"
        " split: {ffn: 2}, rates: [0.2]}",
    ),
    "weights": (
        "Single weights of the blocks' linear layers become zeros, and stay zeros in post-training."
        " Which go (`mask`) and what the others become (`weights`) are independent: APT is `obs` or"
        " `group` with `mrp`, and the lowest error on a layer is that of `sparsegpt` with `mrp`. An"
        ' "n:m" pattern keeps n of every m along the input and fixes the rate: leave out `rates`.'
        " `group` needs n:m; `owl` and `alpha` need unstructured.",
        'sparse24: {prune: weights, pattern: "2:4", mask: sparsegpt, weights: mrp-cg}\n'
        "  sparse: {prune: weights, pattern: unstructured, mask: wanda, layer_rates: owl,"
        " refine: dsnot, rates: [0.3]}",
    ),
}
"""Of each kind: what it does and what does not combine, and an entry of a study file."""

MEANINGS = {
    ("depth", "criterion"): names.DEPTH_CRITERIA,
    ("width", "dimensions"): names.DIMENSIONS,
    ("width", "criterion"): names.WIDTH_CRITERIA,
    ("weights", "mask"): names.MASKS,
    ("weights", "weights"): names.WEIGHTS,
    ("weights", "scope"): names.SCOPES,
    ("weights", "layer_rates"): names.LAYER_RATES,
    ("weights", "refine"): names.REFINEMENTS,
}


def _methods() -> str:
    lines = [METHODS.rstrip()]
    for kind, settings in names.SETTINGS.items():
        what, example = KINDS[kind]
        lines += [f"\n### prune: {kind}\n", textwrap.fill(what, 99)]
        lines += ["\n```yaml\nmethods:\n  " + example + "\n```\n"]
        lines += ["| key | default | allowed |", "|---|---|---|"]
        for name, setting in settings.items():
            lines.append(f"| `{name}` | `{setting.default!r}` | {setting.allowed} |")
        for name in settings:
            if meanings := MEANINGS.get((kind, name)):
                lines += [f"\n| {name} | what it is |", "|---|---|"]
                lines += [
                    f"| `{value}` | {text.replace('|', BAR)} |" for value, text in meanings.items()
                ]
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
