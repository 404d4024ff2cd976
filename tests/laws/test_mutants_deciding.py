"""Numbers by hand for lines of deciding/ and of the hold-outs that a changed sign left alone.

As tests/laws/test_mutants.py, for candidates, curves, costs and what is held out of a study.
"""

import numpy as np
import pandas as pd
import pytest

import law_simulate as simulate
from p2law.laws.deciding import next_runs
from p2law.laws.deciding.answers import training_flops
from p2law.laws.deciding.buy import small_enough
from p2law.laws.deciding.candidates import Candidate, candidates_of
from p2law.laws.deciding.curves import Curve, curve, for_marginal, for_residual, for_target
from p2law.laws.fitting.fit import fit
from p2law.laws.forms import registry
from p2law.laws.judging.splits import last_budgets
from p2law.laws.study import fit_study

BUDGETS = [1e6, 4e6, 16e6, 64e6]


def grid(sizes=(1e6, 2e6, 4e6), rates=(0.15, 0.3, 0.45), budgets=BUDGETS, noise=1e-3):
    clean = simulate.grid(list(sizes), list(rates), list(budgets))
    return simulate.losses(clean, "p2", simulate.P2_CONSTANTS, noise=noise, shared=0.5, seed=0)


# Candidates.


def known(rho: float, damage: float, **changes) -> Candidate:
    named = {"family": "f", "method": "m", "model": "a", "N0": 1e6, "L0": 3.0, "run": "r"}
    kept = 1e6 * (1 - rho)
    return Candidate(
        **{**named, "N": kept, "trained": kept, "rho": rho, "Lp": 3 + damage, **changes}
    )


def test_a_rate_between_two_has_the_damage_between_theirs_in_logs():
    rates = [known(0.4, 1.6), known(0.1, 0.1), known(0.2, 0.4)]
    found = rates[0].at_rate(0.2 * 2**0.5, rates)
    assert found.Lp == pytest.approx(3.8) and found.rho == pytest.approx(0.2828, abs=1e-4)
    assert found.N == found.trained == pytest.approx(1e6 * (1 - found.rho))
    assert found.run == "" and "interpolated" in found.note
    assert rates[0].at_rate(0.3, rates[::2]).Lp == pytest.approx(  # two rates are enough
        3 + np.exp(np.interp(np.log(0.3), np.log([0.2, 0.4]), np.log([0.4, 1.6])))
    )
    # At the measured ends too, beyond them not; one measured rate is not two.
    assert rates[0].at_rate(0.1, rates).Lp == pytest.approx(3.1)
    assert rates[0].at_rate(0.4, rates).Lp == pytest.approx(4.6)
    for rho, measured in ((0.09, rates), (0.41, rates), (0.4, rates[:1])):
        assert rates[0].at_rate(rho, measured).Lp is None
    # Zeros that stay in place are trained.
    masked = known(0.4, 1.6, trained=1e6)
    assert masked.masked and not rates[0].masked
    assert masked.at_rate(0.2, rates).trained == 1e6


def test_candidates_of_a_table():
    rows = grid().assign(Lp=lambda t: t["L0"] + np.where(t["rho"] > 0.2, 0.5, 0.0))
    found = candidates_of(rows)
    assert len(found) == 9  # one a run, whatever its budgets
    by = {(c.model, c.rho): c for c in found}
    assert by["m1", 0.3].N == pytest.approx(2e6 * 0.7) == by["m1", 0.3].trained
    assert by["m1", 0.3].Lp == pytest.approx(by["m1", 0.3].L0 + 0.5)
    assert by["m1", 0.15].Lp is None  # pruning did not hurt: no law of the damage
    assert all(c.trained == c.N0 for c in candidates_of(rows, masked={"depth"}))
    kept = [c.N for c in small_enough(found, 1.4e6)]
    assert max(kept) == pytest.approx(1.4e6) and len(kept) == sum(c.N <= 1.4e6 for c in found)
    assert small_enough(found, None) == found


# Curves and answers.


def test_a_curve_falls_by_its_parts():
    found = Curve(
        floor=np.array([2.0, 1.0]),
        scales=np.array([[3.0, 0.5], [4.0, 0.0]]),
        powers=np.array([[0.5, 0.0], [0.25, 1.0]]),
        broken=tuple(
            np.array(x) for x in ([1.0, 2.0], [np.log(100.0)] * 2, [2.0, 1.0], [0.5, 1.5])
        ),
    )
    d = 1e4
    expected = [
        2 + 3 * d**-0.5 + 0.5 + 1 * (1 + (d / 100) ** 2) ** -0.5,
        1 + 4 * d**-0.25 + 2 * (1 + d / 100) ** -1.5,
    ]
    assert found.loss(np.log([d]))[:, 0] == pytest.approx(expected)
    assert found.limit() == pytest.approx([2.5, 1.0])  # a term that does not fall stays
    slope = [
        3 * 0.5 * d**-1.5 + 1 * 0.5 * 2 * (d / 100) ** 2 / d * (1 + (d / 100) ** 2) ** -1.5,
        4 * 0.25 * d**-1.25 + 2 * 1.5 / 100 * (1 + d / 100) ** -2.5,
    ]
    assert found.slope(np.log([d]))[:, 0] == pytest.approx(slope)


def test_answers_of_one_power_at_the_edges_of_what_is_sought():
    law = Curve(np.array([2.0]), np.array([[8.0]]), np.array([[0.5]]), None)
    assert for_target(law, 2.08) == pytest.approx([1e4])
    assert for_residual(law, 0.8) == pytest.approx([100.0])
    assert for_marginal(law, 4e-3) == pytest.approx([100.0])
    assert for_target(law, 10.0) == [0.0] and np.isinf(for_target(law, 2.0)).all()
    assert for_target(law, 2 + 8e-8) == pytest.approx([1e16])
    assert np.isinf(for_target(law, 2 + 4e-9)).all()  # 4e18 tokens, beyond 1e18
    several = Curve(np.array([2.0, 2.5]), np.array([[8.0], [8.0]]), np.array([[0.5], [0.5]]), None)
    assert for_target(several, 2.58) == pytest.approx([(8 / 0.58) ** 2, 1e4])


def test_a_curve_reads_offset_fixed_terms_and_draws():
    p2, constants = registry.get("p2"), dict(simulate.P2_CONSTANTS)
    draws = {k: np.array([v, v * 1.1]) for k, v in constants.items()}
    asked = {"N0": 2e6, "rho": 0.3, "L0": 3.0}
    found = curve(p2, draws, asked)
    for i in range(2):
        c = {k: v[i] for k, v in draws.items()}
        scale = 0.3 ** -c["gamma"] * 2e6 ** -c["delta"]
        floor = 3.0 + scale * (c["N_C"] * 2e6 ** -c["alpha"] + c["E"])
        assert found.limit()[i] == pytest.approx(floor)
        at = found.loss(np.log([1e7]))[i, 0]
        assert at == pytest.approx(floor + scale * c["D_C"] * 1e7 ** -c["beta"])


# What runs cost, and which may be next.


def test_flops_of_training():
    assert training_flops(2e6, 3e7) == 6 * 2e6 * 3e7
    assert next_runs.training_cost({"N": 2e6, "D": 3e7}) == 6 * 2e6 * 3e7


def test_a_run_costs_its_tokens_its_masks_and_a_base_that_is_not_there():
    rows = grid()
    seen = []
    run = {"N0": 2e6, "N": 1e6, "D": 16e6}

    def trained(budgets):
        seen.append(list(budgets))
        return 40e6

    assert next_runs.run_cost(rows)(run) == 6 * 1e6 * 16e6
    assert next_runs.run_cost(rows, masked=True)(run) == 6 * 2e6 * 16e6
    assert next_runs.run_cost(rows, trained)(run) == 6 * 1e6 * 40e6
    assert seen == [[1e6, 4e6, 16e6]]
    assert next_runs.run_cost(rows, base_tokens=1e8)(run) == 6 * 1e6 * 16e6
    new = {**run, "N0": 8e6}
    assert next_runs.run_cost(rows, base_tokens=1e8)(new) == 6 * 1e6 * 16e6 + 6 * 8e6 * 1e8


def test_runs_to_come_have_losses_from_power_laws():
    rows = grid()
    damage = 0.5 * (rows["N0"] / 1e6) ** -0.2 * (rows["rho"] / 0.3) ** 2
    rows = rows.assign(Lp=rows["L0"] + damage)
    found = next_runs.candidate_runs(rows, [2e6, 8e6], [0.3, 0.4], [5e6, 1e6])
    assert found["D"].tolist() == [1e6, 5e6] * 4
    assert found["N"].tolist() == pytest.approx((found["N0"] * (1 - found["rho"])).tolist())
    l0 = 3.3 * (found["N0"] / 1e6) ** -0.10  # as simulate.grid makes it
    assert found["L0"].tolist() == pytest.approx(l0.tolist())
    expected = 0.5 * (found["N0"] / 1e6) ** -0.2 * (found["rho"] / 0.3) ** 2
    assert (found["Lp"] - found["L0"]).tolist() == pytest.approx(expected.tolist())
    # One size: every size has its L0. No damage at all: next to none.
    one = next_runs.candidate_runs(rows[rows["N0"] == 1e6], [9e6], [0.3])
    assert one["L0"].unique() == pytest.approx([3.3]) and one["D"].tolist() == BUDGETS
    unhurt = next_runs.candidate_runs(rows.assign(Lp=rows["L0"]), [2e6], [0.3])
    assert (unhurt["Lp"] - unhurt["L0"]).to_numpy() == pytest.approx(1e-3)
    # Never beyond ten times what was measured.
    wild = next_runs.candidate_runs(rows, [1e6], [0.999, 1e-4], [1e6])
    low, high = damage.min() / 10, damage.max() * 10
    assert (wild["Lp"] - wild["L0"]).tolist() == pytest.approx([min(0.5 * 3.33**2, high), low])


def test_the_runs_and_targets_that_are_offered():
    rows = grid()
    found = next_runs.default_runs(rows)
    assert sorted(found["N0"].unique()) == [5e5, 1e6, 2e6, 4e6, 8e6]
    rates = [0.1, 0.15, (0.15 * 0.3) ** 0.5, 0.3, (0.3 * 0.45) ** 0.5, 0.45, 0.675]
    assert sorted(found["rho"].unique()) == pytest.approx(rates)
    measured = found[found["N0"].between(1e6, 4e6)]["rho"].round(3)
    assert not set(measured) & {0.15, 0.3, 0.45}  # what was measured is not offered again
    assert set(found[found["N0"] == 8e6]["rho"].round(3)) >= {0.15, 0.3, 0.45}
    steep = next_runs.default_runs(grid(rates=(0.5, 0.8)))
    assert steep["rho"].max() == pytest.approx(0.9)
    targets = next_runs.default_targets(rows)
    assert set(targets["N0"]) == {8e6} and set(targets["D"]) == {4 * 64e6}
    assert targets["rho"].tolist() == [0.15, 0.45]


# What a study holds out.


def test_held_out_errors_are_those_of_a_fit_to_the_rest():
    rows = grid(budgets=[1e6 * 4**k for k in range(6)])
    alone = next(name for name, form in registry.FORMS.items() if form.per_run)
    law = fit_study(rows, {"forms": ["p2", alone], "bootstrap": 0})
    form = registry.get("p2")
    for split, held in (
        ("size", rows["N0"] == 4e6),
        ("rate", rows["rho"] == 0.45),
        ("budget", pd.Series(last_budgets(rows))),
    ):
        (found,) = [h for h in law.holdouts if h.form == "p2" and h.split == split]
        rest = fit(form, rows[~held].reset_index(drop=True))
        expected = (rest.predict(rows[held]) / rows.loc[held, "loss"] - 1).abs().mean()
        assert found.errors.mean_abs_rel_error == pytest.approx(expected, rel=1e-6)
        assert (found.fitted_points, found.errors.points) == ((~held).sum(), held.sum())
    # A law of one run answers for its own later budgets, and for nothing else.
    reasons = {s.split: s.reason for s in law.skipped if s.form == alone}
    assert "budget" not in reasons
    assert reasons["size"] == reasons["rate"] == "a law of one run cannot predict another"
    (budget,) = [h for h in law.holdouts if h.form == alone]
    assert budget.split == "budget"
    # As many points as constants are enough; one less is not.
    needed = len(registry.get(alone).constants)
    for budgets, reason in ((needed + 1, None), (needed, f"{needed - 1} points for {needed}")):
        few = grid(budgets=[1e6 * 4**k for k in range(budgets)])
        law = fit_study(few, {"forms": [alone], "bootstrap": 0})
        told = [s.reason for s in law.skipped if s.split == "budget" and s.form == alone]
        assert (told == []) if reason is None else (reason in told[0])
