"""What a study file may hold, for editors and for people: studies/schema.json and docs/config.md.

Both are made from the sections' own declarations, the page from the schema, so that neither can say
what the code does not. By hand after a change: ``python workflow/scripts/config_reference.py``.
"""

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from p2law.pruning.methods import KINDS
from p2law.study.schema import Settings

Node = dict[str, Any]

KEYWORDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
"""JSON schema's words for limits that pydantic does not translate behind its own validators."""

HEAD = """# The study file

Made by `workflow/scripts/config_reference.py` from the code; a test holds the two together. A study
is a YAML file with the sections below; `config.yaml` is the default study and `studies/` holds
others, each a whole file (`--configfile` replaces, it does not merge). Editors that know YAML
schemas complete and underline a study whose first line names `studies/schema.json`, as theirs do.
"""

METHODS = """
## methods.NAME

Within a kind every setting composes with every other, but for the exceptions that it names. A
shape that cannot come within `tolerance` of a rate, or that Hugging Face could not load, is refused
before any job.

"""


def schema() -> Node:
    """The JSON schema (draft 7) of a study file."""
    made = _tidy(Settings.model_json_schema())
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "A p2law study", **made}


def _tidy(node: Any) -> Any:
    """Without pydantic's own titles, limits in JSON schema's words, names held to their pattern."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {k: _tidy(v) for k, v in node.items() if k != "title" or isinstance(v, dict)}
    if "patternProperties" in node:
        node["additionalProperties"] = False
    for key in KEYWORDS.keys() & node.keys():
        if not isinstance(node[key], dict):
            node[KEYWORDS[key]] = node.pop(key)
    return node


def markdown() -> str:
    """The whole reference."""
    root = schema()
    parts = [HEAD]
    for path, node, kind in _sections(root, root, ""):
        if path.startswith("methods") and kind == next(iter(KINDS)):
            parts.append(METHODS)
        parts.append(f"\n## {path or 'top level'}\n")
        parts += [textwrap.fill(" ".join(node["description"].split()), 99) + "\n"]
        if kind in KINDS and path.startswith("methods"):
            parts += [f"```yaml\nmethods:\n  {KINDS[kind].EXAMPLE}\n```\n"]
        parts.append("| key | what it may be | default | meaning |\n|---|---|---|---|")
        for key, field in node["properties"].items():
            cells = (f"`{key}`", _type(field), _default(key, node), field.get("description", ""))
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        for key, field in node["properties"].items():
            parts += _meanings(key, field.get("items", field))
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _meanings(key: str, field: Node) -> list[str]:
    if "enumDescriptions" not in field:
        return []
    named = zip(field["enum"], field["enumDescriptions"], strict=True)
    rows = [f"| `{name}` | {text.replace('|', chr(92) + '|')} |" for name, text in named]
    return [f"\n| {key} | what it is |", "|---|---|", *rows]


def _default(key: str, node: Node) -> str:
    field = node["properties"][key]
    if key in node.get("required", ()):
        return "required"
    if "default" not in field:
        return "see above"
    if "$ref" in field and field["default"] is not None:
        return "its own defaults"
    return "none" if field["default"] is None else f"`{json.dumps(field['default'])}`"


def _sections(root: Node, node: Node, path: str, kind: str = "") -> Iterator[tuple[str, Node, str]]:
    """Every section with its path and kind; NAME stands for a key that the user chooses."""
    yield path, node, kind
    for key, field in node["properties"].items():
        for label, below, tag in _below(root, field):
            yield from _sections(root, below, f"{path}.{key}{label}".lstrip("."), tag)


def _below(root: Node, field: Node) -> Iterator[tuple[str, Node, str]]:
    """The sections that a key may hold, with what their heading adds to it, and their kind."""
    if "$ref" in field:
        yield "", _at(root, field), ""
    for choice in field.get("oneOf", ()):
        tag = field["discriminator"]["propertyName"]
        below = _at(root, choice)
        value = below["properties"][tag]["const"]
        yield f" ({tag}: {value})", below, value
    for choice in field.get("anyOf", ()):
        yield from _below(root, choice)
    if "items" in field:
        yield from _below(root, field["items"])
    if (named := _named(field)) is not None:
        for label, below, kind in _below(root, named):
            yield f".NAME{label}", below, kind


def _at(root: Node, ref: Node) -> Node:
    return root["$defs"][ref["$ref"].rpartition("/")[2]]


def _named(field: Node) -> Node | None:
    """What each name of a mapping holds; None of anything else, or of a mapping to anything."""
    patterns = list(field.get("patternProperties", {}).values())
    found = patterns[0] if patterns else field.get("additionalProperties")
    return found if isinstance(found, dict) else None


WORDS = {"string": "text", "boolean": "true or false", "null": "none", "object": "keys and values"}


def _type(field: Node) -> str:
    """What a key may hold, as people say it."""
    if "$ref" in field:
        return "section"
    if "oneOf" in field:
        return f"section by its `{field['discriminator']['propertyName']}`"
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(_type(choice) for choice in field["anyOf"])
    if field.get("type") == "array":
        return f"list, each {_type(field['items'])}"
    if (named := _named(field)) is not None:
        names = field.get("propertyNames", {}).get("enum")
        whose = f"of {', '.join(f'`{name}`' for name in names)}" if names else "name"
        return f"for each {whose}: {_type(named)}"
    if field.get("type") == "number" or "integer" in field.get("type", ()):
        return f"{'' if field['type'] == 'number' else 'whole '}number{_limits(field)}"
    return WORDS[field["type"]]


def _limits(field: Node) -> str:
    """' from 0 to 1', ' above 0', ' between 0 and 1': the limits of a number."""
    low, high = field.get("minimum"), field.get("maximum")
    above, below = field.get("exclusiveMinimum"), field.get("exclusiveMaximum")
    if above is not None and below is not None:
        return f" between {above:g} and {below:g}"
    words = [(" from", low), (" to", high), (" above", above), (" up to", high), (" below", below)]
    words = [(word, limit) for word, limit in words if limit is not None]
    if high is not None:
        words = [(w, n) for w, n in words if w != (" up to" if low is not None else " to")]
    return "".join(f"{word} {limit:g}" for word, limit in words)
