"""A pruning method as a study names it: its rates, and settings that the pruning room checks."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from p2law.pruning import names


class Rated(BaseModel):
    """How to prune, and the rates asked for: shares of N0, rising.

    ``prune`` holds the settings with all defaults (:func:`p2law.pruning.names.complete`). An n:m
    pattern fixes its one rate, which is then the share of zeros in the pruned matrices.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    prune: dict[str, Any]
    rates: list[float] = Field(min_length=1)

    @field_validator("rates")
    @classmethod
    def _inside(cls, rates: list[float]) -> list[float]:
        for rate in rates:
            if not 0 < rate < 1:
                raise ValueError(f"{rate} must lie between 0 and 1")
        if any(b <= a for a, b in zip(rates, rates[1:], strict=False)):
            raise ValueError("rates must rise strictly")
        return rates


def _split(value: Any) -> Any:
    """Part the flat mapping of the study file into rates and settings."""
    if not isinstance(value, Mapping):
        return value
    settings = names.complete({k: v for k, v in value.items() if k != "rates"}, "method")
    fixed = names.fixed_rate(settings)
    if fixed is None:
        return {"prune": settings, **({"rates": value["rates"]} if "rates" in value else {})}
    if "rates" in value:
        raise ValueError(
            f"rates: the pattern {settings['pattern']} fixes it at {fixed:g}; leave out"
        )
    return {"prune": settings, "rates": [fixed]}


Method = Annotated[Rated, BeforeValidator(_split)]
