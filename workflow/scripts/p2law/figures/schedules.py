"""What the schedule does to the law: loss curves, the data exponent, tokens spent."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from p2law.figures import style
from p2law.figures.data import Data


def schedules(data: Data) -> tuple[Figure, pd.DataFrame]:
    """One run under every schedule; the P² exponent of D by method; tokens against cosine's.

    Bars are 95 % run-level intervals; an open marker is a fit that its table does not determine.
    """
    names = list(dict.fromkeys(record["recipe"] for record in data.law["schedules"]))
    figure, axes = style.panels(1, 3, height=2.5)
    rows = _curves(axes[0, 0], data, names)
    rows += _exponents(axes[0, 1], data.law["schedules"], names)
    rows += _tokens(axes[0, 2], data.law["schedules"], names)
    return figure, pd.DataFrame(rows)


def _look(names: list[str], name: str) -> dict[str, Any]:
    k = names.index(name)
    return {"color": style.shade(k, len(names)), "marker": style.MARKERS[k]}


def _curves(panel, data: Data, names: list[str]) -> list[dict]:
    """The most pruned run of the largest model of the first method."""
    points = data.every_schedule
    points = points[points["method"] == points["method"].iloc[0]]
    points = points[points["N0"] == points["N0"].max()]
    points = points[points["rho"] == points["rho"].max()]
    points = points[points["seed"] == points["seed"].iloc[0]].sort_values("D")
    rows = []
    for name in names:
        run = points[points["recipe"] == name]
        panel.plot(run["D"], run["loss"], label=name, **_look(names, name))
        kept = run[["model", "variant", "D", "loss"]].to_dict("records")
        rows += [{"panel": "loss", "recipe": name, **row} for row in kept]
    style.log_ticks(panel, np.sort(points["D"].unique()))
    panel.set_title(f"{points['model'].iloc[0]}, {points['variant'].iloc[0]}")
    panel.set_xlabel("post-training tokens D")
    panel.set_ylabel("loss, nats per token")
    panel.legend()
    return rows


def _exponents(panel, records: list[dict], names: list[str]) -> list[dict]:
    """P²'s beta of every method under every schedule."""
    records = [record for record in records if "beta" in record["constants"]]
    methods = list(dict.fromkeys(record["method"] for record in records))
    rows = []
    for record in records:
        at = methods.index(record["method"]) + 0.2 * (
            names.index(record["recipe"]) - (len(names) - 1) / 2
        )
        beta = record["constants"]["beta"]
        row = {"panel": "exponent", **{k: record[k] for k in ("family", "method", "recipe")}}
        rows.append(row | {k: beta[k] for k in ("value", "low", "high")})
        filled = {} if record["identified"] else {"markerfacecolor": "none"}
        if beta["low"] is not None:
            panel.plot([at, at], [beta["low"], beta["high"]], color="0.6", linewidth=1.0)
        panel.plot([at], [beta["value"]], **_look(names, record["recipe"]), **filled)
    panel.set_xticks(range(len(methods)), methods)
    panel.set_title("exponent β of D in the P² law")
    if not methods:
        style.empty(panel, "the P² law could not be fitted")
    return rows


def _tokens(panel, records: list[dict], names: list[str]) -> list[dict]:
    """Tokens trained as a share of one whole run a budget."""
    rows = []
    for k, name in enumerate(names):
        mine = [record for record in records if record["recipe"] == name]
        trained = sum(r["tokens_trained"] for r in mine if r["method"] != "all")
        share = mine[0]["share_of_separate_runs"]
        panel.barh(k, 100 * share, color=_look(names, name)["color"], height=0.6)
        panel.annotate(f"{100 * share:.1f} %", (100 * share, k), xytext=(2, 0),
                       textcoords="offset points", va="center")  # fmt: skip
        rows.append({"panel": "tokens", "recipe": name, "share": share, "tokens": trained})
    panel.set_axisbelow(True)
    panel.set_yticks(range(len(names)), names)
    panel.set_xlim(0, 125)
    panel.invert_yaxis()
    panel.set_title("tokens trained, % of a run a budget")
    return rows
