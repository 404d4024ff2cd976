"""Tables of losses: one row a pruned model, and one row a point of a finished run."""

RECIPE = 2
"""Raise when a column's meaning or a row's numbers change."""
