"""Counting against the formula of a Llama's shape."""

import pytest
import torch
from safetensors.torch import load_file

from p2law.checkpoints import io
from p2law.checkpoints.count import count


@pytest.mark.parametrize("tied", [True, False])
def test_a_llama_has_the_parameters_of_its_shape(tmp_path, shape, tied):
    model = io.fresh({**shape, "tie_word_embeddings": tied}, 0)
    h, f, kv, v, layers = 32, 48, 16, 96, 2
    layer = 2 * h * h + 2 * h * kv + 3 * h * f + 2 * h
    expected = {"embedding": v * h * (1 if tied else 2), "nonembedding": layers * layer + h}
    expected["total"] = expected["nonzero"] = sum(expected.values())
    assert count(model) == count(model.state_dict()) == expected
    io.save(model, tmp_path)
    assert count(load_file(tmp_path / "model.safetensors")) == expected


def test_masks_take_away_what_they_remove(shape):
    model = io.fresh(shape, 0)
    name = "model.layers.1.mlp.down_proj.weight"
    mask = torch.ones(32, 48, dtype=torch.uint8)
    mask[:, ::3] = 0
    whole, sparse = count(model), count(model, {name: mask})
    assert sparse["nonzero"] == whole["total"] - 32 * 16
    assert sparse["total"] == whole["total"]
    model.state_dict()[name].zero_()  # values are not looked at
    assert count(model, {name: mask}) == sparse
    with pytest.raises(ValueError, match="shape"):
        count(model, {name: mask.T})
    with pytest.raises(ValueError, match="does not hold"):
        count(model, {"model.layers.9.mlp.down_proj.weight": mask})


def test_mamba_counts_its_tied_embedding_once():
    model = io.fresh(
        {"model_type": "mamba", "hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 50}, 0
    )
    assert count(model)["embedding"] == 50 * 16
    assert count(model)["total"] == sum(p.numel() for p in model.parameters())
