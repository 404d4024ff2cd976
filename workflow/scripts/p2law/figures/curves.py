"""The figure of runs: loss against post-training tokens, measured and fitted."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from p2law.figures import style
from p2law.figures.data import Data, Group
from p2law.laws.forms import registry
from p2law.laws.forms.form import columns_needed
from p2law.laws.rows import POOLED

BASE = {"color": "0.4", "linewidth": 0.8, "linestyle": (0, (1, 2))}
"""How the unpruned model's loss is drawn."""


def curves(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Loss against D: a row a family and method, a panel each of that family's sizes, a shade a
    rate; points measured, a line each headline law. Panels of one size share their loss axis.
    """
    groups = data.groups
    models = {family: _models(data, family) for family in data.families}
    columns = max(map(len, models.values()))
    figure, axes = style.panels(len(groups), columns, height=1.75, sharex=True)
    rows = []
    for i, (line, group) in enumerate(zip(axes, groups, strict=True)):
        family, method = group
        first = next(k for k, (other, _) in enumerate(groups) if other == family)
        points = data.runs_of(*group)
        for panel in line[len(models[family]) :]:
            panel.set_axis_off()
        for j, (size, model) in enumerate(models[family].items()):
            panel, here = axes[i, j], points[points["N0"] == size]
            if i == first:
                above = f"{family}\n" if j == 0 and len(data.families) > 1 else ""
                panel.set_title(f"{above}{model}: {style.count(size)} parameters")
            else:
                panel.sharey(axes[first, j])
            if i + 1 == len(groups) or groups[i + 1][0] != family:
                panel.set_xlabel("post-training tokens D")
                panel.tick_params(labelbottom=True)
            if here.empty:
                style.empty(panel, "no points")
            else:
                rows += _panel(panel, data, group, here)
        line[0].set_ylabel(f"{method}\nloss, nats per token")
    handles = [
        Line2D([], [], color="k", linestyle=_dash(form), label=registry.get(form).title)
        for form in registry.HEADLINE
    ]
    style.legend_below(figure, [*handles, Line2D([], [], label="L0, not pruned", **BASE)])
    return figure, pd.DataFrame(rows)


def _models(data: Data, family: str) -> dict[float, str]:
    """The family's sizes, rising, and their models."""
    points = data.runs_of(family, POOLED)
    return dict(points.sort_values("N0").drop_duplicates("N0")[["N0", "model"]].values)


def _dash(form: str) -> Any:
    return style.DASHES[registry.HEADLINE.index(form) % len(style.DASHES)]


def _panel(panel: Axes, data: Data, group: Group, here: pd.DataFrame) -> list[dict[str, Any]]:
    """One size's runs; those of several seeds at one rate are points of one series."""
    rows = []
    rates = list(here.groupby("rho", sort=True))
    for k, (rho, runs) in enumerate(rates):
        look = style.look(k, max(len(rates), 2))
        runs = runs.sort_values("D")
        panel.semilogx(runs["D"], runs["loss"], markersize=3.5, label=f"ρ {rho:.2f}", **look)
        rows += _series(group, runs, "measured", runs)
        dense = np.geomspace(runs["D"].min(), runs["D"].max(), 60)
        line = pd.DataFrame([runs.iloc[0]] * len(dense)).assign(D=dense)
        for form in registry.HEADLINE:
            fit = data.fit(*group, form)
            if fit is None or ("Lp" in columns_needed(registry.get(form)) and not _hurt(runs)):
                continue
            line = line.assign(loss=data.predict(fit, line))
            panel.plot(dense, line["loss"], color=look["color"], linestyle=_dash(form), linewidth=1)
            rows += _series(group, runs, form, line)
    budgets = np.sort(here["D"].unique())
    style.log_ticks(panel, budgets if len(budgets) <= 6 else budgets[:: len(budgets) // 5])
    panel.axhline(here["L0"].iloc[0], **BASE)
    panel.legend(handlelength=0.6, borderaxespad=0.1, labelspacing=0.2)
    return rows


def _hurt(runs: pd.DataFrame) -> bool:
    return "Lp" in runs and bool((runs["Lp"] > runs["L0"]).all())


def _series(
    group: Group, runs: pd.DataFrame, series: str, points: pd.DataFrame
) -> list[dict[str, Any]]:
    """A row a point; measured ones name their run, a law's line stands for all seeds' runs."""
    first = runs.iloc[0]
    base = {"family": group[0], "method": group[1], "model": first["model"], "N0": first["N0"]}
    base |= {"rho": first["rho"], "series": series}
    return [
        base | {"run": run if series == "measured" else "", "D": d, "loss": loss}
        for run, d, loss in zip(points["run"], points["D"], points["loss"], strict=True)
    ]
