"""Answers against P²'s closed forms (law.md section 3), and what the advisor recommends."""

import numpy as np
import pandas as pd
import pytest
from p2law.laws.deciding.plan import Laws, answer
from p2law.laws.deciding.variants import Variant, variants_of

import law_simulate as simulate
from p2law.laws.deciding.advisor import (
    advice_record,
    advise,
    candidate_runs,
    default_runs,
    default_targets,
    run_cost,
    undetermined,
)
from p2law.laws.deciding.answers import curve, for_marginal, for_residual, for_target
from p2law.laws.deciding.buy import fewest_flops, lowest_loss, small_enough
from p2law.laws.fitting.fit import fit
from p2law.laws.forms import form as forms
from p2law.laws.forms import registry

C = simulate.P2_CONSTANTS
VARIANT = {"N0": 450e3, "rho": 0.3, "L0": 3.0, "Lp": 4.0}
SCALE = VARIANT["rho"] ** -C["gamma"] * VARIANT["N0"] ** -C["delta"]


def test_curve_is_the_law():
    for name, constants in [
        ("p2", C),
        ("damage_rectified", {"epsilon": 0.8, "b": 0.5, "t0": 2e3, "a": 0.2, "c": 0.1}),
        ("damage_power", {"D_C": 5.0, "E": 0.1, "beta": 0.3, "kappa": 0.9, "delta": 0.05}),
    ]:
        d = np.geomspace(1e3, 1e8, 9)
        rows = pd.DataFrame([VARIANT] * 9).assign(D=d)
        form = registry.get(name)
        found = curve(form, constants, VARIANT)
        assert found.loss(np.log(d))[0] == pytest.approx(forms.predict(form, constants, rows))
        step = 1e-5
        ahead, behind = found.loss(np.log(d) + step)[0], found.loss(np.log(d) - step)[0]
        # Central difference in log D; rounding of losses near 3 over 2e-5.
        assert found.slope(np.log(d))[0] * d == pytest.approx(
            (behind - ahead) / (2 * step), rel=1e-5, abs=1e-9
        )


def test_marginal_rule_is_the_closed_form():
    tau = 2e-8
    expected = (C["beta"] * C["D_C"] * SCALE / tau) ** (1 / (C["beta"] + 1))
    assert for_marginal(curve(registry.get("p2"), C, VARIANT), tau) == pytest.approx([expected])


def test_residual_rule_is_the_closed_form():
    expected = (C["D_C"] * SCALE / 0.01) ** (1 / C["beta"])
    assert for_residual(curve(registry.get("p2"), C, VARIANT), 0.01) == pytest.approx([expected])


def test_target_rule_is_the_closed_form_or_out_of_reach():
    law = curve(registry.get("p2"), C, VARIANT)
    target = float(law.limit()[0]) + 0.02
    bracket = (target - VARIANT["L0"]) / SCALE - C["N_C"] * VARIANT["N0"] ** -C["alpha"] - C["E"]
    expected = (C["D_C"] / bracket) ** (1 / C["beta"])
    assert for_target(law, target) == pytest.approx([expected], rel=1e-6)
    assert np.isinf(for_target(law, VARIANT["L0"])).all()
    assert for_target(law, 100.0) == [0.0]


def test_marginal_rule_takes_the_last_crossing():
    """A rectified curve is flat at first: its slope rises before it falls."""
    law = curve(
        registry.get("damage_rectified"),
        {"epsilon": 2.0, "b": 0.3, "t0": 2e4, "a": 0.0, "c": 0.0}, VARIANT,
    )  # fmt: skip
    x = np.linspace(0, np.log(1e12), 200_000)
    slope = law.slope(x)[0]
    tau = 0.5 * slope.max()
    found = float(for_marginal(law, tau)[0])
    assert found == pytest.approx(np.exp(x[slope > tau].max()), rel=1e-3)
    assert for_marginal(law, 2 * slope.max()) == [0.0]


def test_higher_rates_need_more_tokens_and_larger_models_fewer():
    form = registry.get("p2")
    by_rate = [for_marginal(curve(form, C, VARIANT | {"rho": r}), 1e-8)[0] for r in (0.1, 0.3, 0.5)]
    by_size = [for_marginal(curve(form, C, VARIANT | {"N0": n}), 1e-8)[0] for n in (1e5, 1e6, 1e7)]
    assert by_rate == sorted(by_rate) and by_size == sorted(by_size, reverse=True)


def test_advisor_names_the_size_that_the_grid_lacks():
    budgets = [16384.0 * 2**k for k in range(5)]
    clean = simulate.grid([2e5, 4e5], [0.15, 0.3, 0.45], budgets)
    table = simulate.losses(clean, "p2", C, noise=2e-3, shared=0.5, seed=0)
    found = fit(registry.get("p2"), table)
    assert found.unidentified
    targets = candidate_runs(table, [1.6e6], [0.3])
    offered = candidate_runs(table, [2e5, 4e5, 8e5], [0.3])
    advice = advise(found, table, offered, targets)
    assert advice[0].run.startswith("N0 = 8e+05")
    assert all(a.after <= a.before * (1 + 1e-9) for a in advice)
    # A dearer run of the same use ranks lower.
    dear = advise(found, table, offered, targets, cost=lambda run: 1e30 if run["N0"] > 5e5 else 1.0)
    assert not dear[0].run.startswith("N0 = 8e+05")


def test_advisor_names_the_rate_that_one_pattern_lacks():
    table = simulate.study()
    table = table[table["method"] == "sparse"].reset_index(drop=True)
    found = fit(registry.get("p2"), table)
    assert "gamma" not in found.constants and "gamma" in undetermined(found, table)
    record = advice_record(found, table)
    cure = next(r for r in record["runs"] if "gamma" in r["determines"])
    assert abs(cure["rho"] - 0.45) > 0.05
    known = advise(found, table, default_runs(table), default_targets(table))
    assert cure["cost"] == min(a.cost for a in known if "gamma" in a.learns)


def test_run_cost_counts_the_schedule_and_a_base_of_its_own():
    table = simulate.study()
    grid = {
        "posttrain": {"schedule": "wsd", "decay": 0.2},
        "families": {"f": {"models": {"m": {"source": "pretrain", "tokens": 3e6}}}},
    }
    budgets = sorted(table["D"].unique())
    run = {"N0": 220e3, "N": 150e3, "D": budgets[-1]}
    tokens = 0.8 * budgets[-1] + 0.2 * sum(budgets)
    assert run_cost(table, grid)(run) == pytest.approx(6 * 150e3 * tokens)
    assert run_cost(table, {})(run) == pytest.approx(6 * 150e3 * budgets[-1])
    larger = run | {"N0": 2e6}
    extra = run_cost(table, grid)(larger) - run_cost(table, grid)(run)
    assert extra == pytest.approx(6 * 2e6 * 3e6)


@pytest.fixture
def laws(study_law) -> Laws:
    """Laws of a simulated study, all in memory."""
    table, law = study_law
    return Laws(law, pd.DataFrame(law["draws"]), table)


def test_a_target_is_the_laws_loss_and_its_interval_carries_the_laws_error(laws):
    variant = variants_of(laws.table)[1]
    answers = answer(laws, variant, {"target": variant.L0 + 0.15}, 1e15)
    assert [a.form for a in answers] == ["p2", registry.DAMAGE]
    for found in answers:
        assert found.loss == pytest.approx(variant.L0 + 0.15, abs=1e-6)
        assert found.low <= found.tokens <= found.high
        assert found.loss_low <= found.loss <= found.loss_high
        assert found.flops == pytest.approx(6 * variant.trained * found.tokens)
        assert found.gpu_hours == pytest.approx(found.flops / 1e15)


def test_a_target_that_pruning_alone_keeps_needs_no_tokens(laws):
    variant = variants_of(laws.table)[1]
    for found in answer(laws, variant, {"target": variant.Lp + 0.01}, 1e15):
        assert (found.tokens, found.low, found.high, found.flops) == (0, 0, 0, 0)
        assert (found.loss, found.status) == (variant.Lp, "already there")


def test_a_method_never_trained_is_answered_from_its_one_shot_loss(laws):
    row = laws.table[laws.table["method"] == "depth"].iloc[0]
    unseen = Variant("simulated", "mine", "m0", row["N0"], row["N"], row["N"], row["L0"],
                     Lp=row["Lp"])  # fmt: skip
    (found,) = answer(laws, unseen, {"target": row["L0"] + 0.2}, 1e15)
    assert (found.form, found.law) == (registry.DAMAGE, "all")
    assert "never post-trained" in found.trust and "leave-one-method" in found.trust
    fit_all = laws.fit(unseen, registry.DAMAGE)
    assert laws.error(unseen, fit_all, 1e5) > 0
    assert laws.fit(unseen, "p2") is None  # no rate given


def test_a_rate_between_the_measured_ones_takes_its_damage_from_them(laws):
    known = [v for v in variants_of(laws.table) if (v.model, v.method) == ("m0", "depth")]
    low, high = known[0], known[1]
    middle = (low.rho * high.rho) ** 0.5
    moved = low.at_rate(middle, known)
    expected = ((low.Lp - low.L0) * (high.Lp - high.L0)) ** 0.5
    assert moved.Lp - moved.L0 == pytest.approx(expected) and low.N0 * (1 - middle) == moved.N
    answers = answer(laws, moved, {"target": low.L0 + 0.2}, 1e15)
    assert "interpolated" in answers[1].trust and "interpolated" not in answers[0].trust
    assert low.at_rate(0.9, known).Lp is None


def test_a_law_of_one_rate_does_not_answer_for_another(laws):
    sparse = next(v for v in variants_of(laws.table) if v.method == "sparse")
    assert laws.fit(sparse, "p2")["method"] == "sparse"
    other = sparse.at_rate(0.2, [sparse])
    assert laws.fit(other, "p2")["method"] == "all"
    assert "cannot tell" in answer(laws, other, {"residual": 0.01}, 1e15)[0].trust


def test_masked_methods_train_at_the_unpruned_cost(laws):
    dense, kept = (
        next(v for v in variants_of(laws.table, masked) if v.method == "sparse")
        for masked in ({"sparse"}, set())
    )
    assert dense.trained == dense.N0 and kept.trained == kept.N < kept.N0


def test_the_best_buy_has_the_lowest_loss_and_the_cheapest_the_fewest_flops(laws):
    variants = small_enough(variants_of(laws.table), 400e3)
    assert variants and all(v.N <= 400e3 for v in variants)
    chosen = lowest_loss(laws, variants, 1e12, 1e15)
    for form in ("p2", registry.DAMAGE):
        losses = [c.loss for c in chosen if c.form == form]
        assert losses == sorted(losses) and len(losses) == len(variants)
    assert all(c.tokens == pytest.approx(1e12 / (6 * c.variant.trained)) for c in chosen)
    answers = [a for v in variants for a in answer(laws, v, {"target": 3.2, "marginal": 0.1}, 1e15)]
    cheapest = [a.flops for a in fewest_flops(answers) if a.form == "p2"]
    assert cheapest and cheapest == sorted(cheapest)


def test_damage_of_runs_to_come_stays_near_what_was_measured():
    # Two runs that hardly hurt give a slope of 30 in log N0: unbounded, Lp would round to L0.
    table = simulate.study()
    hurt = table["L0"] + np.where(table["N0"] == table["N0"].min(), 1e-6, 0.3)
    table = table.assign(Lp=hurt)
    small = candidate_runs(table, [table["N0"].min() / 1000], [0.2])
    assert (small["Lp"] > small["L0"]).all()
    assert (small["Lp"] - small["L0"]).min() == pytest.approx(1e-7, rel=1e-6)  # a tenth of it
