"""What comes from outside a study is known by its content, not by its place or its age."""

import json
import os

from p2law.study import outside
from p2law.study.grid import Study
from p2law.study.stages import Stages


def keys(config: dict) -> dict[str, str]:
    """Every result's manifest -> its key."""
    stages = Stages(Study(config, "study.yaml"))
    return {str(stages.path(ref)): stages.key(ref) for ref in stages.results()}


def differ(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Stages' folders with a result whose key differs."""
    return {path.split("/")[2] for path in before if before[path] != after[path]}


def test_what_comes_from_outside_counts_by_its_content(tiny, tmp_path):
    text, base, tokens = (tmp_path / name for name in ("text", "base", "tokens"))
    for folder in (text, base, tokens):
        folder.mkdir()
    shape = Study(tiny, "x").models["tiny-16"].config
    (base / "config.json").write_text(json.dumps(shape))
    (base / "model.safetensors").write_bytes(b"weights")
    (text / "a.txt").write_text("some text")
    (tokens / "tokenizer.json").write_text("{}")
    family = tiny["families"]["tiny"]
    tiny["corpus"]["source"] = {"kind": "files", "path": str(text)}
    family["models"] = {"given": {"source": "folder", "path": str(base)}}
    family["tokenizer"] = {"kind": "folder", "path": str(tokens)}
    tiny["posttrain"]["control"] = False
    before = keys(tiny)
    everything = differ(before, dict.fromkeys(before, ""))
    for file, stages in (
        (text / "a.txt", everything - {"base"}),
        (text / "b.txt", everything - {"base"}),
        (tokens / "tokenizer.json", everything - {"base"}),
        (base / "model.safetensors", everything - {"corpus"}),
    ):
        kept = file.read_bytes() if file.exists() else None
        file.write_bytes(b"other")
        assert differ(before, keys(tiny)) == stages, file
        file.unlink() if kept is None else file.write_bytes(kept)
    os.utime(text / "a.txt", (0, 0))
    assert keys(tiny) == before
    # Elsewhere, the same: jobs are told the new places, keys are what they were.
    for folder in (text, base, tokens):
        folder.rename(tmp_path / f"moved-{folder.name}")
    tiny["corpus"]["source"]["path"] = str(tmp_path / "moved-text")
    family["models"]["given"]["path"] = str(tmp_path / "moved-base")
    family["tokenizer"]["path"] = str(tmp_path / "moved-tokens")
    assert keys(tiny) == before
    stages = Stages(Study(tiny, "x"))
    assert stages["corpus"].spec("tiny")["source"]["path"] == str(tmp_path / "moved-text")
    assert stages["corpus"].spec("tiny")["tokenizer"]["path"] == str(tmp_path / "moved-tokens")
    assert stages["base"].spec("given")["path"] == str(tmp_path / "moved-base")


def test_large_files_are_read_once(tmp_path, monkeypatch):
    monkeypatch.setattr(outside, "LARGE", 4)
    (tmp_path / "a.txt").write_text("some text")
    source = {"kind": "files", "path": str(tmp_path / "a.txt")}
    first = outside.Outside(tmp_path / "kept.json").text(source)
    monkeypatch.setattr(outside, "sha256_file", None)  # not to be called again
    assert outside.Outside(tmp_path / "kept.json").text(source) == first


def test_definitions_of_tasks_count_by_their_place(tiny, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "task.yaml").write_text(f"task: {folder}")
    section = {"add_bos_token": False, "tasks": ["a"], "include": str(tmp_path)}
    before = keys(tiny | {"downstream": section})
    (tmp_path / "a" / "task.yaml").write_text("task: c")
    after = keys(tiny | {"downstream": section})
    assert differ(before, after) == {"downstream"}
