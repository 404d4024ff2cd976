"""GGUF: the header read without torch, and a model that comes back with the same logits."""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from p2law.architectures import counts
from p2law.canonical import sha256_file
from p2law.checkpoints import gguf, io
from p2law.checkpoints.imported import fetch
from p2law.corpus import tokenizer
from p2law.corpus.documents import Spool
from p2law.errors import UserError

SHAPE = {
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


@pytest.fixture(scope="module")
def bpe(tmp_path_factory):
    """Folder of a byte-level BPE of 300 entries."""
    folder = tmp_path_factory.mktemp("bpe")
    words = "the pruned model of a layer, its weights and their rows and columns. "
    spool = Spool(folder / "spool", [words * 30 + str(i) for i in range(20)], 0, None)
    tokenizer.train(spool, np.arange(20), 300, folder)
    return folder


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def made(request, bpe, write_gguf, tmp_path_factory):
    """A model and the GGUF file of it."""
    model = io.fresh({**SHAPE, "tie_word_embeddings": request.param}, seed=1)
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path, model, bpe / "tokenizer.json")
    return model, path


def test_the_header_gives_the_shape_that_transformers_reads(made, tmp_path):
    model, path = made
    config = gguf.config(path)
    counted = sum(p.numel() for p in model.parameters())
    assert counts.parameters(config)["total"] == counted
    fetch({"source": "gguf", "path": str(path)}, tmp_path / "out")
    loaded = io.load(tmp_path / "out").config
    for key, value in config.items():
        assert getattr(loaded, key) == value, key


def test_a_model_comes_back_with_the_same_logits(made, bpe, tmp_path):
    model, path = made
    fetch({"source": "gguf", "path": str(path), "package": None}, tmp_path / "out")
    tokens = torch.arange(40)[None] * 7 % 300
    with torch.no_grad():
        # fp32 in and out, no quantisation: the weights are the same, and so are the products.
        assert torch.equal(io.load(tmp_path / "out")(tokens).logits, model(tokens).logits)
    out = tmp_path / "words"
    out.mkdir()
    # Files of another tokenizer beside it do not count.
    (path.parent / "tokenizer.json").write_text("{}")
    (path.parent / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    tokenizer.copy({"kind": "gguf", "path": str(path)}, out)
    theirs, ours = tokenizer.Encoder(out), tokenizer.Encoder(bpe)
    assert (theirs.vocabulary, theirs.end) == (ours.vocabulary, ours.end)
    spool = Spool(tmp_path / "spool", ["the pruned rows: naïve 日本 columns"], 0, None)
    for one, other in zip(
        theirs.encode(spool, np.arange(1)), ours.encode(spool, np.arange(1)), strict=True
    ):
        assert one[1].tolist() == other[1].tolist()


def test_reading_a_header_imports_no_torch(made):
    code = (
        "import sys; from pathlib import Path; from p2law.checkpoints import gguf;"
        "gguf.config(Path(sys.argv[1])); assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    scripts = Path(gguf.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(made[1])], cwd=scripts, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_another_file_than_the_study_names_is_refused(made, tmp_path):
    _, path = made
    spec = {"source": "gguf", "path": str(path), "sha256": sha256_file(path)}
    fetch(spec, tmp_path / "out")
    with pytest.raises(UserError, match=f"tiny.gguf: its sha256 is {spec['sha256']}; the study"):
        fetch({**spec, "sha256": "0" * 64}, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.raises(UserError, match="its sha256 is"):
        tokenizer.copy({"kind": "gguf", "path": str(path), "sha256": "0" * 64}, tmp_path)


def test_a_header_that_cannot_be_read_is_named(made, tmp_path):
    raw, path = made[1].read_bytes(), tmp_path / "cut.gguf"
    for size in (6, 20, 60, 1500):
        path.write_bytes(raw[:size])
        with pytest.raises(UserError, match="cut.gguf: its GGUF header cannot be read"):
            gguf.config(path)
    path.write_bytes(b"GGUF" + struct.pack("<I", 1) + raw[8:])
    with pytest.raises(UserError, match="version 1"):
        gguf.config(path)
    path.write_bytes(raw.replace(b"llama", b"gemma"))
    with pytest.raises(UserError, match="architecture 'gemma'; allowed: llama, mistral, qwen2"):
        gguf.config(path)
    path.write_bytes(raw.replace(b"llama.block_count", b"llama.block_sizes"))
    with pytest.raises(UserError, match="does not say num_hidden_layers"):
        gguf.config(path)
