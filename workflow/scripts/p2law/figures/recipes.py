"""What the recipe of post-training does to the law: loss curves, the data exponent, tokens."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from p2law.figures import style
from p2law.figures.data import Data
from p2law.laws.records import RecipeLaw
from p2law.laws.rows import POOLED, rows_of

APART = 0.6
"""Share of the distance between two groups that the markers of one group's recipes fill."""


def recipes(data: Data) -> tuple[Figure, pd.DataFrame]:
    """One variant under every recipe; the P² exponent of D by method; tokens against a run a
    budget.

    Bars are 95 % run-level intervals; an open marker is a fit that its table does not determine.
    """
    records, names = data.results.recipes, data.recipes
    fits = len({(record.family, record.method) for record in records})
    figure, axes = style.panels(
        1, 3, height=2.5 if fits <= 8 else 3.2, width_ratios=[1, max(1, fits / 8), 1],
        narrowest=style.NARROWEST + 0.1 * max(fits - 8, 0),
    )  # fmt: skip
    rows = _curves(axes[0, 0], data, names)
    rows += _exponents(axes[0, 1], data, records)
    rows += _tokens(axes[0, 2], records, names)
    return figure, pd.DataFrame(rows)


def _look(names: Sequence[str], name: str, **options: Any) -> dict[str, Any]:
    return style.look(names.index(name), len(names), **options)


def _curves(panel: Axes, data: Data, names: Sequence[str]) -> list[dict[str, Any]]:
    """The most pruned variant of the largest model of the first family and method, one seed."""
    family, method = data.groups[0]
    points = rows_of(data.losses, family, method)
    points = points[points["N0"] == points["N0"].max()]
    points = points[points["rho"] == points["rho"].max()]
    points = points[points["seed"] == points["seed"].iloc[0]].sort_values("D")
    rows = []
    for name in names:
        run = points[points["recipe"] == name]
        panel.plot(run["D"], run["loss"], label=name, **_look(names, name) | {"linestyle": "-"})
        kept = run[["family", "method", "model", "variant", "D", "loss"]].to_dict("records")
        rows += [{"panel": "loss", "recipe": name, **row} for row in kept]
    style.log_ticks(panel, np.sort(points["D"].unique()))
    panel.set_title(f"{points['model'].iloc[0]}, {points['variant'].iloc[0]}")
    panel.set_xlabel("post-training tokens D")
    panel.set_ylabel("loss, nats per token")
    panel.legend()
    return rows


def _exponents(panel: Axes, data: Data, records: Sequence[RecipeLaw]) -> list[dict[str, Any]]:
    """P²'s beta of every family and method under every recipe."""
    records = [record for record in records if "beta" in record.constants]
    groups = list(dict.fromkeys((record.family, record.method) for record in records))
    names, rows = data.recipes, []
    step = APART / max(len(names), 2)
    for record in records:
        shift = step * (names.index(record.recipe) - (len(names) - 1) / 2)
        at, beta = groups.index((record.family, record.method)) + shift, record.constants["beta"]
        row: dict[str, str | float] = {"panel": "exponent", "family": record.family}
        row |= {"method": record.method}
        row |= {"recipe": record.recipe, "value": beta.value, "low": beta.low, "high": beta.high}
        rows.append(row)
        if beta.low is not None and beta.high is not None:
            panel.plot([at, at], [beta.low, beta.high], color="0.6", linewidth=1.0)
        panel.plot([at], [beta.value], **_look(names, record.recipe, filled=record.determined))
    few = len(groups) <= 3
    panel.set_xticks(
        range(len(groups)), [data.label(*group) for group in groups],
        rotation=0 if few else 60, ha="center" if few else "right",
    )  # fmt: skip
    panel.set_title("exponent β of D in the P² law")
    if not groups:
        style.empty(panel, "the P² law could not be fitted")
    return rows


def _tokens(
    panel: Axes, records: Sequence[RecipeLaw], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Tokens trained by all runs of a recipe, as a share of one whole run a budget."""
    rows = []
    for k, name in enumerate(names):
        mine = [
            (r.tokens_trained, r.share_of_separate_runs) for r in records
            if r.recipe == name and r.method != POOLED and r.tokens_trained is not None
            and r.share_of_separate_runs
        ]  # fmt: skip
        if not mine:
            continue
        trained = sum(tokens for tokens, _ in mine)
        share = trained / sum(tokens / part for tokens, part in mine)
        panel.barh(k, 100 * share, color=_look(names, name)["color"], height=0.6)
        panel.annotate(f"{100 * share:.1f} %", (100 * share, k), xytext=(2, 0),
                       textcoords="offset points", va="center")  # fmt: skip
        rows.append({"panel": "tokens", "recipe": name, "share": share, "tokens": trained})
    panel.set_axisbelow(True)
    panel.set_yticks(range(len(names)), names)
    panel.set_xlim(0, 125)
    panel.invert_yaxis()
    panel.set_title("tokens trained,\n% of a run a budget")
    return rows
