"""Shards, memory, architectures and bad input: clear errors, nothing half-written."""

import errno
import json
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from p2law.checkpoints import io
from p2law.errors import UserError
from p2law.pruning import store
from p2law.pruning.blocks import Blocks
from p2law.pruning.stage import Stage
from p2law.results import manifest

SPARSE = {"prune": "weights", "mask": "sparsegpt", "weights": "mrp-cg"}


@pytest.mark.parametrize("name", ["mistral", "qwen2", "qwen3", "olmo2", "mamba", "llama-mqa"])
def test_weight_pruning_of_every_architecture(name, make_base, corpus, spec, tmp_path):
    changes = {"num_key_value_heads": 1} if name == "llama-mqa" else {}
    base = make_base(name.split("-")[0], **changes)
    settings = {**SPARSE, "pattern": "1:2"}  # Mamba's dt_proj has 2 inputs here
    Stage(spec(settings, 0.5), base, corpus, tmp_path).run()
    folder = tmp_path / "0.5"
    masks, state = io.load_masks(folder), load_file(folder / "model.safetensors")
    each = 4 if name == "mamba" else 7
    assert len(masks) == each * 4
    for key, mask in masks.items():
        assert (mask.reshape(-1, 2).sum(1) == 1).all()
        assert not state[key][mask == 0].any()
    dense = load_file(base.parent / "model.safetensors")
    untouched = set(dense) - set(masks)
    assert all(torch.equal(dense[key], state[key]) for key in untouched)
    if name == "mamba":
        assert {key.rsplit(".", 1)[-1] for key in untouched} >= {"A_log", "D"}
    assert torch.isfinite(io.load(folder)(torch.arange(16)[None]).logits).all()


@pytest.mark.parametrize("settings", [{"prune": "depth"}, {"prune": "width"}, SPARSE])
def test_shards_hold_the_same_tensors(settings, make_base, corpus, spec, tmp_path, monkeypatch):
    rate = 0.5 if settings is SPARSE else 0.2
    Stage(spec(settings, rate), make_base(), corpus, tmp_path / "one").run()
    monkeypatch.setattr(store.Writer.__init__, "__defaults__", ("model", 20_000))
    Stage(spec(settings, rate), make_base(), corpus, tmp_path / "many").run()
    folder = tmp_path / "many" / str(rate)
    record = manifest.verify_files(folder / manifest.NAME)
    shards = [name for name in record["files"] if name.startswith("model-")]
    assert len(shards) > 3
    whole = load_file(tmp_path / "one" / str(rate) / "model.safetensors")
    parts = {k: v for name in shards for k, v in load_file(folder / name).items()}
    assert parts.keys() == whole.keys()
    assert all(torch.equal(parts[key], whole[key]) for key in whole)
    assert torch.equal(
        io.load(folder)(torch.arange(9)[None]).logits,
        io.load(tmp_path / "one" / str(rate))(torch.arange(9)[None]).logits,
    )
    # A sharded base is read as well as written.
    blocks = Blocks(folder)
    assert blocks.reader.shapes == {key: tuple(tensor.shape) for key, tensor in whole.items()}


def test_a_disk_that_fills_up(make_base, corpus, spec, tmp_path, monkeypatch):
    Stage(spec({"prune": "depth"}, 0.2), make_base(), corpus, tmp_path).run()
    whole = {file: file.read_bytes() for file in (tmp_path / "0.2").iterdir()}
    written = 0

    def add(self, name, tensor, real=store.Writer.add):
        nonlocal written
        written += 1
        if written > 9:
            with store._disk(self.folder / self.files[0]):
                raise OSError(errno.ENOSPC, "No space left on device")
        real(self, name, tensor)

    monkeypatch.setattr(store.Writer, "add", add)
    with pytest.raises(UserError, match="model.safetensors: cannot be written.*disk full"):
        Stage(spec({"prune": "depth"}, 0.2, 0.4), make_base(), corpus, tmp_path).run()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.2", manifest.NAME]
    assert {file: file.read_bytes() for file in (tmp_path / "0.2").iterdir()} == whole


def edited(base, folder, config=None, change=None):
    """A copy of a base with its config or tensors changed, and a manifest that agrees."""
    shutil.copytree(base.parent, folder)
    path = folder / "config.json"
    if config:
        path.write_text(json.dumps(json.loads(path.read_text()) | config))
    if change:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return manifest.write_manifest(
        folder,
        stage="base",
        spec={"key": "k"},
        inputs={},
        files=["config.json", "model.safetensors"],
        results={},
        started=time.time(),
    )


def infinite(state):
    state["model.layers.2.self_attn.o_proj.weight"] *= 1e37
    state["model.layers.2.self_attn.v_proj.weight"] *= 1e37


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        ({"model_type": "gpt_neox"}, None, "'gpt_neox' cannot be pruned; known: llama"),
        ({"num_hidden_layers": 5}, None, "model.layers.4.* is missing"),
        ({"intermediate_size": 72}, None, r"has shape \[64, 32\] where config.json asks"),
        (None, infinite, "block 2 gives NaN or infinite activations"),
        (None, lambda s: s.update({"model.layers.0.x": torch.ones(1)}), "x is unexpected"),
        (
            None,
            lambda s: s.update({"model.norm.weight": torch.ones(32, dtype=torch.int8)}),
            "model.norm.weight is stored as I8; quantised",
        ),
        ({"vocab_size": 64}, None, "shape"),
    ],
)
def test_a_base_that_is_not_what_it_says(
    config, change, message, make_base, corpus, spec, tmp_path
):
    base = edited(make_base(), tmp_path / "base", config, change)
    with pytest.raises(UserError, match=message):
        Stage(spec({"prune": "depth"}, 0.2), base, corpus, tmp_path / "out").run()
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_another_tokenizer_is_noticed(make_base, corpus, spec, tmp_path):
    base = make_base(vocab_size=64)
    with pytest.raises(UserError, match="outside the model's vocabulary of 64"):
        Stage(spec({"prune": "depth"}, 0.2), base, corpus, tmp_path).run()


def test_a_pruned_checkpoint_is_no_base(make_base, corpus, spec, tmp_path):
    Stage(spec({"prune": "depth"}, 0.2), make_base(), corpus, tmp_path / "a").run()
    with pytest.raises(UserError, match="pruned already"):
        base = tmp_path / "a" / "0.2" / manifest.NAME
        Stage(spec({"prune": "depth"}, 0.2), base, corpus, tmp_path / "b").run()
