"""Answers against P²'s closed forms, and what is bought under them."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import law_simulate as simulate
from p2law.errors import UserError
from p2law.laws.deciding.answers import answer
from p2law.laws.deciding.buy import fewest_flops, lowest_loss, small_enough
from p2law.laws.deciding.candidates import Candidate, candidates_of
from p2law.laws.deciding.curves import curve, for_marginal, for_residual, for_target
from p2law.laws.deciding.question import Question
from p2law.laws.deciding.study_laws import Laws
from p2law.laws.forms import form as forms
from p2law.laws.forms import registry
from p2law.laws.judging.uncertainty import run_level_interval

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


@pytest.fixture
def laws(study_law) -> Laws:
    """Laws of a simulated study, all in memory."""
    table, law = study_law
    return Laws(law, table)


def test_a_target_is_the_laws_loss_and_its_interval_carries_the_laws_error(laws):
    variant = candidates_of(laws.table)[1]
    answers = answer(laws, variant, {"target": variant.L0 + 0.15}, 1e15)
    assert [a.form for a in answers] == ["p2", registry.DAMAGE]
    for found in answers:
        assert found.loss == pytest.approx(variant.L0 + 0.15, abs=1e-6)
        assert found.low <= found.tokens <= found.high
        assert found.loss_low <= found.loss <= found.loss_high
        assert found.flops == pytest.approx(6 * variant.trained * found.tokens)
        assert found.gpu_hours == pytest.approx(found.flops / 1e15)


def test_a_target_that_pruning_alone_keeps_needs_no_tokens(laws):
    variant = candidates_of(laws.table)[1]
    for found in answer(laws, variant, {"target": variant.Lp + 0.01}, 1e15):
        assert (found.tokens, found.low, found.high, found.flops) == (0, 0, 0, 0)
        assert (found.loss, found.status) == (variant.Lp, "already there")


def test_a_method_never_trained_is_answered_from_its_one_shot_loss(laws):
    row = laws.table[laws.table["method"] == "depth"].iloc[0]
    unseen = Candidate("simulated", "mine", "m0", row["N0"], row["N"], row["N"], row["L0"],
                     Lp=row["Lp"])  # fmt: skip
    (found,) = answer(laws, unseen, {"target": row["L0"] + 0.2}, 1e15)
    assert (found.form, found.law) == (registry.DAMAGE, "all")
    assert "never post-trained" in found.trust and "leave-one-method" in found.trust
    fit_all = laws.fit(unseen, registry.DAMAGE)
    assert laws.error(unseen, fit_all, 1e5) > 0
    assert laws.fit(unseen, "p2") is None  # no rate given


def test_a_rate_between_the_measured_ones_takes_its_damage_from_them(laws):
    known = [v for v in candidates_of(laws.table) if (v.model, v.method) == ("m0", "depth")]
    low, high = known[0], known[1]
    middle = (low.rho * high.rho) ** 0.5
    moved = low.at_rate(middle, known)
    expected = ((low.Lp - low.L0) * (high.Lp - high.L0)) ** 0.5
    assert moved.Lp - moved.L0 == pytest.approx(expected) and low.N0 * (1 - middle) == moved.N
    answers = answer(laws, moved, {"target": low.L0 + 0.2}, 1e15)
    assert "interpolated" in answers[1].trust and "interpolated" not in answers[0].trust
    assert low.at_rate(0.9, known).Lp is None


def test_a_law_of_one_rate_does_not_answer_for_another(laws):
    sparse = next(v for v in candidates_of(laws.table) if v.method == "sparse")
    assert laws.fit(sparse, "p2").method == "sparse"
    other = sparse.at_rate(0.2, [sparse])
    assert laws.fit(other, "p2").method == "all"
    assert "cannot tell" in answer(laws, other, {"residual": 0.01}, 1e15)[0].trust


def test_masked_methods_train_at_the_unpruned_cost(laws):
    dense, kept = (
        next(v for v in candidates_of(laws.table, masked) if v.method == "sparse")
        for masked in ({"sparse"}, set())
    )
    assert dense.trained == dense.N0 and kept.trained == kept.N < kept.N0


def test_the_best_buy_has_the_lowest_loss_and_the_cheapest_the_fewest_flops(laws):
    variants = small_enough(candidates_of(laws.table), 400e3)
    assert variants and all(v.N <= 400e3 for v in variants)
    chosen = lowest_loss(laws, variants, 1e12, 1e15)
    for form in ("p2", registry.DAMAGE):
        losses = [c.loss for c in chosen if c.form == form]
        assert losses == sorted(losses) and len(losses) == len(variants)
    assert all(c.tokens == pytest.approx(1e12 / (6 * c.candidate.trained)) for c in chosen)
    answers = [a for v in variants for a in answer(laws, v, {"target": 3.2, "marginal": 0.1}, 1e15)]
    cheapest = [a.flops for a in fewest_flops(answers) if a.form == "p2"]
    assert cheapest and cheapest == sorted(cheapest)


def test_an_interval_is_the_percentiles_moved_away_in_logs_for_so_few_runs():
    drawn = np.geomspace(10.0, 1000.0, 41)  # nearest 2.5 and 97.5 %: the second from either end
    low, high = run_level_interval(100.0, drawn, 9)
    factor = stats.t.ppf(0.975, 8) / stats.norm.ppf(0.975) * math.sqrt(9 / 8)
    assert low == pytest.approx(100 * (drawn[1] / 100) ** factor)
    assert high == pytest.approx(100 * (drawn[-2] / 100) ** factor)
    assert run_level_interval(100.0, np.r_[drawn[:-2], np.inf, np.inf], 9)[1] == np.inf
    assert run_level_interval(0.0, np.zeros(41), 9) == (0.0, 0.0)


ASKED = {"target": 3.1}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "nothing asked"),
        ({"target": -1.0}, "--target -1.0: must be above 0"),
        (ASKED | {"rate": "1.2"}, "--rate 1.2: must lie in"),
        (ASKED | {"rate": "some"}, "--rate some: a number"),
        (ASKED | {"L0": 3.0, "Lp": 2.9}, "--Lp 2.9: at or below --L0 3.0"),
        (ASKED | {"N0": 1e6}, "--N0 describes a model of your own: give --L0"),
        (ASKED | {"N0": 1e6, "L0": 3.0, "Lp": 3.5, "model": "m0"}, "--model m0"),
        (ASKED | {"L0": 3.0}, "--L0 3.0: the study's models have theirs"),
        (ASKED | {"model": "m9"}, "--model m9: the study has m0, m1, m2"),
        (ASKED | {"family": "other"}, "--family other: allowed: simulated"),
        (ASKED | {"method": "mine"}, "--method mine: the study has depth, sparse"),
        (ASKED | {"Lp": 3.9}, "--Lp 3.9: belongs to one model"),
        (ASKED | {"parameters": 10.0}, "--parameters 10: no variant"),
    ],
)
def test_what_no_law_could_answer_is_refused_by_name(laws, asked, words):
    with pytest.raises(UserError, match=words.replace("(", r"\(")):
        Question(**asked).candidates(candidates_of(laws.table))


def test_a_question_finds_its_candidates(laws):
    known = candidates_of(laws.table, {"sparse"})
    one = Question(target=3.1, model="m1", method="depth", rate="0.3").candidates(known)
    assert [(c.model, c.method, c.rho) for c in one] == [("m1", "depth", 0.29)]  # near enough
    moved = Question(target=3.1, model="m1", method="depth", rate="0.22").candidates(known)
    assert moved[0].rho == 0.22 and "interpolated" in moved[0].note
    (own,) = Question(target=3.1, N0=1e6, L0=3.0, rate="0.5", method="sparse").candidates(known)
    assert (own.N, own.trained) == (0.5e6, 1e6)  # the study's zeros of that method stay in place
    (other,) = Question(target=3.1, N0=1e6, L0=3.0, rate="0.5", method="depth").candidates(known)
    assert (other.N, other.trained) == (0.5e6, 0.5e6)
    (mine,) = Question(target=3.1, model="m2", method="mine", Lp=3.9).candidates(known)
    assert (mine.method, mine.Lp, mine.rho, mine.family) == ("mine", 3.9, None, "simulated")
