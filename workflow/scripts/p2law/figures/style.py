"""The one style of all figures: readable in grey, by colour-blind readers, and in print.

Series differ in lightness and in marker or dash, never in hue alone. Figures are made without
pyplot, so that nothing leaks between them, and saved with fixed metadata: the same numbers give the
same bytes.
"""

import io
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
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
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (4, 1, 1, 1)))
BAND = "0.88"
WIDTH = 7.0
"""Width of a full-page figure in inches."""


def shade(i: int, count: int) -> str:
    """Colour of the i-th of an ordered set."""
    return SHADES[round(i * (len(SHADES) - 1) / max(count - 1, 1))] if count > 1 else SHADES[0]


def panels(rows: int, columns: int, *, height: float = 2.0, width: float = WIDTH, **share):
    """A figure with a grid of axes [rows, columns]; ``height`` in inches a row."""
    figure = Figure(figsize=(width, height * rows + 0.4))
    axes = figure.subplots(rows, columns, squeeze=False, **share)
    return figure, axes


def log_ticks(axes: Axes, values) -> None:
    """A logarithmic x axis with a tick at each of these values and nowhere else."""
    axes.set_xscale("log")
    axes.set_xticks(values, [count(v) for v in values])
    axes.minorticks_off()


def empty(axes: Axes, text: str) -> None:
    """Say in a panel why it shows nothing."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", wrap=True)
    axes.set_xticks([])
    axes.set_yticks([])


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


def context():
    """The style as a context manager around every drawing and saving."""
    return matplotlib.rc_context(RC)


def count(value: float) -> str:
    """A number of parameters or tokens for people: 1.2M, 16k."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
