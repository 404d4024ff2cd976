"""A pruning method as a study names it: with the rates that it shall be tried at."""

from typing import Annotated

from pydantic import AfterValidator

from p2law.pruning.methods import TAGGED
from p2law.pruning.methods.method import Method as Pruning


def _with_rates(method: Pruning) -> Pruning:
    """The method with its rates: those asked for, or the one that its settings fix."""
    fixed = method.fixed_rate()
    if fixed is None and not method.rates:
        raise ValueError("rates: missing")
    if fixed is None:
        return method
    if method.rates:
        raise ValueError(f"rates: {method.described()} fixes it at {fixed:g}; leave out")
    return method.model_copy(update={"rates": [fixed]})


Method = Annotated[Pruning, TAGGED, AfterValidator(_with_rates)]
