"""docs/config.md says what the schema says."""

from pathlib import Path

from p2law.study.reference import markdown

REFERENCE = Path(__file__).parents[2] / "docs" / "config.md"


def test_reference_has_not_drifted():
    assert REFERENCE.read_text() == markdown(), "run workflow/scripts/config_reference.py"


def test_every_key_of_the_default_study_is_in_it(default):
    text = markdown()
    for section in ("corpus", "posttrain", "evaluate", "law"):
        for key in default[section]:
            assert f"| `{key}` |" in text
