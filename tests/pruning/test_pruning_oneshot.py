"""Masks and weight compensation against independent oracles, in fp64 on synthetic layers."""

import numpy as np
import pytest
import torch

from p2law.errors import UserError
from p2law.pruning import compensate, masks
from p2law.pruning import layer as layer_of
from p2law.pruning.curvature import LEAF, Curvature
from p2law.pruning.masks import Rule
from p2law.pruning.statistics import Statistics

TOKENS, IN, OUT = 400, 48, 24


@pytest.fixture(scope="module")
def layer():
    """Correlated inputs X, weights W, their statistics and curvature, fp64."""
    g = torch.Generator().manual_seed(0)
    mix = torch.randn(IN, IN, generator=g, dtype=torch.float64)
    X = torch.randn(TOKENS, IN, generator=g, dtype=torch.float64) @ mix
    W = torch.randn(OUT, IN, generator=g, dtype=torch.float64)
    statistics = Statistics(IN, True, "cpu", torch.float64)
    statistics.add(X[:300])
    statistics.add(X[300:])
    return X, W, statistics, Curvature(statistics.hessian(), 0.01, "layer")


def rule(pattern=None, share=0.5, scope="row", rows=(OUT,)):
    return Rule(pattern, share, scope, rows)


def any_mask(W, statistics, curvature, pattern=None):
    return masks.select(masks.wanda(W, statistics), rule(pattern))


def test_hessian_is_the_sum_of_outer_products(layer):
    X, _, statistics, _ = layer
    expected = 2 / TOKENS * X.T @ X
    # fp64 products in another order: rounding only.
    torch.testing.assert_close(statistics.hessian(), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(statistics.norms(), X.norm(dim=0) / TOKENS**0.5, rtol=1e-12, atol=0)


@pytest.mark.parametrize("width", [IN, 2 * LEAF + 45])
def test_upper_factor_and_inverse(layer, width):
    """Also of a matrix that is factored by halves of unequal size."""
    *_, curvature = layer
    if width > IN:
        mix = torch.randn(width, width, generator=torch.Generator().manual_seed(0)).double()
        curvature = Curvature(mix @ mix.T / width, 0.1, "layer")
    U = curvature.upper
    assert torch.equal(U, U.triu())
    inverse = torch.linalg.inv(curvature.H)
    torch.testing.assert_close(curvature.inverse, inverse, rtol=1e-9, atol=1e-12)
    theirs = torch.linalg.cholesky(inverse, upper=True)
    torch.testing.assert_close(U, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("pattern", [None, (2, 4), (1, 4), (4, 8)])
def test_mrp_is_masked_least_squares(layer, pattern):
    """numpy's lstsq on the kept inputs; the damping is rows sqrt(added / 2 x tokens) I under X."""
    X, W, statistics, curvature = layer
    kept = any_mask(W, statistics, curvature, pattern)
    V = compensate.mrp(W, curvature, kept)
    ridge = torch.eye(IN, dtype=torch.float64) * (curvature.added * TOKENS / 2) ** 0.5
    A = torch.cat([X, ridge]).numpy()
    for i in range(OUT):
        k = kept[i].numpy()
        solution = np.linalg.lstsq(A[:, k], A @ W[i].numpy(), rcond=None)[0]
        np.testing.assert_allclose(V[i].numpy()[k], solution, rtol=1e-10, atol=1e-10)
        assert not V[i].numpy()[~k].any()


def test_mrp_of_rows_with_different_counts(layer):
    X, W, statistics, curvature = layer
    kept = masks.select(masks.magnitude(W), rule(scope="layer", share=0.6))
    kept[0], kept[1] = True, False
    V = compensate.mrp(W, curvature, kept)
    assert torch.equal(V[0], W[0])
    assert not V[1].any()
    gradient = ((V - W) @ curvature.H) * kept
    assert gradient.abs().max() < 1e-10 * (W @ curvature.H).abs().max()


def test_loss_identity(layer):
    """1/2 dw H dw^T of the optimum equals 1/2 w_P ([H^-1]_PP)^-1 w_P^T."""
    _, W, statistics, curvature = layer
    kept = any_mask(W, statistics, curvature)
    change = compensate.mrp(W, curvature, kept) - W
    for i, loss in enumerate(curvature.loss(change)):
        P = (~kept[i]).nonzero()[:, 0]
        w = W[i, P]
        predicted = w @ torch.linalg.inv(curvature.inverse[P][:, P]) @ w / 2
        torch.testing.assert_close(loss, predicted, rtol=1e-9, atol=0)


@pytest.mark.parametrize("pattern", [None, (2, 4)])
@pytest.mark.parametrize("score", list(masks.SCORED))
def test_mrp_beats_sparsegpt_and_zeroing_for_the_same_mask(layer, pattern, score):
    _, W, statistics, curvature = layer
    kept = masks.select(masks.SCORED[score].score(W, statistics, curvature), rule(pattern))
    exact = curvature.loss(compensate.mrp(W, curvature, kept) - W)
    swept, same = compensate.sparsegpt(W, curvature, kept, rule(pattern))
    assert torch.equal(same, kept)
    slack = 1 + 1e-9  # equal up to rounding where a row has nothing to compensate with
    assert (exact <= curvature.loss(swept - W) * slack).all()
    assert (exact <= curvature.loss(W * kept - W) * slack).all()


@pytest.mark.parametrize("pattern", [None, (2, 4)])
def test_conjugate_gradients_reach_the_exact_loss(layer, pattern):
    _, W, statistics, curvature = layer
    kept = any_mask(W, statistics, curvature, pattern)
    exact = curvature.loss(compensate.mrp(W, curvature, kept) - W).sum()
    solved = compensate.mrp_cg(W, curvature, kept, tolerance=1e-9)
    assert not solved[~kept].any()
    assert exact <= curvature.loss(solved - W).sum() <= exact * (1 + 1e-6)
    # By default a batch ends at steps worth 0.1 % of its loss: within a few of these.
    default = curvature.loss(compensate.mrp_cg(W, curvature, kept) - W).sum()
    assert exact <= default <= exact * 1.01
    swept, _ = compensate.sparsegpt(W, curvature, kept, rule(pattern))
    fewer = compensate.mrp_cg(W, curvature, kept, start=swept, most=2)
    assert curvature.loss(fewer - W).sum() <= curvature.loss(swept - W).sum()


@pytest.mark.parametrize("mask", ["wanda", "obs", "sparsegpt"])
def test_conjugate_gradients_never_end_above_sparsegpt(layer, mask, monkeypatch):
    """Whosever the mask, they start from SparseGPT's answer for it: one step is enough to see."""
    _, W, statistics, curvature = layer
    real = compensate.mrp_cg
    monkeypatch.setattr(compensate, "mrp_cg", lambda *a, start: real(*a, start=start, most=1))
    losses = []
    for weights in ("sparsegpt", "mrp-cg"):
        settings = {"mask": mask, "weights": weights, "refine": "none"}
        problem = layer_of.Problem(W, statistics, curvature, rule())
        V, _ = layer_of.prune_layer(problem, settings)
        losses.append(curvature.loss(V - W))
    assert (losses[1] < losses[0]).all()


@pytest.mark.parametrize("pattern", [None, (2, 4)])
def test_the_best_pair_is_neither_papers_own(pattern):
    """Measured on correlated layers: SparseGPT's mask + MRP < mask S + MRP < SparseGPT < Wanda."""
    width, g = 192, torch.Generator().manual_seed(0)
    X = torch.randn(4 * width, width, generator=g) @ torch.randn(width, width, generator=g)
    W = torch.randn(width, width, generator=g)
    inputs = Statistics(width, True, "cpu", torch.float32)
    inputs.add(X)
    curvature = Curvature(inputs.hessian(), 0.01, "layer")
    by_layer = rule(pattern, scope="layer", rows=(width,))
    swept, adaptive = compensate.sparsegpt(W, curvature, None, by_layer)
    single = masks.select(masks.obs(W, None, curvature), by_layer)
    wanda = masks.select(masks.wanda(W, inputs), rule(pattern))
    ordered = [
        compensate.mrp(W, curvature, adaptive),
        compensate.mrp(W, curvature, single),
        swept,
        W * wanda,
    ]
    losses = [float(curvature.loss(V - W).sum()) for V in ordered]
    # The smallest step, between the two masks under MRP, is 1.4 % here and never below 1 % in
    # three seeds; the others are 40 % and more.
    assert all(a < 0.995 * b for a, b in zip(losses, losses[1:], strict=False))


def reference_sparsegpt(W, H, kept):
    """One column at a time, only later ones updated: MRP's formula on shrinking problems."""
    W = W.clone()
    for j in range(W.shape[1]):
        inverse = torch.linalg.inv(H[j:, j:])
        for i in range(W.shape[0]):
            if not kept[i, j]:
                W[i, j:] -= W[i, j] / inverse[0, 0] * inverse[0]
    return W * kept


@pytest.mark.parametrize("pattern", [None, (2, 4)])
def test_sparsegpt_is_the_one_column_special_case(layer, pattern):
    _, W, statistics, curvature = layer
    kept = any_mask(W, statistics, curvature, pattern)
    swept, _ = compensate.sparsegpt(W, curvature, kept, rule(pattern))
    expected = reference_sparsegpt(W, curvature.H, kept)
    torch.testing.assert_close(swept, expected, rtol=1e-8, atol=1e-8)


def test_sparsegpt_two_to_four_mask_is_chosen_on_updated_weights(layer):
    """The published loop, written plainly: mask of a group when its first column is reached."""
    _, W, _, curvature = layer
    U, V = curvature.upper, W.clone()
    expected = torch.ones_like(W, dtype=torch.bool)
    for j in range(IN):
        if j % 4 == 0:
            score = V[:, j : j + 4] ** 2 / U.diagonal()[j : j + 4] ** 2
            expected[:, j : j + 4].scatter_(1, score.topk(2, dim=1, largest=False)[1], False)
        error = torch.where(expected[:, j], 0.0, V[:, j] / U[j, j])
        V[:, j:] -= error[:, None] * U[j, j:]
    found, kept = compensate.sparsegpt(W, curvature, None, rule((2, 4)))
    assert torch.equal(kept, expected)
    torch.testing.assert_close(found, V * expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scope", ["row", "layer"])
def test_sparsegpt_ranks_blocks_of_128_columns(scope):
    """The published loop for unstructured masks: ranked when a block's first column is reached."""
    width, rows, g = 300, (5, 3), torch.Generator().manual_seed(1)
    X = torch.randn(900, width, generator=g).double()
    X = X @ torch.randn(width, width, generator=g).double()
    W = torch.randn(8, width, generator=g).double()
    curvature = Curvature(2 / 900 * X.T @ X, 0.01, "layer")
    U, V = curvature.upper, W.clone()
    expected = torch.ones_like(W, dtype=torch.bool)
    for start in range(0, width, 128):
        stop = min(start + 128, width)
        score = (V[:, start:stop] / U.diagonal()[start:stop]).square()
        for part, mask in zip(score.split(rows), expected.split(rows), strict=True):
            for one, at in [(part, mask)] if scope == "layer" else zip(part, mask, strict=True):
                size = one.numel() // (stop - start)
                due = round(0.4 * stop * size) - round(0.4 * start * size)
                kept = torch.ones(one.numel(), dtype=torch.bool)
                kept[one.flatten().argsort()[:due]] = False
                at[..., start:stop] = kept.reshape(one.shape)
        for j in range(start, stop):
            error = torch.where(expected[:, j], 0.0, V[:, j] / U[j, j])
            V[:, j:] -= error[:, None] * U[j, j:]
    found, kept = compensate.sparsegpt(W, curvature, None, rule(share=0.4, scope=scope, rows=rows))
    assert torch.equal(kept, expected)
    torch.testing.assert_close(found, V * expected, rtol=1e-8, atol=1e-8)


def test_conjugate_gradients_step_and_stop(layer):
    """First step along residual / diag H, and an end when a step gains at most .1 % of the loss."""
    _, W, statistics, curvature = layer
    kept = any_mask(W, statistics, curvature)
    V, H = W * kept, curvature.H
    residual = ((W - V) @ H) * kept
    z = residual / H.diagonal()
    length = (residual * z).sum(1) / ((z @ H) * z).sum(1)
    first = compensate.mrp_cg(W, curvature, kept, most=1)
    torch.testing.assert_close(first, V + length[:, None] * z, rtol=1e-10, atol=1e-12)
    losses = [
        float(curvature.loss(compensate.mrp_cg(W, curvature, kept, tolerance=0, most=k) - W).sum())
        for k in range(60)
    ]
    assert losses == sorted(losses, reverse=True)
    last = next(k for k in range(1, 60) if losses[k - 1] - losses[k] <= 1e-3 * losses[k])
    default = compensate.mrp_cg(W, curvature, kept)
    assert float(curvature.loss(default - W).sum()) == pytest.approx(losses[last], rel=1e-12)
    assert last > 3
    # As many steps as a row keeps columns end at the optimum: conjugate, not steepest.
    exact = curvature.loss(compensate.mrp(W, curvature, kept) - W).sum()
    assert losses[30] == pytest.approx(float(exact), rel=1e-6)


@pytest.mark.parametrize("full", [0, slice(None)])
def test_rows_with_nothing_to_solve_are_left_alone(layer, full):
    _, W, statistics, curvature = layer
    kept = any_mask(W, statistics, curvature)
    kept[full] = True
    V = compensate.mrp_cg(W, curvature, kept)
    assert torch.equal(V[full], W[full])
    assert torch.isfinite(V).all()


@pytest.mark.parametrize("scope", ["row", "layer"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.77, 0.9989, 1.0])
def test_counts_are_exact_even_when_all_scores_tie(scope, share):
    W, rows = torch.ones(OUT, 200), (OUT - 5, 5)
    kept = masks.select(W, rule(share=share, scope=scope, rows=rows))
    curvature = Curvature(torch.eye(200), 0.01, "layer")
    _, swept = compensate.sparsegpt(W, curvature, None, rule(share=share, scope=scope, rows=rows))
    for mask in (kept, swept):
        for part in mask.split(rows):
            if scope == "row":
                assert ((~part).sum(1) == round(share * 200)).all()
            else:
                assert (~part).sum() == round(share * part.numel())


@pytest.mark.parametrize("pattern", [None, (2, 4)])
def test_of_equal_scores_the_earlier_is_pruned(pattern):
    kept = masks.select(torch.tensor([[1.0, 1, 1, 1, 0, 1, 1, 2]]), rule(pattern))
    expected = [0, 0, 0, 1, 0, 1, 1, 1] if pattern is None else [0, 0, 1, 1, 0, 0, 1, 1]
    assert kept.tolist() == [[bool(k) for k in expected]]


def test_groups_are_ranked_a_few_rows_at_a_time_alike(monkeypatch):
    score = torch.randn(11, IN, generator=torch.Generator().manual_seed(0))
    whole = masks.select(score, rule((2, 4), rows=(11,)))
    for chunk in (1, 2 * IN, 3 * IN + 5):
        monkeypatch.setattr(masks, "CHUNK", chunk)
        assert torch.equal(masks.select(score, rule((2, 4), rows=(11,))), whole)


def test_ties_of_one_row_leave_the_others_alone():
    kept = masks.select(torch.tensor([[3.0, 1, 2, 4], [1, 1, 1, 1]]), rule(rows=(2,)))
    assert kept.tolist() == [[True, False, False, True], [False, False, True, True]]


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 4), (4, 8), (1, 2), (2, 3)])
def test_n_to_m_is_exact(layer, n, m):
    _, W, statistics, curvature = layer
    W = W.round()  # many ties
    chosen = [masks.select(W.abs(), rule((n, m))), masks.group(W, curvature, (n, m))]
    chosen.append(compensate.sparsegpt(W, curvature, None, rule((n, m)))[1])
    for kept in chosen:
        assert (kept.reshape(OUT, -1, m).sum(-1) == n).all()


def test_group_mask_is_the_cheapest_pair_of_each_group(layer):
    from itertools import combinations

    _, W, _, curvature = layer
    kept = masks.group(W, curvature, (2, 4))
    for i in range(3):
        for g in range(0, IN, 4):
            costs = {}
            for pair in combinations(range(4), 2):
                at = torch.tensor([g + p for p in pair])
                w = W[i, at]
                costs[pair] = float(w @ torch.linalg.inv(curvature.inverse[at][:, at]) @ w)
            best = min(costs, key=costs.get)
            assert (~kept[i, g : g + 4]).nonzero()[:, 0].tolist() == list(best)


def test_scores_are_the_papers_formulas(layer):
    X, W, statistics, curvature = layer
    A, norm = W.abs(), X.norm(dim=0) / TOKENS**0.5
    close = {"rtol": 1e-10, "atol": 0}
    torch.testing.assert_close(masks.wanda(W, statistics), A * norm, **close)
    relative = A / A.sum(0) + A / A.sum(1, keepdim=True)
    torch.testing.assert_close(masks.ria(W, statistics), relative * norm**0.5, **close)
    diagonal = torch.linalg.inv(curvature.H).diagonal()
    torch.testing.assert_close(masks.obs(W, None, curvature), W**2 / 2 / diagonal, **close)


def test_dead_inputs_do_not_break_the_factor(layer):
    X, *_ = layer
    X = X.clone()
    X[:, 7] = 0
    statistics = Statistics(IN, True, "cpu", torch.float64)
    statistics.add(X)
    curvature = Curvature(statistics.hessian(), 0.01, "layer")
    assert curvature.dead.nonzero().tolist() == [[7]]
    assert torch.isfinite(curvature.upper).all()


def test_damping_is_a_share_of_the_live_inputs_mean():
    """Dead inputs do not set the scale: with H_jj = 1 there, damping was 1.28 times the mean here
    and the exact optimum's error .034."""
    width, g = 256, torch.Generator().manual_seed(0)
    mix = torch.randn(width, width, generator=g, dtype=torch.float64) * 0.02 / width**0.5
    X = torch.randn(2048, width, generator=g, dtype=torch.float64) @ mix
    X[:, torch.randperm(width, generator=g)[:26]] = 0
    W = torch.randn(128, width, generator=g, dtype=torch.float64)
    inputs = Statistics(width, True, "cpu", torch.float64)
    inputs.add(X)
    curvature = Curvature(inputs.hessian(), 0.01, "layer")
    assert curvature.dead.sum() == 26
    live = (2 / 2048 * X.square().sum(0))[~curvature.dead].mean()
    assert curvature.added == pytest.approx(0.01 * float(live), rel=1e-12)
    expected = 1.01 * live.expand(26)
    torch.testing.assert_close(curvature.H.diagonal()[curvature.dead], expected)
    kept = masks.select(masks.wanda(W, inputs), rule(rows=(128,)))
    V = compensate.mrp(W, curvature, kept)
    error = ((V - W) @ X.T).square().sum() / (W @ X.T).square().sum()
    assert 0.02 < error < 0.025
    larger = Curvature(1e6 * inputs.hessian(), 0.01, "layer")
    scaled = compensate.mrp(W, larger, kept)
    torch.testing.assert_close(scaled, V, rtol=1e-8, atol=1e-10)  # no scale of X moves the answer


def test_all_inputs_dead_is_no_error():
    curvature = Curvature(torch.zeros(5, 5), 0.01, "layer")
    torch.testing.assert_close(curvature.H, 1.01 * torch.eye(5))
    assert curvature.dead.all()


@pytest.mark.parametrize("mask", [*masks.SCORED, "sparsegpt", "group"])
@pytest.mark.parametrize("weights", list(layer_of.WEIGHTS))
def test_weights_of_dead_inputs_go_first_or_stay_as_they_were(layer, mask, weights):
    X, W, *_ = layer
    X = X.clone()
    X[:, [4, 5, 6, 30]] = 0  # three of one group of four: 2:4 must keep one of them
    inputs = Statistics(IN, True, "cpu", torch.float64)
    inputs.add(X)
    curvature = Curvature(inputs.hessian(), 0.01, "layer")
    settings = {"mask": mask, "weights": weights, "refine": "none"}
    problem = layer_of.Problem(W, inputs, curvature, rule((2, 4)))
    V, kept = layer_of.prune_layer(problem, settings)
    assert torch.equal(V != 0, kept)
    dead = curvature.dead.expand_as(W)
    assert torch.equal(V[kept & dead], W[kept & dead])
    assert (kept[:, 4:8].sum(1) == 2).all()
    assert kept[:, 7].all()
    assert not kept[:, 30].any()
    few = layer_of.Problem(W, inputs, curvature, rule(share=4 / IN))
    if mask not in ("group", "sparsegpt"):
        assert torch.equal(layer_of.prune_layer(few, settings)[1], ~dead)
    lost = layer_of.relative_errors(problem, V)[0][0]
    expected = ((V - W) @ X.T).square().sum() / (W @ X.T).square().sum()
    assert lost == pytest.approx(float(expected), rel=1e-8)


def test_damping_grows_is_logged_and_then_gives_up(caplog):
    H = torch.eye(6, dtype=torch.float64)
    H[0, 1] = H[1, 0] = 1.05
    grown = Curvature(H, 0.01, "block 2 q_proj")
    assert grown.damp == grown.added == pytest.approx(0.1)
    torch.testing.assert_close(grown.H.diagonal(), torch.full((6,), 1.1, dtype=torch.float64))
    assert "block 2 q_proj" in caplog.text
    H[0, 1] = H[1, 0] = 1.9
    assert Curvature(H, 0.03, "block 2 q_proj").damp == 1  # not 3: the last step is to the limit
    H[0, 1] = H[1, 0] = 2.2
    with pytest.raises(UserError, match="q_proj.*not positive definite even with damping 1 x"):
        Curvature(H, 0.01, "block 2 q_proj")


def test_a_hessian_that_overflowed_is_named():
    H = torch.eye(6)
    H[3, 3] = torch.inf
    with pytest.raises(UserError, match="block 2 q_proj: its inputs .* are too large"):
        Curvature(H, 0.01, "block 2 q_proj")
