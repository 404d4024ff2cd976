"""Figures of runs: loss curves with their fits, and predicted against measured losses."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from p2law.figures import style
from p2law.figures.data import LAWS, TITLES, Data

SHOWN = tuple(zip(LAWS, ("-", (0, (3, 1.5))), strict=True))


def curves(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Loss against D: a panel a method and size, a shade a rate, P² solid, damage law dashed."""
    groups = data.groups
    sizes = sorted(data.points["N0"].unique())
    figure, axes = style.panels(len(groups), len(sizes), height=1.75, sharex=True, sharey="col")
    rows = []
    for i, (family, method) in enumerate(groups):
        points = data.runs_of(family, method)
        for j, size in enumerate(sizes):
            panel, here = axes[i, j], points[points["N0"] == size]
            if here.empty:
                style.empty(panel, "no points")
                continue
            rows += _curves_panel(panel, data, (family, method), here)
            budgets = np.sort(here["D"].unique())
            shown = budgets if len(budgets) <= 6 else budgets[:: len(budgets) // 5]
            style.log_ticks(panel, shown)
            panel.axhline(here["L0"].iloc[0], color="0.4", linewidth=0.8, linestyle=(0, (1, 2)))
            if i == 0:
                panel.set_title(f"{here['model'].iloc[0]}: {style.count(size)} parameters")
            if i == len(groups) - 1:
                panel.set_xlabel("post-training tokens D")
        axes[i, 0].set_ylabel(f"{method}\nloss, nats per token")
    handles = [
        Line2D([], [], color="k", linestyle=dash, label=TITLES[form]) for form, dash in SHOWN
    ]
    handles.append(Line2D([], [], color="0.4", linestyle=(0, (1, 2)), label="L0, not pruned"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure, pd.DataFrame(rows)


def _curves_panel(panel, data: Data, group: tuple[str, str], here: pd.DataFrame) -> list[dict]:
    rows = []
    runs = list(here.groupby("rho", sort=True))
    for k, (rho, run) in enumerate(runs):
        color, run = style.shade(k, max(len(runs), 2)), run.sort_values("D")
        marker = style.MARKERS[k % len(style.MARKERS)]
        panel.semilogx(
            run["D"], run["loss"], marker, color=color, markersize=3.5, label=f"ρ {rho:.2f}"
        )
        rows += _series(group, run, "measured", run["D"], run["loss"])
        dense = np.geomspace(run["D"].min(), run["D"].max(), 60)
        line = pd.DataFrame([run.iloc[0]] * len(dense)).assign(D=dense)
        for form, dash in SHOWN:
            fit = data.fit(*group, form)
            if fit is None or ("damage" in form and not _hurt(run)):
                continue
            loss = data.predict(fit, line)
            panel.plot(dense, loss, color=color, linestyle=dash, linewidth=1.0)
            rows += _series(group, run, form, dense, loss)
    panel.legend(handlelength=0.6, borderaxespad=0.1, labelspacing=0.2)
    return rows


def _hurt(run: pd.DataFrame) -> bool:
    return "Lp" in run and bool((run["Lp"] > run["L0"]).all())


def _series(group, run: pd.DataFrame, series: str, d, loss) -> list[dict]:
    first = run.iloc[0]
    base = {"family": group[0], "method": group[1], "model": first["model"], "run": first["run"]}
    base |= {"N0": first["N0"], "rho": first["rho"], "series": series}
    return [
        base | {"D": x, "loss": y} for x, y in zip(np.asarray(d), np.asarray(loss), strict=True)
    ]


def predicted(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Predicted against measured, methods by marker; the grey band is 1 % either side."""
    table = data.predictions
    table = table[(table["split"] == "fit") & (table["method"] != "all")]
    shown = [form for form, _ in SHOWN if (table["form"] == form).any()]
    figure, axes = style.panels(1, max(len(shown), 1), height=3.2, sharex=True, sharey=True)
    methods = sorted(table["method"].unique())
    for panel, form in zip(axes[0], shown, strict=False):
        rows = table[table["form"] == form]
        ends = np.array([table["loss"].min() * 0.99, table["loss"].max() * 1.01])
        panel.fill_between(ends, ends * 0.99, ends * 1.01, color=style.BAND, linewidth=0)
        panel.plot(ends, ends, color="0.4", linewidth=0.8)
        for k, method in enumerate(methods):
            at = rows[rows["method"] == method]
            panel.plot(
                at["loss"], at["predicted"], style.MARKERS[k], color=style.shade(k, len(methods)),
                markersize=3.5, markerfacecolor="none", label=method,
            )  # fmt: skip
        error = 100 * rows["error"].abs().mean()
        panel.set_title(f"{TITLES[form]}, one law a method: mean error {error:.2f} %")
        panel.set_xlabel("measured loss, nats per token")
    axes[0, 0].set_ylabel("predicted loss, nats per token")
    if shown:
        axes[0, 0].legend(title="method")
    else:
        style.empty(axes[0, 0], "no law could be fitted")
    kept = ["family", "method", "form", "run", "N0", "rho", "D", "loss", "predicted", "error"]
    return figure, table.loc[table["form"].isin(shown), kept]
