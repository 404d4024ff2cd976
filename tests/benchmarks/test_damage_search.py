"""The damage search: its protocol on tables whose law is known."""

import numpy as np
import pandas as pd
import pytest

import damage_protocol as damage
import law_simulate as simulate
from p2law.laws.forms import registry
from p2law.laws.forms.form import predict
from p2law.laws.study import check_spec

TRUTH = {"epsilon": 0.9, "b": 0.4, "t0": 2e3, "a": 0.3, "c": 0.1}


def damaged(seed: int = 0, noise: float = 1e-3):
    """A study whose losses follow the rectified damage law, the same for every method."""
    return simulate.losses(
        simulate.study(), registry.DAMAGE, TRUTH, noise=noise, shared=0.5, seed=seed
    )


def test_candidates_are_the_registered_laws_in_their_variable():
    rows = damaged()
    pairs = {"power": "damage_power", "rectified": "damage_rectified"}
    for shape, name in pairs.items():
        candidate = damage.Candidate(shape, "damage", "N0")
        constants = {n: 0.1 + 0.1 * i for i, n in enumerate(candidate.form.constants)}
        ours = predict(candidate.form, constants, candidate.rows(rows))
        assert ours == pytest.approx(predict(registry.get(name), constants, rows))


def test_the_search_finds_the_variable_that_the_losses_follow():
    rows = damage.usable(damaged(), ("damage", "relative"))
    among = [damage.Candidate("rectified", "damage", "N0"), damage.Candidate("power", "damage", "")]
    found = damage.scores(rows, among)
    assert damage.choose(found) == among[0].label
    # Noise of .1 % and the right law: held-out errors are of the noise's size.
    assert found["score"].iloc[0] < 2e-3


def test_ties_go_to_fewer_constants():
    found = pd.DataFrame({"candidate": ["a", "b"], "constants": [6, 4], "score": [1.0, 1.01]})
    assert damage.choose(found) == "b"
    assert damage.choose(found.assign(score=[1.0, 1.03])) == "a"


def test_after_first_starts_at_the_first_budget():
    rows = damaged()
    later = damage.after_first(rows)
    run = rows[rows["run"] == rows["run"][0]].sort_values("D")
    same = later[later["run"] == rows["run"][0]].sort_values("D")
    assert (same["Lp"] == run["loss"].iloc[0]).all()
    assert same["D"].tolist() == (run["D"].iloc[1:] - run["D"].iloc[0]).tolist()


def test_nested_choices_are_scored_on_what_they_did_not_see():
    rows = damage.usable(damaged(), ("damage",))
    among = [damage.Candidate("rectified", "damage", "N0"), damage.Candidate("power", "damage", "")]
    found = damage.nested(rows[rows["method"] != "sparse"].reset_index(drop=True), among)
    assert set(found["kind"]) == {"method", "size", "rate", "budget"}
    assert found["error"].max() < 0.02


def test_confirmation_covers_a_method_that_follows_the_law():
    rows = damaged()
    fitted = rows[rows["method"] != "width"].reset_index(drop=True)
    asked = rows[rows["method"] == "width"].reset_index(drop=True)
    form = registry.get(registry.DAMAGE)
    found = damage.confirm(form, fitted, asked, check_spec({"bootstrap": 30}))
    assert np.abs(found["error"]).mean() < 3e-3
    assert ((found["low"] <= found["loss"]) & (found["loss"] <= found["high"])).mean() > 0.9
