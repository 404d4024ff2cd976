"""Figures of errors: predicted against measured losses, residuals, the hold-outs with their
intervals, and all forms side by side.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from p2law.figures import style
from p2law.figures.data import Data, Group
from p2law.laws.forms import registry
from p2law.laws.judging.metrics import each_point_once
from p2law.laws.judging.splits import ORDERED, SPLITS
from p2law.laws.rows import POOLED

HELD = {
    "budget": "last 20 % of budgets", "size": "largest size", "rate": "highest rate",
    "leave-one-method": "a method never seen",
}  # fmt: skip
"""Splits that are drawn, and what they hold out."""


def _fitted(data: Data) -> tuple[pd.DataFrame, list[str]]:
    """Predictions of the fitted points by each method's own law, and the laws there are."""
    table = data.results.predictions
    table = table[(table["split"] == "fit") & (table["method"] != POOLED)]
    table = table[table["form"].isin(registry.HEADLINE)]
    return table, [form for form in registry.HEADLINE if (table["form"] == form).any()]


def _of(table: pd.DataFrame, group: Group, column: str = "method") -> pd.DataFrame:
    return table[(table["family"] == group[0]) & (table[column] == group[1])]


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend of the series in these panels, each named once."""
    found: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        style.legend_below(figure, list(found.values()))


def predicted(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Predicted against measured, methods by marker; the grey band is 1 % either side."""
    table, shown = _fitted(data)
    figure, axes = style.panels(1, max(len(shown), 1), height=3.2, sharex=True, sharey=True)
    groups = data.groups
    for panel, form in zip(axes[0], shown, strict=False):
        rows = table[table["form"] == form]
        ends = np.array([table["loss"].min() * 0.99, table["loss"].max() * 1.01])
        panel.fill_between(ends, ends * 0.99, ends * 1.01, color=style.BAND, linewidth=0)
        panel.plot(ends, ends, color="0.4", linewidth=0.8)
        for k, group in enumerate(groups):
            at = _of(rows, group)
            panel.plot(
                at["loss"], at["predicted"], markersize=3.5, label=data.label(*group),
                **style.look(k, len(groups), filled=False),
            )  # fmt: skip
        error = 100 * rows["error"].abs().mean()
        title = registry.get(form).title
        panel.set_title(f"{title}, one law a method: mean error {error:.2f} %")
        panel.set_xlabel("measured loss, nats per token")
    axes[0, 0].set_ylabel("predicted loss, nats per token")
    _legend(figure, axes[0])
    if not shown:
        style.empty(axes[0, 0], "no law could be fitted")
    kept = ["family", "method", "form", "run", "N0", "rho", "D", "loss", "predicted", "error"]
    return figure, table[kept]


def residuals(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Relative residuals against log D, log N0 and the rate: a row a headline law."""
    table, shown = _fitted(data)
    figure, axes = style.panels(max(len(shown), 1), 3, height=2.3, sharey=True)
    groups = data.groups
    for row, form in zip(axes, shown, strict=False):
        for panel, (column, label) in zip(
            row, [("D", "tokens D"), ("N0", "parameters N0"), ("rho", "rate ρ")], strict=True
        ):
            _zero(panel)
            for k, group in enumerate(groups):
                at = _of(table[table["form"] == form], group)
                panel.plot(
                    at[column], 100 * at["error"], markersize=3.5, label=data.label(*group),
                    **style.look(k, len(groups), filled=False),
                )  # fmt: skip
            if column != "rho":
                values = np.sort(table[column].unique())
                style.log_ticks(panel, values[:: max(1, len(values) // 5)])
            panel.set_xlabel(label)
        row[0].set_ylabel(f"{registry.get(form).title}\npredicted / measured - 1, %")
    _legend(figure, axes[0])
    if not shown:
        style.empty(axes[0, 0], "no law could be fitted")
    return figure, table[["family", "method", "form", "run", "N0", "rho", "D", "error"]]


def _zero(panel: Axes) -> None:
    """No error, and a band of 1 % either side."""
    panel.axhspan(-1, 1, color=style.BAND, linewidth=0)
    panel.axhline(0, color="0.4", linewidth=0.8)


def holdouts(data: Data) -> tuple[Figure, pd.DataFrame]:
    """The three ordered splits and the unseen method: measured against predicted with intervals.

    Errors in % against the measured loss, a bar the 95 % interval of a measured loss.
    """
    table, forms = data.results.predictions, registry.HEADLINE
    table = table[table["split"].isin(HELD) & table["form"].isin(forms)]
    table = table[(table["method"] != POOLED) | ~table["split"].isin(ORDERED)]
    figure, axes = style.panels(len(forms), len(HELD), height=2.0, sharey="row")
    for i, form in enumerate(forms):
        for j, (split, words) in enumerate(HELD.items()):
            rows = table[(table["form"] == form) & (table["split"] == split)]
            _holdout_panel(axes[i, j], data, rows)
            above = f"{words}\n" if i == 0 else ""
            axes[i, j].set_title(above + _in_words(rows), fontsize=7)
            if i == len(forms) - 1:
                axes[i, j].set_xlabel("measured loss, nats")
        axes[i, 0].set_ylabel(f"{registry.get(form).title}\npredicted / measured - 1, %")
        top = 130 * table.loc[table["form"] == form, "error"].abs().max() + 1
        axes[i, 0].set_ylim(-top, top)  # of the whole row, which shares it
    _legend(figure, list(axes.flat))
    kept = ["family", "method", "point_method", "form", "split", "held", "run", "N0", "rho", "D"]
    return figure, table[[*kept, "loss", "predicted", "low", "high", "error"]]


def _holdout_panel(panel: Axes, data: Data, rows: pd.DataFrame) -> None:
    if rows.empty:
        style.empty(panel, "not possible\nwith this grid")
        return
    _zero(panel)
    for k, group in enumerate(data.groups):
        at = _of(rows, group, "point_method")
        if at.empty:
            continue
        below = 100 * (at["predicted"] - at["low"]).clip(lower=0) / at["loss"]
        above = 100 * (at["high"] - at["predicted"]).clip(lower=0) / at["loss"]
        panel.errorbar(
            at["loss"], 100 * at["error"], yerr=[below, above], markersize=3.5, elinewidth=0.4,
            label=data.label(*group), **style.look(k, len(data.groups), filled=False),
        )  # fmt: skip
    panel.margins(x=0.08)


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
    held = data.results.holdout_table()
    if held.empty:
        figure, axes = style.panels(1, 1)
        style.empty(axes[0, 0], "no hold-out is possible with this grid")
        return figure, held
    columns = [split for split in SPLITS if split in set(held["split"])]
    parts = {
        title: (100 * each_point_once(rows, ["form", "split"]))
        .unstack("split")
        .reindex(columns=columns)
        for title, rows in (
            ("one law a method", held[held["method"] != POOLED]),
            ("one law over all methods", held[held["method"] == POOLED]),
        )
    }
    forms = sorted(set().union(*(p.index for p in parts.values())), key=lambda f: _rank(parts, f))
    figure, axes = style.panels(1, 2, height=0.21 * len(forms) + 1.0, sharey=True)
    figure.suptitle("mean absolute held-out error, %", fontsize=8)
    for panel, (title, part) in zip(axes[0], parts.items(), strict=True):
        _heat(panel, part.reindex(forms))
        panel.set_title(title)
    rows = [
        part.reindex(forms).stack().dropna().rename("mean_abs_rel_error_percent").reset_index()
        .assign(laws=title)
        for title, part in parts.items()
    ]  # fmt: skip
    return figure, pd.concat(rows, ignore_index=True)


def _heat(panel: Axes, values: pd.DataFrame) -> None:
    """Values [forms, splits] in %, written on their shade."""
    panel.grid(False)
    image = values.to_numpy(dtype=float)
    look: dict[str, Any] = {"cmap": "cividis_r", "norm": LogNorm(0.2, 10)}
    panel.imshow(image, aspect="auto", interpolation="nearest", **look)
    for (i, j), value in np.ndenumerate(image):
        if np.isfinite(value):
            panel.text(
                j, i, f"{value:.2g}", ha="center", va="center", fontsize=7,
                color="white" if value > 1.8 else "black",
            )  # fmt: skip
    panel.set_xticks(range(len(values.columns)), values.columns, rotation=35, ha="right")
    panel.set_yticks(range(len(values)), values.index)


def _rank(parts: dict[str, pd.DataFrame], form: str) -> float:
    """Forms are listed from the best geometric mean over all splits that they were asked for."""
    values = np.concatenate([p.loc[form].dropna() for p in parts.values() if form in p.index])
    return float(np.log(values).mean()) if len(values) else np.inf
