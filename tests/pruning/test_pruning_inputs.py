"""What a linear layer saw: its own inputs in every architecture, or an error that names it."""

import pytest
import torch
from torch import nn

from p2law.architectures.architecture import ARCHITECTURES
from p2law.errors import UserError
from p2law.pruning.blocks import Blocks
from p2law.pruning.calibration import Source, read_windows
from p2law.pruning.stage import Stage
from p2law.pruning.statistics import Collector, Statistics


def source_of(base, corpus, folder, windows=6):
    return Source(Blocks(base.parent), read_windows(corpus.parent, windows, 0, 96), folder)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_every_linear_layer_sees_every_token_once(name, make_base, corpus, tmp_path):
    source = source_of(make_base(name), corpus, tmp_path)
    arch, states = source.blocks.arch, source.embedded()
    with source.blocks.block(0) as block:
        with Collector(block, arch.inputs, True, fed_by=arch.fed_by) as collector:
            source.through(block, 0, states, None)
        assert {f"{layer}.weight" for layer in collector.of} == set(arch.linear_weights())
        for layer, inputs in collector.of.items():
            assert inputs.tokens == source.calibration.tokens.numel()
            assert len(inputs.norms()) == block.get_submodule(layer).in_features
            assert (inputs.norms() > 0).all()


def test_mamba_time_steps_are_what_its_projection_multiplies(make_base, corpus, tmp_path):
    """transformers multiplies by dt_proj's weight without calling it: hooks alone see nothing."""
    source = source_of(make_base("mamba"), corpus, tmp_path)
    arch, states = source.blocks.arch, source.embedded()
    seen = []
    with source.blocks.block(0) as block:
        block.mixer.x_proj.register_forward_hook(lambda _m, _x, output: seen.append(output))
        with Collector(block, arch.inputs, True, fed_by=arch.fed_by) as collector:
            source.through(block, 0, states, None)
        rank = block.mixer.dt_proj.in_features
        assert rank == block.mixer.time_step_rank
    steps = torch.cat([output[..., :rank].reshape(-1, rank) for output in seen]).double()
    found = collector.of["mixer.dt_proj"]
    # fp32 sums in another order.
    torch.testing.assert_close(
        found.hessian().double(), 2 * steps.T @ steps / len(steps), rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(found.sums, steps.sum(0), rtol=1e-4, atol=1e-4)


class Unseen(nn.Module):
    """A block that multiplies by a weight without calling its module."""

    def __init__(self):
        super().__init__()
        self.called, self.read = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.called(x) @ self.read.weight.T


def test_a_layer_that_saw_no_token_is_named():
    block = Unseen()
    with (
        pytest.raises(UserError, match="model.layers.7.read: saw no token"),
        Collector(block, (("called",), ("read",)), False, where="model.layers.7."),
    ):
        block(torch.ones(2, 4))
    with (
        pytest.raises(ValueError, match="the block's own error"),  # and not ours on top of it
        Collector(block, (("read",),), False),
    ):
        raise ValueError("the block's own error")
    before = len(block.called._forward_pre_hooks)
    with Collector(block, (("called",),), False):
        block(torch.ones(2, 4))
    assert len(block.called._forward_pre_hooks) == before


@pytest.mark.parametrize("settings", [{"layer_rates": "owl"}, {"mask": "wanda"}, {"mask": "obs"}])
def test_pruning_refuses_what_it_cannot_see(
    settings, make_base, corpus, spec, tmp_path, monkeypatch
):
    mamba = ARCHITECTURES["mamba"]
    monkeypatch.setitem(mamba.fed_by, "mixer.dt_proj", "mixer.dt_proj")
    full = {"prune": "weights", "pattern": "unstructured", **settings}
    with pytest.raises(UserError, match=r"backbone.layers.0.mixer.dt_proj: saw no token"):
        Stage(spec(full, 0.3), make_base("mamba"), corpus, tmp_path).run()


@pytest.mark.parametrize("gram", [True, False])
def test_statistics_are_sums_over_all_tokens(gram):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64) + 0.5
    statistics = Statistics(7, gram, "cpu", torch.float64)
    for window in X:
        statistics.add(window)
    flat = X.reshape(-1, 7)
    assert statistics.tokens == 15
    close = {"rtol": 1e-12, "atol": 0}
    torch.testing.assert_close(statistics.sums, flat.sum(0), **close)
    torch.testing.assert_close(statistics.squares, flat.square().sum(0), **close)
    torch.testing.assert_close(statistics.norms(), flat.square().mean(0).sqrt(), **close)
