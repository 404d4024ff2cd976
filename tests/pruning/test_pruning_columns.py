"""Kept columns of width pruning, made up for those that went: least squares, and FLAP's bias."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from p2law.architectures.architecture import architecture_of
from p2law.checkpoints import io
from p2law.corpus.packed import Packed, order
from p2law.errors import UserError
from p2law.pruning import columns, methods
from p2law.pruning.blocks import Blocks
from p2law.pruning.columns import Layer
from p2law.pruning.stage import Stage
from p2law.pruning.statistics import Statistics
from p2law.results import manifest


def drawn(seed, out=7, width=12, tokens=200):
    """A linear layer with a bias and correlated inputs that are not centred, fp64."""
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(tokens, width, generator=g, dtype=torch.float64)
    X = X @ torch.randn(width, width, generator=g, dtype=torch.float64) + torch.arange(width)
    linear = nn.Linear(width, out, dtype=torch.float64)
    linear.weight.data = torch.randn(out, width, generator=g, dtype=torch.float64)
    linear.bias.data = torch.randn(out, generator=g, dtype=torch.float64)
    kept = torch.randperm(width, generator=g)[: width - 1 - seed % (width - 1)].sort().values
    return linear, X, kept


def made(linear, X, kept, weights, bias="keep", damp=0.01):
    """Weight, bias and reported errors of the layer, made up on X."""
    inputs = Statistics(X.shape[1], weights != "keep", "cpu", X.dtype)
    inputs.add(X)
    errors: list = []
    settings = SimpleNamespace(weights=weights, bias=bias, damp=damp)
    new = Layer(linear, "layer").made_up(inputs, kept, settings, errors)
    return new["weight"], new.get("bias", linear.bias.data), errors


def optimum(W, X, kept, damp, centred):
    """The damped least squares by LAPACK on X itself: V of the kept columns.

    Rows below those of the tokens ask V to stay at W with the weight of the damping.
    """
    n = len(X)
    X = X - X.mean(0) if centred else X
    strength = (damp * 2 / n * X.square().sum(0).mean() * n / 2).sqrt()
    A = torch.cat([X[:, kept], strength * torch.eye(len(kept), dtype=X.dtype)])
    target = torch.cat([X @ W.T, strength * W[:, kept].T])
    return torch.linalg.lstsq(A, target, driver="gelsd").solution.T


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("bias", ["keep", "mean"])
def test_the_kept_columns_are_lapacks_least_squares(seed, bias):
    linear, X, kept = drawn(seed)
    for damp in (1e-6, 0.01, 0.5):
        V, b, _ = made(linear, X, kept, "mrp", bias, damp)
        expected = optimum(linear.weight.data, X, kept, damp, centred=bias == "mean")
        torch.testing.assert_close(V[:, kept], expected, rtol=1e-7, atol=1e-7)
        gone = [j for j in range(12) if j not in kept]
        assert not V[:, gone].any()
        shift = (linear.weight.data @ X.T - V @ X.T).mean(1)
        expected = linear.bias.data + (shift if bias == "mean" else 0)
        torch.testing.assert_close(b, expected, rtol=1e-9, atol=1e-9)


def test_a_column_that_another_holds_is_made_up_whole():
    """x_2 = 2 x_1 exactly: y = x_1 + x_2 is 3 x_1; the damping d leaves (3 c + d) / (c + d)."""
    x = torch.tensor([[1.0], [-2.0], [3.0]], dtype=torch.float64)
    X = torch.cat([x, 2 * x], dim=1)
    linear = nn.Linear(2, 1, dtype=torch.float64)
    linear.weight.data = torch.ones(1, 2, dtype=torch.float64)
    V, _, errors = made(linear, X, torch.tensor([0]), "mrp", damp=0.1)
    # c = 2/3 (1 + 4 + 9) = 28/3, mean of the diagonal 70/3, d = 7/3.
    assert V.tolist() == [[pytest.approx((28 + 7 / 3) / (28 / 3 + 7 / 3)), 0.0]]
    assert errors[0]["masked"] == pytest.approx(4 / 9)
    assert errors[0]["compensated"] == pytest.approx((0.4 / 3) ** 2)
    V, _, _ = made(linear, X, torch.tensor([0]), "mrp", damp=1e-6)
    assert V[0, 0].item() == pytest.approx(3, abs=1e-4)


def error(linear, X, V, b):
    """Squared output error by definition, relative to the output without bias."""
    lost = X @ (V - linear.weight.data).T + (b - linear.bias.data)
    return float(lost.square().sum() / (X @ linear.weight.data.T).square().sum())


@pytest.mark.parametrize("seed", range(12))
def test_the_error_on_the_windows_never_rises(seed):
    """Neither above the kept columns' own, nor with a bias above the same without one."""
    linear, X, kept = drawn(seed)
    for damp in (1e-6, 0.01, 1.0):
        found = {}
        for weights in ("keep", "mrp", "mrp-cg"):
            for bias in ("keep", "mean"):
                V, b, told = made(linear, X, kept, weights, bias, damp)
                found[weights, bias] = error(linear, X, V, b)
                if told and bias == "keep":
                    assert told[0]["compensated"] == pytest.approx(found[weights, bias], rel=1e-6)
        slack = 1 + 1e-9
        for weights in ("mrp", "mrp-cg"):
            for bias in ("keep", "mean"):
                assert found[weights, bias] <= found["keep", bias] * slack
        assert found["keep", "mean"] <= found["keep", "keep"] * slack
        assert found["mrp", "mean"] <= found["keep", "keep"] * slack
    assert found["keep", "mean"] < 0.999 * found["keep", "keep"]


def test_conjugate_gradients_end_at_the_same_optimum():
    linear, X, kept = drawn(3)
    exact, *_ = made(linear, X, kept, "mrp", damp=0.05)
    steps, *_ = made(linear, X, kept, "mrp-cg", damp=0.05)
    near = [error(linear, X, V, linear.bias.data) for V in (exact, steps)]
    assert near[1] <= 1.05 * near[0]


@pytest.mark.parametrize("weights", ["keep", "mrp", "mrp-cg"])
def test_the_bias_keeps_the_mean_of_the_output(weights):
    linear, X, kept = drawn(5)
    V, b, _ = made(linear, X, kept, weights, "mean")
    before, after = (linear(X).mean(0), (X @ V.T + b).mean(0))
    torch.testing.assert_close(after, before)
    if weights == "keep":  # FLAP's own: the removed inputs' mean times the removed weights
        gone = [j for j in range(12) if j not in kept]
        lost = linear.weight.data[:, gone] @ X.mean(0)[gone]
        torch.testing.assert_close(b, linear.bias.data + lost)


ARCHITECTURES = {
    "llama": {},
    "llama-biased": {"attention_bias": True, "mlp_bias": True},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 12},
    "olmo2": {},
}
SHAPE = {"hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 3}
SHAPE |= {"rms_norm_eps": 1e-12, "intermediate_size": 96}


def expanded(folder, base, kept):
    """A narrow checkpoint's numbers in the base's shapes, zeros elsewhere: the same function.

    Norms see more channels, the new ones zero, so their weights shrink.
    """
    config = Blocks(base).config
    arch, old, new = architecture_of(config), io.load(base), load_file(folder / "model.safetensors")
    state, sizes = old.state_dict(), architecture_of(config).sizes(config)
    for i in [None, *range(config["num_hidden_layers"])]:
        prefix = "" if i is None else f"{arch.blocks}.{i}."
        named = arch.outer_tensors(config) if i is None else arch.block_tensors(config)
        for name, axes in named.items():
            full, at = state[prefix + name], new[prefix + name]
            for dim, axis in enumerate(axes):
                index = kept.get(axis, kept.get(f"{prefix}{axis}", torch.arange(sizes[axis])))
                wide = torch.zeros(*at.shape[:dim], sizes[axis], *at.shape[dim + 1 :])
                at = wide.index_copy_(dim, index, at)
                if "norm" in name:
                    at *= (len(index) / sizes[axis]) ** 0.5
            full.copy_(at)
    return old


@pytest.mark.parametrize("dimensions", [["ffn"], ["queries"], ["ffn", "groups", "hidden"]])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_block_is_made_up_on_inputs_through_narrower_ones(
    name, dimensions, make_base, corpus, spec, tmp_path
):
    """Block 2's two layers, from the written checkpoint's own blocks 0 and 1 and LAPACK."""
    shape = SHAPE | ARCHITECTURES[name]
    if dimensions == ["queries"]:
        shape |= {"num_key_value_heads": 2}
    if name == "llama-biased":  # loads with biases where heads divide the hidden size
        shape |= {"num_attention_heads": 4, "num_key_value_heads": 4, "hidden_size": 96}
        shape |= {"num_key_value_heads": 2} if dimensions == ["queries"] else {}
    bias = "mean" if name == "llama-biased" else "keep"
    settings = {"prune": "width", "dimensions": dimensions, "weights": "mrp", "bias": bias}
    settings |= {"tolerance": 0.3, "multiple": 24 if bias == "mean" else 8, "damp": 0.05}
    base = make_base(name.split("-")[0], **shape)
    Stage(spec(settings, 0.3, windows=16), base, corpus, tmp_path).run()
    folder = tmp_path / "0.3"
    told = manifest.verify_files(folder / manifest.NAME)["results"]["layer_error"]
    stored = load_file(folder / "kept.safetensors")
    kept = {axis: mask.nonzero()[:, 0] for axis, mask in stored.items()}

    made, plain = expanded(folder, base.parent, kept), io.load(base.parent)
    tokens = torch.arange(24)[None] * 7 % 96
    with torch.no_grad():  # the expanded model is the narrow one: so are its blocks
        near = {"rtol": 1e-3, "atol": 1e-3}
        torch.testing.assert_close(made(tokens).logits, io.load(folder)(tokens).logits, **near)
    block = made.model.layers[2]
    written = {n: block.get_submodule(n) for n in columns.LAYERS.values()}
    written = {n: (m.weight.clone(), m.bias) for n, m in written.items()}
    axes = architecture_of(Blocks(base.parent).config).block_tensors(Blocks(base.parent).config)
    whole = plain.model.layers[2]
    hidden = {"hidden": kept["hidden"]} if "hidden" in kept else {}
    with torch.no_grad():
        columns._narrow(whole, axes, hidden)
    made.model.layers[2] = whole
    seen = {}
    for layer in written:
        whole.get_submodule(layer).register_forward_hook(
            lambda _m, inputs, _o, layer=layer: seen.update({layer: inputs[0]})
        )
    packed = Packed(corpus.parent)
    rows = torch.from_numpy(packed.read("calibration", order(24, 3)[:16])[:, :-1].copy())
    with torch.no_grad():
        made(rows)
    pruned = [(axis, n) for axis, n in columns.LAYERS.items() if f"model.layers.2.{axis}" in kept]
    assert len(pruned) == (2 if "groups" in dimensions else 1)
    for axis, layer in pruned:
        X = seen[layer].reshape(-1, seen[layer].shape[-1]).double()
        W, at = whole.get_submodule(layer).weight.detach().double(), kept[f"model.layers.2.{axis}"]
        V = torch.zeros_like(W)
        V[:, at] = optimum(W, X, at, 0.05, centred=bias == "mean")
        # fp32 sums over 512 tokens in another order.
        torch.testing.assert_close(written[layer][0].double(), V, rtol=2e-2, atol=2e-3)
        keep = W.clone()
        keep[:, [j for j in range(len(X[0])) if j not in at]] = 0
        centred = X - X.mean(0) if bias == "mean" else X
        errors = [((centred @ (v - W).T).square().sum()) for v in (keep, V)]
        size = (centred @ W.T).square().sum()
        row = next(r for r in told if r["layer"] == f"model.layers.2.{layer}")
        expected = [float(each / size) for each in errors]
        assert [row["masked"], row["compensated"]] == pytest.approx(expected, rel=1e-2)
        assert row["compensated"] < row["masked"]


def test_golden_errors(make_base, corpus, spec, tmp_path):
    """Of the tiny Llama of these tests, as first computed; fp32, so to three digits."""
    settings = {"prune": "width", "multiple": 8, "weights": "mrp"}
    Stage(spec(settings, 0.2), make_base(), corpus, tmp_path).run()
    record = manifest.read_manifest(tmp_path / "0.2" / manifest.NAME)["results"]
    found = [(row["masked"], row["compensated"]) for row in record["layer_error"]]
    assert len(found) == 4
    assert found[0] == pytest.approx(GOLDEN[0], rel=2e-3)
    assert found[3] == pytest.approx(GOLDEN[1], rel=2e-3)


GOLDEN = ((0.218803, 0.132465), (0.121871, 0.0465837))


def test_one_block_is_in_memory_at_a_time(make_base, corpus, spec, tmp_path, monkeypatch):
    held, most, real = [0], [0], Blocks.block

    @contextmanager
    def counted(self, i):
        held[0] += 1
        most[0] = max(most[0], held[0])
        with real(self, i) as block:
            yield block
        held[0] -= 1

    monkeypatch.setattr(Blocks, "block", counted)
    settings = {"prune": "width", "dimensions": ["ffn", "groups"], "weights": "mrp"}
    Stage(spec(settings, 0.2), make_base(), corpus, tmp_path).run()
    assert most == [1]


@pytest.mark.parametrize(
    ("model_type", "changes", "dimensions", "lacks"),
    [
        ("llama", {}, ["ffn"], "mlp.down_proj.bias"),
        ("llama", {"attention_bias": True}, ["ffn", "groups"], "mlp.down_proj.bias"),
        ("qwen2", {}, ["groups"], "self_attn.o_proj.bias"),
        ("qwen3", {}, ["queries"], "self_attn.o_proj.bias"),
    ],
)
def test_a_bias_that_is_not_there_is_refused_by_name(model_type, changes, dimensions, lacks):
    config = {"model_type": model_type, "hidden_size": 48, "intermediate_size": 96}
    config |= {"num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 3}
    config |= {"vocab_size": 96, **changes}
    method = methods.read({"prune": "width", "dimensions": dimensions, "bias": "mean"})
    with pytest.raises(UserError, match=f"bias mean: {model_type} .* has no {lacks}; .*keep"):
        method.solve(config, 0.1)
