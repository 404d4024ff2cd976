"""Answers against P²'s closed forms (law.md section 3), and what the advisor recommends."""

import numpy as np
import pandas as pd
import pytest

from p2law.laws import forms, registry, simulate
from p2law.laws.advisor import advise, candidate_runs
from p2law.laws.answers import curve, for_marginal, for_residual, for_target
from p2law.laws.fit import fit

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
