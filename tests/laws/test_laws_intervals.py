"""The law's own error: what is held out inside the data, what is new in a question, coverage."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import law_simulate as simulate
from p2law.laws.fitting.fit import fit
from p2law.laws.forms import registry
from p2law.laws.judging import intervals
from p2law.laws.judging.intervals import (
    KINDS,
    ModelError,
    held_groups,
    model_error,
    new_in,
    total_widths,
)
from p2law.laws.judging.splits import all_splits

STUDY = simulate.study()
DEPTH = STUDY[STUDY["method"] == "depth"].reset_index(drop=True)


def test_half_width_is_t_times_rms_over_all_levels():
    squares = {
        "size": np.array([1e-4, 4e-4, 1e-4]),
        "rate": np.array([9e-4, 1e-4]),
        "run": np.array([1e-4] * 9),
    }
    error = ModelError(squares, DEPTH)
    rms = np.sqrt(np.mean([1e-4, 4e-4, 1e-4, 9e-4, 1e-4]))
    for kind in ("size", "rate", "method"):  # a method is a level like the others
        assert error.half_width(kind) == pytest.approx(stats.t.ppf(0.975, 3) * rms)
    assert error.half_width("run") == pytest.approx(stats.t.ppf(0.975, 9) * 1e-2)
    # Never held out: the widest of the others.
    assert error.half_width("budget") == error.half_width("size")
    assert ModelError({}, DEPTH).half_width("size") == 0.0


def test_every_kind_is_held_out_once():
    groups = dict(held_groups(STUDY))
    assert set(groups) == set(KINDS)
    for kind in ("size", "rate", "method", "run"):
        assert (groups[kind].sum(0) == 1).all(), kind
    assert set(STUDY.loc[groups["budget"][0], "D"]) == {262144.0}
    assert "method" not in dict(held_groups(DEPTH))


def test_refits_are_the_fits_of_the_rest():
    """The batch that starts from the fit ends where a fit of the remaining rows ends."""
    form = registry.get("damage_rectified")
    found = model_error(fit(form, DEPTH), DEPTH)
    sizes = sorted(DEPTH["N0"].unique())
    expected = []
    for size in sizes:
        rest, held = (DEPTH[m].reset_index(drop=True) for m in
                      (DEPTH["N0"] != size, DEPTH["N0"] == size))  # fmt: skip
        logs = np.log(fit(form, rest).predict(held) / held["loss"])
        expected.append((logs**2).mean())
    # The batch stops at 1e-6 of its objective.
    assert np.sqrt(found.squares["size"]) == pytest.approx(np.sqrt(expected), rel=0.02)


def test_what_a_question_is_new_in():
    fitted = DEPTH[(DEPTH["N0"] < 9e5) & (DEPTH["D"] < 2e5) & (DEPTH["rho"] < 0.4)]
    first = fitted.iloc[0]
    asked = pd.DataFrame([
        first, first.copy(), first.copy(), first.copy(), first.copy(), first.copy()
    ]).reset_index(drop=True)  # fmt: skip
    asked.loc[1, "N0"] = 4e6
    asked.loc[2, "D"] = 1e6
    asked.loc[3, "rho"] = 0.6
    asked.loc[4, "method"], asked.loc[4, "rho"] = "mine", 0.6
    asked.loc[5, "run"] = "another"
    new = new_in(fitted, asked)
    table = pd.DataFrame(new)[list(KINDS)].to_numpy()
    assert not table[0].any()
    for row, kind in enumerate(["size", "budget", "rate", "method", "run"], 1):
        assert [k for k, is_new in zip(KINDS, table[row], strict=True) if is_new] == [kind]
    hurt = asked.loc[[4]].assign(Lp=asked.loc[4, "L0"] + 10.0)  # worse than anything fitted
    assert new_in(fitted, hurt)["rate"].all() and new_in(fitted, hurt)["method"].all()
    widths = total_widths(dict.fromkeys(KINDS, 0.1), fitted, asked)
    assert widths == pytest.approx([0.0, 0.1, 0.1, 0.1, 0.1, 0.1])


def test_intervals_of_a_wrong_law_hold_what_the_bootstrap_misses():
    """P² on losses of a damage law: held-out coverage reaches its nominal rate only with the error.

    A seed's hold-outs err together, so the share is counted over five seeds.
    """
    from p2law.laws.judging.uncertainty import bootstrap

    truth = {"epsilon": 0.8, "b": 0.35, "t0": 3e3, "a": 0.4, "c": 0.0}
    inside = {"bootstrap": [], "with the law's error": []}
    for seed in range(5):
        table = simulate.losses(
            DEPTH, "damage_rectified", truth, noise=2e-3, shared=0.5, seed=seed
        )  # fmt: skip
        for split in all_splits(table):
            if split.name not in ("leave-one-size", "leave-one-rate"):
                continue
            train, test = (table[m].reset_index(drop=True) for m in (split.train, split.test))
            result = fit(registry.get("p2"), train, restarts=4)
            low, high = bootstrap(result, train["run"].to_numpy(), 60, 0).prediction_interval(test)
            loss = test["loss"].to_numpy()
            inside["bootstrap"].append((low <= loss) & (loss <= high))
            low, high = model_error(result, train).widen(test, result.predict(test), low, high)
            inside["with the law's error"].append((low <= loss) & (loss <= high))
    shares = {name: np.concatenate(found).mean() for name, found in inside.items()}
    assert shares["with the law's error"] >= 0.9
    assert shares["with the law's error"] > shares["bootstrap"]


def test_the_wider_of_the_bootstrap_and_the_laws_error_counts_on_each_side():
    error = ModelError({"run": np.array([1e-4] * 9)}, DEPTH)
    asked = DEPTH.iloc[[0, 1, 2]].assign(run=["new", "new", DEPTH["run"].iloc[2]])
    predicted, half = np.array([3.0, 3.0, 3.0]), stats.t.ppf(0.975, 9) * 1e-2
    low, high = error.widen(
        asked, predicted, np.array([2.99, 2.0, 2.99]), np.array([4, 3.01, 3.01])
    )
    assert low == pytest.approx([3 * np.exp(-half), 2.0, 2.99])
    assert high == pytest.approx([4.0, 3 * np.exp(half), 3.01])


def test_no_budget_up_to_the_largest_is_new():
    run = DEPTH[DEPTH["run"] == DEPTH["run"].iloc[0]]
    assert not new_in(DEPTH, run)["budget"].any()
    assert new_in(DEPTH, run.assign(D=run["D"].max() * 1.01))["budget"].all()


def test_each_group_has_its_mean_square_error(monkeypatch):
    """Known errors of the refits: the mean square over a group, of budgets over each run's last."""
    rows = simulate.grid([2e5, 5e5], [0.3], [1e4 * 2**k for k in range(10)])
    rows["loss"] = 3.0
    known = np.arange(len(rows)) / 1e3

    def refit(fit, rows, masks):
        return np.repeat(known[None], len(masks), axis=0)

    monkeypatch.setattr(intervals, "_refit", refit)
    found = model_error(None, rows).squares
    first, second = known[:10], known[10:]
    assert found["size"] == pytest.approx([(first**2).mean(), (second**2).mean()])
    assert found["budget"] == pytest.approx([(first[8:] ** 2).mean(), (second[8:] ** 2).mean()])
