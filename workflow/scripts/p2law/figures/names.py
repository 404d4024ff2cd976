"""Names of the figures and their captions; imports nothing, since the Snakefile reads it."""

from collections.abc import Sequence

PRUNED = {
    "oneshot": "Loss right after pruning, by method: same shade, same share of parameters removed",
}
"""Drawn for every study, with post-training or without."""
FIGURES = {
    **PRUNED,
    "curves": "Loss against post-training tokens, measured and fitted, run by run",
    "predicted": "Predicted against measured loss, with a band of 1 %",
    "tokens": "Post-training tokens worth buying, against pruning rate and size",
    "holdouts": "Losses not seen by the law: later budgets, largest size, highest rate, a method",
    "comparison": "Held-out error of every form of the law",
    "residuals": "Residuals against tokens, size and rate",
    "contours": "Equal loss over tokens and size, at each rate",
    "constants": "Constants of the P² law with 95 % run-level intervals",
    "profiles": "Profiles of the P² exponents: flat where the study does not determine them",
    "restarts": "Where the restarts of the P² fit end",
}
COMPARED = {
    "recipes": "What the post-training recipe does to the law, and its cost in tokens",
}
"""Figures of a study that post-trains by several recipes."""


def of(recipes: Sequence[str]) -> dict[str, str]:
    """The figures of a study with these recipes, and their captions; without any, no runs."""
    if not recipes:
        return PRUNED
    return {**FIGURES, **(COMPARED if len(recipes) > 1 else {})}
