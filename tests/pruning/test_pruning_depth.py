"""Depth criteria against the same numbers computed on a whole model."""

import math

import pytest
import torch
from torch.nn.functional import cosine_similarity, cross_entropy

from p2law.checkpoints import io
from p2law.pruning import calibration, depth
from p2law.pruning.blocks import Blocks
from p2law.pruning.calibration import Source, read_windows
from p2law.pruning.stage import Stage
from p2law.results import manifest


@pytest.fixture
def whole(make_base, corpus, tmp_path):
    """A source, its whole model, and the hidden states before every block and after the last."""
    base = make_base(num_hidden_layers=5)
    blocks = Blocks(base.parent)
    source = Source(blocks, read_windows(corpus.parent, 6, 0, 96), tmp_path)
    model, states = io.load(base.parent), []
    for layer in model.model.layers:
        layer.register_forward_pre_hook(lambda _m, inputs: states.append(inputs[0]))
    model.model.norm.register_forward_pre_hook(lambda _m, inputs: states.append(inputs[0]))
    with torch.no_grad():
        model(source.calibration.tokens)
    return source, model, list(states)


def cosine(x, y):
    return float(cosine_similarity(x.double(), y.double(), dim=-1).mean())


def test_block_influence(whole):
    source, _, states = whole
    expected = [1 - cosine(states[i], states[i + 1]) for i in range(5)]
    # fp32 forward passes in other batch sizes.
    assert depth.block_influence(source) == pytest.approx(expected, abs=1e-6)


def test_angular(whole):
    source, _, states = whole
    measured = depth.angular(source)
    assert [len(row) for row in measured] == [5, 4, 3, 2, 1]
    for left in range(5):
        for k in range(1, 6 - left):
            expected = cosine(states[left], states[left + k])
            assert measured[left][k - 1] == pytest.approx(expected, abs=1e-6)


def test_angular_reads_every_state_once(whole, monkeypatch):
    """Beyond the forward pass, which reads each block's input: one read of each set of states."""
    source, *_ = whole
    reads, real = [], calibration.States.__getitem__

    def read(self, batch):
        reads.append(batch)
        return real(self, batch)

    monkeypatch.setattr(calibration, "BATCH_TOKENS", 64)
    monkeypatch.setattr(calibration.States, "__getitem__", read)
    monkeypatch.setattr(depth, "TOKENS_AT_ONCE", 7)
    few = depth.angular(source)
    assert len(reads) == (5 + 6) * 3
    monkeypatch.undo()
    for some, every in zip(few, depth.angular(source), strict=True):
        assert some == pytest.approx(every, rel=1e-6)  # fp32 forward passes in other batches


def test_perplexity_is_the_loss_without_each_block(whole):
    source, model, _ = whole
    found = depth.perplexity(source)
    layers = list(model.model.layers)
    for i in range(5):
        model.model.layers = torch.nn.ModuleList(layers[:i] + layers[i + 1 :])
        model.config.num_hidden_layers = 4
        with torch.no_grad():
            logits = model(source.calibration.tokens, use_cache=False).logits
        loss = cross_entropy(logits.flatten(0, 1), source.calibration.targets.flatten())
        assert found[i] == pytest.approx(float(loss), rel=1e-5)


def test_taylor(whole):
    source, model, _ = whole
    model.zero_grad()
    logits = model(source.calibration.tokens).logits
    cross_entropy(logits.flatten(0, 1), source.calibration.targets.flatten()).backward()
    for i, found in enumerate(depth.taylor(source)):
        linear = [m for m in model.model.layers[i].modules() if isinstance(m, torch.nn.Linear)]
        expected = float(sum((m.weight * m.weight.grad).abs().sum() for m in linear).detach())
        assert found == pytest.approx(expected, rel=1e-3)


def test_choices():
    settings = {"criterion": "block_influence", "guard_first": 0, "guard_last": 0}
    scores = [0.5, 0.1, 0.3, 0.1, 0.9]
    assert depth.removed_blocks(scores, 5, 1, settings) == [3]
    assert depth.removed_blocks(scores, 5, 3, settings) == [1, 2, 3]
    guarded = settings | {"guard_first": 2, "guard_last": 2}
    assert depth.removed_blocks(scores, 5, 1, guarded) == [2]
    cosines = [[0.1, 0.9, 0.2], [0.5, 0.8], [0.7]]
    angular = settings | {"criterion": "angular"}
    assert depth.removed_blocks(cosines, 3, 1, angular) == [2]
    assert depth.removed_blocks(cosines, 3, 2, angular) == [0, 1]
    assert depth.removed_blocks(cosines, 3, 2, angular | {"guard_first": 1}) == [1, 2]
    last = settings | {"criterion": "last", "guard_last": 1}
    assert depth.removed_blocks(None, 5, 2, last) == [2, 3]


@pytest.mark.parametrize("criterion", list(depth.CRITERIA))
@pytest.mark.parametrize("model_type", ["llama", "qwen3", "olmo2", "mamba"])
def test_every_criterion_gives_a_loadable_model(
    criterion, model_type, make_base, corpus, spec, tmp_path
):
    base = make_base(model_type)
    settings = {"prune": "depth", "criterion": criterion, "tolerance": 0.2}
    stage = Stage(spec(settings, 0.4), base, corpus, tmp_path)
    stage.run()
    results = manifest.read_manifest(tmp_path / "0.4" / manifest.NAME)["results"]
    model = io.load(tmp_path / "0.4")
    assert model.config.num_hidden_layers == 4 - len(results["layers_removed"])
    tokens = torch.arange(20)[None]
    dense = io.load(base.parent)
    inner = dense.base_model
    kept = [i for i in range(4) if i not in results["layers_removed"]]
    inner.layers = torch.nn.ModuleList(inner.layers[i] for i in kept)
    dense.config.num_hidden_layers = len(kept)
    with torch.no_grad():
        expected = dense(tokens, use_cache=False).logits
        torch.testing.assert_close(model(tokens).logits, expected, rtol=1e-5, atol=1e-5)
    assert math.isclose(results["rate"], 1 - results["N"] / results["N0"])
