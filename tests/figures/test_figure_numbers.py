"""The numbers of every figure, against the tables and the law, on two families of eleven methods
under two recipes: each recomputed here in another way.
"""

import json
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

import law_simulate as simulate
from p2law.figures import style
from p2law.figures.data import Data, read
from p2law.figures.draw import DRAW

SIZES = [220e3, 450e3, 1020e3]


@pytest.fixture(scope="module")
def data(crossed_study) -> Data:
    return read(crossed_study / "tables/manifest.json", crossed_study / "law/manifest.json")


@pytest.fixture(scope="module")
def drawn(data) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Every figure and its numbers; eleven methods and their pool are more than any list of
    markers, dashes or shades.
    """
    with style.context():
        found = {name: draw(data) for name, draw in DRAW.items()}
        for figure, _ in found.values():
            figure.draw_without_rendering()
    return found


@pytest.fixture(scope="module")
def table(crossed_study) -> pd.DataFrame:
    """The rows that the laws rest on."""
    rows = pd.read_parquet(crossed_study / "tables" / "losses.parquet")
    return rows[rows["recipe"] == "wsd"].rename(columns={"rate": "rho"})


@pytest.fixture(scope="module")
def law(crossed_study) -> dict:
    return json.loads((crossed_study / "law" / "law.json").read_text())


@pytest.fixture(scope="module")
def constants(law) -> dict[tuple[str, str], dict[str, float]]:
    """P²'s constants by family and method."""
    return {
        (fit["family"], fit["method"]): {n: c["value"] for n, c in fit["constants"].items()}
        for fit in law["fits"]
        if fit["form"] == "p2"
    }


def p2(c: dict[str, float], rows: pd.DataFrame) -> np.ndarray:
    """The P² law as it is printed (arXiv 2411.10272)."""
    bracket = c["N_C"] * rows["N0"] ** -c.get("alpha", 0.0) + c["E"]
    bracket += c["D_C"] * rows["D"] ** -c["beta"]
    scale = rows["rho"] ** -c.get("gamma", 0.0) * rows["N0"] ** -c.get("delta", 0.0)
    return (rows["L0"] + scale * bracket).to_numpy()


def by_group(shown: pd.DataFrame):
    return shown.groupby(["family", "method"], sort=False)


def test_oneshot(drawn, crossed_study):
    figure, shown = drawn["oneshot"]
    rows = pd.read_parquet(crossed_study / "tables" / "oneshot.parquet")
    assert len(shown) == len(rows) == 2 * (3 * 3 * 2) + 8 * 2 * 2
    assert shown["damage"].to_numpy() == pytest.approx((rows["Lp"] - rows["L0"]).to_numpy())
    titles = [axes.get_title() for axes in figure.axes]
    assert [t.split(",")[0] for t in titles] == ["first"] * 3 + ["second"] * 3
    assert [t.split(":")[0].split("-")[1] for t in titles] == ["m0", "m1", "m2"] * 2
    # .200 .. .210 are one group of a model that has them all, .200 .. .202 where these were tried.
    means = shown.groupby("model")["matched"].unique()
    assert sorted(means["first-m0"]) == pytest.approx([0.205, 0.405])
    assert sorted(means["first-m1"]) == pytest.approx([0.201, 0.401])


def test_curves(drawn, table, constants):
    _, shown = drawn["curves"]
    measured = shown[shown["series"] == "measured"]
    both = measured.merge(table, on=["family", "method", "run", "D"], suffixes=("", "_table"))
    assert len(both) == len(measured) == len(table)
    assert (both["loss"] == both["loss_table"]).all() and (both["rho"] == both["rho_table"]).all()
    level = table.groupby("model")["L0"].first()
    lines = shown[shown["series"] == "p2"]
    lines = lines.assign(L0=lines["model"].map(level))
    assert len(lines) == 60 * table.groupby(["model", "method", "rho"]).ngroups
    for group, rows in by_group(lines):
        assert rows["loss"].to_numpy() == pytest.approx(p2(constants[group], rows), rel=1e-9)


@pytest.mark.parametrize("name", ["predicted", "residuals"])
def test_fitted_points(drawn, table, constants, name):
    _, shown = drawn[name]
    assert len(shown) == 2 * len(table)  # P² and the damage law
    shown = shown[shown["form"] == "p2"].merge(table, on=["family", "method", "run", "D"])
    shown = shown.rename(columns={"N0_y": "N0", "rho_y": "rho", "loss_y": "loss"})
    for group, rows in by_group(shown):
        expected = p2(constants[group], rows)
        assert rows["error"].to_numpy() == pytest.approx(expected / rows["loss"] - 1, abs=1e-9)
        if name == "predicted":
            assert rows["predicted"].to_numpy() == pytest.approx(expected, rel=1e-9)


def test_tokens(drawn, table, constants, crossed_study):
    """The closed form of the marginal rule; intervals widened for the runs that were fitted."""
    figure, shown = drawn["tokens"]
    draws = pd.read_parquet(crossed_study / "law" / "draws.parquet")
    draws = draws[draws["form"] == "p2"]
    assert (
        len(shown.groupby(["family", "method"]))
        == 11 + 3
        == len([a for a in figure.axes if a.get_title()])
    )
    for group, rows in by_group(shown):
        c = constants[group]
        runs = table[(table["family"] == group[0]) & (table["method"] == group[1])]
        middle = np.exp(np.log(runs[["N0", "rho", "D"]]).mean())
        scale = middle["rho"] ** -c["gamma"] * middle["N0"] ** -c["delta"]
        tau = c["beta"] * c["D_C"] * scale * middle["D"] ** (-c["beta"] - 1)
        assert rows["tau_nats_per_1e6_tokens"].to_numpy() == pytest.approx(tau * 1e6)
        assert sorted(rows["N0"].unique()) == sorted(runs["N0"].unique())
        assert rows["D"].to_numpy() == pytest.approx(marginal(c, rows, tau), rel=1e-6)
        mine = draws[(draws["family"] == group[0]) & (draws["method"] == group[1])]
        n = runs["run"].nunique()
        factor = stats.t.ppf(0.975, n - 1) / stats.norm.ppf(0.975) * math.sqrt(n / (n - 1))
        row = rows.iloc[12]
        drawn_here = [marginal(dict(one), row, tau) for _, one in mine.iterrows()]
        # Draws that never want more are infinite: ends are then draws themselves.
        how = "linear" if np.isfinite(drawn_here).all() else "nearest"
        for end, share in (("low", 2.5), ("high", 97.5)):
            plain = np.percentile(drawn_here, share, method=how)
            inside = plain > row["D"] if end == "low" else plain < row["D"]
            moved = row["D"] * (plain / row["D"]) ** factor
            assert row[end] == pytest.approx(row["D"] if inside else moved, rel=1e-6)


def marginal(c, rows, tau: float):
    """D at which beta D_C rho^-gamma N0^-delta D^(-beta - 1) is tau; none below one token."""
    scale = rows["rho"] ** -c["gamma"] * rows["N0"] ** -c["delta"]
    slope = c["beta"] * c["D_C"] * scale
    return np.where(slope <= tau, 0.0, (slope / tau) ** (1 / (c["beta"] + 1)))


def test_holdouts(drawn, table):
    _, shown = drawn["holdouts"]
    assert set(shown["split"]) == {"budget", "size", "leave-one-method"}  # no common highest rate
    both = shown.merge(table, on=["family", "run", "D"], suffixes=("", "_table"))
    assert len(both) == len(shown)
    assert (both["loss"] == both["loss_table"]).all()
    assert both["error"].to_numpy() == pytest.approx(both["predicted"] / both["loss"] - 1)
    assert (both["low"] <= both["predicted"]).all() and (both["predicted"] <= both["high"]).all()
    assert set(shown.loc[shown["split"] == "size", "N0"]) == {1020e3}
    assert set(shown.loc[shown["split"] == "budget", "D"]) == {table["D"].max()}
    unseen = shown[(shown["split"] == "leave-one-method") & (shown["form"] == "p2")]
    assert sorted(unseen["run"]) == sorted(table["run"].repeat(table["D"].nunique())[::4])
    assert (unseen["held"] == unseen["point_method"]).all()


def test_comparison(drawn, law):
    _, shown = drawn["comparison"]
    for row in shown.itertuples():
        pooled = row.laws == "one law over all methods"
        held = [
            h["errors"] for h in law["holdouts"]
            if (h["form"], h["split"], h["method"] == "all") == (row.form, row.split, pooled)
        ]  # fmt: skip
        total = sum(e["mean_abs_rel_error"] * e["points"] for e in held)
        expected = 100 * total / sum(e["points"] for e in held)
        assert row.mean_abs_rel_error_percent == pytest.approx(expected)
    assert {"p2", "baseline: nearest run"} <= set(shown["form"])


def test_contours(drawn, table, constants):
    _, shown = drawn["contours"]
    level = table.groupby(["family", "N0"])["L0"].first()
    ends = shown[np.isclose(shown["N0"].to_numpy()[:, None], [220e3, 1020e3]).any(1)]
    for (family, method), rows in by_group(ends):
        known = [level[family, SIZES[0] if n < 5e5 else SIZES[2]] for n in rows["N0"]]
        assert rows["L0"].to_numpy() == pytest.approx(known)
        expected = p2(constants[family, method], rows)
        assert rows["loss"].to_numpy() == pytest.approx(expected, rel=1e-9)
        assert rows["D"].max() == pytest.approx(4 * table["D"].max())
    assert len(shown.groupby(["family", "method", "rho"])) == 14 * 2


def test_constants(drawn, law):
    _, shown = drawn["constants"]
    told = {
        (fit["family"], fit["method"], name): c
        for fit in law["fits"]
        if fit["form"] == "p2"
        for name, c in fit["constants"].items()
    }
    assert len(shown) == len(told)
    for row in shown.to_dict("records"):
        one = told[row["family"], row["method"], row["constant"]]
        assert (row["value"], row["low"], row["high"]) == (one["value"], one["low"], one["high"])


def test_profiles(drawn, law):
    _, shown = drawn["profiles"]
    told = {
        (fit["family"], fit["method"], p["name"]): (fit["objective"], p)
        for fit in law["fits"]
        if fit["form"] == "p2"
        for p in fit["profiles"]
    }
    found = shown.groupby(["family", "method", "exponent"])
    assert len(found) == len(told)
    for key, rows in found:
        best, profile = told[key]
        assert rows["value"].tolist() == profile["values"]
        back = best + rows["rise"] * (profile["threshold"] - best)
        assert back.to_numpy() == pytest.approx(np.array(profile["objective"], dtype=float))


def test_restarts(drawn, law):
    _, shown = drawn["restarts"]
    fits = [fit for fit in law["fits"] if fit["form"] == "p2"]
    assert len(shown.groupby(["family", "method"])) == len(fits) == 12 + 4
    for fit in fits:
        mine = shown[(shown["family"] == fit["family"]) & (shown["method"] == fit["method"])]
        ended = [x for x in fit["objectives_over_starts"] if x is not None]
        back = mine["objective_over_best"] * fit["objective"]
        assert back.to_numpy() == pytest.approx(ended)


def test_recipes(drawn, law, crossed_study):
    _, shown = drawn["recipes"]
    rows = pd.read_parquet(crossed_study / "tables" / "losses.parquet")
    losses = shown[shown["panel"] == "loss"]
    assert len(losses) == 2 * 4 and losses["variant"].nunique() == 1
    assert set(losses["model"]) == {"first-m2"}
    both = losses.merge(rows[rows["seed"] == 0], on=["model", "variant", "recipe", "D"])
    assert len(both) == 8 and (both["loss_x"] == both["loss_y"]).all()
    exponents = shown[shown["panel"] == "exponent"]
    told = {(r["family"], r["method"], r["recipe"]): r["constants"]["beta"] for r in law["recipes"]}
    assert len(exponents) == len(told) == 16 * 2
    for row in exponents.to_dict("records"):
        one = told[row["family"], row["method"], row["recipe"]]
        assert (row["value"], row["low"], row["high"]) == (one["value"], one["low"], one["high"])
    tokens = shown[shown["panel"] == "tokens"].set_index("recipe")
    assert tokens.loc["wsd", "share"] == pytest.approx(1.0)  # cumulated: a run a budget
    assert tokens.loc["read", "share"] == pytest.approx(8 / 15)  # read on the way: the largest
    last = rows.groupby(["recipe", "run"])["tokens_trained"].max().groupby("recipe").sum()
    assert tokens["tokens"].to_dict() == pytest.approx(last.to_dict())


def test_every_family_is_named_where_there_are_two(drawn):
    for name in ("tokens", "contours", "restarts"):
        titles = [a.get_title() for a in drawn[name][0].axes if a.get_title()]
        assert {title.split(",")[0] for title in titles} == set(simulate.SCALE), name
    for name in ("predicted", "residuals", "holdouts", "profiles"):
        (legend,) = drawn[name][0].legends
        labels = [text.get_text() for text in legend.get_texts()]
        assert len(set(labels)) == len(labels), name
        assert {label.split(",")[0] for label in labels} == set(simulate.SCALE), name
