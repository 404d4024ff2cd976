"""The figure of pruned models: what each method costs in loss before any post-training."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import offset_copy

from p2law.figures import style
from p2law.figures.data import Data
from p2law.tables.matching import matched_rates

KINDS = {"weights": "weights", "depth": "blocks", "width": "rows and columns"}
COLUMNS = ["family", "model", "method", "settings", "rate", "matched", "L0", "Lp", "damage"]
COLUMNS += ["damage_se"]
BELOW, COLUMNS_BELOW = 0.42, 3
"""Inches from a panel to its legend below the axis' label, and the columns of it."""


def pruned(data: Data) -> tuple[Figure, pd.DataFrame]:
    """A panel a model, a line a method (best first within its kind), a point a variant.

    x: damage Lp - L0 with its paired standard error, logarithmic where all are positive. Points of
    one shade and marker have about the same achieved rate in their model, which its legend tells,
    and may be compared; the number is that of the rate at which most methods were tried.
    """
    table = data.oneshot.assign(matched=matched_rates(data.oneshot))
    lines = order(table)
    models = list(table.sort_values("N0").groupby(["family", "model"], sort=False))
    models.sort(key=lambda item: list(dict.fromkeys(table["family"])).index(item[0][0]))
    levels = table.groupby(["family", "model"])["matched"].nunique().max()
    height = 0.17 * len(lines) + 1.1 + style.LINE * math.ceil(levels / COLUMNS_BELOW)
    figure, panels = style.wrapped(len(models), height=height, sharey=True)
    for panel, ((family, model), here) in zip(panels, models, strict=True):
        _panel(panel, here, lines)
        above = f"{family}, " if table["family"].nunique() > 1 else ""
        panel.set_title(f"{above}{model}: L0 {here['L0'].iloc[0]:.3f}")
        panel.set_xlabel("damage Lp - L0, nats per token")
    panels[0].set_yticks(range(len(lines)), [method for _, method in lines])
    panels[0].set_ylim(len(lines) - 0.5, -0.5)
    return figure, table[COLUMNS]


def common_rate(table: pd.DataFrame) -> float:
    """The group of rates at which most methods were tried."""
    return table.groupby("matched")["method"].nunique().idxmax()


def order(table: pd.DataFrame) -> list[tuple[str, str]]:
    """(kind, method) from above: kinds as declared, then by place at each model's most common rate.

    A place is a rank inside one model, averaged over models: damages of two tokenizers are not
    compared. A method without that rate goes after those that have it, by its mean damage.
    """
    keys = [column for column in ("family", "model") if column in table]
    common = [rows[rows["matched"] == common_rate(rows)] for _, rows in table.groupby(keys)]
    places = pd.concat(rows.assign(place=rows["damage"].rank()) for rows in common)
    places = places.groupby("method")["place"].mean()
    kinds, ranks = list(KINDS), {}
    for method, rows in table.groupby("method"):
        place = places.get(method)
        by = (place is None, rows["damage"].mean() if place is None else place)
        ranks[method] = (kinds.index(rows["prune"].iloc[0]), *by, method)
    return [(kinds[rank[0]], method) for method, rank in sorted(ranks.items(), key=lambda i: i[1])]


def _panel(panel: Axes, here: pd.DataFrame, lines: list[tuple[str, str]]) -> None:
    """One model's points, those at its most common rate with their numbers."""
    places = {method: i for i, (_, method) in enumerate(lines)}
    levels = sorted(here["matched"].unique())
    for k, level in enumerate(levels):
        at = here[here["matched"] == level]
        panel.errorbar(
            at["damage"], at["method"].map(places), xerr=at["damage_se"], elinewidth=0.8,
            **_look(k, len(levels)),
        )  # fmt: skip
    for row in here[here["matched"] == common_rate(here)].itertuples():
        panel.annotate(
            f"{row.damage:.3f}", (row.damage, places[row.method]), xytext=(5, 1.5),
            textcoords="offset points", fontsize=6, color="0.3",
        )  # fmt: skip
    if (here["damage"] > 0).all():
        panel.set_xscale("log")
        _plain_ticks(panel, here["damage"])
    else:
        panel.axvline(0, color="0.4", linewidth=0.8, linestyle=(0, (1, 2)))
    panel.margins(x=0.12)
    panel.grid(axis="y", color="0.94")
    _part_kinds(panel, [kind for kind, _ in lines])
    handles = [
        Line2D([], [], label=f"{level:.1%}", **_look(k, len(levels)))
        for k, level in enumerate(levels)
    ]
    below = offset_copy(panel.transAxes, panel.figure, y=-BELOW, units="inches")
    panel.legend(
        handles=handles, title="parameters removed", loc="upper center", ncols=COLUMNS_BELOW,
        fontsize=6, title_fontsize=6, bbox_to_anchor=(0.5, 0.0), bbox_transform=below,
        columnspacing=0.8, handletextpad=0.1, borderaxespad=0.0,
    )  # fmt: skip


def _part_kinds(panel: Axes, kinds: list[str]) -> None:
    """A line between kinds of pruning, and at the right what goes, where its word has room."""
    for i, kind in enumerate(kinds):
        if i and kinds[i - 1] != kind:
            panel.axhline(i - 0.5, color="0.6", linewidth=0.8)
        if kinds.index(kind) == i and 4 * kinds.count(kind) > len(KINDS[kind]):
            panel.text(
                1.0, i, KINDS[kind], transform=panel.get_yaxis_transform(), rotation=270,
                va="top", fontsize=6, color="0.3", clip_on=False,
            )  # fmt: skip


def _plain_ticks(panel: Axes, values: pd.Series) -> None:
    """Ticks at 1, 2 and 5 of each decade, written as plain numbers."""
    low, high = values.min() / 1.2, values.max() * 1.2
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = [t for d in decades for t in (d, 2 * d, 5 * d) if low <= t <= high]
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()


def _look(k: int, count: int) -> dict[str, Any]:
    """Marker and shade of the k-th of so many rates: the more is removed, the darker."""
    marker = style.look(k, count)["marker"]
    color = style.shade(count - 1 - k, count)
    return {"marker": marker, "color": color, "linestyle": "", "markersize": 4}
