"""Width pruning: a sliced model computes what the masked dense one computes."""

import copy

import pytest
import torch
from safetensors.torch import load_file

from p2law.architectures.architecture import architecture_of
from p2law.checkpoints import io
from p2law.pruning import methods, width
from p2law.pruning.blocks import Blocks
from p2law.pruning.calibration import Source, read_windows
from p2law.pruning.gradients import gradients, mean_loss
from p2law.pruning.stage import Stage
from p2law.results import manifest

ARCHITECTURES = {
    "llama": {},
    "llama-biased": {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 4},
    "llama-tied": {"tie_word_embeddings": True},
    "mistral": {"sliding_window": 8, "head_dim": 10},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 12},
    "olmo2": {},
}
DIMENSIONS = [["ffn"], ["groups"], ["queries"], ["hidden"], ["ffn", "groups", "hidden"]]


def source_of(base, corpus, tmp_path, windows=6):
    blocks = Blocks(base.parent)
    calibration = read_windows(corpus.parent, windows, 0, blocks.config["vocab_size"])
    return Source(blocks, calibration, tmp_path)


def masked(model, kept, config):
    """The dense model with what was pruned zeroed; norms see fewer channels ."""
    arch, model = architecture_of(config), copy.deepcopy(model)
    state, sizes = model.state_dict(), arch.sizes(config)
    scale = {}
    for i in [None, *range(config["num_hidden_layers"])]:
        tensors = arch.outer_tensors(config)
        if i is not None:
            block = arch.block_tensors(config)
            tensors = {f"{arch.blocks}.{i}.{name}": axes for name, axes in block.items()}
        for name, axes in tensors.items():
            for dim, axis in enumerate(axes):
                if axis in kept[i]:
                    zero = torch.ones(sizes[axis], dtype=torch.bool)
                    zero[kept[i][axis]] = False
                    state[name].movedim(dim, 0)[zero] = 0
                    scale[axis] = (len(kept[i][axis]) / sizes[axis]) ** 0.5
            if "norm" in name and axes[0] in kept[i]:
                state[name] *= scale[axes[0]]
    return model


@pytest.mark.parametrize("dimensions", DIMENSIONS, ids="+".join)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_masked_dense_equals_sliced(name, dimensions, make_base, corpus, spec, tmp_path):
    heads = {} if name == "llama-biased" else {"num_attention_heads": 6, "num_key_value_heads": 3}
    changes = {"hidden_size": 48, "rms_norm_eps": 1e-12, **heads, **ARCHITECTURES[name]}
    if dimensions == ["queries"]:
        changes["num_key_value_heads"] = 2
    if name == "llama-biased" and dimensions != ["ffn"]:
        changes["hidden_size"] = 96
    base = make_base(name.split("-")[0], **changes)
    settings = {"prune": "width", "dimensions": dimensions, "multiple": 8, "tolerance": 0.3}
    if name == "llama-biased" and "hidden" in dimensions:
        # Hugging Face must still load it as a Llama with biases: heads divide the hidden size.
        settings["multiple"] = 32 if dimensions == ["hidden"] else 24
    rate = 0.3 if dimensions in (["hidden"], ["ffn", "groups", "hidden"]) else 0.15
    stage = Stage(spec(settings, rate), base, corpus, tmp_path / "m")
    stage.run()
    record = manifest.verify_files(tmp_path / "m" / str(rate) / manifest.NAME)
    config = stage.blocks.config
    solved = methods.read(settings).solve(config, rate)
    assert record["results"]["rate"] == pytest.approx(solved["rate"])
    assert record["results"]["rate"] > 0.02
    to = {k: w["to"] for k, w in solved["removed"].items()}
    head_dim = architecture_of(config).sizes(config)["head"]
    kept = {
        i: width.kept_indices(stage.measured, i, config, head_dim, to)
        for i in [None, *range(config["num_hidden_layers"])]
    }
    stored = load_file(tmp_path / "m" / str(rate) / "kept.safetensors")
    for axis, index in kept[2].items():
        name = axis if axis == "hidden" else f"model.layers.2.{axis}"
        assert stored[name].nonzero()[:, 0].tolist() == index.tolist()
    model, sliced = io.load(base.parent), io.load(tmp_path / "m" / str(rate))
    tokens = torch.arange(48)[None] * 7 % 96
    with torch.no_grad():
        expected = masked(model, kept, config)(tokens).logits
        # fp32: sums over zeroed entries in another order.
        torch.testing.assert_close(sliced(tokens).logits, expected, rtol=1e-3, atol=1e-3)
        assert (model(tokens).logits - expected).abs().max() > 0.01


def test_activation_scores_are_minitrons(make_base, corpus, tmp_path):
    base = make_base()
    source = source_of(base, corpus, tmp_path)
    scores = width.activation(source)
    model, seen = io.load(base.parent), {}

    def keep(name):
        return lambda _m, inputs, *_: seen.__setitem__(name, inputs[0])

    layer = model.model.layers[1]
    layer.mlp.down_proj.register_forward_hook(keep("ffn"))
    layer.self_attn.o_proj.register_forward_hook(keep("heads"))
    with torch.no_grad():
        model(source.calibration.tokens)
    expected = seen["ffn"].abs().mean(1).double().square().sum(0).sqrt()
    # fp32 forward passes in other batch sizes.
    torch.testing.assert_close(scores.ffn[1], expected, rtol=1e-5, atol=1e-7)
    heads = seen["heads"].reshape(6, 32, 2, 2, 8).norm(dim=-1).mean(1).double().square().sum(0)
    torch.testing.assert_close(scores.heads[1], heads.sqrt(), rtol=1e-5, atol=1e-7)


def test_flap_scores(make_base, corpus, tmp_path):
    base = make_base()
    source = source_of(base, corpus, tmp_path)
    model, seen = io.load(base.parent), {}
    down = model.model.layers[2].mlp.down_proj
    down.register_forward_hook(lambda _m, inputs, _o: seen.update(x=inputs[0]))
    with torch.no_grad():
        model(source.calibration.tokens)
    x = seen["x"].reshape(-1, 64).double()
    expected = x.var(dim=0, correction=0) * down.weight.double().square().sum(0)
    torch.testing.assert_close(width.flap(source).ffn[2], expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("tied", [True, False])
def test_streamed_gradients_are_autograds(tied, make_base, corpus, tmp_path):
    base = make_base(tie_word_embeddings=tied)
    source = source_of(base, corpus, tmp_path)
    model = io.load(base.parent)
    logits = model(source.calibration.tokens).logits
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), source.calibration.targets.flatten()
    )
    loss.backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    found = {name: g for _, named in gradients(source) for name, (_, g) in named.items()}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        # fp32 sums over tokens in another order.
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6)
    states = source.embedded()
    for i in range(4):
        with source.blocks.block(i) as block:
            source.through(block, i, states, states)
    assert mean_loss(source, states) == pytest.approx(loss.item(), rel=1e-6)


def test_taylor_scores_sum_over_everything_that_goes_with_a_unit(make_base, corpus, tmp_path):
    base = make_base(tie_word_embeddings=True)
    source = source_of(base, corpus, tmp_path)
    scores = width.taylor(source)
    terms = {n: (w * g).abs() for _, named in gradients(source) for n, (w, g) in named.items()}
    ffn = sum(terms[f"model.layers.0.mlp.{n}_proj.weight"].sum(1) for n in ("gate", "up"))
    ffn = ffn + terms["model.layers.0.mlp.down_proj.weight"].sum(0)
    torch.testing.assert_close(scores.ffn[0].float(), ffn, rtol=1e-4, atol=1e-8)
    hidden = torch.zeros(32)
    for name, term in terms.items():
        where = term.ndim - 1 if not name.endswith(("o_proj.weight", "down_proj.weight")) else 0
        hidden += term if term.ndim == 1 else term.sum(1 - where)
    torch.testing.assert_close(scores.hidden.float(), hidden, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("criterion", list(width.CRITERIA))
def test_every_criterion_runs_and_keeps_the_same_bytes(
    criterion, make_base, corpus, spec, tmp_path
):
    settings = {"prune": "width", "dimensions": ["ffn", "groups"], "criterion": criterion}
    for run in "ab":
        Stage(spec(settings, 0.2), make_base(), corpus, tmp_path / run).run()
    one, two = (tmp_path / run / "0.2" / "model.safetensors" for run in "ab")
    assert one.read_bytes() == two.read_bytes()
