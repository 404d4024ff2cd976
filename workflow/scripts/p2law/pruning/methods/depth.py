"""Depth: whole blocks go."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from p2law.architectures import configs
from p2law.architectures.counts import Config
from p2law.pruning import shapes
from p2law.pruning.methods.method import GRADIENTS, Method, Needs
from p2law.settings.section import Among, Real, Whole

if TYPE_CHECKING:
    from p2law.pruning.blocks import Blocks
    from p2law.pruning.calibration import Source
    from p2law.pruning.variant import Variant

CRITERIA = {
    "block_influence": "ShortGPT (2403.03853): blocks that turn the hidden state least",
    "angular": "LLM-Streamline (2403.19135): the run of blocks that turns the state least",
    "perplexity": "Shortened LLaMA (2402.02834): least loss without the block",
    "taylor": "Shortened LLaMA (2402.02834): least sum of |w g| over the block",
    "last": "the last blocks (2411.15558); measures nothing",
}


class Depth(Method):
    """Whole blocks go. Guarded blocks at either end stay. Every architecture."""

    prune: Literal["depth"] = Field(description="whole blocks")
    criterion: Annotated[str, Among(CRITERIA)] = Field(
        "block_influence", description="what says which blocks go"
    )
    guard_first: Whole = Field(0, description="blocks at the input that stay")
    guard_last: Whole = Field(0, description="blocks at the output that stay")
    tolerance: Annotated[Real, Field(ge=0, le=1)] = Field(
        0.05, description="how far the nearest number of blocks may lie from a rate, in rate"
    )

    EXAMPLE: ClassVar[str] = (
        "depth: {prune: depth, criterion: taylor, guard_first: 4, guard_last: 2, rates: [0.2]}"
    )

    def needs(self) -> Needs:
        return Needs(text=self.criterion != "last", gradients=self.criterion == "taylor")

    def passes(self, layers: int) -> float:
        # Perplexity: block i runs once for each block before it that is left out, and once more.
        special = {"last": 0.0, "taylor": GRADIENTS, "perplexity": (layers + 1) / 2}
        return special.get(self.criterion, 1.0)

    def described(self) -> str:
        return ", ".join(
            [f"blocks by {self.criterion}", *self.changed("guard_first", "guard_last")]
        )

    def shape(self, config: Config, rate: float, before: shapes.Counts) -> dict[str, Any]:
        return shapes.fewer_layers(
            config, rate, before, self.tolerance, self.guard_first, self.guard_last
        )

    def measure(self, source: "Source | None") -> Any:
        from p2law.pruning import depth

        return depth.CRITERIA[self.criterion].measure(source)

    def apply(
        self,
        blocks: "Blocks",
        source: "Source | None",
        measured: Any,
        folder: Path,
        solved: Mapping[str, Any],
    ) -> tuple["Variant", dict[str, Any]]:
        from p2law.pruning import depth
        from p2law.pruning.variant import Variant

        n = solved["removed"]["layers"]
        gone = depth.removed_blocks(measured, len(blocks), n, self.settings())
        kept = [i for i in range(len(blocks)) if i not in gone]
        variant = Variant(blocks, folder, configs.with_layers(blocks.config, kept), kept)
        return variant.write(), {"layers_removed": gone, "scores": measured}
