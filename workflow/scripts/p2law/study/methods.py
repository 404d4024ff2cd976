"""A pruning method as a study names it: with the rates that it shall be tried at."""

from typing import Annotated

from pydantic import AfterValidator

from p2law.pruning.methods import TAGGED
from p2law.pruning.methods.method import Method as Pruning
from p2law.settings.section import fault_at


def _with_rates(method: Pruning) -> Pruning:
    """The method with its rates: those asked for, or the one that its settings fix."""
    fixed = method.fixed_rate()
    if fixed is None and not method.rates:
        raise fault_at("rates", None, method.settings())
    if fixed is None:
        return method
    if method.rates:
        why = f"fixed at {fixed:g} by these settings ({method.described()}); leave out"
        raise fault_at("rates", why, method.rates)
    return method.model_copy(update={"rates": [fixed]})


Method = Annotated[Pruning, TAGGED, AfterValidator(_with_rates)]
