"""Counts and rates of real checkpoints' shapes, from their published configs."""

import math

import pytest

from p2law.architectures import configs, counts
from p2law.errors import UserError
from p2law.pruning import methods


def llama(hidden, ffn, layers, heads, groups, tied, vocab=128256, head=None):
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "head_dim": head,
        "vocab_size": vocab,
        "tie_word_embeddings": tied,
    }


def solve(config, settings, rate):
    return methods.read(settings).solve(config, rate)


def qwen(hidden, ffn, layers, heads, groups):
    return llama(hidden, ffn, layers, heads, groups, True, 151936) | {"model_type": "qwen2"}


# Total parameters, and layers and rates (%) nearest 15, 25 and 35 %.
GOLDEN = {
    "Llama-3.2-1B": (
        llama(2048, 8192, 16, 32, 8, True, head=64),
        1235814400,
        {0.15: (3, 14.76), 0.25: (5, 24.61), 0.35: (7, 34.45)},
    ),
    "Llama-3.2-3B": (
        llama(3072, 8192, 28, 24, 8, True, head=128),
        3212749824,
        {0.15: (5, 15.67), 0.25: (8, 25.07), 0.35: (11, 34.47)},
    ),
    "Llama-3.1-8B": (
        llama(4096, 14336, 32, 32, 8, False),
        8030261248,
        {0.15: (6, 16.30), 0.25: (9, 24.45), 0.35: (13, 35.31)},
    ),
    "Qwen2.5-0.5B": (
        qwen(896, 4864, 24, 14, 2),
        494032768,
        {0.15: (5, 15.09), 0.25: (8, 24.15), 0.35: (12, 36.22)},
    ),
    "Qwen2.5-1.5B": (
        qwen(1536, 8960, 28, 12, 2),
        1543714304,
        {0.15: (5, 15.16), 0.25: (8, 24.25), 0.35: (12, 36.38)},
    ),
    "Qwen2.5-3B": (
        qwen(2048, 11008, 36, 16, 2),
        3085938688,
        {0.15: (6, 14.99), 0.25: (10, 24.98), 0.35: (14, 34.97)},
    ),
}


@pytest.mark.parametrize("model", GOLDEN)
def test_counts_and_depth_rates_of_real_models(model):
    config, total, rates = GOLDEN[model]
    assert counts.parameters(config)["total"] == total
    for asked, (layers, percent) in rates.items():
        solved = solve(config, {"prune": "depth"}, asked)
        assert solved["removed"]["layers"] == layers
        assert round(100 * solved["rate"], 2) == percent
        assert counts.parameters(solved["config"])["total"] == solved["N"]


@pytest.mark.parametrize("model", GOLDEN)
def test_parts_add_up(model):
    parts = counts.parameters(GOLDEN[model][0])
    layer = parts["layer"]
    assert layer["attention"] + layer["ffn"] + layer["norms"] == layer["total"]
    assert parts["embedding"] + parts["nonembedding"] == parts["total"]
    assert parts["nonembedding"] == parts["layers"] * layer["total"] + parts["final_norm"]


def test_ffn_width_is_the_nearest_allowed():
    config = GOLDEN["Llama-3.2-1B"][0]
    settings = {"prune": "width", "dimensions": ["ffn"], "multiple": 64}
    solved = solve(config, settings, 0.25)
    width = solved["config"]["intermediate_size"]
    assert width % 64 == 0
    per_neuron = 3 * 2048 * 16
    exact = 8192 - 0.25 * 1235814400 / per_neuron
    assert abs(width - exact) <= 32
    assert solved["N"] == 1235814400 - per_neuron * (8192 - width)


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.3, 0.4])
def test_every_solved_width_reports_the_rate_it_has(rate):
    config = GOLDEN["Qwen2.5-0.5B"][0]
    solved = solve(config, {"prune": "width", "dimensions": ["ffn"]}, rate)
    assert math.isclose(solved["rate"], 1 - solved["N"] / solved["N0"])
    assert abs(solved["rate"] - rate) < 0.001


def test_two_to_four_has_one_rate_and_counts_only_linear_layers():
    config = GOLDEN["Llama-3.1-8B"][0]
    settings = {"prune": "weights", "pattern": "2:4"}
    assert methods.read(settings).fixed_rate() == 0.5
    solved = solve(config, settings, 0.5)
    linear = 32 * (4096 * 4096 * 2 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    assert solved["N"] == 8030261248 - linear // 2
    with pytest.raises(UserError, match="one rate, 0.5"):
        solve(config, settings, 0.3)


def test_unstructured_rate_is_a_share_of_all_parameters():
    config = GOLDEN["Qwen2.5-0.5B"][0]
    settings = {"prune": "weights", "pattern": "unstructured"}
    solved = solve(config, settings, 0.4)
    assert abs(solved["rate"] - 0.4) < 1e-8
    with pytest.raises(UserError, match="at most"):
        solve(config, settings, 0.8)


def test_a_llama_that_transformers_refuses_becomes_mistral():
    config = llama(90, 64, 2, 4, 2, False, head=16)
    shape = configs.loadable(config)
    assert shape["model_type"] == "mistral"
    assert shape["sliding_window"] is None
    with pytest.raises(UserError, match="attention_bias"):
        configs.loadable(config | {"attention_bias": True})


def test_rates_out_of_reach_are_refused():
    tiny = llama(64, 128, 6, 4, 4, True, 1024)
    with pytest.raises(UserError, match="tolerance"):
        solve(tiny, {"prune": "depth", "tolerance": 0.01}, 0.03)
    with pytest.raises(UserError, match="tolerance"):
        solve(tiny, {"prune": "width"}, 0.9)
    with pytest.raises(UserError, match="share of all parameters"):
        solve(tiny, {"prune": "depth"}, 1.5)
    with pytest.raises(UserError, match="model_type 'gpt2'"):
        counts.parameters(tiny | {"model_type": "gpt2"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "prune: missing"),
        ({"prune": "widht"}, "prune = 'widht': must be one of depth, .*did you mean 'width'"),
        (
            {"prune": "depth", "criterium": "x"},
            "criterium: unknown key; must be one of prune, .*did you mean 'criterion'",
        ),
        (
            {"prune": "depth", "criterion": "tailor"},
            "criterion = 'tailor': must be one of block_influence, .*did you mean 'taylor'",
        ),
        ({"prune": "weights", "pattern": "4:2"}, "pattern = '4:2': .*n < m"),
        ({"prune": "width", "dimensions": []}, "dimensions = \\[\\]"),
        ({"prune": "width", "dimensions": ["ffn", "ffn"]}, "each once"),
        ({"prune": "width", "dimensions": ["groups", "queries"]}, "not both"),
        ({"prune": "width", "split": {"groups": 2}}, "split names groups"),
        ({"prune": "width", "split": {"ffn": 0}}, "split.ffn = 0"),
        ({"prune": "width", "dimensions": ["hidden"], "weights": "mrp"}, "make up for ffn"),
        ({"prune": "width", "dimensions": ["hidden"], "bias": "mean"}, "make up for ffn"),
        ({"prune": "weights", "damp": True}, "damp = True"),
        ({"prune": "depth", "tolerance": 2, "guard_first": -1}, "guard_first = -1.*tolerance = 2"),
    ],
)
def test_bad_settings_name_key_value_and_what_is_allowed(settings, message):
    with pytest.raises(UserError, match=message):
        methods.read(settings)


def test_rate_zero_changes_nothing():
    config = GOLDEN["Llama-3.2-1B"][0]
    for settings in ({"prune": "depth"}, {"prune": "width"}, {"prune": "weights"}):
        solved = solve(config, settings, 0)
        assert solved["rate"] == 0
        assert solved["config"] == config


@pytest.mark.parametrize(
    ("dimensions", "split"),
    [
        (["hidden"], {}),
        (["groups"], {}),
        (["queries"], {}),
        (["ffn", "groups"], {}),
        (["ffn", "queries", "hidden"], {"hidden": 0.5}),
    ],
)
def test_dimensions_together_come_near_the_rate(dimensions, split):
    config = GOLDEN["Llama-3.1-8B"][0]
    settings = {"prune": "width", "dimensions": dimensions, "split": split, "multiple": 64}
    rate = 0.1 if dimensions in (["groups"], ["queries"]) else 0.3
    solved = solve(config, settings, rate)
    assert set(solved["removed"]) == set(dimensions)
    assert all(w["to"] < w["from"] for w in solved["removed"].values())
    fine = "ffn" in dimensions or "hidden" in dimensions
    assert abs(solved["rate"] - rate) < (0.004 if fine else 0.03)
    assert counts.parameters(solved["config"])["total"] == solved["N"]
    if "hidden" in dimensions:
        ratio = {name: w["to"] / w["from"] for name, w in solved["removed"].items()}
        if "queries" in dimensions:
            assert ratio["hidden"] > ratio["queries"]  # half the share of the others


def test_a_width_llama_cannot_have_is_solved_as_mistral():
    config = llama(48, 64, 2, 6, 3, False, 96, 8)
    solved = solve(config, {"prune": "width", "dimensions": ["hidden"]}, 0.15)
    assert solved["config"]["hidden_size"] == 40
    assert solved["config"]["model_type"] == "mistral"
    assert solved["config"]["head_dim"] == 8


def test_heads_that_cannot_go_are_named():
    multi_query = llama(64, 128, 4, 8, 1, True, 256)
    with pytest.raises(UserError, match='prune "queries"'):
        solve(multi_query, {"prune": "width", "dimensions": ["groups"]}, 0.1)
    multi_head = llama(64, 128, 4, 8, 8, True, 256)
    with pytest.raises(UserError, match='prune "groups"'):
        solve(multi_head, {"prune": "width", "dimensions": ["queries"]}, 0.1)
    mamba = {"model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 4, "vocab_size": 99}
    with pytest.raises(UserError, match="allowed: depth and weights"):
        solve(mamba, {"prune": "width"}, 0.1)
    assert solve(mamba, {"prune": "depth", "tolerance": 0.2}, 0.2)["removed"]["layers"] == 1


def test_counts_of_mamba_130m():
    """state-spaces/mamba-130m-hf: 129,135,360 parameters, embeddings tied."""
    config = {
        "model_type": "mamba",
        "hidden_size": 768,
        "num_hidden_layers": 24,
        "vocab_size": 50280,
    }
    assert counts.parameters(config)["total"] == 129135360
