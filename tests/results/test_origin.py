"""Two study files with one name, and keys that a file gives twice, are refused before any job."""

import pytest
import yaml

from p2law.errors import UserError
from p2law.results import origin


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(path, tiny: dict) -> str:
    path.write_text(yaml.safe_dump(tiny))
    return str(path)


def test_two_files_with_one_name_are_refused_naming_both(tiny, tmp_path):
    one, two = (write(tmp_path / f"{name}.yaml", tiny) for name in ("one", "two"))
    origin.leave(origin.read_study(tiny, [one]), [one])
    assert origin.read_study(tiny, [one]).name == "tiny"
    with pytest.raises(UserError, match=r"study = 'tiny': .*one.yaml.*two.yaml"):
        origin.read_study(tiny, [two])
    # Renamed, or of another name since: no clash.
    write(tmp_path / "one.yaml", tiny | {"study": "other"})
    assert origin.read_study(tiny, [two]).name == "tiny"


def test_another_name_by_an_override_is_another_study(tiny, tmp_path):
    one = write(tmp_path / "one.yaml", tiny)
    origin.leave(origin.read_study(tiny, [one]), [one])
    assert origin.read_study(tiny | {"study": "other"}, [one]).name == "other"


def test_the_study_kept_beside_its_results_is_no_clash(tiny, tmp_path):
    one = write(tmp_path / "one.yaml", tiny)
    origin.leave(origin.read_study(tiny, [one]), [one])
    kept = write(tmp_path / "results/tiny/study.json", tiny)
    assert origin.read_study(tiny, [kept]).name == "tiny"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("study: a\nstudy: b\n", "study stands twice, in lines 1 and 2"),
        (
            "methods:\n  depth: {rates: [1]}\n  depth: {}\n",
            "methods.depth stands twice",
        ),
        ("a:\n  - {b: 1, c: 2, b: 3}\n", "a.b stands twice, in lines 2 and 2"),
        ("a: [1\n", "not YAML"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_lines(tmp_path, text, words):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(UserError, match=words):
        origin.refuse_repeats(tmp_path / "s.yaml")


def test_equal_keys_of_different_mappings_and_merges_are_fine(tmp_path):
    (tmp_path / "s.yaml").write_text("x: &x {a: 1}\ny: {<<: *x, b: 1}\nz: {a: 1, b: 2}\n")
    origin.refuse_repeats(tmp_path / "s.yaml")
