"""Laws: forms, fits, uncertainty, validation and the plan that a law buys.

Tables go in, fitted constants and predictions come out; nothing here imports torch. The law under
study is the P² law (arXiv 2411.10272); the forms it competes with are in
:mod:`p2law.laws.forms.registry`.
"""

RECIPE = 4
"""Raised when the numbers that this room makes from the same table and spec change."""
