"""What the advisor recommends, of which rows, and at what cost."""

import numpy as np
import pytest

import law_simulate as simulate
from p2law.errors import UserError
from p2law.laws.deciding.advisor import advice_record, advise, undetermined
from p2law.laws.deciding.next_runs import (
    candidate_runs,
    chosen_rows,
    default_runs,
    default_targets,
    run_cost,
    runs_asked,
    target_asked,
)
from p2law.laws.fitting.fit import fit
from p2law.laws.forms import registry

C = simulate.P2_CONSTANTS


def test_advisor_names_the_size_that_the_grid_lacks():
    budgets = [16384.0 * 2**k for k in range(5)]
    clean = simulate.grid([2e5, 4e5], [0.15, 0.3, 0.45], budgets)
    table = simulate.losses(clean, "p2", C, noise=2e-3, shared=0.5, seed=0)
    found = fit(registry.get("p2"), table)
    assert found.undetermined
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
    cure = next(r for r in record["runs"] if "gamma" in r.determines)
    assert abs(cure.rho - 0.45) > 0.05
    known = advise(found, table, default_runs(table), default_targets(table))
    assert cure.cost == min(a.cost for a in known if "gamma" in a.learns)


def test_run_cost_counts_the_tokens_trained_and_a_base_of_its_own():
    table = simulate.study()
    budgets = sorted(table["D"].unique())
    run = {"N0": 220e3, "N": 150e3, "D": budgets[-1]}
    assert run_cost(table)(run) == pytest.approx(6 * 150e3 * budgets[-1])
    assert run_cost(table, sum)(run) == pytest.approx(6 * 150e3 * sum(budgets))
    beyond = run | {"D": 2 * budgets[-1]}
    assert run_cost(table, sum)(beyond) == pytest.approx(6 * 150e3 * (sum(budgets) + beyond["D"]))
    assert run_cost(table, masked=True)(run) == pytest.approx(6 * 220e3 * budgets[-1])
    larger = run | {"N0": 2e6}
    extra = run_cost(table, base_tokens=3e6)(larger) - run_cost(table, base_tokens=3e6)(run)
    assert extra == pytest.approx(6 * 2e6 * 3e6)


def test_damage_of_runs_to_come_stays_near_what_was_measured():
    # Two runs that hardly hurt give a slope of 30 in log N0: unbounded, Lp would round to L0.
    table = simulate.study()
    hurt = table["L0"] + np.where(table["N0"] == table["N0"].min(), 1e-6, 0.3)
    table = table.assign(Lp=hurt)
    small = candidate_runs(table, [table["N0"].min() / 1000], [0.2])
    assert (small["Lp"] > small["L0"]).all()
    assert (small["Lp"] - small["L0"]).min() == pytest.approx(1e-7, rel=1e-6)  # a tenth of it


def test_rows_are_of_one_family_one_recipe_and_the_method_asked_for():
    table = simulate.crossed(methods=3)
    rows = chosen_rows(table, "second", None, "blocks")
    kept = rows[["family", "recipe", "method"]].drop_duplicates().values.tolist()
    assert kept == [["second", "wsd", "blocks"]]  # the first recipe, which the laws rest on
    assert len(rows) == 3 * 2 * 4 * 2  # sizes, rates, budgets, seeds
    assert set(chosen_rows(table, "first", "read", "all")["recipe"]) == {"read"}
    for asked, words in (
        ((None, None, "all"), "several families.*--family: first, second"),
        (("third", None, "all"), "--family third: allowed: first, second"),
        (("first", "cosine", "all"), "--recipe cosine: the table has wsd, read"),
        (("first", None, "mine"), "--method mine: the table has angular, blocks, taylor"),
    ):
        with pytest.raises(UserError, match=words):
            chosen_rows(table, *asked)
    plain = table.drop(columns=["family", "recipe", "method"])
    assert len(chosen_rows(plain, None, None, "all")) == len(plain)
    with pytest.raises(UserError, match="--recipe wsd: the table has no recipes"):
        chosen_rows(plain, None, "wsd", "all")


def test_runs_and_targets_named_by_the_user():
    table = simulate.study()
    runs = runs_asked(table, [1e6], [0.2, 0.3], None)
    assert set(runs["N0"]) == {1e6} and set(runs["rho"]) == {0.2, 0.3}
    assert set(runs["D"]) == set(table["D"])
    (target,) = target_asked(table, 8e6, 0.3, 1e6).to_dict("records")
    assert (target["N0"], target["rho"], target["D"]) == (8e6, 0.3, 1e6)
    with pytest.raises(UserError, match="--target-D None: a target needs"):
        target_asked(table, 8e6, 0.3, None)
    with pytest.raises(UserError, match="--target-rho 1.5: must lie in"):
        target_asked(table, 8e6, 1.5, 1e6)
    with pytest.raises(UserError, match="--rates 1.4"):
        runs_asked(table, None, [1.4], None)
