"""Numbers by hand for lines of laws/ of which a change of one sign or word passed all other tests.

Found by mutation: operators, comparisons, constants, reductions and branches changed one at a time.
Each test goes through a public function and compares with arithmetic that is written out here.
"""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import law_simulate as simulate
from p2law.laws.fitting.fit import fit
from p2law.laws.forms import registry
from p2law.laws.judging import baselines, extrapolation, intervals, metrics, soundness, splits
from p2law.laws.judging.holdouts import baseline_records, covered
from p2law.laws.judging.likelihood import sandwich
from p2law.laws.judging.uncertainty import (
    Bootstrap,
    bootstrap,
    run_level_interval,
    run_weights,
    small_sample,
)


def table(runs: dict[str, tuple], budgets=(1e6, 2e6, 4e6)) -> pd.DataFrame:
    """Rows of runs: name -> (N0, rho, method, L0, losses at the budgets)."""
    rows = [
        {"run": run, "N0": n0, "rho": rho, "method": method, "L0": l0, "D": d, "loss": loss}
        for run, (n0, rho, method, l0, losses) in runs.items()
        for d, loss in zip(budgets, losses, strict=False)
    ]
    return pd.DataFrame(rows).assign(family="f")


THREE = table({
    "a": (1e6, 0.2, "depth", 3.0, (3.8, 3.5, 3.3)),
    "b": (1e6, 0.4, "depth", 3.0, (4.5, 4.0, 3.6)),
    "c": (4e6, 0.3, "depth", 2.5, (3.1, 2.9, 2.4)),
    "d": (4e6, 0.3, "width", 2.5, (3.0, 2.5)),
})  # fmt: skip


CONSTANTS = {k: v for k, v in simulate.P2_CONSTANTS.items() if k not in ("N_C", "alpha")}


# Errors and what needs no law.


def test_errors_of_predictions():
    rows = pd.DataFrame({"run": ["a", "a", "b"], "D": [1.0, 2.0, 1.0], "loss": [4.0, 2.0, 5.0]})
    predicted = np.array([5.0, 2.0, 4.0])
    found = metrics.errors(rows, predicted, delta=0.1)
    assert (found.points, found.runs) == (3, 2)
    assert found.mean_abs_rel_error == pytest.approx((0.25 + 0.2) / 3)
    assert found.mean_signed_rel_error == pytest.approx((0.25 - 0.2) / 3)
    assert found.max_abs_rel_error == pytest.approx(0.25)
    logs = np.log([1.25, 1.0, 0.8])
    huber = [0.1 * (abs(x) - 0.05) if abs(x) > 0.1 else x**2 / 2 for x in logs]
    assert found.huber_sum == pytest.approx(sum(huber))
    assert found.r2 == pytest.approx(1 - 2 / (np.array([4.0, 2, 5]) - 11 / 3).__pow__(2).sum())


def test_slopes_are_averaged_in_a_run_and_then_over_runs():
    rows = table(
        {"a": (1e6, 0.2, "m", 3.0, (4.0, 3.0, 2.0)), "b": (1e6, 0.2, "m", 3.0, (4.0, 3.5))}
    )
    predicted = rows["loss"].to_numpy() + np.array([0.0, 0.3, 0.1, 0.0, 0.1])
    # Slopes per token are wrong by .3 / 1e6 and -.2 / 2e6 in a, by .1 / 1e6 in b.
    assert metrics.asd(rows, predicted) == pytest.approx(((0.3 + 0.1) / 2 + 0.1) / 2)
    assert metrics.asd(rows.iloc[[0, 3]], predicted[[0, 3]]) is None
    found = metrics.errors(rows, predicted).asd_nats_per_1e6_tokens
    assert found == pytest.approx(metrics.asd(rows, predicted))
    assert metrics.errors(rows.drop(columns="D"), predicted).asd_nats_per_1e6_tokens is None


def test_a_mean_error_counts_each_point_once():
    parts = pd.DataFrame({
        "form": ["p2", "p2", "p2", "q"], "points": [1, 3, 5, 2],
        "mean_abs_rel_error": [0.5, 0.1, np.nan, 0.2],
    })  # fmt: skip
    found = metrics.each_point_once(parts, ["form"])
    assert found.to_dict() == pytest.approx({"p2": (0.5 + 3 * 0.1) / 4, "q": 0.2})
    assert found.name == "mean_abs_rel_error"


def test_rows_that_a_form_can_take():
    damage = registry.get("damage_power")
    rows = THREE.assign(Lp=THREE["L0"] + 1.0)
    same, note = soundness.usable_rows(damage, rows)
    assert note == "" and len(same) == len(rows)
    unhurt = rows.assign(Lp=np.where(rows["run"] == "b", rows["L0"], rows["Lp"]))
    kept, note = soundness.usable_rows(damage, unhurt)
    assert set(kept["run"]) == {"a", "c", "d"} and note.endswith("(Lp <= L0): b")
    assert soundness.usable_rows(damage, THREE) == (None, "the table has no column Lp")
    some = rows.assign(Lp=np.where(rows["run"] == "a", np.nan, rows["Lp"]))
    assert set(soundness.usable_rows(damage, some)[0]["run"]) == {"b", "c", "d"}
    gone = rows.assign(Lp=np.nan)
    assert soundness.usable_rows(damage, gone) == (None, "the table has no column Lp")
    one = rows[rows["D"] == 1e6].reset_index(drop=True)
    assert soundness.usable_rows(registry.get("p2"), one) == (None, "fewer than two budgets")


def test_doubts_about_units_begin_where_they_say():
    p2, damage = registry.get("p2"), registry.get("damage_power")
    rows = table({"a": (1e6, 0.2, "m", 3.0, (3.9, 3.5, 3.0))})
    assert soundness.doubts(p2, rows) == []  # a loss equal to L0 is not below it
    below = rows.assign(loss=[3.9, 2.9, 2.8])
    (told,) = soundness.doubts(p2, below)
    assert told.startswith("2 of 3 losses lie below their L0")
    (told,) = soundness.doubts(p2, rows.assign(loss=[6.0, 5.0, 4.21]))
    assert told.startswith("all losses lie 1.4 times above their L0")
    assert soundness.doubts(p2, rows.assign(loss=[6.0, 5.0, 4.1])) == []
    # Above Lp: more than half, not half.
    four = table({"a": (1e6, 0.2, "m", 3.0, (3.9, 3.7, 3.5, 3.3))}, (1e6, 2e6, 4e6, 8e6))
    assert soundness.doubts(damage, four.assign(Lp=3.6)) == []
    (told,) = soundness.doubts(damage, four.assign(Lp=3.4))
    assert told.startswith("3 of 4 losses lie above their Lp")
    (told,) = soundness.doubts(p2, THREE[THREE["loss"] > 2.5].reset_index(drop=True))
    assert told.startswith("rows of 2 methods (depth, width)")


def test_covered_counts_both_ends_and_width_is_relative():
    test = pd.DataFrame({"loss": [2.0, 4.0, 5.0, 10.0]})
    low, high = np.array([2.0, 3.0, 5.5, 8.0]), np.array([3.0, 4.0, 6.0, 9.0])
    inside, width = covered(test, low, high)
    assert inside == 0.5  # at either end is inside; above and below are not
    assert width == pytest.approx((1 / 2 + 1 / 4 + 0.5 / 5 + 1 / 10) / 4)
    low[1] = np.nan
    assert covered(test, low, high) == (None, None)


def test_a_runs_own_power_law_needs_two_of_its_budgets():
    train = THREE[(THREE["run"] != "d") | (THREE["D"] < 2e6)]
    train = train[(train["run"] == "d") | (train["D"] < 4e6)]
    asked = THREE[(THREE["D"] == 4e6) | ((THREE["run"] == "d") & (THREE["D"] == 2e6))]
    asked = asked.reset_index(drop=True)
    found = dict(zip(asked["run"], baselines.run_power_law(train, asked), strict=True))
    assert found["a"] == pytest.approx(3.5 * 3.5 / 3.8)  # a power law: the same ratio a doubling
    assert found["b"] == pytest.approx(4.0 * 4.0 / 4.5)
    assert np.isnan(found["d"])
    last = dict(zip(asked["run"], baselines.last_value(train, asked), strict=True))
    assert last == {"a": 3.5, "b": 4.0, "c": 2.9, "d": 3.0}
    # Twice the same budget is not two; a run that is not asked for changes nothing.
    twice = pd.concat([train[train["run"] == "d"]] * 2)
    assert np.isnan(baselines.run_power_law(twice, asked)).all()
    one = baselines.run_power_law(train, asked[asked["run"] == "a"])
    assert one == pytest.approx([found["a"]])


def test_the_nearest_run_is_nearest_in_logs_and_at_the_same_budget():
    seen = table({
        "near": (1e6, 0.2, "depth", 2.0, (3.0, 2.6)),
        "far": (9e6, 0.2, "depth", 2.0, (5.0, 4.0)),
        "rate": (1e6, 0.4, "depth", 2.0, (7.0, 6.0)),
    })  # fmt: skip
    asked = pd.DataFrame({"N0": [2e6, 4e6, 1e6, 1e6, 1e6], "rho": [0.2, 0.2, 0.27, 0.3, 0.2],
                          "D": [1e6, 1e6, 2e6, 1e6, 1.9e6],
                          "L0": [2.0, 2.0, 2.0, 4.0, 2.0]})  # fmt: skip
    # In logs 3e6 lies midway of 1e6 and 9e6, and .283 midway of .2 and .4.
    expected = [3.0, 5.0, 2.6, 14.0, 2.6]
    assert baselines.nearest_run(seen, asked) == pytest.approx(expected)
    # Size and rate weigh alike: ln 1.9 to another size is nearer than ln 2 to another rate.
    seen = table({"size": (1.9e6, 0.4, "m", 2.0, (3.0,)), "rate": (1e6, 0.2, "m", 2.0, (5.0,))})
    assert baselines.nearest_run(seen, pd.DataFrame(
        {"N0": [1e6], "rho": [0.4], "D": [1e6], "L0": [2.0]}
    )) == pytest.approx([3.0])  # fmt: skip


def test_baselines_stand_on_every_split_that_they_can_answer():
    rows = simulate.study().query("method == 'depth'").reset_index(drop=True)
    found = list(baseline_records(rows, {"family": "f", "method": "depth"}))
    names = {(r.form, r.split) for r in found}
    assert ("baseline: last value", "budget") in names and (
        "baseline: nearest run",
        "size",
    ) in names
    assert all(r.determined is None and r.covered is None for r in found)
    budget = next(r for r in found if r.form == "baseline: last value")
    held = splits.last_budgets(rows)
    assert budget.fitted_points == (~held).sum() and budget.errors.points == held.sum()
    last = rows[~held].sort_values("D").groupby("run")["loss"].last()
    test = rows[held]
    expected = np.abs(test["run"].map(last) / test["loss"] - 1).mean()
    assert budget.errors.mean_abs_rel_error == pytest.approx(expected)


# What the table covers, and how it is split.


def test_coverage_counts_levels_not_rows():
    found = {one.method: one for one in soundness.coverage(THREE)}
    assert set(found) == {"depth", "width"}
    depth = found["depth"]
    # Rates are counted in the size that has most: the small one has two.
    assert (depth.sizes, depth.rates, depth.budgets) == (2, 2, 3)
    assert (depth.runs, depth.points) == (3, 9)
    assert (found["width"].budgets, found["width"].points) == (2, 2)


def test_only_losses_below_the_base_are_below_it():
    found = soundness.below_base(THREE)
    assert [(p.run, p.D) for p in found] == [("c", 4e6)]  # d's 2.5 equals its L0
    assert found[0].below == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("budgets", "held"), [(2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (9, 1), (10, 2), (15, 3)]
)
def test_a_fifth_of_the_budgets_and_at_least_one_is_held_out(budgets, held):
    at = tuple(1e6 * 2**k for k in range(budgets))
    rows = table({"a": (1e6, 0.2, "m", 3.0, range(budgets))}, at)
    expected = [False] * (budgets - held) + [True] * held
    assert splits.last_budgets(rows.iloc[::-1]).tolist() == expected[::-1]


def test_splits_name_what_they_hold_out_and_why_not():
    rows = simulate.study().reset_index(drop=True)
    one = rows[rows["method"] == "depth"].reset_index(drop=True)
    found = splits.all_splits(one)
    sizes = sorted(one["N0"].unique(), reverse=True)
    named = [s for s in found if s.name == "leave-one-size"]
    assert [s.held for s in named] == [f"N0 = {size:.6g}" for size in sizes]
    assert all((s.test == (one["N0"] == n)).all() for s, n in zip(named, sizes, strict=True))
    assert not any(s.reason for s in named)
    order = [s.name for s in found]
    assert order[:3] == ["budget", "size", "leave-one-size"] and order.count("size") == 1
    assert next(s for s in found if s.name == "rate").held.startswith("rho = ")

    methods = [s for s in splits.all_splits(rows) if s.name == "leave-one-method"]
    assert [s.held for s in methods] == sorted(rows["method"].unique())
    assert all((s.test == (rows["method"] == s.held)).all() for s in methods)

    # Two of everything: each kind of split is named once, with its reason, and holds nothing back.
    two = one[one["N0"].isin(sizes[:2]) & one["D"].isin(sorted(one["D"].unique())[:2])]
    two = two[splits.rate_rank(two) < 2].reset_index(drop=True)
    reasons = {}
    for split in splits.all_splits(two):
        reasons.setdefault(split.name, []).append(split.reason)
    assert reasons["budget"] == ["runs have 2 budgets, 3 are needed"]
    assert reasons["size"] == reasons["leave-one-size"] == ["2 sizes, 3 are needed"]
    assert reasons["rate"] == reasons["leave-one-rate"] == ["2 rates, 3 are needed"]
    assert reasons["leave-one-method"] == ["one method"]
    everything = next(s for s in splits.all_splits(two) if s.name == "leave-one-method")
    assert everything.train.all() and not everything.test.any()
    # One run with three budgets is enough for the split by budget; copies of a budget are not.
    assert splits.all_splits(THREE)[0].reason == ""
    uneven = THREE[(THREE["run"] != "a") | (THREE["D"] < 2e6)].reset_index(drop=True)
    uneven = uneven[(uneven["run"].isin(["a", "b"])) & (uneven["D"] < 4e6)].reset_index(drop=True)
    assert splits.all_splits(uneven)[0].reason == "runs have 2 budgets, 3 are needed"
    copied = pd.concat([THREE[THREE["D"] < 4e6]] * 2, ignore_index=True)
    assert splits.all_splits(copied)[0].reason == "runs have 2 budgets, 3 are needed"
    single = THREE[THREE["D"] == 1e6].reset_index(drop=True)
    assert splits.all_splits(single)[0].reason == "runs have 1 budgets, 3 are needed"


def test_rates_are_ranked_inside_a_model_and_method():
    assert splits.rate_rank(THREE).tolist() == [0] * 3 + [1] * 3 + [0] * 5


# Does it hold where it was not fitted?


def test_extrapolation_is_the_fit_of_the_lower_half():
    sizes, budgets = [1e6, 2e6, 4e6, 8e6, 16e6], [1e6, 4e6, 16e6, 64e6, 256e6]
    constants = {"A": 60.0, "B": 90.0, "E": 1.8, "alpha": 0.3, "beta": 0.35}
    rows = simulate.grid(sizes, [0.3], budgets)
    rows["N"] = rows["N0"]
    rows = simulate.losses(rows, "chinchilla", constants, noise=1e-4, shared=0.0, seed=0)
    rows.loc[rows["D"] >= 64e6, "loss"] *= 1.05
    form = registry.get("chinchilla")
    found = extrapolation.extrapolation(form, rows, 0.01, delta=1e-3)
    assert set(found) == {"N", "D"}
    held = rows["D"] >= 64e6  # the upper two of five: half of them, rounded up, is fitted
    rest = fit(form, rows[~held].reset_index(drop=True), delta=1e-3)
    error = rest.predict(rows[held]) / rows.loc[held, "loss"] - 1
    assert found["D"]["from"] == 64e6 and found["D"]["points"] == held.sum()
    assert found["D"]["mean_signed_rel_error"] == pytest.approx(error.mean())
    assert found["D"]["mean_abs_rel_error"] == pytest.approx(error.abs().mean())
    assert found["D"]["times_fitted_error"] == pytest.approx(error.abs().mean() / 0.01)
    # Two sizes do not determine the size's exponent: nothing is said of sizes.
    few = rows[rows["N0"] >= 4e6].reset_index(drop=True)
    assert set(extrapolation.extrapolation(form, few, 0.01, delta=1e-3)) == {"D"}


def test_a_warning_begins_above_three_times_the_fitted_error():
    def held(times: float) -> dict:
        return {"from": 5e6, "mean_abs_rel_error": 0.04, "times_fitted_error": times}

    assert extrapolation.warnings({"N": held(3.0)}) == []
    (text,) = extrapolation.warnings({"N": held(2.0), "D": held(3.1)})
    assert "below D = 5e+06" in text and "4 %" in text and "3.1 times" in text


# Intervals.


def test_the_factor_for_few_runs():
    for runs in (2, 5, 12):
        expected = stats.t.ppf(0.975, runs - 1) / stats.norm.ppf(0.975) * (runs / (runs - 1)) ** 0.5
        assert small_sample(runs) == pytest.approx(expected)
    assert small_sample(1) == small_sample(0) == 1.0
    assert small_sample(9, 0.5) == pytest.approx(
        stats.t.ppf(0.75, 8) / stats.norm.ppf(0.75) * (9 / 8) ** 0.5
    )


def test_ends_move_away_from_the_estimate_in_logs_or_plainly():
    factor, drawn = small_sample(9), np.linspace(1.0, 4.0, 1001)
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert run_level_interval(2.0, drawn, 9) == pytest.approx(
        (2 * (low / 2) ** factor, 2 * (high / 2) ** factor)
    )
    plain = (2 + factor * (low - 2), 2 + factor * (high - 2))
    assert run_level_interval(2.0, drawn, 9, logs=False) == pytest.approx(plain)
    # Of either sign: plainly, whatever was asked for. The interval holds the estimate.
    assert run_level_interval(2.0, drawn - 2, 9) == pytest.approx(
        (2 + factor * (low - 4), 2 + max(0.0, factor * (high - 4)))
    )
    first, last = run_level_interval(9.0, drawn, 9, logs=False)
    assert last == 9.0 and first == pytest.approx(9 + factor * (low - 9))
    # An estimate of zero has no logarithm: the upper end is stretched, the lower stays.
    assert run_level_interval(0.0, drawn, 9) == pytest.approx((0.0, factor * high))


def test_a_predicted_loss_has_the_spread_of_constants_and_of_points():
    rows = simulate.losses(
        simulate.grid([1e6, 2e6, 4e6], [0.15, 0.3, 0.45], [1e6, 4e6, 16e6, 64e6]),
        "p2", simulate.P2_CONSTANTS, noise=3e-3, shared=0.0, seed=3,
    )  # fmt: skip
    for raw in (False, True):
        found = fit(registry.get("p2_no_size_term"), rows, objective="least_squares", raw=raw)
        asked = rows.iloc[[5]]
        best = found.predict(asked)[0]
        n = len(rows)
        noise = np.abs(found.residuals) * np.sqrt(n / (n - found.rank))
        # No spread of constants: the interval is the residuals' own, both signs, widened.
        still = Bootstrap(found, np.repeat(found.phi[None], 40_000, axis=0), seed=1, runs=9)
        low, high = (end[0] for end in still.prediction_interval(asked))
        ends = np.r_[best - noise, best + noise] if raw else best * np.exp(np.r_[-noise, noise])
        assert np.abs(ends - low).min() < 1e-9 and np.abs(ends - high).min() < 1e-9
        assert 0.90 < ((ends > low) & (ends < high)).mean() < 0.98
        # No noise: what is left is the draws' own, each moved away for so few runs.
        drawn = bootstrap(found, rows["run"].to_numpy(), 200, seed=2)
        assert drawn.runs == 9
        exact = rows.assign(loss=found.predict(rows))
        exact = fit(found.form, exact, objective="least_squares", raw=raw)
        spread = Bootstrap(exact, drawn.phi, seed=1, runs=9)
        values, factor, best = spread.predict(asked)[:, 0], small_sample(9), exact.predict(asked)[0]
        moved = best + factor * (values - best) if raw else best * (values / best) ** factor
        ends = [end[0] for end in spread.prediction_interval(asked)]
        assert ends == pytest.approx(np.quantile(moved, [0.025, 0.975]), rel=1e-7)


def test_runs_are_drawn_as_often_as_there_are_runs():
    runs = np.array(["b", "a", "b", "c"])
    weights = run_weights(runs, 4000, seed=3)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()
    assert weights.mean(0) == pytest.approx(np.ones(4), abs=0.05)


def test_an_undetermined_fit_is_resampled_from_all_its_ends():
    rows = simulate.losses(
        simulate.grid([1e6, 4e6], [0.15, 0.3, 0.45], [1e6, 4e6, 16e6]),
        "p2", simulate.P2_CONSTANTS, noise=1e-3, shared=0.5, seed=0,
    )  # fmt: skip
    found = fit(registry.get("p2"), rows)
    assert found.rank < found.problem.size and len(found.ends) > 1
    runs = rows["run"].to_numpy()
    wide = bootstrap(found, runs, 60, seed=0).constants()["alpha"]
    single = dataclasses.replace(found, ends=found.phi[None])
    narrow = bootstrap(single, runs, 60, seed=0).constants()["alpha"]
    # Begun from the one best end, most replicates stay where it lies along the open direction.
    assert len(np.unique(wide.round(3))) > 3 * len(np.unique(narrow.round(3)))


def test_the_sandwich_is_centred_on_the_estimate_and_knows_no_scale():
    rows = simulate.losses(
        simulate.grid([1e6, 2e6, 4e6, 8e6], [0.15, 0.3, 0.45], [1e6, 4e6, 16e6, 64e6]),
        "p2_no_size_term", CONSTANTS, noise=5e-4, shared=0.5, seed=1,
    )  # fmt: skip
    found = fit(registry.get("p2_no_size_term"), rows, objective="least_squares")
    runs = rows["run"].to_numpy()
    ends = sandwich(found, runs)
    assert set(ends) == set(found.form.exponents)
    # Of what the table does not determine there is none: one rate has no gamma to speak of.
    loose = dataclasses.replace(found, undetermined=["delta"], at_fences={"beta": "low"})
    assert set(sandwich(loose, runs)) == set(ends) - {"delta", "beta"}
    for name, (low, high) in ends.items():
        assert (low + high) / 2 == pytest.approx(found.constants[name], rel=1e-9)
    # The jackknife over runs, refitted: the same width to first order.
    drops = []
    for run in np.unique(runs):
        rest = rows[runs != run].reset_index(drop=True)
        again = fit(found.form, rest, objective="least_squares")
        drops.append(again.constants)
    G = len(drops)
    for name, (low, high) in ends.items():
        values = np.array([one[name] for one in drops])
        error = np.sqrt((G - 1) / G * ((values - values.mean()) ** 2).sum())
        assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, G - 1) * error, rel=0.35)


def test_what_is_new_in_a_question_begins_beyond_a_tenth_of_a_rate():
    asked = pd.DataFrame({
        "N0": 1e6, "method": "depth", "D": 1e6, "run": "q",
        "rho": [0.4 * 1.1, 0.4 * 1.1001, 0.2 / 1.1, 0.2 / 1.1001, 0.3],
    })  # fmt: skip
    new = intervals.new_in(THREE, asked)
    assert new["rate"].tolist() == [False, True, False, True, False]
    assert new["run"].tolist() == [True, False, True, False, True]
    assert not (new["size"] | new["budget"] | new["method"]).any()
    beyond = asked.assign(
        D=[1e6, 4e6, 4e6 * (1 + 1e-6), 9e6, 2e6], rho=0.3, N0=[1e6, 4e6] + [2e6] * 3
    )
    new = intervals.new_in(THREE, beyond)
    assert new["budget"].tolist() == [False, False, True, True, False]
    assert new["size"].tolist() == [False, False, True, True, True]
    assert new["run"].tolist() == [True, True, False, False, False]
    # A method never fitted: its rate says nothing, its damage does.
    fitted = THREE.assign(Lp=THREE["L0"] + 1.0)
    other = asked.assign(method="new", rho=0.9, L0=3.0, Lp=[4.0, 4.1, 4.11, 3.92, 1 / 1.11 + 3.0])
    assert intervals.new_in(fitted, other)["rate"].tolist() == [False, False, True, False, True]
    assert not intervals.new_in(THREE, other)["rate"].any()
    # A question without a rate, or a table without: no rate is new, and nothing is asked of it.
    for fitted, question in (
        (THREE, asked.drop(columns="rho")),
        (THREE.drop(columns="rho"), asked),
    ):
        assert not intervals.new_in(fitted, question)["rate"].any()
