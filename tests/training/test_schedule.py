"""Schedules as pure functions: their shapes, areas and legs."""

import math

import pytest

from p2law.errors import UserError
from p2law.training import schedule

SHAPE = {"peak": 2.0, "warmup_steps": 4}


def plan(kind, budgets):
    return schedule.legs(kind, budgets, decay=0.25, **SHAPE)


def test_wsd_warms_up_stays_and_decays_to_zero():
    rates = [schedule.wsd(k, total=20, decay_steps=5, **SHAPE) for k in range(20)]
    assert rates[:4] == [0.25, 0.75, 1.25, 1.75]  # at the middle of each step
    assert rates[4:15] == [2.0] * 11
    assert rates[15] == pytest.approx(2.0 * (1 - math.sqrt(0.1)))
    assert all(a > b > 0 for a, b in zip(rates[14:], rates[15:], strict=False))


def test_the_areas_are_those_of_the_curves():
    """Midpoints integrate: 1 - sqrt over [0, 1] is 1/3, a cosine to a tenth is 0.55."""
    steps = 4000
    decay = [schedule.wsd(k, peak=1.0, warmup_steps=0, total=steps, decay_steps=steps)
             for k in range(steps)]  # fmt: skip
    wave = [schedule.cosine(k, peak=1.0, warmup_steps=0, total=steps) for k in range(steps)]
    assert sum(decay) / steps == pytest.approx(1 / 3, abs=1e-4)
    assert sum(wave) / steps == pytest.approx(0.55, abs=1e-6)


def test_branches_leave_one_trunk():
    legs = plan("wsd", [16, 32, 64])
    assert {n: (leg.start, leg.stop) for n, leg in legs.items()} == {
        16: (12, 16),
        32: (24, 32),
        64: (48, 64),
    }
    trunk = legs[16].origin
    assert all(leg.origin is legs[16].origin or leg.origin == trunk for leg in legs.values())
    assert (trunk.start, trunk.stop, trunk.rate(47)) == (0, 48, 2.0)
    for leg in legs.values():
        assert all(leg.rate(k) == trunk.rate(k) for k in range(leg.start))


def test_cosine_is_a_run_a_budget_and_trajectory_one_run():
    cosines, path = plan("cosine", [16, 32]), plan("trajectory", [16, 32])
    assert [(leg.start, leg.stop, leg.origin) for leg in cosines.values()] == [
        (0, 16, None),
        (0, 32, None),
    ]
    assert cosines[16].rate(15) < 0.25 < cosines[32].rate(15)
    assert path[16] is path[32]
    assert [path[16].rate(k) for k in range(32)] == [cosines[32].rate(k) for k in range(32)]


@pytest.mark.parametrize(
    ("kind", "added"),
    [
        ("wsd", {16: 12 + 4, 32: 12 + 8, 64: 24 + 16}),
        ("cosine", {16: 16, 32: 32, 64: 64}),
        ("trajectory", {16: 16, 32: 16, 64: 32}),
    ],
)
def test_what_each_budget_adds(kind, added):
    legs = plan(kind, [16, 32, 64])
    assert schedule.work(legs) == added
    # With the trunk there up to step 24 the first two forks cost nothing.
    saved = schedule.work(legs, lambda leg, until: min(until, 24) if leg == "trunk" else 0)
    assert saved == ({16: 4, 32: 8, 64: 24 + 16} if kind == "wsd" else added)


def test_what_cannot_be_scheduled_is_refused():
    with pytest.raises(UserError, match="allowed are 'wsd', 'cosine' and 'trajectory'"):
        plan("linear", [16])
    with pytest.raises(UserError, match="the smallest"):
        plan("wsd", [4, 16])
