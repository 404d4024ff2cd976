"""Architectures: what a model is, from its config alone. Imports no torch."""
