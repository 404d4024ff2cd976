"""Looks that never run out, axes that hold every number, and figures as large as their studies."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import law_simulate as simulate
from p2law.figures import constants, curves, pruned, style, tokens
from p2law.figures.data import Data
from p2law.laws.deciding.study_laws import Laws
from p2law.laws.records import Constant
from p2law.tables.matching import matched_rates


@pytest.mark.parametrize("count", [1, 2, 11, 24, 60])
def test_no_two_series_look_alike(count):
    for line in (False, True):
        looks = [tuple(map(str, style.look(k, count, line=line).values())) for k in range(count)]
        assert len(set(looks)) == count


def test_shades_go_from_dark_to_light():
    def luminance(shade: str) -> float:
        red, green, blue = (int(shade[i : i + 2], 16) for i in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    found = [luminance(style.shade(k, 12)) for k in range(12)]
    assert found == sorted(found) and style.shade(0, 12) == style.SHADES[0]


@pytest.mark.parametrize("values", [(0.0, 500.0), (500.0, 0.0), (0.0, 2e-5), (0.0, 0.0, 3.0)])
def test_an_amplitude_of_zero_lies_at_the_bottom_of_its_panel(values):
    axes = Figure().subplots()
    found = [(k, Constant(value, 0.0, 2 * value)) for k, value in enumerate(values)]
    constants._estimates(axes, found, len(values), logarithmic=True)
    bottom, top = axes.get_ylim()
    points = {float(x): y for line in axes.lines if line.get_marker() != "None"
              for x, y in zip(*line.get_data(), strict=True)}  # fmt: skip
    positive = [value for value in values if value > 0]
    assert bottom == min(positive) / 100 and top >= 2 * max(positive)
    assert [points[k] for k in range(len(values))] == [v if v > 0 else bottom for v in values]


def test_an_interval_without_an_end_reaches_the_axis_end():
    axes = Figure().subplots()
    found = [(0, Constant(5.0, None, 7.0)), (1, Constant(5.0, 2.0, None))]
    constants._estimates(axes, found, 2, logarithmic=True)
    bars = [line.get_ydata() for line in axes.lines if line.get_marker() == "None"]
    assert bars[0][0] == axes.get_ylim()[0] and bars[1][1] == axes.get_ylim()[1]


def test_a_negative_amplitude_is_not_drawn_as_zero():
    axes = Figure().subplots()
    constants._estimates(axes, [(0, Constant(-3.0, -4.0, -2.0)), (1, Constant(1.0, 0.5, 2.0))], 2,
                         logarithmic=True)  # fmt: skip
    assert axes.get_yscale() == "linear"
    assert -3.0 in [y for line in axes.lines for y in line.get_ydata()]


def brute_force(rates: list[float]) -> list[float]:
    """Groups of one model from the lowest rate on, each no wider than .01."""
    found, group = {}, []
    for rate in [*sorted(rates), 9.0]:
        if group and rate > group[0] + 0.01 + 1e-9:
            found |= dict.fromkeys(group, sum(group) / len(group))
            group = []
        group.append(rate)
    return [found[rate] for rate in rates]


def test_rates_are_matched_model_by_model_in_groups_of_bounded_width():
    a = [0.10, 0.118, 0.109, 0.30, 0.29, 0.127]
    b = [0.10, 0.119]
    table = pd.DataFrame({"model": ["a"] * 6 + ["b"] * 2, "rate": a + b})
    found = matched_rates(table)
    assert found.tolist() == pytest.approx(brute_force(a) + brute_force(b))
    assert found.tolist() == pytest.approx(
        [0.1045, 0.1225, 0.1045, 0.295, 0.295, 0.1225, 0.10, 0.119]
    )
    rng = np.random.default_rng(0)
    many = rng.uniform(0.1, 0.3, 200).tolist()
    found = matched_rates(pd.DataFrame({"model": "m", "rate": many}))
    assert found.tolist() == pytest.approx(brute_force(many))
    width = pd.Series(many).groupby(found).agg(np.ptp)
    assert width.max() <= 0.01 + 1e-9
    two = pd.DataFrame({"family": ["f", "g"], "model": "m", "rate": [0.10, 0.105]})
    assert matched_rates(two).tolist() == [0.10, 0.105]


def test_methods_are_ranked_within_their_kind_and_model():
    rows = [("a", "depth", 0.2, 1.0), ("b", "depth", 0.2, 0.5), ("c", "weights", 0.2, 0.7)]
    rows += [("d", "weights", 0.4, 0.1), ("e", "weights", 0.21, 0.6), ("a", "depth", 0.4, 9.0)]
    table = pd.DataFrame(rows, columns=["method", "prune", "rate", "damage"]).assign(model="m")
    table["matched"] = matched_rates(table)
    # At 0.2, where most methods are; d, which is not there, comes last of its kind.
    assert [method for _, method in pruned.order(table)] == ["e", "c", "d", "b", "a"]
    # A model with large damages does not outvote two with small ones.
    other = [("m", "c", 0.5), ("m", "e", 0.6), ("n", "c", 0.5), ("n", "e", 0.6), ("o", "c", 90.0)]
    many = pd.DataFrame([*other, ("o", "e", 1.0)], columns=["model", "method", "damage"])
    many = many.assign(prune="weights", rate=0.2, matched=0.2)
    assert [method for _, method in pruned.order(many)] == ["c", "e"]


def large(crossed_laws, families: int, sizes: int, methods: int) -> Data:
    """A study of that many, whose laws are all one: it is the layout that counts."""
    parts, fits = [], []
    names = [f"method{k}" for k in range(methods)]
    for f in range(families):
        for name in names:
            grid = simulate.grid(
                [1e6 * 2**k * (1 + 0.1 * f) for k in range(sizes)],
                [0.2, 0.4],
                [1e6, 2e6, 4e6],
                name,
            )
            model = f"f{f}-" + grid["model"]
            parts.append(grid.assign(family=f"family{f}", model=model, Lp=grid["L0"] + 0.5))
            fits += [
                replace(crossed_laws.results.fit("first", "blocks", form), family=f"family{f}",
                        method=name)
                for form in ("p2", "damage_rectified_l0")
            ]  # fmt: skip
    table = pd.concat(parts, ignore_index=True)
    table = simulate.losses(table, "p2", simulate.P2_CONSTANTS, noise=0.001, shared=0.5, seed=0)
    draws = pd.DataFrame({key: [] for key in ("family", "method", "form")})
    results = replace(crossed_laws.results, fits=fits, recipe="", draws=draws)
    return Data(simulate.pruned_models(table), table, Laws(results, table))


def test_panels_are_a_family_and_method_by_that_familys_own_sizes(crossed_laws):
    data = large(crossed_laws, families=2, sizes=4, methods=4)
    with style.context():
        figure, shown = curves.curves(data)
        figure.draw_without_rendering()
    drawn = [axes for axes in figure.axes if axes.axison]
    assert len(figure.axes) == len(drawn) == 2 * 4 * 4
    assert all(axes.lines for axes in drawn)  # none says "no points"
    assert len(shown.groupby(["family", "method", "N0"])) == 2 * 4 * 4
    titles = [axes.get_title() for axes in drawn if axes.get_title()]
    assert len(titles) == 2 * 4
    assert [t.split("\n")[0] for t in titles if "\n" in t] == ["family0", "family1"]
    width, height = figure.get_size_inches()
    for axes in drawn:
        box = (
            axes.get_window_extent().width / figure.dpi,
            axes.get_window_extent().height / figure.dpi,
        )
        assert box[0] > 1.0 and box[1] > 1.0  # inches
    # One family more with other sizes makes the figure longer, not wider.
    with style.context():
        more, _ = curves.curves(large(crossed_laws, families=3, sizes=4, methods=4))
    assert more.get_figwidth() == width and more.get_figheight() > 1.4 * height


def test_tokens_wrap_into_rows_that_can_be_read(crossed_laws):
    data = large(crossed_laws, families=2, sizes=4, methods=4)
    with style.context():
        figure, _ = tokens.tokens(data)
        figure.draw_without_rendering()
    shown = [axes for axes in figure.axes if axes.axison]
    assert len(shown) == 8
    assert min(axes.get_window_extent().width / figure.dpi for axes in shown) > 1.4
    lowest, highest = (f(data.points["D"]) for f in (min, max))
    for axes in shown:
        assert axes.get_ylim() == pytest.approx((lowest / 30, highest * 30))


def test_a_panel_without_points_leaves_its_neighbours_their_ticks():
    figure, axes = style.panels(1, 2, sharey="row")
    axes[0, 0].plot([1, 2], [3.0, 4.0])
    style.empty(axes[0, 1], "none")
    figure.draw_without_rendering()
    assert len(axes[0, 0].get_yticks()) > 2
    assert any(tick.label1.get_visible() for tick in axes[0, 0].yaxis.get_major_ticks())


def test_a_study_of_another_recipe_is_never_mixed_in(crossed_laws):
    """Rows of a second recipe change no number of a figure that rests on the first's."""
    table = simulate.crossed(methods=3)
    both = Data(simulate.pruned_models(table), table, Laws(crossed_laws.results, table))
    one = table[table["recipe"] == "wsd"]
    alone = Data(simulate.pruned_models(one), one, Laws(crossed_laws.results, one))
    results = replace(
        crossed_laws.results,
        fits=[f for f in crossed_laws.results.fits if f.method in simulate.METHODS[:3]],
    )
    for data in (both, alone):
        data.laws.results = results
    assert curves.curves(both)[1].equals(curves.curves(alone)[1])
    assert both.recipes == ["wsd", "read"] and alone.recipes == ["wsd"]
