"""Who may read what the library writes is the user's umask to say, not safetensors' (0600)."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import p2law
from p2law.checkpoints import files, io
from p2law.evaluation import cache
from p2law.training import state

TINY = {
    "model_type": "llama",
    "vocab_size": 32,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


@pytest.fixture(params=[0o022, 0o027, 0o002, 0o077], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder):
    return {f.name: f.stat().st_mode & 0o777 for f in Path(folder).rglob("*") if f.is_file()}


def test_files_follow_the_umask(umask, tmp_path):
    io.save(io.fresh(TINY, seed=0), tmp_path / "checkpoint", shard="2KB")
    tensors = {"w": torch.ones(3)}
    state.write(tmp_path / "leg", 1, tensors, identity={"key": "k"}, extra={})
    cache.put(tmp_path / "rows" / "sums.safetensors", np.ones(3))
    written = modes(tmp_path)
    assert len([name for name in written if name.endswith("safetensors")]) > 3
    assert set(written.values()) == {0o666 & ~umask}, written
    assert os.umask(umask) == umask  # asking for the umask has left it as it was


def test_no_writer_is_forgotten():
    """Whatever calls safetensors' or transformers' writers also hands the file to follow_umask."""
    writers = re.compile(r"\bsave_file\(|model\.save_pretrained\(")
    library = Path(p2law.__file__).parent
    found = [path for path in library.rglob("*.py") if writers.search(path.read_text())]
    assert len(found) >= 4
    for path in found:
        assert f"{files.follow_umask.__name__}(" in path.read_text(), path
