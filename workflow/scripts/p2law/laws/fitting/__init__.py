"""Fitting: constants of a form from a table."""
