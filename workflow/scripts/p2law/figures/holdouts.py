"""Figures of errors: residuals, the hold-outs with their intervals, and all forms side by side."""

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from p2law.figures import style
from p2law.figures.data import LAWS, TITLES, Data
from p2law.laws.judging.splits import ORDERED, SPLITS


def residuals(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Relative residuals against log D, log N0 and the rate: P² above, the damage law below."""
    table = data.predictions
    table = table[(table["split"] == "fit") & (table["method"] != "all")]
    shown = [form for form in LAWS if (table["form"] == form).any()]
    figure, axes = style.panels(max(len(shown), 1), 3, height=2.3, sharey=True)
    methods = sorted(table["method"].unique())
    for row, form in zip(axes, shown, strict=False):
        for panel, (column, label) in zip(
            row, [("D", "tokens D"), ("N0", "parameters N0"), ("rho", "rate ρ")], strict=True
        ):
            panel.axhspan(-1, 1, color=style.BAND, linewidth=0)
            panel.axhline(0, color="0.4", linewidth=0.8)
            for k, method in enumerate(methods):
                at = table[(table["form"] == form) & (table["method"] == method)]
                panel.plot(
                    at[column], 100 * at["error"], style.MARKERS[k], markerfacecolor="none",
                    color=style.shade(k, len(methods)), markersize=3.5, label=method,
                )  # fmt: skip
            if column != "rho":
                values = np.sort(table[column].unique())
                style.log_ticks(panel, values[:: max(1, len(values) // 5)])
            panel.set_xlabel(label)
        row[0].set_ylabel(f"{TITLES[form]}\npredicted / measured - 1, %")
    if shown:
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(handles))
    else:
        style.empty(axes[0, 0], "no law could be fitted")
    kept = ["family", "method", "form", "run", "N0", "rho", "D", "error"]
    return figure, table.loc[table["form"].isin(shown), kept]


def holdouts(data: Data) -> tuple[Figure, pd.DataFrame]:
    """The three ordered splits and the unseen method: measured against predicted with intervals.

    Errors in % against the measured loss, a bar the 95 % interval of a measured loss.
    """
    table = data.predictions
    splits = [*ORDERED, "leave-one-method"]
    table = table[table["split"].isin(splits) & table["form"].isin(LAWS)]
    table = table[(table["method"] != "all") | (table["split"] == "leave-one-method")]
    figure, axes = style.panels(len(LAWS), len(splits), height=2.0, sharey="row")
    titles = {
        "budget": "last 20 % of budgets", "size": "largest size", "rate": "highest rate",
        "leave-one-method": "a method never seen",
    }  # fmt: skip
    methods = sorted(data.points["method"].unique())
    for i, form in enumerate(LAWS):
        for j, split in enumerate(splits):
            rows = table[(table["form"] == form) & (table["split"] == split)]
            _holdout_panel(axes[i, j], rows, methods)
            above = f"{titles[split]}\n" if i == 0 else ""
            axes[i, j].set_title(above + _in_words(rows), fontsize=7)
            if i == len(LAWS) - 1:
                axes[i, j].set_xlabel("measured loss, nats")
        axes[i, 0].set_ylabel(f"{TITLES[form]}\npredicted / measured - 1, %")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(handles))
    kept = ["family", "method", "point_method", "form", "split", "held", "run", "N0", "rho", "D"]
    return figure, table[[*kept, "loss", "predicted", "low", "high", "error"]]


def _holdout_panel(panel, rows: pd.DataFrame, methods: list[str]) -> None:
    if rows.empty:
        style.empty(panel, "not possible\nwith this grid")
        return
    panel.axhspan(-1, 1, color=style.BAND, linewidth=0)
    panel.axhline(0, color="0.4", linewidth=0.8)
    for k, method in enumerate(methods):
        at = rows[rows["point_method"] == method]
        if at.empty:
            continue
        below = 100 * (at["predicted"] - at["low"]).clip(lower=0) / at["loss"]
        above = 100 * (at["high"] - at["predicted"]).clip(lower=0) / at["loss"]
        panel.errorbar(
            at["loss"], 100 * at["error"], yerr=[below, above], fmt=style.MARKERS[k],
            color=style.shade(k, len(methods)), markersize=3.5, markerfacecolor="white",
            elinewidth=0.4, label=method,
        )  # fmt: skip
    panel.margins(x=0.08)
    top = 130 * rows["error"].abs().max() + 1
    panel.set_ylim(-top, top)


def _in_words(rows: pd.DataFrame) -> str:
    """Mean error, and the share of losses inside their interval."""
    if rows.empty:
        return ""
    mean = f"mean {100 * rows['error'].abs().mean():.2f} %"
    if rows["low"].isna().any():
        return mean
    inside = rows["loss"].between(rows["low"], rows["high"]).mean()
    return f"{mean}, {100 * inside:.0f} % inside"


def comparison(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Mean held-out error of every form (%), a column a split: light is better."""
    held = data.holdouts
    if held.empty:
        figure, axes = style.panels(1, 1)
        style.empty(axes[0, 0], "no hold-out is possible with this grid")
        return figure, held
    held = held.assign(sum=held["mean_abs_rel_error"] * held["points"])
    single = held[held["method"] != "all"].groupby(["form", "split"])[["sum", "points"]].sum()
    pooled = held[held["method"] == "all"].groupby(["form", "split"])[["sum", "points"]].sum()
    columns = [s for s in SPLITS if s in set(held["split"])]
    parts = [
        (100 * part["sum"] / part["points"]).unstack("split").reindex(columns=columns)
        for part in (single, pooled)
    ]
    forms = sorted(set(parts[0].index) | set(parts[1].index), key=lambda f: _rank(parts, f))
    figure, axes = style.panels(1, 2, height=0.21 * len(forms) + 1.0, sharey=True)
    figure.suptitle("mean absolute held-out error, %", fontsize=8)
    rows = []
    for panel, part, title in zip(
        axes[0], parts, ["one law a method", "one law over all methods"], strict=True
    ):
        values = part.reindex(forms)
        panel.grid(False)
        image = values.to_numpy(dtype=float)
        panel.imshow(
            image, aspect="auto", cmap="cividis_r", norm=LogNorm(0.2, 10), interpolation="nearest"
        )
        for (i, j), value in np.ndenumerate(image):
            if np.isfinite(value):
                panel.text(
                    j, i, f"{value:.2g}", ha="center", va="center", fontsize=7,
                    color="white" if value > 1.8 else "black",
                )  # fmt: skip
        panel.set_xticks(range(len(columns)), columns, rotation=35, ha="right")
        panel.set_yticks(range(len(forms)), forms)
        panel.set_title(title)
        stacked = values.stack().rename("mean_abs_rel_error_percent").reset_index()
        rows.append(stacked.assign(laws=title))
    return figure, pd.concat(rows, ignore_index=True)


def _rank(parts: list[pd.DataFrame], form: str) -> float:
    """Forms are listed from the best geometric mean over all splits that they were asked for."""
    values = np.concatenate([p.loc[form].dropna() for p in parts if form in p.index])
    return float(np.log(values).mean()) if len(values) else np.inf
