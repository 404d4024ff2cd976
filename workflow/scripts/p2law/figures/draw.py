"""Draw every figure of a study: figure name -> function, and the loop that saves them."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from p2law.canonical import write_text
from p2law.figures import (
    constants,
    contours,
    curves,
    errors,
    names,
    pruned,
    recipes,
    style,
    tokens,
)
from p2law.figures.data import Data

DRAW: dict[str, Callable[[Data], tuple[Figure, pd.DataFrame]]] = {
    "oneshot": pruned.pruned,
    "curves": curves.curves,
    "predicted": errors.predicted,
    "tokens": tokens.tokens,
    "holdouts": errors.holdouts,
    "comparison": errors.comparison,
    "residuals": errors.residuals,
    "contours": contours.contours,
    "constants": constants.constants,
    "profiles": constants.profiles,
    "restarts": constants.restarts,
    "recipes": recipes.recipes,
}


def draw_all(data: Data, folder: Path) -> list[str]:
    """Write every figure as PDF, PNG and CSV (full precision); returns the files' names.

    Without points of runs only the pruned models are drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name in names.of(data.recipes):
        with style.context():
            figure, table = DRAW[name](data)
            files += style.save(figure, folder, name)
        write_text(folder / f"{name}.csv", table.to_csv(index=False))
        files.append(f"{name}.csv")
    return files
