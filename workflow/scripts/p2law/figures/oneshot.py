"""The figure of pruned models: what each method costs in loss before any post-training."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from p2law.figures import style
from p2law.figures.data import Data
from p2law.tables.oneshot import matched_rates

KINDS = {"weights": "weights", "depth": "blocks", "width": "rows and columns"}
COLUMNS = ["family", "model", "method", "settings", "rate", "matched", "L0", "Lp", "damage"]
COLUMNS += ["damage_se"]


def oneshot(data: Data) -> tuple[Figure, pd.DataFrame]:
    """A panel a model, a line a method (best first within its kind), a point a variant.

    x: damage Lp - L0 with its paired standard error, logarithmic where all are positive. Points of
    one shade and marker have about the same achieved rate, and may be compared; the number is that
    of the rate at which most methods were tried.
    """
    table = data.oneshot
    table = table.assign(matched=matched_rates(table["rate"].tolist()))
    levels = sorted(table["matched"].unique())
    lines = order(table)
    models = list(dict.fromkeys(table.sort_values("N0")["model"]))
    figure, axes = style.panels(1, len(models), height=0.17 * len(lines) + 0.9, sharey=True)
    for panel, model in zip(axes[0], models, strict=True):
        here = table[table["model"] == model]
        _panel(panel, here, lines, levels)
        panel.set_title(f"{model}: L0 {here['L0'].iloc[0]:.3f}")
        panel.set_xlabel("damage Lp - L0, nats per token")
    axes[0, 0].set_yticks(range(len(lines)), [method for _, method in lines])
    axes[0, 0].set_ylim(len(lines) - 0.5, -0.5)
    handles = [
        Line2D([], [], label=f"{rate:.1%}", **_look(k, len(levels)))
        for k, rate in enumerate(levels)
    ]
    figure.legend(
        handles=handles, title="parameters removed", loc="outside lower center",
        ncols=min(len(levels), 8),
    )  # fmt: skip
    return figure, table[COLUMNS]


def order(table: pd.DataFrame) -> list[tuple[str, str]]:
    """(kind, method) from above: kinds as declared, then by damage at the most common rate.

    A method without that rate goes after those that have it.
    """
    common = table.groupby("matched")["method"].nunique().idxmax()
    ranks = {}
    for method, rows in table.groupby("method"):
        at = rows[rows["matched"] == common]
        known = at if len(at) else rows
        kind = list(KINDS).index(rows["prune"].iloc[0])
        ranks[method] = (kind, not len(at), known["damage"].mean(), method)
    kinds = list(KINDS)
    return [(kinds[rank[0]], method) for method, rank in sorted(ranks.items(), key=lambda i: i[1])]


def _panel(
    panel: Axes, here: pd.DataFrame, lines: list[tuple[str, str]], levels: list[float]
) -> None:
    """One model's points, those at its most common rate with their numbers."""
    common = here.groupby("matched")["method"].nunique().idxmax()
    places = {method: i for i, (_, method) in enumerate(lines)}
    for k, level in enumerate(levels):
        at = here[here["matched"] == level]
        panel.errorbar(
            at["damage"], at["method"].map(places), xerr=at["damage_se"], elinewidth=0.8,
            **_look(k, len(levels)),
        )  # fmt: skip
    for row in here[here["matched"] == common].itertuples():
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
    marker = style.MARKERS[k % len(style.MARKERS)]
    color = style.shade(count - 1 - k, count)
    return {"marker": marker, "color": color, "linestyle": "", "markersize": 4}
