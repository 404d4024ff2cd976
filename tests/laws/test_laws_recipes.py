"""Schedules compared: exponents that were put in come out, tokens are counted, one is chosen."""

import numpy as np
import pandas as pd
import pytest

import law_simulate as simulate
from p2law.errors import UserError
from p2law.laws.forms import form as forms
from p2law.laws.forms import registry
from p2law.laws.judging import schedules

BUDGETS = [16384, 32768, 65536, 131072, 262144]
SPEC = {"bootstrap": 20, "seed": 0, "schedule": "wsd"}


def under(name: str, seed: int, **changed: float) -> pd.DataFrame:
    """Depth runs of three sizes and rates under one schedule, almost without noise."""
    frame = simulate.grid([220e3, 450e3, 1020e3], [0.15, 0.29, 0.44], BUDGETS)
    law = simulate.P2_CONSTANTS | changed
    frame = simulate.losses(frame, "p2", law, noise=1e-5, shared=0.5, seed=seed)
    done = {  # what has been trained by each budget: shares of 1:2:4:8:16
        "wsd": 0.8 * frame["D"] + 0.2 * frame.groupby("run")["D"].cumsum(),
        "cosine": frame.groupby("run")["D"].cumsum(),
        "trajectory": frame["D"],
    }[name]
    run = frame["run"] + ("" if name == "wsd" else f"-{name}")
    return frame.assign(schedule=name, tokens_trained=done, variant=frame["rate"], run=run)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    parts = [under("wsd", 0), under("cosine", 1), under("trajectory", 2, beta=0.15, D_C=2.5)]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def found(table) -> dict[str, dict]:
    return {record["schedule"]: record for record in schedules.compare(table, SPEC)}


def test_each_schedule_has_its_own_exponent(found):
    """Noise of 1e-5 moves an exponent that five budgets determine by less than a hundredth."""
    exponents = {name: record["constants"]["beta"]["value"] for name, record in found.items()}
    assert exponents == pytest.approx({"wsd": 0.30, "cosine": 0.30, "trajectory": 0.15}, abs=0.01)
    for record in found.values():
        beta = record["constants"]["beta"]
        assert record["identified"]
        assert beta["low"] < beta["value"] < beta["high"]


def test_tokens_are_those_of_the_schedule(found):
    shares = {name: record["share_of_separate_runs"] for name, record in found.items()}
    assert shares == pytest.approx({"wsd": 0.8 * 16 / 31 + 0.2, "cosine": 1, "trajectory": 16 / 31})


def test_losses_are_compared_at_equal_points(table, found):
    """Against the noiseless law: the mean log ratio of the two laws over the grid."""
    assert found["wsd"]["difference"] == 0.0
    grid = simulate.grid([220e3, 450e3, 1020e3], [0.15, 0.29, 0.44], BUDGETS)
    one, other = (
        forms.predict(registry.get("p2"), simulate.P2_CONSTANTS | changed, grid)
        for changed in ({}, {"beta": 0.15, "D_C": 2.5})
    )
    expected = float(np.log(other / one).mean())
    assert found["trajectory"]["difference"] == pytest.approx(expected, abs=1e-3)
    assert set(found["cosine"]["difference_by_budget"]) == set(map(str, BUDGETS))
    assert abs(found["cosine"]["difference"]) < 1e-3
    middle = found["wsd"]["middle"]
    assert middle["low"] < middle["value"] < middle["high"]


def test_as_a_table_every_constant_has_its_interval(found):
    table = schedules.as_table(list(found.values()))
    assert len(table) == 3
    assert {"beta", "beta_low", "beta_high", "middle", "tokens_trained"} <= set(table)


def test_the_laws_rest_on_one_schedule(table):
    assert set(schedules.first(table, SPEC)["schedule"]) == {"wsd"}
    one = table[table["schedule"] == "cosine"]
    assert len(schedules.first(one, {})) == len(one)
    assert schedules.compare(one, SPEC) == []
    with pytest.raises(UserError, match="the table has wsd, cosine, trajectory; choose one"):
        schedules.first(table, {})
    with pytest.raises(UserError, match="'wsd': the table has cosine"):
        schedules.first(one, SPEC)
