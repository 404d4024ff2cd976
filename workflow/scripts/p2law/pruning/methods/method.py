"""What every method of pruning is: a section of the study file that knows what it asks and does.

A kind of pruning is one file of this package with one subclass of :class:`Method`, found by listing
the package. The study file, docs/config.md, the editor's schema, costs, checks, tables and the
prune stage all take it from there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator

from p2law.architectures.counts import Config, parameters
from p2law.errors import UserError
from p2law.pruning import shapes
from p2law.settings.section import Section, number

if TYPE_CHECKING:  # they import torch, which a study's check does without
    from p2law.pruning.blocks import Blocks
    from p2law.pruning.calibration import Source
    from p2law.pruning.variant import Variant

GRADIENTS = 4
"""Forward passes that gradients cost: one, one more block by block, and twice one backward."""


def _inside(value: Any) -> Any:
    value = number(value)
    if type(value) in (int, float) and not 0 < value < 1:
        raise ValueError("must lie between 0 and 1")
    return value


Rate = Annotated[
    float,
    BeforeValidator(_inside),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}),
]


def named(rate: float) -> str:
    """A rate as folders and specs call it."""
    return f"{rate:g}"


@dataclass(frozen=True)
class Needs:
    """What a method must be given beside the weights."""

    text: bool = False
    """Calibration windows."""
    gradients: bool = False
    """Of the loss on them."""
    curvature: bool = False
    """X^T X of the layers' inputs."""


class Method(Section):
    """How to prune: the kind, its settings, and the rates asked for."""

    prune: str = Field(description="the kind of pruning")
    rates: list[Rate] = Field(
        [],
        min_length=1,
        description="shares of all N0 parameters to remove (embeddings included, tied ones once),"
        " rising, of six digits at most; what is achieved is counted on the result",
    )

    EXAMPLE: ClassVar[str]
    """Entries of a study's ``methods``, as docs/config.md shows them."""
    MASKED: ClassVar[bool] = False
    """Whether what goes stays in the checkpoint as zeros, with a mask beside it."""

    @field_validator("rates")
    @classmethod
    def _told_apart(cls, rates: list[float]) -> list[float]:
        if any(b <= a for a, b in zip(rates, rates[1:], strict=False)):
            raise ValueError("rates must rise strictly")
        for rate, following in zip(rates, [*rates[1:], None], strict=True):
            if following is not None and named(rate) == named(following):
                raise ValueError(
                    f"{rate!r} and {following!r} are both called {named(rate)}; keep one"
                )
            if float(named(rate)) != rate:
                raise ValueError(f"{rate!r} has more than six digits; {named(rate)} would do")
        return rates

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        """Editors are told to ask for rates, unless settings may fix the one there is."""
        reference = handler(core)
        schema = handler.resolve_ref_schema(reference)
        schema["properties"]["rates"].pop("default", None)
        if cls.fixed_rate is Method.fixed_rate:
            schema["required"] = [*schema["required"], "rates"]
        return reference

    # What a kind of its own says.

    def needs(self) -> Needs:
        """What must be given beside the weights."""
        return Needs()

    def fixed_rate(self) -> float | None:
        """The only rate that may be asked; None where rates are the study's to choose."""
        return None

    def described(self) -> str:
        """The settings in a few words, for tables and figures."""
        raise NotImplementedError

    def shape(self, config: Config, rate: float, before: shapes.Counts) -> dict[str, Any]:
        """:meth:`solve` of a rate in (0, 1); ``before`` are the config's parameters by part."""
        raise NotImplementedError

    def passes(self, layers: int) -> float:
        """Forward passes over the calibration windows that all rates take, on so many layers."""
        raise NotImplementedError

    def measure(self, source: "Source | None") -> Any:
        """What is measured once for all rates; ``source`` is None unless text is needed."""
        return None

    def apply(
        self,
        blocks: "Blocks",
        source: "Source | None",
        measured: Any,
        folder: Path,
        solved: Mapping[str, Any],
    ) -> tuple["Variant", dict[str, Any]]:
        """Write one variant into ``folder``: it, unclosed, and what its manifest shall tell.

        ``mask_files`` and ``zeros`` of the latter are further files, and zeros that count as
        removed.
        """
        raise NotImplementedError

    # What follows from it.

    def settings(self) -> dict[str, Any]:
        """All settings, defaults included, in a fixed order: what a spec holds."""
        return self.model_dump(exclude={"rates"})

    def changed(self, *keys: str) -> list[str]:
        """ "key value" of each of these settings that is not at its default."""
        fields = type(self).model_fields
        values = {key: getattr(self, key) for key in keys}
        return [f"{key} {v}" for key, v in values.items() if v != fields[key].get_default()]

    def solve(self, config: Config, rate: float | None) -> dict[str, Any]:
        """The shape at an asked rate, a share of N0 in (0, 1); None asks for the fixed rate.

        Returns ``rate`` (achieved), ``N``, ``N0``, ``N_nonembedding``, ``N0_nonembedding``,
        ``removed`` (what goes: layers, widths, or zeros) and ``config`` (the new one; for depth
        the last layers are left out, since which ones go is measured later). For weights N counts
        non-zeros. Rate 0 changes nothing. Raises :class:`UserError` when no shape comes within
        ``tolerance`` of the rate or Hugging Face could not load it.
        """
        before, fixed = parameters(config), self.fixed_rate()
        if fixed is not None and rate and named(rate) != named(fixed):
            raise UserError(
                f"rate {rate}: {self.described()} has one rate, {fixed:g} (the share of zeros in"
                " the pruned layers; the achieved share of all parameters is counted)"
            )
        rate = fixed if fixed is not None and rate != 0 else rate
        if rate is None or not 0 <= rate < 1 or math.isnan(rate):
            raise UserError(f"rate {rate}: allowed is a share of all parameters from 0 to below 1")
        if rate == 0:
            return shapes.answer(before, before["total"], config, {}, before["embedding"])
        return self.shape(config, rate, before)
