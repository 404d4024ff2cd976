"""Figures: one style, one function a figure, every number in a CSV beside it.

Each drawing function takes :class:`p2law.figures.data.Data` and returns a matplotlib Figure and the
table of what it shows. Nothing is trained, fitted or drawn at random here.
"""
