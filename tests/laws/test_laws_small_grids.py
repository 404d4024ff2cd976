"""The law stage on every small grid: whatever was trained gives results, never a traceback."""

import itertools
import json

import pandas as pd
import pytest

import law_simulate as simulate
from p2law.laws.forms import form as forms
from p2law.laws.forms import registry
from p2law.laws.study import fit_study

SIZES, RATES, METHODS = [220e3, 450e3, 1020e3], [0.15, 0.3, 0.44], ["sparse", "depth", "width"]
FEW = [
    (1, 1, 1, 1), (1, 1, 2, 1), (1, 1, 3, 1), (1, 1, 3, 3), (1, 3, 2, 2), (2, 1, 1, 1),
    (2, 1, 2, 1), (1, 2, 2, 1), (3, 1, 1, 3), (1, 1, 5, 1),
]  # fmt: skip
"""Sizes, rates, budgets, methods: each end of each axis, and the grids that ended in a traceback.
Model x 2:4 is (1, 1, D, 1)."""
HURT = (1, 1, 3, 2)
ALL = list(itertools.product(range(1, 4), range(1, 4), range(1, 6), range(1, 4)))


def grid(sizes: int, rates: int, budgets: int, methods: int) -> pd.DataFrame:
    parts = []
    for k, method in enumerate(METHODS[:methods]):
        asked = [0.45] if method == "sparse" and rates == 1 else RATES[:rates]
        tokens = [16384.0 * 2**i for i in range(budgets)]
        clean = simulate.grid(SIZES[:sizes], asked, tokens, method=method)
        law = simulate.P2_CONSTANTS
        rows = simulate.losses(clean, "p2", law, noise=2e-3, shared=0.5, seed=k)
        damage = forms.predict(registry.get("p2"), law, clean.assign(D=800.0)) - clean["L0"]
        parts.append(rows.assign(Lp=clean["L0"] + 1.3 * damage))
    return pd.concat(parts, ignore_index=True)


def check(table: pd.DataFrame, spec: dict) -> None:
    law = fit_study(table, spec)
    json.dumps(law.as_json(), allow_nan=False)
    told = {(f.family, f.method, f.form) for f in law.fits}
    told |= {(s.family, s.method, s.form) for s in law.skipped if not s.split}
    methods = table["method"].unique()
    expected = [*methods, "all"] if len(methods) > 1 else methods
    assert told == {("simulated", m, f) for m in expected for f in spec["forms"]}
    for fit in law.fits:
        runs = table if fit.method == "all" else table[table["method"] == fit.method]
        if runs["run"].nunique() < 2:  # nothing to resample: no interval of no width
            assert fit.replicates == 0
            assert all(c.low is None and c.high is None for c in fit.constants.values())
    if table["D"].nunique() < 2:
        assert not law.fits and {s.reason for s in law.skipped} == {"fewer than two budgets"}
    law.constants_table(), law.comparison_table(), law.holdout_table(), law.recipe_table()


@pytest.mark.parametrize("size", FEW, ids=str)
def test_small_grids_give_results(size):
    check(grid(*size), {"forms": ["p2", registry.DAMAGE], "bootstrap": 2})


def test_methods_that_did_not_hurt_are_told(tmp_path):
    """All damage at or below zero: the damage law is skipped with the reason, P² is fitted."""
    table = grid(*HURT)
    law = fit_study(table.assign(Lp=table["L0"]), {"forms": ["p2", registry.DAMAGE]})
    assert {f.form for f in law.fits} == {"p2"}
    assert {s.form for s in law.skipped if not s.split} == {registry.DAMAGE}
    law.write(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("size", ALL, ids=str)
def test_every_grid_gives_results(size):
    check(grid(*size), {"forms": list(registry.FORMS), "bootstrap": 3})
