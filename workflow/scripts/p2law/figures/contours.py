"""Iso-loss contours: which pairs of model size and post-training tokens end at the same loss."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from p2law.figures import style
from p2law.figures.data import Data, Group
from p2law.laws.forms import registry


def contours(data: Data) -> tuple[Figure, pd.DataFrame]:
    """P² loss over (D, N0): a row a family and method, a panel a rate; L0 interpolated in log N0.

    Drawn inside the measured sizes and budgets (times 4 in D), since outside nothing is known.
    """
    groups = [g for g in data.groups if data.fit(*g, registry.P2)]
    rates = [_rates(data, group) for group in groups]
    figure, axes = style.panels(
        max(len(groups), 1), max(map(len, rates), default=1), height=1.75, sharex=True, sharey="row"
    )
    rows = []
    for line, group, shown in zip(axes, groups, rates, strict=False):
        points = data.runs_of(*group)
        for panel, rho in zip(line, shown, strict=False):
            rows += _panel(panel, data, group, points, rho)
            panel.set_title(f"{data.label(*group)}, ρ = {rho:.2f}")
        for panel in line[len(shown) :]:
            panel.set_axis_off()
        line[0].set_ylabel("parameters N0")
    for panel in axes[-1]:
        panel.set_xlabel("post-training tokens D")
    if not groups:
        style.empty(axes[0, 0], "no converged P² law")
    return figure, pd.DataFrame(rows)


def _rates(data: Data, group: Group) -> list[float]:
    """The rates of the group's smallest model, which has the coarsest ones."""
    points = data.runs_of(*group)
    return sorted(points.loc[points["N0"] == points["N0"].min(), "rho"].unique())


def _panel(
    panel: Axes, data: Data, group: Group, points: pd.DataFrame, rho: float
) -> list[dict[str, Any]]:
    known = points.groupby("N0")["L0"].first().sort_index()
    sizes = np.geomspace(known.index.min(), known.index.max(), 30)
    budgets = np.geomspace(points["D"].min(), 4 * points["D"].max(), 40)
    d, n = np.meshgrid(budgets, sizes)
    # L0 is measured at the study's sizes only: between them straight in log-log.
    base = np.exp(np.interp(np.log(n), np.log(known.index), np.log(known.to_numpy())))
    rows = pd.DataFrame({"D": d.ravel(), "N0": n.ravel(), "L0": base.ravel(), "rho": rho})
    loss = data.predict(data.fit(*group, registry.P2), rows)
    if len(known) > 1:
        drawn = panel.contour(d, n, loss.reshape(d.shape), levels=8, colors="k", linewidths=0.8)
        panel.clabel(drawn, fontsize=6, fmt="%.2f")
        panel.set_yscale("log")
    else:
        panel.plot(budgets, np.full_like(budgets, sizes[0]), color="k")
    panel.set_xscale("log")
    panel.axvspan(budgets[0], points["D"].max(), color=style.BAND, linewidth=0, zorder=0)
    ticks = list(known.index)
    panel.set_yticks(ticks, [style.count(t) for t in ticks])
    panel.minorticks_off()
    return rows.assign(loss=loss, family=group[0], method=group[1]).to_dict("records")
