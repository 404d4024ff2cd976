"""Weight pruning of whole models: every mask with every compensation, rates, refinement."""

import itertools

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from p2law.checkpoints import io, products
from p2law.errors import UserError
from p2law.pruning import (
    columns,
    compensate,
    depth,
    layer,
    layer_rates,
    masks,
    refine,
    width,
)
from p2law.pruning.blocks import Blocks
from p2law.pruning.curvature import Curvature
from p2law.pruning.masks import Rule
from p2law.pruning.methods import depth as depths
from p2law.pruning.methods import weights as chosen
from p2law.pruning.methods import width as widths
from p2law.pruning.stage import Stage
from p2law.pruning.statistics import Statistics
from p2law.results import manifest


def test_names_are_the_registries():
    assert tuple(chosen.MASKS) == layer.MASKS
    assert tuple(chosen.WEIGHTS) == tuple(layer.WEIGHTS)
    assert tuple(chosen.LAYER_RATES) == tuple(layer_rates.LAYER_RATES)
    assert tuple(depths.CRITERIA) == tuple(depth.CRITERIA)
    assert tuple(widths.CRITERIA) == tuple(width.CRITERIA)
    assert tuple(widths.WEIGHTS) == ("keep", *columns.SOLVERS)


def pruned(spec, base, corpus, folder, rate=0.5, **settings):
    settings = {"prune": "weights", **settings}
    Stage(spec(settings, rate), base, corpus, folder).run()
    record = manifest.verify_files(folder / str(rate) / manifest.NAME)
    return record["results"], io.load_masks(folder / str(rate)), folder / str(rate)


@pytest.mark.parametrize(("mask", "weights"), list(itertools.product(chosen.MASKS, chosen.WEIGHTS)))
def test_every_mask_with_every_compensation(mask, weights, make_base, corpus, spec, tmp_path):
    results, kept, folder = pruned(
        spec, make_base(), corpus, tmp_path, mask=mask, weights=weights, pattern="2:4"
    )
    assert all((m.reshape(-1, 4).sum(1) == 2).all() for m in kept.values())
    state = load_file(folder / "model.safetensors")
    assert all(not state[name][m == 0].any() for name, m in kept.items())
    for each in results.get("layer_error", []):
        if weights.startswith("mrp"):
            # The optimum of the damped problem; 1 % leaves room for the damping.
            assert each["compensated"] <= each["masked"] * 1.01
    assert torch.isfinite(io.load(folder)(torch.arange(16)[None]).logits).all()


@pytest.mark.parametrize("layer_rate", list(chosen.LAYER_RATES))
def test_layer_rates_keep_the_mean(layer_rate, make_base, corpus, spec, tmp_path):
    results, kept, _ = pruned(
        spec, make_base(), corpus, tmp_path, 0.3, pattern="unstructured", layer_rates=layer_rate
    )
    # Each of the 7 x rows counts rounds to a whole weight in rows of 32 or 64.
    assert results["rate"] == pytest.approx(0.3, abs=0.01)
    spread = len(set(results["block_zeros"]))
    assert spread == 1 if layer_rate == "uniform" else spread > 1


def test_unstructured_layer_scope_hits_the_asked_rate(make_base, corpus, spec, tmp_path):
    results, *_ = pruned(
        spec, make_base(), corpus, tmp_path, 0.35, pattern="unstructured", mask="magnitude"
    )
    assert results["rate"] == pytest.approx(0.35, abs=28 / results["N0"])
    assert results["calibration_sha256"] is None


def test_owl_and_alpha_formulas(make_base):
    values = layer_rates._stretched([0.1, 0.3, 0.2], 0.16)
    assert values == pytest.approx([0.0, 0.16, 0.08])
    # Hill on an exact power law: eigenvalues i^(-1/(a-1)) have exponent a, here 2.5; the sum over
    # n of them misses its integral by log(2 pi n) / 3n.
    tail = torch.arange(4000, 0, -1, dtype=torch.float64) ** (-1 / 1.5)
    assert layer_rates.hill_exponent(tail) == pytest.approx(2.5, rel=5e-3)
    shares = layer_rates.alpha(Blocks(make_base().parent), None, 0.5)
    assert sum(shares) / 4 == pytest.approx(0.5)
    assert max(shares) / min(shares) == pytest.approx(1.3 / 0.7)
    with pytest.raises(UserError, match="owl|alpha: block"):
        layer_rates.block_shares("alpha", Blocks(make_base().parent), None, 0.9)


def fix_finger(values):
    """Hill's exponent as AlphaPruning's authors compute it, value by value."""
    values = sorted(values)
    logs = np.log10(values)
    counts, edges = np.histogram(logs, bins=100)
    peak, found = 10 ** edges[counts.argmax()], []
    for i, low in enumerate(values[:-1]):
        if 0.95 * peak <= low <= 1.5 * peak:
            tail = np.array(values[i:])
            exponent = 1 + len(tail) / np.log(tail / low).sum()
            fitted = 1 - (tail / low) ** (1 - exponent)
            found.append((np.abs(fitted - np.arange(len(tail)) / len(tail)).max(), exponent))
    return min(found)[1]


@pytest.mark.parametrize("shape", [(48, 96), (96, 48), (64, 64), (80, 3), (200, 300), (250, 256)])
def test_alphas_exponents_are_fix_fingers(shape):
    g = torch.Generator().manual_seed(sum(shape))
    W = torch.randn(shape, generator=g) * torch.randn(shape[1], generator=g).exp()
    values = torch.linalg.svdvals(W.double()).square()
    found = layer_rates.spectrum(W)
    torch.testing.assert_close(found, values.flip(0), rtol=1e-9, atol=1e-14 * float(values[0]))
    assert layer_rates.hill_exponent(found) == pytest.approx(fix_finger(values.tolist()), rel=1e-9)


def test_the_largest_eigenvalue_alone_is_no_tail():
    """In a narrow spectrum every eigenvalue is near the peak; a tail of one fits perfectly."""
    g = torch.Generator().manual_seed(5)
    values = (1 + 0.4 * torch.rand(60, generator=g, dtype=torch.float64)).sort().values
    found = layer_rates.hill_exponent(values)
    assert found == pytest.approx(fix_finger(values.tolist()), rel=1e-9)
    assert found < 100


def test_a_spectrum_leaves_out_what_is_zero_to_rounding():
    g = torch.Generator().manual_seed(0)
    W = torch.randn(20, 4, generator=g) @ torch.randn(4, 30, generator=g)
    assert len(layer_rates.spectrum(W.double())) == 4
    assert layer_rates.hill_exponent(torch.ones(1, dtype=torch.float64)) > 1e6
    assert layer_rates.hill_exponent(torch.ones(5, dtype=torch.float64)) > 1e6


def theirs(W, kept, X, threshold, cycles=50):
    """DSnoT for one row, written plainly from the paper's algorithm 1; inputs X [tokens, in]."""
    mean, variance = X.mean(0), X.var(0, unbiased=False)
    norm = X.square().mean(0).sqrt()
    kept = kept.clone()
    for _ in range(cycles):
        error = float((W * mean)[~kept].sum())
        if abs(error) <= threshold:
            break
        sign = 1 if error > 0 else -1
        effect = sign * W * mean
        grown = [j for j in range(len(W)) if not kept[j] and effect[j] > 0]
        gone = [j for j in range(len(W)) if kept[j] and effect[j] < 0]
        if not grown or not gone:
            break
        grow = max(grown, key=lambda j: float(effect[j] / variance[j]))
        prune = min(gone, key=lambda j: float(W[j].abs() * norm[j]))
        after = error - sign * float(effect[grow] - effect[prune])
        if after * error < 0 or abs(after) >= abs(error):
            break
        kept[grow], kept[prune] = True, False
    return kept


def test_dsnot_is_the_papers_algorithm_at_either_scale():
    g = torch.Generator().manual_seed(3)
    X = torch.randn(120, 96, generator=g, dtype=torch.float64)
    X = X + torch.randn(96, generator=g, dtype=torch.float64)
    W = torch.randn(30, 96, generator=g, dtype=torch.float64) * 0.05
    inputs = Statistics(96, False, "cpu", torch.float64)
    inputs.add(X)
    kept = masks.select(masks.wanda(W, inputs), Rule(None, 0.5, "row", (30,)))
    swapped = []
    for threshold in (refine.THRESHOLD, refine.THRESHOLD / 256):
        found = refine.dsnot(W, kept, inputs, None, threshold)
        expected = [theirs(w, k, X, threshold) for w, k in zip(W, kept, strict=True)]
        assert torch.equal(found, torch.stack(expected))
        swapped.append(int((found != kept).any(dim=1).sum()))
    assert 0 < swapped[0] < swapped[1]


@pytest.mark.parametrize("pattern", [None, (2, 4)])
def test_dsnot_keeps_counts_and_shrinks_the_mean_error(pattern):
    g = torch.Generator().manual_seed(0)
    X = torch.randn(200, 512, generator=g) + torch.randn(512, generator=g)
    W = torch.randn(40, 512, generator=g)
    inputs = Statistics(512, False, "cpu", torch.float32)
    inputs.add(X)
    kept = masks.select(masks.wanda(W, inputs), Rule(pattern, 0.5, "row", (40,)))
    better = refine.dsnot(W, kept, inputs, pattern)
    assert torch.equal(kept.sum(1), better.sum(1))
    if pattern:
        assert (better.reshape(40, -1, 4).sum(-1) == 2).all()
        assert (better != kept).sum() > 20

    def error(mask):
        return ((W * ~mask) @ X.mean(0)).abs()

    assert (error(better) <= error(kept) + 1e-5).all()
    if pattern is None:
        assert error(better).mean() < 0.5 * error(kept).mean()
    still = error(kept) <= refine.THRESHOLD
    assert torch.equal(better[still], kept[still])


def test_compensation_is_measured_on_inputs_through_pruned_blocks(
    make_base, corpus, spec, tmp_path
):
    """Block 1's reported error equals that of the two checkpoints' own modules."""
    from p2law.corpus.packed import Packed, order

    base = make_base()
    results, _, folder = pruned(spec, base, corpus, tmp_path, mask="sparsegpt", weights="mrp")
    tokens = torch.from_numpy(
        Packed(corpus.parent).read("calibration", order(24, 3)[:8])[:, :-1].copy()
    )
    old, new = io.load(base.parent), io.load(folder)
    old.model.layers[0].load_state_dict(new.model.layers[0].state_dict())
    with torch.no_grad():
        seen, mixed = (m(tokens, output_hidden_states=True).hidden_states for m in (new, old))
    error = (mixed[2] - seen[2]).double().square().sum() / mixed[2].double().square().sum()
    # fp32 forward passes in other batch sizes.
    assert results["block_error"][1] == pytest.approx(float(error), rel=1e-4)


def test_a_bfloat16_base_stays_bfloat16(make_base, corpus, spec, tmp_path):
    base = make_base(dtype=torch.bfloat16)
    _, kept, folder = pruned(spec, base, corpus, tmp_path, mask="sparsegpt", weights="mrp-cg")
    state = load_file(folder / "model.safetensors")
    assert {w.dtype for w in state.values()} == {torch.bfloat16}
    assert all(not state[name][m == 0].any() for name, m in kept.items())


def test_solvers_at_real_sizes_do_not_depend_on_threads():
    """Large enough for every kernel to split its work; the stage's own test has tiny models."""
    found, before = [], torch.get_num_threads()
    g = torch.Generator().manual_seed(0)
    X = torch.randn(1024, 512, generator=g) @ torch.randn(512, 512, generator=g)
    W = torch.randn(128, 512, generator=g)
    rule = Rule((2, 4), 0.5, "layer", (96, 32))
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            inputs = Statistics(512, True, "cpu", torch.float32)
            with products.fast():
                inputs.add(X)
            with products.exact(X.device):
                curvature = Curvature(inputs.hessian(), 0.01, "layer")
                swept, kept = compensate.sparsegpt(W, curvature, None, rule)
                found.append(
                    [
                        masks.group(W, curvature, (2, 4)),
                        swept,
                        compensate.mrp(W, curvature, kept),
                        compensate.mrp_cg(W, curvature, kept, start=swept),
                        curvature.loss(swept - W),
                        inputs.norms(),
                    ]
                )
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_spilled_states_give_nearly_the_same(make_base, corpus, spec, tmp_path, monkeypatch):
    from p2law.pruning import calibration

    base = make_base()
    held = pruned(spec, base, corpus, tmp_path / "held")[0]
    monkeypatch.setattr(calibration, "BATCH_TOKENS", 96)
    asked = spec({"prune": "weights"}, 0.5)
    asked["calibration"]["memory_gib"] = 1e-6
    Stage(asked, base, corpus, tmp_path / "spilled").run()
    record = manifest.read_manifest(tmp_path / "spilled" / "0.5" / manifest.NAME)
    # bf16 keeps 8 bits: errors of the states of about 0.4 %.
    assert record["results"]["block_error"] == pytest.approx(held["block_error"], rel=0.05)
