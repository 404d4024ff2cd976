"""docs/config.md and studies/schema.json say what the code says, of every key."""

import copy
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from p2law.study.reference import markdown, schema
from p2law.study.schema import Settings

ROOT = Path(__file__).parents[2]
STUDIES = [ROOT / "config.yaml", *sorted((ROOT / "studies").glob("*.yaml"))]


def test_reference_and_schema_have_not_drifted():
    again = "run workflow/scripts/config_reference.py"
    assert (ROOT / "docs" / "config.md").read_text() == markdown(), again
    assert json.loads((ROOT / "studies" / "schema.json").read_text()) == schema(), again


def test_every_key_of_the_default_study_is_in_it(default):
    text = markdown()
    for section in ("corpus", "posttrain", "evaluate", "law"):
        for key in default[section]:
            assert f"| `{key}` |" in text


def sections():
    made = schema()
    return {"Settings": made, **made["$defs"]}


def test_every_key_has_a_meaning():
    silent = [
        f"{name}.{key}"
        for name, section in sections().items()
        for key, field in section["properties"].items()
        if not field.get("description", "").strip()
    ]
    assert not silent, f"no description: {', '.join(silent)}"


def test_every_section_and_name_has_a_meaning():
    for name, section in sections().items():
        assert len(section["description"]) > 10, name
        for field in section["properties"].values():
            holder = field.get("items", field)
            if "enumDescriptions" in holder:
                assert len(holder["enumDescriptions"]) == len(holder["enum"])
                assert all(holder["enumDescriptions"])


def test_no_cell_holds_the_name_of_a_class():
    """Types are said as people say them: a number with its limits, a name of some, a section."""
    rows = re.findall(r"^\| `[a-z_0-9]+` \| (.*?) \| .*? \| .* \|$", markdown(), re.M)
    assert len(rows) > 100
    for cell in rows:
        plain = re.sub(r"`[^`]*`", "", cell)
        assert re.fullmatch(
            r"(text|true or false|none|section( by its )?|keys and values|list, each|or|of|,"
            r"|(whole )?number|from|to|above|up to|below|between|and|for each|name|:|[0-9.e-]+| )*",
            plain,
        ), cell


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.name)
def test_each_study_is_valid_and_names_the_schema(path):
    text = path.read_text()
    found = re.fullmatch(r"# yaml-language-server: \$schema=(.+)", text.splitlines()[0])
    assert (path.parent / found[1]).resolve() == ROOT / "studies" / "schema.json"
    jsonschema.Draft7Validator.check_schema(schema())
    jsonschema.validate(yaml.safe_load(text), schema(), jsonschema.Draft7Validator)
    underscored = yaml.load(text, Loader=yaml.BaseLoader)  # as YAML 1.2 has it: 4_096 is text
    assert isinstance(underscored["evaluate"]["tokens"], str)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("postrain",), {}),
        (("methods", "depth", "criterion"), "vibes"),
        (("methods", "depth", "prune"), "sideways"),
        (("methods", "depth", "guard_first"), -1),
        (("methods", "depth", "rates"), [1.2]),
        (("methods", "depth", "rates"), []),
        (("methods", "depth"), {"prune": "depth"}),
        (("methods", "sparse24", "pattern"), "two of four"),
        (("methods", "a b"), {"prune": "depth", "rates": [0.15]}),
        (("corpus", "source", "kind"), "web"),
        (("corpus", "validation_share"), 1),
        (("corpus", "sequence_length"), 0),
        (("corpus", "sequence_length"), "many"),
        (("families", "tiny", "tokenizer", "vocabulary"), 256),
        (("families", "tiny", "models", "tiny-16", "tokens"), 0.5),
        (("evaluate", "tokens"), ...),
    ],
)
def test_what_the_study_refuses_an_editor_underlines(tiny, path, value):
    changed = copy.deepcopy(tiny)
    *parents, last = path
    section = changed
    for key in parents:
        section = section[key]
    if value is ...:
        del section[last]
    else:
        section[last] = value
    with pytest.raises(ValueError):
        Settings.model_validate(changed)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed, schema(), jsonschema.Draft7Validator)


def test_numbers_as_people_write_them_are_not_underlined(tiny):
    tiny["corpus"]["sequence_length"] = "4_096"
    tiny["evaluate"]["tokens"] = 4e6
    jsonschema.validate(tiny, schema(), jsonschema.Draft7Validator)
