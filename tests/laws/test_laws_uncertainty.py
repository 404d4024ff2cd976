"""Intervals: their ingredients against plain loops, their coverage in a slow simulation."""

import numpy as np
import pandas as pd
import pytest

import law_simulate as simulate
from p2law.laws.fitting.fit import fit
from p2law.laws.forms import form as forms
from p2law.laws.forms import registry
from p2law.laws.forms.form import ONE, Form
from p2law.laws.judging.holdouts import covered
from p2law.laws.judging.likelihood import _variances, profiles, sandwich
from p2law.laws.judging.soundness import coverage
from p2law.laws.judging.uncertainty import (
    bootstrap,
    run_level_interval,
    run_weights,
    small_sample,
)

BUDGETS = [16384.0 * 2**k for k in range(5)]


def drawn(seed: int, sizes=(2e5, 4e5, 8e5, 1.6e6)):
    clean = simulate.grid(list(sizes), [0.15, 0.3, 0.45], BUDGETS)
    return simulate.losses(clean, "p2", simulate.P2_CONSTANTS, noise=2e-3, shared=0.5, seed=seed)


def test_weights_draw_whole_runs():
    runs = np.repeat(["a", "b", "c"], [2, 3, 1])
    weights = run_weights(runs, 50, seed=0)
    assert weights.shape == (50, 6)
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 2] == weights[:, 4]).all()
    assert (weights[:, [0, 2, 5]].sum(1) == 3).all()


def test_replicate_equals_a_fit_to_the_repeated_runs():
    table = drawn(0)
    found = fit(registry.get("p2_no_size_term"), table, objective="least_squares")
    draws = bootstrap(found, table["run"].to_numpy(), 5, seed=2)
    weights = run_weights(table["run"].to_numpy(), 5, seed=2).astype(int)
    for phi, weight in zip(draws.phi, weights, strict=True):
        again = table.loc[np.repeat(table.index, weight)].reset_index(drop=True)
        again["run"] = [f"{r}{i}" for i, r in enumerate(again["run"])]
        alone = fit(registry.get("p2_no_size_term"), again, objective="least_squares")
        raw = found.problem.to_raw(phi[None])
        # Replicates stop at 1e-6 of the objective: 1e-3 of a standard error.
        assert raw["beta"][0] == pytest.approx(alone.constants["beta"], rel=2e-3)


def test_an_exponent_at_its_fence_has_no_false_interval():
    """Seed 1, depth: N_C's term is gone or reads like E, so alpha is free; replicates must roam."""
    rows = simulate.study(seed=1).query("method == 'depth'").reset_index(drop=True)
    found = fit(registry.get("p2"), rows)
    assert {"alpha", "N_C"} & set(found.at_fences) and "alpha" in found.undetermined
    low, high = bootstrap(found, rows["run"].to_numpy(), 200, seed=0).intervals()["alpha"]
    assert high > 100 * low


def test_seed_fixes_the_intervals():
    table = drawn(1)
    found = fit(registry.get("p2"), table)
    runs = table["run"].to_numpy()
    first, second = (bootstrap(found, runs, 30, seed=7).intervals() for _ in range(2))
    assert first == second


def test_two_sizes_show_the_whole_interval():
    """With two sizes the third's prediction is not determined: the interval must say so."""
    three, two = drawn(4, (2e5, 4e5, 1.6e6)), drawn(4, (2e5, 4e5))
    asked = three[three["N0"] == 1.6e6]
    widths = []
    for table in (three, two):
        found = fit(registry.get("p2"), table)
        draws = bootstrap(found, table["run"].to_numpy(), 200, seed=0)
        low, high = draws.prediction_interval(asked)
        widths.append(float((high / low - 1).mean()))
    assert widths[1] > 1.5 * widths[0]


def test_profile_and_sandwich_hold_the_estimate():
    table = drawn(2)
    found = fit(registry.get("p2_no_size_term"), table)
    runs = table["run"].to_numpy()
    by_name = sandwich(found, runs)
    for profile in profiles(found, runs):
        best = found.constants[profile.name]
        assert profile.low < best < profile.high
        assert profile.objective.min() >= found.objective * (1 - 1e-9)
        low, high = by_name[profile.name]
        # A profile and a quadratic approximation of it: the same width within a factor of two.
        assert 0.5 < (profile.high - profile.low) / (high - low) < 2.0


def test_flat_profile_has_no_end():
    table = drawn(3, (2e5, 8e5))
    found = fit(registry.get("p2"), table)
    ends = {p.name: (p.low, p.high) for p in profiles(found, table["run"].to_numpy())}
    assert None in ends["alpha"]


def test_sandwich_is_silent_with_few_runs():
    table = drawn(5, (2e5, 8e5))
    assert sandwich(fit(registry.get("p2"), table), table["run"].to_numpy()) == {}


@pytest.mark.slow
def test_run_level_intervals_cover_the_truth():
    """200 simulated studies: 95 % intervals of exponents cover 90 to 99 % of the truth."""
    covered = dict.fromkeys(("beta", "gamma", "delta"), 0)
    for seed in range(200):
        table = drawn(seed)
        found = fit(registry.get("p2"), table, restarts=4)
        found_in = bootstrap(found, table["run"].to_numpy(), 200, seed).intervals()
        for name in covered:
            low, high = found_in[name]
            covered[name] += low <= simulate.P2_CONSTANTS[name] <= high
    # Binomial error of 200 draws at .95 is 1.5 %: the bounds leave three of it.
    assert all(0.90 <= count / 200 <= 0.995 for count in covered.values()), covered


# ------------------------------------------------------------------- widths, noise, shares


def test_small_sample_factor():
    """t(G - 1) / z x sqrt(G / (G - 1)), by the tables: t(8) 2.306004, t(2) 4.302653, z 1.959964."""
    assert small_sample(9) == pytest.approx(2.306004 / 1.959964 * np.sqrt(9 / 8), rel=1e-6)
    assert small_sample(3) == pytest.approx(4.302653 / 1.959964 * np.sqrt(3 / 2), rel=1e-6)
    assert small_sample(9, 0.8) == pytest.approx(1.396815 / 1.281552 * np.sqrt(9 / 8), rel=1e-6)
    assert small_sample(1) == 1.0


def test_a_run_level_interval_moves_both_ends_from_the_estimate():
    drawn = np.random.default_rng(0).lognormal(1.0, 0.5, 400)
    low, high = np.percentile(drawn, [2.5, 97.5])
    factor, best = small_sample(9), 2.0
    assert run_level_interval(best, drawn, 9, logs=False) == pytest.approx(
        (best + factor * (low - best), best + factor * (high - best)), rel=1e-12
    )
    assert run_level_interval(best, drawn, 9) == pytest.approx(
        (best * (low / best) ** factor, best * (high / best) ** factor), rel=1e-12
    )
    ends = np.percentile(drawn, [10, 90])
    assert run_level_interval(best, drawn, 9, 0.8) == pytest.approx(
        best * (ends / best) ** small_sample(9, 0.8), rel=1e-12
    )


def test_a_run_level_interval_holds_the_estimate_and_bears_odd_draws():
    drawn = np.linspace(3.0, 4.0, 101)
    low, high = run_level_interval(2.0, drawn, 9)
    assert low <= 2.0 and high > 3.975
    # Answers: no budget suffices in some replicates, in all, or at the fit; none is needed.
    assert run_level_interval(3.5, np.r_[drawn, [np.inf] * 9], 9)[1] == np.inf
    assert run_level_interval(np.inf, drawn, 9) == (pytest.approx(3.025), np.inf)
    assert run_level_interval(np.inf, np.full(9, np.inf), 9) == (np.inf, np.inf)
    assert run_level_interval(3.5, np.r_[drawn, [np.nan] * 9], 9)[1] == np.inf
    assert run_level_interval(0.0, np.zeros(9), 9) == (0.0, 0.0)
    assert run_level_interval(0.0, drawn - 3.0, 9) == pytest.approx((0.0, small_sample(9) * 0.975))
    assert run_level_interval(1.0, np.r_[0.0, drawn], 1) == pytest.approx((1.0, 3.975), abs=0.02)
    assert run_level_interval(1e300, np.array([1e-300, 1e300]), 9)[0] >= 0.0


@pytest.mark.parametrize("raw", [False, True])
def test_a_prediction_interval_is_the_spread_and_the_noise(raw):
    """Against plain loops over replicates and rows: both widened, noise of either sign."""
    table = drawn(6)
    found = fit(registry.get("p2_no_size_term"), table, raw=raw, objective="least_squares")
    draws = bootstrap(found, table["run"].to_numpy(), 50, seed=3)
    asked = table.iloc[:4].assign(D=4e5)
    best, factor = found.predict(asked), small_sample(12)
    n, spent = len(table), found.rank
    pool = found.residuals * np.sqrt(n / (n - spent))
    rng = np.random.default_rng(4)
    noise = rng.choice(pool, size=(50, 4)) * rng.choice([-1.0, 1.0], size=(50, 4))
    expected = np.zeros((50, 4))
    for b, phi in enumerate(draws.phi):
        constants = {k: float(v[0]) for k, v in found.problem.to_raw(phi[None]).items()}
        one = forms.predict(found.form, constants, asked)
        for m in range(4):
            if raw:
                expected[b, m] = best[m] + factor * (one[m] - best[m]) + noise[b, m]
            else:
                expected[b, m] = best[m] * (one[m] / best[m]) ** factor * np.exp(noise[b, m])
    for level, tails in ((0.95, [2.5, 97.5]), (0.8, [10, 90])):
        factor_ratio = small_sample(12, level) / factor
        low, high = draws.prediction_interval(asked, level)
        if factor_ratio == 1.0:
            assert np.array([low, high]) == pytest.approx(np.percentile(expected, tails, axis=0))
        else:
            assert (low > np.percentile(expected, 2.5, axis=0)).all()
            assert (high < np.percentile(expected, 97.5, axis=0)).all()


def test_constants_have_the_interval_of_their_kind():
    """Exponents widened in the plain unit and kept inside their fences, amplitudes in logs."""
    table = drawn(7)
    found = fit(registry.get("p2"), table)
    draws = bootstrap(found, table["run"].to_numpy(), 60, seed=0)
    values, ends = draws.constants(), draws.intervals()
    for name in found.form.constants:
        fence = found.form.exponents.get(name)
        low, high = run_level_interval(found.constants[name], values[name], 12, logs=not fence)
        if fence:
            low, high = max(low, fence.low), min(high, fence.high)
        assert ends[name] == pytest.approx((low, high), rel=1e-12)


def test_variances_are_the_jackknife_of_runs():
    """Least squares of a linear form: leaving a run out moves the constants as refits do."""
    table = drawn(8)
    form = Form("line", "A + B D^-1", "a test", {"A": {}, "B": {"D": ONE}}, {})
    found = fit(form, table, raw=True, objective="least_squares", signs="free")
    runs = table["run"].to_numpy()
    naive, robust, G = _variances(found, runs)
    design = found.problem.linearise(found.phi[None])[1][0]
    left = np.array([
        np.linalg.lstsq(design[runs != r], table["loss"].to_numpy()[runs != r], rcond=None)[0]
        for r in np.unique(runs)
    ])  # fmt: skip
    assert G == 12
    assert robust == pytest.approx((G - 1) / G * ((left - found.phi) ** 2).sum(0), rel=1e-6)
    assert naive == pytest.approx(np.diag(np.linalg.inv(design.T @ design)), rel=1e-9)


def test_the_sandwich_is_t_standard_errors_wide():
    table = drawn(2)
    found = fit(registry.get("p2_no_size_term"), table)
    runs = table["run"].to_numpy()
    _, robust, G = _variances(found, runs)
    for name, (low, high) in sandwich(found, runs).items():
        at = found.form.constants.index(name)
        assert (high - low) / 2 == pytest.approx(2.200985 * np.sqrt(robust[at]), rel=1e-6)  # t(11)
        assert (high + low) / 2 == pytest.approx(found.phi[at], rel=1e-9)


def test_the_profiles_threshold_scales_with_the_correlation_of_runs():
    table = drawn(2)
    found = fit(registry.get("p2_no_size_term"), table)
    runs = table["run"].to_numpy()
    naive, robust, _ = _variances(found, runs)
    for profile in profiles(found, runs):
        at = found.form.constants.index(profile.name)
        rise = 0.5 * 2.200985**2 * robust[at] / naive[at]
        assert profile.threshold - found.objective == pytest.approx(rise, rel=1e-5)
        for end in (profile.low, profile.high):
            assert np.interp(end, profile.values, profile.objective) == pytest.approx(
                profile.threshold, rel=1e-9
            )


def test_the_share_inside_and_the_width_are_counted():
    rows = pd.DataFrame({"loss": [2.0, 4.0, 5.0, 8.0]})
    low, high = np.array([1.0, 4.0, 6.0, 1.0]), np.array([3.0, 4.0, 7.0, 7.9])
    share, width = covered(rows, low, high)
    assert share == 0.5 and width == pytest.approx((2 / 2 + 0 + 1 / 5 + 6.9 / 8) / 4)
    assert covered(rows, np.full(4, np.nan), high) == (None, None)


def test_noise_of_the_simulator_has_its_two_parts():
    """2,000 runs of 5 points: total spread and the correlation inside a run are as asked."""
    clean = simulate.grid([2e5 + k for k in range(2000)], [0.3], BUDGETS)
    table = simulate.losses(clean, "p2", simulate.P2_CONSTANTS, noise=0.01, shared=0.4, seed=1)
    truth = forms.predict(registry.get("p2"), simulate.P2_CONSTANTS, clean)
    errors = np.log(table["loss"] / truth).to_numpy().reshape(2000, 5)
    # Ten thousand draws: 1 % of a standard deviation; covariances of 2,000 runs to 3 %.
    assert errors.std() == pytest.approx(0.01, rel=0.03)
    assert np.mean(errors[:, 0] * errors[:, 3]) / 1e-4 == pytest.approx(0.4, abs=0.06)


def test_coverage_counts_what_each_method_has():
    rows = simulate.study()
    found = {c.method: c for c in coverage(rows)}
    assert set(found) == {"depth", "width", "sparse"}
    depth, sparse = found["depth"], found["sparse"]
    assert (depth.sizes, depth.rates, depth.budgets, depth.runs, depth.points) == (3, 3, 5, 9, 45)
    assert (sparse.sizes, sparse.rates, sparse.budgets, sparse.runs) == (3, 1, 5, 3)
    bare = coverage(rows.drop(columns=["family", "method"]))
    assert [(c.family, c.method, c.points) for c in bare] == [("", "all", 105)]
