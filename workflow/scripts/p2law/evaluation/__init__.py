"""Evaluation: the held-out loss of a checkpoint, row by row, the same for every model."""

RECIPE = 2
"""Raised when the numbers of this room change; part of every key of the evaluate stage."""
