"""Loss tables: one row a point, gathered from the evaluations of a study's finished runs."""

RECIPE = 2
"""Raise when a column's meaning or a row's numbers change."""
