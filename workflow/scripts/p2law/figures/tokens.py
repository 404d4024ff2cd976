"""The figure a study is made for: how much post-training data each rate and size deserves."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from p2law.figures import style
from p2law.figures.data import Data
from p2law.laws.deciding.answers import curve, for_marginal
from p2law.laws.forms import registry


def tokens(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Tokens at which a further 1e6 save less than tau, against rate; a line a size.

    tau is where the law's slope stands at the middle of the study (geometric means of size, rate
    and budget), so that answers lie near what was measured; the grey band is the measured budgets.
    Shading around a line is the 95 % run-level interval.
    """
    groups = [g for g in data.groups if _rates(data, g) >= 2 and data.fit(*g, "p2")]
    figure, axes = style.panels(1, max(len(groups), 1), height=2.8, sharey=True)
    rows: list[dict] = []
    for panel, group in zip(axes[0], groups, strict=False):
        rows += _panel(panel, data, group)
    if groups:
        axes[0, 0].set_ylabel("tokens D*")
        axes[0, 0].legend(title="parameters N0")
    else:
        style.empty(axes[0, 0], "no method has two rates and a converged P² law")
    return figure, pd.DataFrame(rows)


def _rates(data: Data, group: tuple[str, str]) -> int:
    return int(data.runs_of(*group).groupby("N0")["rho"].nunique().max())


def _panel(panel, data: Data, group: tuple[str, str]) -> list[dict]:
    fit, points, form = data.fit(*group, "p2"), data.runs_of(*group), registry.get("p2")
    best = data.constants(fit)
    chosen = data.draws.query("family == @group[0] and method == @group[1] and form == 'p2'")
    draws = {name: chosen[name].to_numpy() for name in best if name in chosen}
    middle = np.exp(np.log(points[["N0", "rho", "D"]]).mean())
    at = {"N0": middle["N0"], "rho": middle["rho"], "L0": 1.0}
    tau = float(curve(form, best, at).slope(np.log([middle["D"]]))[0, 0])
    panel.axhspan(points["D"].min(), points["D"].max(), color=style.BAND, linewidth=0)
    rows = []
    sizes = sorted(points["N0"].unique())
    rates = np.linspace(points["rho"].min(), points["rho"].max(), 25)
    for k, size in enumerate(sizes):
        answers = []
        for rho in rates:
            variant = {"N0": size, "rho": rho, "L0": 1.0}
            d = float(for_marginal(curve(form, best, variant), tau)[0])
            low, high = d, d
            if len(chosen):
                spread = for_marginal(curve(form, draws, variant), tau)
                low, high = np.percentile(spread, [2.5, 97.5], method="nearest")
            answers.append((d, low, high))
            rows.append(
                {"family": group[0], "method": group[1], "N0": size, "rho": rho,
                 "tau_nats_per_1e6_tokens": tau * 1e6, "D": d, "low": low, "high": high}
            )  # fmt: skip
        d, low, high = np.array(answers).T
        color = style.shade(k, len(sizes))
        dash = style.DASHES[k % len(style.DASHES)]
        panel.fill_between(rates, np.maximum(low, 1), high, color=color, alpha=0.15, linewidth=0)
        panel.semilogy(rates, np.maximum(d, 1), color=color, linestyle=dash,
                       label=style.count(size))  # fmt: skip
    panel.set_xlabel("pruning rate ρ")
    panel.set_title(f"{group[1]}: next 1e6 tokens save < {tau * 1e6:.2g} nats")
    limits = points["D"].min() / 30, points["D"].max() * 30
    panel.set_ylim(*limits)
    return rows
