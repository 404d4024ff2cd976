"""Staleness is read from manifests: keys and files, not times."""

import json
import os
from pathlib import Path

import pytest

from p2law.errors import UserError
from p2law.results.manifest import verify_files, write_manifest
from p2law.results.stale import stale


@pytest.fixture
def finished(tmp_path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.bin").write_bytes(b"1234")
    (tmp_path / "sub" / "b.bin").write_bytes(b"56")
    spec = {"key": "k", "train": {"lr": 1}}
    return write_manifest(
        tmp_path,
        stage="base",
        spec=spec,
        inputs={},
        files=["a.bin", "sub/b.bin"],
        results={},
        started=0.0,
    )


def reasons(path: Path, spec: dict) -> list[str]:
    return list(stale([(path, path, spec)]).values())


def test_matching_manifest_is_fresh_whatever_its_age(finished):
    os.utime(finished, (0, 0))
    assert reasons(finished, {"key": "k", "train": {"lr": 1}}) == []


def test_changed_setting_is_named(finished):
    assert reasons(finished, {"key": "other", "train": {"lr": 2}}) == ["train.lr: 1 -> 2"]


def test_upstream_change_is_said(finished):
    assert reasons(finished, {"key": "other", "train": {"lr": 1}}) == [
        "what it was made from has changed"
    ]


def test_missing_and_cut_files_are_named(finished):
    spec = {"key": "k", "train": {"lr": 1}}
    (finished.parent / "sub" / "b.bin").write_bytes(b"5")
    assert "b.bin is missing or cut" in reasons(finished, spec)[0]
    (finished.parent / "a.bin").unlink()
    assert "a.bin is missing or cut" in reasons(finished, spec)[0]


def test_absent_output_is_missing_not_stale(tmp_path):
    assert stale([(tmp_path / "x", tmp_path / "x", {"key": "k"})]) == {}


def test_absent_part_makes_its_output_stale(finished):
    part = finished.parent / "0.15" / "manifest.json"
    assert stale([(finished, part, {"key": "k"})]) == {str(finished): f"{part} is missing"}


def test_flipped_byte_is_refused_by_name(finished):
    verify_files(finished)
    (finished.parent / "sub" / "b.bin").write_bytes(b"57")
    with pytest.raises(UserError, match="b.bin: its bytes are not those"):
        verify_files(finished)


def test_cut_nested_file_is_refused_by_name(finished):
    (finished.parent / "sub" / "b.bin").write_bytes(b"")
    with pytest.raises(UserError, match="b.bin: 0 bytes where .* records 2 bytes"):
        verify_files(finished)


def test_torn_manifest_is_refused_by_name(finished):
    finished.write_text(finished.read_text()[:40])
    with pytest.raises(UserError, match="manifest.json: not readable as JSON"):
        verify_files(finished)


def test_manifest_is_plain_json(finished):
    manifest = json.loads(finished.read_text())
    assert manifest["files"]["a.bin"]["bytes"] == 4
    assert manifest["provenance"]["packages"]["torch"]
