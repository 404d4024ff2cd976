"""The figure a study is made for: how much post-training data each rate and size deserves."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from p2law.figures import style
from p2law.figures.data import Data, Group
from p2law.laws.deciding.curves import curve, for_marginal
from p2law.laws.forms import registry

RATES = 25
"""Rates at which each line is computed."""
AROUND = 30.0
"""Answers are shown up to this factor outside the measured budgets."""


def tokens(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Tokens at which a further 1e6 save less than tau, against rate; a panel a family and method,
    a line a size.

    tau is where the law's slope stands at the middle of the panel's runs (geometric means of size,
    rate and budget), so that answers lie near what was measured; the grey band is the measured
    budgets. Shading around a line is the 95 % run-level interval.
    """
    groups = [g for g in data.groups if _rates(data, g) >= 2 and data.fit(*g, registry.P2)]
    figure, panels = style.wrapped(len(groups), most=3, height=2.6, sharey=True)
    rows: list[dict[str, Any]] = []
    for panel, group in zip(panels, groups, strict=False):
        rows += _panel(panel, data, group)
        panel.set_ylim(data.points["D"].min() / AROUND, data.points["D"].max() * AROUND)
        if panel.get_subplotspec().is_first_col():
            panel.set_ylabel("tokens D*")
    if not groups:
        style.empty(panels[0], "no method has two rates and a converged P² law")
    return figure, pd.DataFrame(rows)


def _rates(data: Data, group: Group) -> int:
    return int(data.runs_of(*group).groupby("N0")["rho"].nunique().max())


def _panel(panel: Axes, data: Data, group: Group) -> list[dict[str, Any]]:
    fit, points, form = (
        data.fit(*group, registry.P2),
        data.runs_of(*group),
        registry.get(registry.P2),
    )
    draws = data.laws.draws(fit)
    middle = np.exp(np.log(points[["N0", "rho", "D"]]).mean())
    at = {"N0": middle["N0"], "rho": middle["rho"], "L0": 1.0}  # tokens do not depend on L0
    tau = float(curve(form, fit.values, at).slope(np.log([middle["D"]]))[0, 0])
    panel.axhspan(points["D"].min(), points["D"].max(), color=style.BAND, linewidth=0)
    rows = []
    sizes = sorted(points["N0"].unique())
    rates = np.linspace(points["rho"].min(), points["rho"].max(), RATES)
    for k, size in enumerate(sizes):
        answers = []
        for rho in rates:
            asked = {"N0": size, "rho": rho, "L0": 1.0}
            d = float(for_marginal(curve(form, fit.values, asked), tau)[0])
            low, high = d, d
            if draws:
                drawn = for_marginal(curve(form, draws, asked), tau)
                low, high = data.laws.interval(fit, d, drawn)
            answers.append((d, low, high))
            rows.append(
                {"family": group[0], "method": group[1], "N0": size, "rho": rho,
                 "tau_nats_per_1e6_tokens": tau * 1e6, "D": d, "low": low, "high": high}
            )  # fmt: skip
        d, low, high = np.clip(np.array(answers).T, 1.0, 1e18)  # an end may be infinite
        look = style.look(k, len(sizes), line=True)
        panel.fill_between(rates, low, high, color=look["color"], alpha=0.15, linewidth=0)
        panel.semilogy(rates, d, label=style.count(size), **look)
    panel.set_xlabel("pruning rate ρ")
    panel.set_title(f"{data.label(*group)}: next 1e6 tokens\nsave < {tau * 1e6:.2g} nats")
    panel.legend(title="parameters N0")
    return rows
