"""Shards, memory, architectures and bad input: clear errors, nothing half-written."""

import errno
import json
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from p2law.architectures import counts
from p2law.architectures.architecture import ARCHITECTURES
from p2law.checkpoints import io
from p2law.errors import UserError
from p2law.pruning import methods, store
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
        assert torch.equal(state[key] != 0, mask.bool()), key
    dense = load_file(base.parent / "model.safetensors")
    untouched = set(dense) - set(masks)
    assert all(torch.equal(dense[key], state[key]) for key in untouched)
    if name == "mamba":
        assert {key.rsplit(".", 1)[-1] for key in untouched} >= {"A_log", "D"}
    assert torch.isfinite(io.load(folder)(torch.arange(16)[None]).logits).all()


PAIRS = [("magnitude", "keep"), ("wanda", "keep"), ("sparsegpt", "sparsegpt"), ("obs", "mrp")]


@pytest.mark.parametrize(("mask", "weights"), [*PAIRS, ("ria", "mrp-cg")])
@pytest.mark.parametrize("pattern", ["unstructured", "1:2"])
@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_the_files_zeros_are_the_masks_and_the_counts(
    name, pattern, mask, weights, make_base, corpus, spec, tmp_path
):
    settings = {"prune": "weights", "mask": mask, "weights": weights, "pattern": pattern}
    rate = 0.5 if pattern == "1:2" else 0.4
    Stage(spec(settings, rate), make_base(name), corpus, tmp_path).run()
    folder = tmp_path / str(rate)
    state = load_file(folder / "model.safetensors")
    results = manifest.read_manifest(folder / manifest.NAME)["results"]
    zeros = 0
    for key, kept in io.load_masks(folder).items():
        assert torch.equal(state[key] != 0, kept.bool()), key
        zeros += int((kept == 0).sum())
    assert zeros == results["N0"] - results["N"]
    if pattern == "1:2":
        assert zeros == counts.parameters(Blocks(folder).config)["linear"] / 2
    else:
        assert results["rate"] == pytest.approx(rate, abs=0.02)


def test_a_layer_that_the_pattern_does_not_divide_stays_dense(make_base, corpus, spec, tmp_path):
    """Mamba's dt_proj has 2 inputs here: 2:4 prunes the other three layers and says so."""
    base = make_base("mamba")
    Stage(spec({**SPARSE, "pattern": "2:4"}, 0.5), base, corpus, tmp_path).run()
    folder = tmp_path / "0.5"
    results = manifest.read_manifest(folder / manifest.NAME)["results"]
    assert results["left_dense"] == ["mixer.dt_proj.weight"]
    masks, state = io.load_masks(folder), load_file(folder / "model.safetensors")
    assert {key.split(".")[-2] for key in masks} == {"in_proj", "x_proj", "out_proj"}
    old = load_file(base.parent / "model.safetensors")
    for i in range(4):
        name = f"backbone.layers.{i}.mixer.dt_proj.weight"
        assert torch.equal(old[name], state[name])
    solved = methods.read({"prune": "weights", "pattern": "2:4"}).solve(Blocks(folder).config, 0.5)
    assert solved["removed"]["left_dense"] == results["left_dense"]
    assert solved["N"] == results["N"]
    assert solved["N0"] - solved["N"] == sum(int((m == 0).sum()) for m in masks.values())
    with pytest.raises(UserError, match="not a multiple of 7, and no other layer"):
        Stage(spec({**SPARSE, "pattern": "3:7"}, 4 / 7), base, corpus, tmp_path / "b").run()


def large(state):
    noise = torch.randn(32, 64, generator=torch.Generator().manual_seed(1))
    state["model.layers.1.mlp.down_proj.weight"].copy_((noise * 3e4).clamp(-6e4, 6e4))


@pytest.mark.parametrize("weights", ["sparsegpt", "mrp", "mrp-cg"])
def test_compensated_weights_that_leave_float16(weights, make_base, corpus, spec, tmp_path):
    """The base is finite and fits; what makes up for its removed weights does not."""
    base = edited(make_base(dtype=torch.float16), tmp_path / "base", change=large)
    settings = {"prune": "weights", "mask": "wanda", "weights": "keep"}
    Stage(spec(settings, 0.5), base, corpus, tmp_path / "kept").run()
    said = r"model.layers.1.mlp.down_proj: its new weights reach [\d,]+, above 65,504.*F16"
    with pytest.raises(UserError, match=said):
        settings = {"prune": "weights", "mask": "wanda", "weights": weights}
        Stage(spec(settings, 0.5), base, corpus, tmp_path / "m").run()
    assert not list((tmp_path / "m").iterdir())


def test_solvers_that_fail_are_not_blamed_on_the_format():
    with pytest.raises(UserError, match="layer 3: its new weights are NaN or infinite"):
        store.stored_as(torch.tensor([1.0, float("nan")]), "BF16", "layer 3")
    assert store.stored_as(torch.tensor([65504.0]), "F16", "x").dtype == torch.float16


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
