"""Figures of the fit itself: constants with intervals, profiles of exponents, restarts."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from p2law.figures import style
from p2law.figures.data import Data

EXPONENTS = ("alpha", "beta", "gamma", "delta")


def constants(data: Data) -> tuple[Figure, pd.DataFrame]:
    """P² constants by method with 95 % run-level intervals; hollow: not determined or at a bound.

    Amplitudes of zero lie at the bottom of their logarithmic axes.
    """
    fits = [f for f in data.fits if f["form"] == "p2" and f["constants"]]
    names = list(dict.fromkeys(n for f in fits for n in f["constants"]))
    figure, axes = style.panels(2, 4, height=1.5)
    rows = []
    for panel, name in zip(axes.flat, names, strict=False):
        for k, fit in enumerate(fits):
            value = fit["constants"].get(name)
            if value is None:
                continue
            base = {"family": fit["family"], "method": fit["method"], "constant": name}
            rows.append(base | {key: value[key] for key in ("value", "low", "high", "identified")})
            color = style.shade(k, len(fits))
            floor = -np.inf if name in EXPONENTS else _smallest(rows, name)
            if value["low"] is not None:
                panel.plot([k, k], [max(value["low"], floor), value["high"]], color=color)
            fill = color if value["identified"] and not value["at_bound"] else "white"
            panel.plot(
                k, max(value["value"], floor), style.MARKERS[k], color=color, markerfacecolor=fill
            )
        panel.set_title(name)
        panel.set_xticks(range(len(fits)), [f["method"] for f in fits], rotation=30, ha="right")
        panel.margins(x=0.15)
        if name not in EXPONENTS:
            panel.set_yscale("log")
            floor = _smallest(rows, name)
            panel.set_ylim(bottom=floor)
            panel.yaxis.set_major_locator(LogLocator(numticks=5))
            panel.minorticks_off()
    for panel in axes.flat[len(names) :]:
        panel.set_axis_off()
    if not fits:
        style.empty(axes[0, 0], "no P² law could be fitted")
    return figure, pd.DataFrame(rows)


def _smallest(rows: list[dict], name: str) -> float:
    """The bottom of a logarithmic axis: amplitudes at zero are drawn there."""
    values = [abs(r["value"]) for r in rows if r["constant"] == name and r["value"]]
    return float(min(values, default=1.0)) / 100


def profiles(data: Data) -> tuple[Figure, pd.DataFrame]:
    """How much worse the best fit gets with one exponent held: flat means not determined.

    Rise of the objective over its threshold (run-correlated, 95 %): below 1 is inside the interval.
    """
    fits = [f for f in data.fits if f["form"] == "p2" and f.get("profiles")]
    names = [n for n in EXPONENTS if any(p["name"] == n for f in fits for p in f["profiles"])]
    figure, axes = style.panels(1, max(len(names), 1), height=2.2, sharey=True)
    rows = []
    for panel, name in zip(axes[0], names, strict=False):
        for k, fit in enumerate(fits):
            for profile in fit["profiles"]:
                if profile["name"] != name:
                    continue
                x, y = np.array(profile["values"]), np.array(profile["objective"])
                rise = (y - fit["objective"]) / (profile["threshold"] - fit["objective"])
                panel.plot(
                    x, np.clip(rise, 0, None), color=style.shade(k, len(fits)),
                    linestyle=style.DASHES[k % len(style.DASHES)], label=fit["method"],
                )  # fmt: skip
                label = {"family": fit["family"], "method": fit["method"], "exponent": name}
                rows += [label | {"value": a, "rise": b} for a, b in zip(x, rise, strict=True)]
        panel.axhline(1.0, color="0.4", linewidth=0.8, linestyle=(0, (1, 2)))
        panel.set_ylim(-0.08, 2.5)  # a flat profile lies on 0 and must be seen
        panel.set_xlabel(name)
    if names:
        axes[0, 0].set_ylabel("rise of objective / 95 % threshold")
        axes[0, 0].legend()
    else:
        style.empty(axes[0, 0], "no P² law could be fitted")
    return figure, pd.DataFrame(rows)


def restarts(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Objectives that P²'s restarts end at, over the best: all at 1 means no local optimum."""
    fits = [f for f in data.fits if f["form"] == "p2" and f.get("objectives_over_starts")]
    figure, axes = style.panels(1, max(len(fits), 1), height=1.8, sharey=True)
    rows = []
    for panel, fit in zip(axes[0], fits, strict=False):
        ended = [x for x in fit["objectives_over_starts"] if x is not None]
        over = np.array(ended) / fit["objective"]
        panel.hist(np.clip(over, 1, 2), bins=np.linspace(1, 2, 41), color=style.SHADES[1])
        panel.set_title(f"{fit['method']}\n{100 * fit['starts_at_optimum']:.0f} % at the optimum")
        panel.set_xlabel("objective / best")
        label = {"family": fit["family"], "method": fit["method"]}
        rows += [label | {"start": i, "objective_over_best": x} for i, x in enumerate(over)]
    if fits:
        axes[0, 0].set_ylabel("restarts")
    else:
        style.empty(axes[0, 0], "no P² law could be fitted")
    return figure, pd.DataFrame(rows)
