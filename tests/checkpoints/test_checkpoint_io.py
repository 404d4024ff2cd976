"""Save and load: exact, deterministic, and refused by name when damaged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from p2law.checkpoints import io
from p2law.errors import UserError
from p2law.results import manifest

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


def state_equal(one, other):
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def described(folder):
    names = [f.name for f in folder.iterdir()]
    manifest.write_manifest(
        folder, stage="base", spec={"key": "k"}, inputs={}, files=names, results={}, started=0.0
    )


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_saved_is_loaded(tmp_path, shape, tied):
    model = io.fresh({**shape, "tie_word_embeddings": tied}, 1)
    names = io.save(model, tmp_path)
    assert names == ["config.json", "generation_config.json", "model.safetensors"]
    assert ("lm_head.weight" in load_file(tmp_path / "model.safetensors")) is not tied
    loaded = io.load(tmp_path)
    assert state_equal(model, loaded)
    assert not loaded.training
    assert loaded.config.use_cache is False
    assert loaded.config._attn_implementation == "sdpa"
    tokens = torch.arange(24).reshape(2, 12)
    assert torch.equal(model(tokens).logits, loaded(tokens).logits)
    assert json.loads((tmp_path / "config.json").read_text())["use_cache"] is True
    assert io.load(tmp_path, torch.bfloat16).dtype == torch.bfloat16


def test_equal_models_give_equal_bytes(tmp_path, shape):
    for name in ("one", "two"):
        io.save(io.fresh(shape, 5), tmp_path / name)
    # And a round trip through the disk changes none.
    io.save(io.load(tmp_path / "one"), tmp_path / "three")
    for name in ("two", "three"):
        for file in (tmp_path / "one").iterdir():
            assert (tmp_path / name / file.name).read_bytes() == file.read_bytes(), file.name


def test_shards(tmp_path, shape):
    model = io.fresh(shape, 0)
    names = io.save(model, tmp_path, shard="20KB")
    assert "model.safetensors.index.json" in names
    assert sum(name.endswith(".safetensors") for name in names) > 1
    assert state_equal(model, io.load(tmp_path))
    shard = tmp_path / next(name for name in names if name.endswith(".safetensors"))
    shard.write_bytes(shard.read_bytes()[:-4])
    with pytest.raises(UserError, match=shard.name):
        io.load(tmp_path)
    shard.unlink()
    with pytest.raises(UserError, match=f"{shard.name}: no such file"):
        io.load(tmp_path)


def test_fresh_is_a_function_of_shape_and_seed(shape):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    one, two, other = io.fresh(shape, 0), io.fresh(shape, 0), io.fresh(shape, 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert state_equal(one, two)
    assert not state_equal(one, other)
    weight = one.model.layers[0].mlp.up_proj.weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.1)  # 1,536 draws


@pytest.mark.slow  # two processes that import transformers
def test_fresh_is_the_same_with_every_vector_width(shape):
    code = f"""if True:
        import hashlib
        from p2law.checkpoints import io
        state = io.fresh({shape!r}, 0).state_dict()
        print(hashlib.sha256(b"".join(v.numpy().tobytes() for v in state.values())).hexdigest())
    """
    said = set()
    for width in ("avx2", "avx512"):
        environment = {**os.environ, "PYTHONPATH": str(SCRIPTS), "ATEN_CPU_CAPABILITY": width}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        said.add(done.stdout)
    assert len(said) == 1
    assert len(said.pop().strip()) == 64


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_size": 33}, "33.* is not a multiple of the number of attention heads"),
        ({"num_key_value_heads": 3}, "num_attention_heads 4 is no multiple of"),
        ({"model_type": "lama"}, "lama"),
        ({"hiden_size": 32}, "llama has no setting hiden_size"),
        ({"hidden_size": "wide"}, "hidden_size"),
    ],
)
def test_shapes_that_cannot_be_built_are_refused(shape, change, said):
    with pytest.raises(UserError, match=said):
        io.fresh({**shape, **change}, 0)


def test_a_flipped_byte_is_refused_by_name(checkpoint):
    described(checkpoint)
    io.load(checkpoint)
    file = checkpoint / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-10] ^= 1
    file.write_bytes(raw)
    with pytest.raises(UserError, match="model.safetensors: its bytes are not those"):
        io.load(checkpoint)


def test_damaged_folders_are_refused_by_name(checkpoint, tmp_path):
    file, whole = checkpoint / "model.safetensors", (checkpoint / "model.safetensors").read_bytes()
    for cut in (0, 4, 100, len(whole) - 1):
        file.write_bytes(whole[:cut])
        with pytest.raises(UserError, match="model.safetensors: corrupt safetensors"):
            io.load(checkpoint)
    file.write_bytes(b"\xff" * 8 + whole[8:])
    with pytest.raises(UserError, match="corrupt safetensors"):
        io.load(checkpoint)
    file.write_bytes(whole[:8] + b"}" + whole[9:])
    with pytest.raises(UserError, match="corrupt safetensors"):
        io.load(checkpoint)
    file.unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(UserError, match="only as pickle"):
        io.load(checkpoint)
    file.write_bytes(whole)
    (checkpoint / "config.json").write_text("{")
    with pytest.raises(UserError, match="config.json: not readable as JSON"):
        io.load(checkpoint)
    with pytest.raises(UserError, match="no such folder"):
        io.load(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_hidden_layers": 3}, "9 weights are missing"),
        ({"num_hidden_layers": 1}, "9 weights are unexpected"),
        ({"intermediate_size": 40}, "6 weights are mismatched"),
    ],
)
def test_weights_that_do_not_fit_the_config_are_refused(checkpoint, change, said):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(UserError, match=said):
        io.load(checkpoint)


def test_masks(checkpoint):
    assert io.load_masks(checkpoint) == {}
    mask = (torch.arange(48 * 32) % 2).to(torch.uint8).reshape(48, 32)
    save_file({"model.layers.0.mlp.up_proj.weight": mask}, checkpoint / io.MASKS)
    (read,) = io.load_masks(checkpoint).values()
    assert torch.equal(read, mask)
    file = checkpoint / io.MASKS
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match="masks.safetensors"):
        io.load_masks(checkpoint)
