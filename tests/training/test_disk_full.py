"""A training on a disk that is too small: one line, exit 2; with room the undisturbed bytes."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from p2law.training import run

SCRIPT = Path(run.__file__).parents[2] / "posttrain.py"
ROOM = {"16k": "state", "120k": "D1024/model.safetensors", "240k": "D2048"}
"""Sizes of a disk, and what does not fit: optimizer state, safetensors, the last point."""
MOUNTS = subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not MOUNTS, reason="file systems cannot be mounted here")
def test_each_kind_of_file_that_does_not_fit(tmp_path, corpus, pruned, spec):
    asked = spec([8, 16])
    run.posttrain(asked, pruned, corpus, tmp_path / "whole")
    disk, copies = tmp_path / "disk", tmp_path / "copies"
    disk.mkdir()
    words = [sys.executable, SCRIPT, "--spec", json.dumps(asked), "--pruned", pruned]
    words += ["--corpus", corpus, "--out", disk / "out"]
    train = shlex.join(map(str, words))
    lines = [f"mount -t tmpfs -o size=4k none {disk}"]
    for size in (*ROOM, "8m"):
        lines.append(f"mount -o remount,size={size} {disk}; {train} > {tmp_path}/log")
        lines.append("echo code $? > /dev/stderr")
    lines.append(f"cp -r {disk}/out {copies}")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", "\n".join(lines)], capture_output=True, text=True
    )
    told = done.stderr.splitlines()
    assert told[1::2] == ["code 2"] * 3 and told[-1] == "code 0", done.stderr
    for line, part in zip(told[::2], ROOM.values(), strict=False):
        assert line.startswith(f"error: {disk / 'out' / part}"), line
        assert line.endswith("no space left on the disk")
    for steps in (8, 16):
        name = f"D{steps * 128}/model.safetensors"
        assert (copies / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
