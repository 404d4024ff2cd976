"""Intervals: their ingredients against plain loops, their coverage in a slow simulation."""

import numpy as np
import pytest

import law_simulate as simulate
from p2law.laws.fitting.fit import fit
from p2law.laws.forms import registry
from p2law.laws.judging.likelihood import profiles, sandwich
from p2law.laws.judging.uncertainty import bootstrap, run_weights

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
