"""Recipes compared: exponents that were put in come out, tokens are counted, one is chosen."""

import numpy as np
import pandas as pd
import pytest

import law_simulate as simulate
from p2law.errors import UserError
from p2law.laws import rows
from p2law.laws.fitting.fit import fit
from p2law.laws.forms import form as forms
from p2law.laws.forms import registry
from p2law.laws.judging import recipes
from p2law.laws.judging.uncertainty import bootstrap, run_level_interval, small_sample
from p2law.laws.records import RecipeLaw
from p2law.laws.study import check_spec, fit_study

BUDGETS = [16384, 32768, 65536, 131072, 262144]
SPEC = check_spec({"bootstrap": 20, "seed": 0, "recipe": "wsd"})


def under(name: str, seed: int, **changed: float) -> pd.DataFrame:
    """Depth runs of three sizes and rates under one recipe, almost without noise."""
    frame = simulate.grid([220e3, 450e3, 1020e3], [0.15, 0.29, 0.44], BUDGETS)
    law = simulate.P2_CONSTANTS | changed
    frame = simulate.losses(frame, "p2", law, noise=1e-5, shared=0.5, seed=seed)
    done = {  # what has been trained by each budget: shares of 1:2:4:8:16
        "wsd": 0.8 * frame["D"] + 0.2 * frame.groupby("run")["D"].cumsum(),
        "cosine": frame.groupby("run")["D"].cumsum(),
        "trajectory": frame["D"],
    }[name]
    run = frame["run"] + ("" if name == "wsd" else f"-{name}")
    return frame.assign(recipe=name, tokens_trained=done, variant=frame["rate"], run=run)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    parts = [under("wsd", 0), under("cosine", 1), under("trajectory", 2, beta=0.15, D_C=2.5)]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def found(table) -> dict[str, RecipeLaw]:
    return {record.recipe: record for record in recipes.compare(table, SPEC)}


def test_each_recipe_has_its_own_exponent(found):
    """Noise of 1e-5 moves an exponent that five budgets determine by less than a hundredth."""
    exponents = {name: record.constants["beta"].value for name, record in found.items()}
    assert exponents == pytest.approx({"wsd": 0.30, "cosine": 0.30, "trajectory": 0.15}, abs=0.01)
    for record in found.values():
        beta = record.constants["beta"]
        assert record.determined
        assert beta.low < beta.value < beta.high


def test_tokens_are_those_of_the_recipe(found):
    shares = {name: record.share_of_separate_runs for name, record in found.items()}
    assert shares == pytest.approx({"wsd": 0.8 * 16 / 31 + 0.2, "cosine": 1, "trajectory": 16 / 31})


def test_losses_are_compared_at_equal_points(table, found):
    """Against the noiseless law: the mean log ratio of the two laws over the grid."""
    assert found["wsd"].difference == 0.0
    grid = simulate.grid([220e3, 450e3, 1020e3], [0.15, 0.29, 0.44], BUDGETS)
    one, other = (
        forms.predict(registry.get("p2"), simulate.P2_CONSTANTS | changed, grid)
        for changed in ({}, {"beta": 0.15, "D_C": 2.5})
    )
    expected = float(np.log(other / one).mean())
    assert found["trajectory"].difference == pytest.approx(expected, abs=1e-3)
    assert set(found["cosine"].difference_by_budget) == set(map(str, BUDGETS))
    assert abs(found["cosine"].difference) < 1e-3
    middle = found["wsd"].middle
    assert middle.low < middle.value < middle.high


def test_the_middle_has_the_interval_of_every_run_level_number(table, found):
    """Widened for nine runs, as constants are: raw percentiles would be 1.25 times narrower."""
    wsd = rows.of_recipe(table, "wsd")
    fitted = fit(registry.get("p2"), wsd)
    draws = bootstrap(fitted, wsd["run"].to_numpy(), 20, 0)
    asked = wsd.drop_duplicates(["model", "variant"]).assign(D=65536.0)
    drawn = draws.predict(asked).mean(1)
    middle = found["wsd"].middle
    low, high = run_level_interval(middle.value, drawn, 9)
    assert (middle.low, middle.high) == pytest.approx((low, high), rel=1e-12)
    raw = np.percentile(drawn, [2.5, 97.5])
    assert np.log(high / middle.value) == pytest.approx(
        small_sample(9) * np.log(raw[1] / middle.value), rel=1e-9
    )


def test_the_laws_rest_on_one_recipe(table):
    assert set(rows.of_recipe(table, "wsd")["recipe"]) == {"wsd"}
    one = table[table["recipe"] == "cosine"]
    assert len(rows.of_recipe(one)) == len(one)
    assert len(rows.of_recipe(table.drop(columns="recipe"))) == len(table)
    assert recipes.compare(one, SPEC) == []
    with pytest.raises(UserError, match="3 recipes: wsd, cosine, trajectory; choose one"):
        rows.of_recipe(table)
    with pytest.raises(UserError, match="'wsd': the table has cosine"):
        rows.of_recipe(one, "wsd")


def test_a_study_never_mixes_recipes_or_families(table):
    """Both recipes and two families in one table give the numbers of each part by itself."""
    spec = {"forms": ["p2"], "bootstrap": 5, "recipe": "wsd"}
    other = table.assign(family="other", loss=1.3 * table["loss"], run="o" + table["run"])
    with pytest.raises(UserError, match="choose one"):
        fit_study(table, {**spec, "recipe": None})
    both = fit_study(pd.concat([table, other], ignore_index=True), spec)
    assert both.recipe == "wsd" and both.runs == 18
    alone = fit_study(rows.of_recipe(table, "wsd"), spec)
    assert both.fit("simulated", "depth", "p2") == alone.fit("simulated", "depth", "p2")
    assert {r.recipe for r in both.recipes} == {"wsd", "cosine", "trajectory"}
    assert {f.family for f in both.fits} == {"simulated", "other"}
    names = set(both.recipe_table())
    assert {"beta", "beta_low", "beta_high", "middle", "tokens_trained"} <= names
