"""The one style of all figures: readable in grey, by colour-blind readers, and in print.

Series differ in lightness and in marker or dash, never in hue alone. Figures are made without
pyplot, so that nothing leaks between them, and saved with fixed metadata: the same numbers give the
same bytes.
"""

import io
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure

RC = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,
    "svg.hashsalt": "p2law",
    "path.simplify": True,
}
# From dark to light blue-yellow (cividis): an ordered set, distinct in grey.
SHADES = ("#00224e", "#35608d", "#7d7c78", "#bfa95a", "#d9c02c")
_BETWEEN = LinearSegmentedColormap.from_list("shades", SHADES, N=1024)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (4, 1, 1, 1)))
BAND = "0.88"
WIDTH = 7.0
"""Width of a full-page figure in inches; one with more panels than fit is wider."""
LINE = 0.16
"""Height of a legend's line in inches."""
NARROWEST = 1.6
"""Width in inches below which a panel cannot be read."""


def shade(k: int, count: int) -> str:
    """Colour of the k-th of an ordered set of any size, as hexadecimal."""
    return to_hex(_BETWEEN(k / max(count - 1, 1)))


def look(k: int, count: int, *, line: bool = False, filled: bool = True) -> dict[str, Any]:
    """How the k-th of so many series is drawn, told from every other of them by shade and marker
    (or, of a ``line``, dash): markers and dashes come round again, shades do not.
    """
    color = shade(k, count)
    if line:
        return {"color": color, "linestyle": DASHES[k % len(DASHES)]}
    marker = {"color": color, "marker": MARKERS[k % len(MARKERS)], "linestyle": ""}
    return marker | {"markerfacecolor": color if filled else "white"}


def panels(
    rows: int,
    columns: int,
    *,
    height: float = 2.0,
    narrowest: float = NARROWEST,
    **share: Any,
) -> tuple[Figure, np.ndarray]:
    """A figure with a grid of axes [rows, columns]; ``height`` in inches a row.

    As wide as a page, or as its panels need.
    """
    figure = Figure(figsize=(max(WIDTH, narrowest * columns), height * rows + 0.4))
    return figure, figure.subplots(rows, columns, squeeze=False, **share)


def wrapped(
    count: int, *, most: int = 4, height: float = 2.0, **share: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels, at most so many in a row; rows as even as can be."""
    lines = math.ceil(max(count, 1) / most)
    columns = math.ceil(max(count, 1) / lines)
    figure, axes = panels(lines, columns, height=height, **share)
    for panel in axes.flat[max(count, 1) :]:
        panel.set_axis_off()
    return figure, list(axes.flat[: max(count, 1)])


def legend_below(figure: Figure, handles: Sequence[Any], **options: Any) -> None:
    """One legend under all panels, in as many columns as the figure's width has room for; the
    figure grows by its further lines.
    """
    longest = max((len(handle.get_label()) for handle in handles), default=0)
    room = int(figure.get_figwidth() / (0.35 + 0.06 * longest))
    columns = max(1, min(len(handles), room))
    lines = math.ceil(len(handles) / columns)
    figure.set_figheight(figure.get_figheight() + LINE * (lines - 1))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, **options)


def log_ticks(axes: Axes, values: Sequence[float] | np.ndarray) -> None:
    """A logarithmic x axis with a tick at each of these values and nowhere else."""
    axes.set_xscale("log")
    axes.set_xticks(values, [count(v) for v in values])
    axes.minorticks_off()


def empty(axes: Axes, text: str) -> None:
    """Say in a panel why it shows nothing; axes that it shares keep their ticks."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", wrap=True)
    axes.tick_params(left=False, labelleft=False, bottom=False, labelbottom=False)
    axes.grid(False)


def save(figure: Figure, folder: Path, name: str) -> list[str]:
    """Write ``name.pdf`` and ``name.png``; returns the two names."""
    png, pdf = io.BytesIO(), io.BytesIO()
    # The layout is solved once for both files: it costs more than drawing.
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    FigureCanvasPdf(figure)
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "ModDate": None})
    FigureCanvasAgg(figure)
    figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    (folder / f"{name}.pdf").write_bytes(pdf.getvalue())
    (folder / f"{name}.png").write_bytes(png.getvalue())
    return [f"{name}.pdf", f"{name}.png"]


def context() -> AbstractContextManager[None]:
    """The style as a context manager around every drawing and saving."""
    return matplotlib.rc_context(RC)


def count(value: float) -> str:
    """A number of parameters or tokens for people: 1.2M, 16k."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
