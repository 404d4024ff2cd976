"""Figures of the fit itself: constants with intervals, profiles of exponents, restarts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from p2law.figures import style
from p2law.figures.data import Data
from p2law.laws.forms import registry
from p2law.laws.records import Constant

FREE = 6
"""Fits that a panel of the usual width has room for, their names below."""


def constants(data: Data) -> tuple[Figure, pd.DataFrame]:
    """P² constants by method with 95 % run-level intervals; hollow: not determined or at a bound.

    Amplitudes of zero lie at the bottom of their logarithmic axes.
    """
    fits = data.fits(registry.P2)
    names = list(registry.get(registry.P2).constants)
    figure, panels = style.wrapped(
        len(names), most=4 if len(fits) <= FREE else 2, height=1.5 if len(fits) <= FREE else 2.0
    )
    if len(fits) > 2 * FREE:  # two panels in a row, each with room for all names
        figure.set_figwidth(max(style.WIDTH, 0.34 * len(fits) + 1.0))
    rows = []
    for panel, name in zip(panels, names, strict=True):
        found = [(k, fit.constants[name]) for k, fit in enumerate(fits) if name in fit.constants]
        rows += [
            {"family": fits[k].family, "method": fits[k].method, "constant": name,
             "value": c.value, "low": c.low, "high": c.high, "determined": c.determined}
            for k, c in found
        ]  # fmt: skip
        _estimates(
            panel, found, len(fits), logarithmic=name in registry.get(registry.P2).amplitudes
        )
        panel.set_title(name)
        panel.set_xticks(
            range(len(fits)), [data.label(f.family, f.method) for f in fits], ha="right",
            rotation=30 if len(fits) <= FREE else 60,
        )  # fmt: skip
        panel.margins(x=0.15 if len(fits) <= FREE else 0.03)
    if not fits:
        style.empty(panels[0], "no P² law could be fitted")
    return figure, pd.DataFrame(rows)


def _estimates(
    panel: Axes, found: Sequence[tuple[int, Constant]], count: int, logarithmic: bool
) -> None:
    """One constant of every fit, at its place; what is zero or has no end lies at the axis' end."""
    known = [x for _, c in found for x in (c.value, c.low, c.high) if x is not None]
    logarithmic = logarithmic and not any(x < 0 for x in known)
    floor, ceiling = min(known, default=0.0), max(known, default=1.0)
    if logarithmic:
        floor, ceiling = log_ends([c.value for _, c in found], known)
        panel.set_yscale("log")
        panel.set_ylim(floor, ceiling)
        panel.yaxis.set_major_locator(LogLocator(numticks=5))
        panel.minorticks_off()
    for k, constant in found:
        look = style.look(
            k, count, filled=constant.determined and not constant.at_fence and known != []
        )
        if constant.low is not None or constant.high is not None:
            low = floor if constant.low is None else max(constant.low, floor)
            high = ceiling if constant.high is None else constant.high
            panel.plot([k, k], [low, high], color=look["color"])
        if constant.value is not None:
            panel.plot([k], [max(constant.value, floor)], clip_on=False, **look)


def log_ends(values: Sequence[float | None], known: Sequence[float]) -> tuple[float, float]:
    """Ends of a logarithmic axis: zeros lie at the bottom, a hundredth of the smallest value.

    ``values`` are the estimates, ``known`` these and the ends of their intervals.
    """
    above = [x for x in values if x is not None and x > 0] or [x for x in known if x > 0] or [1.0]
    return min(above) / 100, 2 * max([*known, *above])


def profiles(data: Data) -> tuple[Figure, pd.DataFrame]:
    """How much worse the best fit gets with one exponent held: flat means not determined.

    Rise of the objective over its threshold (run-correlated, 95 %): below 1 is inside the interval.
    """
    fits = [fit for fit in data.fits(registry.P2) if fit.profiles]
    there = {profile.name for fit in fits for profile in fit.profiles}
    names = [name for name in registry.get(registry.P2).exponents if name in there]
    figure, panels = style.wrapped(len(names), height=2.2, sharey=True)
    rows, lines = [], {}
    for panel, name in zip(panels, names, strict=False):
        for k, fit in enumerate(fits):
            for profile in fit.profiles:
                if profile.name != name:
                    continue
                x, y = np.array(profile.values), np.array(profile.objective, dtype=float)
                rise = (y - fit.objective) / (profile.threshold - fit.objective)
                label = data.label(fit.family, fit.method)
                look = style.look(k, len(fits), line=True)
                lines[label] = panel.plot(x, np.clip(rise, 0, None), label=label, **look)[0]
                whose = {"family": fit.family, "method": fit.method, "exponent": name}
                rows += [whose | {"value": a, "rise": b} for a, b in zip(x, rise, strict=True)]
        panel.axhline(1.0, color="0.4", linewidth=0.8, linestyle=(0, (1, 2)))
        panel.set_ylim(-0.08, 2.5)  # a flat profile lies on 0 and must be seen
        panel.set_xlabel(name)
    if names:
        panels[0].set_ylabel("rise of objective / 95 % threshold")
        style.legend_below(figure, list(lines.values()))
    else:
        style.empty(panels[0], "no P² law could be fitted")
    return figure, pd.DataFrame(rows)


def restarts(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Objectives that P²'s restarts end at, over the best: all at 1 means no local optimum."""
    fits = [fit for fit in data.fits(registry.P2) if fit.objectives_over_starts]
    figure, panels = style.wrapped(len(fits), height=1.8, sharey=True)
    rows: list[dict[str, Any]] = []
    for panel, fit in zip(panels, fits, strict=False):
        ended = [x for x in fit.objectives_over_starts if x is not None]
        over = np.array(ended) / fit.objective
        panel.hist(np.clip(over, 1, 2), bins=np.linspace(1, 2, 41), color=style.SHADES[1])
        share = f"{100 * fit.starts_at_optimum:.0f} % at the optimum"
        panel.set_title(f"{data.label(fit.family, fit.method)}\n{share}")
        panel.set_xlabel("objective / best")
        whose = {"family": fit.family, "method": fit.method}
        rows += [whose | {"start": i, "objective_over_best": x} for i, x in enumerate(over)]
    if fits:
        panels[0].set_ylabel("restarts")
    else:
        style.empty(panels[0], "no P² law could be fitted")
    return figure, pd.DataFrame(rows)
