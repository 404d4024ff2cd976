"""Staleness is read from manifests: keys and files, not times."""

import json
import os
from pathlib import Path

import pytest

from p2law import canonical
from p2law.errors import UserError
from p2law.results import fingerprint
from p2law.results.manifest import read_manifest, verify_files, write_manifest
from p2law.results.stale import Standing, differences
from p2law.study.grid import Study
from p2law.study.stages import Stages


@pytest.fixture
def finished(tmp_path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.bin").write_bytes(b"1234")
    (tmp_path / "sub" / "b.bin").write_bytes(b"56")
    return write_manifest(
        tmp_path, stage="base", spec={"key": "k"}, inputs={}, files=["a.bin", "sub/b.bin"],
        results={}, started=0.0,
    )  # fmt: skip


def make(stages: Stages, *names: str) -> None:
    """Finished results of these stages (of all): a manifest with one file of ten bytes each."""
    for ref in stages.results():
        if not names or ref.stage in names:
            path = stages.path(ref)
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / "model.safetensors").write_bytes(b"0123456789")
            spec = stages[ref.stage].spec(*ref.names)
            write_manifest(
                path.parent, stage=ref.stage, spec=spec, inputs={}, files=["model.safetensors"],
                results={}, started=0.0,
            )  # fmt: skip


@pytest.fixture
def stages(tiny, tmp_path) -> Stages:
    """The tiny study, finished."""
    stages = Stages(Study(tiny, "x", tmp_path))
    make(stages)
    return stages


def again(stages: Stages, tiny: dict) -> Standing:
    """What stands of a changed study in the same results."""
    return Standing(Stages(Study(tiny, "x", stages.study.root.parent)))


def test_a_finished_study_stands_whatever_its_age(stages, tiny):
    for path in stages.study.root.rglob("*"):
        os.utime(path, (0, 0))
    standing = again(stages, tiny)
    assert standing.reasons == {}
    assert not any(standing.must_run(stage, job) for stage, job in stages.jobs())


def test_a_changed_setting_is_told_by_name(stages, tiny):
    tiny["posttrain"]["recipes"]["text"]["learning_rate"] = 3e-3
    reasons = again(stages, tiny).reasons
    point = stages["posttrain"].path("tiny-16", "depth-0.3", "D2048")
    assert reasons[str(point)] == "posttrain: train.learning_rate: 0.002 -> 0.003"
    law = "law: what it was made from has changed"
    assert reasons[str(stages["law"].path())] == law


def test_an_added_budget_is_told_by_name(stages, tiny):
    tiny["posttrain"]["budgets"].append(786_432)
    reasons = again(stages, tiny).reasons
    assert reasons[str(stages["tables"].path())] == "tables: posttrain.budgets: + 786,432"
    group = str(stages["evaluate"].path("tiny-16", "sparse24"))
    assert reasons[group] == "evaluate: checkpoints: + 0.5/D786432"
    assert not any("posttrained" in path for path in reasons)  # missing, not stale


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({"a": 1, "key": "x"}, {"a": 1, "key": "y"}, []),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b: 1 -> 2"]),
        ({"a": [1, 2]}, {"a": [2, 3000]}, ["a: + 3,000", "a: - 1"]),
        ({}, {"a": None}, ["a: None"]),
        ({"a": 1}, {}, ["a: gone"]),
        ({"study": {"a": 1}}, {"study": {"a": 2}}, ["a: 1 -> 2"]),
        ({"c": {"x": "0" * 64}}, {"c": {"x": "1" * 64}}, []),
        (
            {"content": {"text": {"a.txt": "0" * 64}}},
            {"content": {"text": {"a.txt": "1" * 64}}},
            ["text.a.txt has changed"],
        ),
    ],
)
def test_differences(old, new, told):
    assert list(differences(old, new)) == told


def test_missing_and_cut_files_are_named(stages, tiny):
    weights = stages["base"].path("tiny-16").with_name("model.safetensors")
    weights.write_bytes(b"012345678")
    assert again(stages, tiny).reasons == {
        str(stages["base"].path("tiny-16")): f"base: {weights} is missing or cut"
    }
    weights.unlink()
    assert len(again(stages, tiny).reasons) == 1


def test_an_absent_output_is_missing_and_a_part_of_it_makes_it_stale(stages, tiny):
    stages["law"].path().unlink()
    assert again(stages, tiny).reasons == {}
    part = stages["prune"].path("tiny-16", "depth", "0.15")
    part.unlink()
    whole = str(stages["prune"].path("tiny-16", "depth"))
    assert again(stages, tiny).reasons == {whole: f"{part} is missing"}


def test_inputs_are_a_reason_only_for_jobs_that_must_run(stages, tiny):
    stages["posttrain"].path("tiny-16", "depth-0.3", "D2048").unlink()
    standing = again(stages, tiny)
    told = standing.inputs(stages["prune"], ("tiny-16", "depth"))
    stands = {name: reason for name, _, reason in told}
    told = standing.inputs(stages["posttrain"], ("tiny-16", "depth-0.3"))
    runs = {name: reason for name, _, reason in told}
    assert stands == {"base": False, "corpus": False}
    assert runs == {"pruned": True, "corpus": True}


def test_a_stale_result_behind_a_job_that_stands_is_an_input_of_the_next(stages, tiny):
    """A lost base behind a variant that stands, and a run that is missing: Snakemake looks along
    inputs that are a reason, and the variant's are none."""
    stages["base"].path("tiny-16").with_name("model.safetensors").unlink()
    stages["posttrain"].path("tiny-16", "depth-0.3", "D2048").unlink()
    standing = again(stages, tiny)
    told = standing.inputs(stages["posttrain"], ("tiny-16", "depth-0.3"))
    found = {name: paths for name, paths, _ in told}
    assert found["after"] == [str(stages["base"].path("tiny-16"))]
    other = standing.inputs(stages["posttrain"], ("tiny-24", "depth-0.3"))
    assert "after" not in {name for name, _, _ in other}


def test_a_room_that_changed_is_told_once_and_reruns_nothing(stages, tiny, monkeypatch):
    monkeypatch.setattr(fingerprint, "_bytes", lambda room: f"other {room}")
    assert again(stages, tiny).drifted == {}  # the same syntax: a comment
    monkeypatch.setattr(fingerprint, "code_digest", lambda *rooms: f"other {rooms}")
    path = next(stages.study.root.rglob("base/tiny-16/manifest.json"))
    record = json.loads(path.read_text())
    record["code"]["training"] = ["b", "c"]
    path.write_text(json.dumps(record))
    standing = again(stages, tiny)
    assert standing.reasons == {}
    assert standing.drifted["training"][0] == str(path)


def test_flipped_byte_is_refused_by_name(finished):
    verify_files(finished)
    (finished.parent / "sub" / "b.bin").write_bytes(b"57")
    with pytest.raises(UserError, match="b.bin: its bytes are not those"):
        verify_files(finished)


def test_cut_nested_file_is_refused_by_name(finished):
    (finished.parent / "sub" / "b.bin").write_bytes(b"")
    with pytest.raises(UserError, match="b.bin: 0 bytes where .* records 2 bytes"):
        verify_files(finished)


@pytest.mark.parametrize("text", ["[]", "null", "3"])
def test_json_that_is_no_manifest_is_refused_by_name(finished, text):
    finished.write_text(text)
    with pytest.raises(UserError, match="manifest.json: holds no manifest"):
        read_manifest(finished)


def test_torn_manifest_is_refused_by_name(finished):
    finished.write_text(finished.read_text()[:40])
    with pytest.raises(UserError, match="manifest.json: not readable as JSON"):
        verify_files(finished)


def test_manifest_is_plain_json(finished):
    manifest = json.loads(finished.read_text())
    assert manifest["files"]["a.bin"]["bytes"] == 4
    assert manifest["provenance"]["packages"]["torch"]
    assert manifest["code"]["results"] == list(fingerprint.of_room("results"))


def test_comments_are_no_code(tmp_path, monkeypatch):
    monkeypatch.setattr(canonical, "LIBRARY", tmp_path)
    (tmp_path / "room").mkdir()
    file = tmp_path / "room" / "a.py"
    digests = []
    for text in ("X = 1\n", "X = 1  # one\n\n", "X = 2\n"):
        file.write_text(text)
        canonical._syntax.cache_clear()
        digests.append(canonical.code_digest("room"))
    canonical._syntax.cache_clear()
    assert digests[0] == digests[1] != digests[2]
