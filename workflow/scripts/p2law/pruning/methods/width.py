"""Width: rows and columns go, the same number in every block."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from p2law.architectures.architecture import architecture_of
from p2law.architectures.counts import Config
from p2law.errors import UserError
from p2law.pruning import shapes
from p2law.pruning.methods.method import GRADIENTS, Method, Needs
from p2law.settings.section import Among, Count, Real

if TYPE_CHECKING:
    from p2law.pruning.blocks import Blocks
    from p2law.pruning.calibration import Source
    from p2law.pruning.variant import Variant

DIMENSIONS = {
    "ffn": "FFN neurons: rows of gate and up, columns of down",
    "groups": "key-value heads, each with all its query heads",
    "queries": "query heads, the same number in every group",
    "hidden": "channels of the residual stream, the same in all blocks",
}
CRITERIA = {
    "activation": "Minitron (2407.14679): mean |activation| over tokens, L2 over windows",
    "taylor": "LLM-Pruner (2305.11627): sum of |w g| over all weights of a unit",
    "flap": "FLAP's score (2312.11983), ranked in each block: variance of the input times its"
    " weights' squared norm; not for hidden",
}
WEIGHTS = {
    "keep": "kept columns stay as they are",
    "mrp": "the least-squares optimum over the kept columns, exactly",
    "mrp-cg": "the same optimum by conjugate gradients: no second factorisation",
}
BIASES = {
    "keep": "biases stay as they are",
    "mean": "FLAP's (2312.11983): takes up the mean of what the layer's output lost",
}
PROJECTIONS = {"ffn": "mlp.down_proj", "groups": "self_attn.o_proj", "queries": "self_attn.o_proj"}
"""Dimension -> the layer that loses input columns by it."""

Dimension = Annotated[str, Among(DIMENSIONS)]


class Width(Method):
    """Rows and columns go, the same number in every block: one dimension, or several together to
    one rate. Each loses the same share of its width, times its number in `split`, and at least one
    step of it. `weights` and `bias` make up for neurons and heads, in the down and the output
    projection; for hidden channels nothing is made up. `groups` and `queries` exclude one another,
    `flap` has no score for `hidden`, and `bias: mean` needs an architecture whose projections have
    biases. Not for mamba.
    """

    prune: Literal["width"] = Field(description="neurons, heads, channels")
    dimensions: list[Dimension] = Field(
        ["ffn"], min_length=1, description="what gets narrower, each once"
    )
    criterion: Annotated[str, Among(CRITERIA)] = Field(
        "activation", description="what says which neurons, heads and channels go"
    )
    multiple: Count = Field(8, description="widths of ffn and hidden are multiples of it")
    split: dict[Dimension, Annotated[Real, Field(gt=0)]] = Field(
        {}, description="by dimension, how many times the others' share it loses; 1 where not said"
    )
    tolerance: Annotated[Real, Field(ge=0, le=1)] = Field(
        0.05, description="how far the nearest widths may lie from a rate, in rate"
    )
    weights: Annotated[str, Among(WEIGHTS)] = Field(
        "keep", description="what the kept columns of the down and output projections become"
    )
    bias: Annotated[str, Among(BIASES)] = Field(
        "keep", description="what the biases of the down and output projections become"
    )
    damp: Annotated[Real, Field(ge=1e-6, le=1)] = Field(
        0.01, description="of `mrp` and `mrp-cg`: added to the diagonal of X^T X, in its mean"
    )

    EXAMPLE: ClassVar[str] = (
        "narrow: {prune: width, dimensions: [ffn, groups, hidden], criterion: activation,"
        " split: {ffn: 2}, rates: [0.2]}\n"
        "  made-up: {prune: width, dimensions: [ffn], weights: mrp, rates: [0.2]}"
    )

    @model_validator(mode="after")
    def _together(self) -> "Width":
        """Settings that are each allowed but not with one another."""
        named, stray = self.dimensions, [name for name in self.split if name not in self.dimensions]
        listed, faults = ", ".join(self.dimensions), []
        if len(set(named)) < len(named):
            faults.append(f"dimensions are {listed}: each once")
        if {"groups", "queries"} <= set(named):
            faults.append(f"dimensions are {listed}: groups or queries, not both")
        if stray:
            faults.append(f"split names {', '.join(stray)}, not among its dimensions {listed}")
        if self.criterion == "flap" and "hidden" in named:
            faults.append(
                'criterion "flap" has no score for dimension "hidden"; allowed there: activation,'
                " taylor"
            )
        if self.makes_up and not PROJECTIONS.keys() & set(named):
            faults.append(
                f"weights {self.weights}, bias {self.bias}: they make up for ffn, groups and"
                f" queries, and dimensions are {listed}; allowed: keep"
            )
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def makes_up(self) -> bool:
        """Whether the kept columns, or the biases, change."""
        return self.weights != "keep" or self.bias != "keep"

    def needs(self) -> Needs:
        return Needs(True, self.criterion == "taylor", self.weights != "keep")

    def passes(self, layers: int) -> float:
        scores = GRADIENTS if self.needs().gradients else 1
        return scores + 2 * self.makes_up * len(self.rates)

    def described(self) -> str:
        main = f"{' + '.join(self.dimensions)} by {self.criterion}"
        return ", ".join([main, *self.changed("split", "weights", "bias", "damp")])

    def shape(self, config: Config, rate: float, before: shapes.Counts) -> dict[str, Any]:
        if self.bias != "keep":
            tensors = architecture_of(config).block_tensors(config)
            wanted = [f"{PROJECTIONS[d]}.bias" for d in self.dimensions if d in PROJECTIONS]
            if lacking := [name for name in wanted if name not in tensors]:
                raise UserError(
                    f"bias {self.bias}: {config['model_type']} of this config has no"
                    f" {' and no '.join(lacking)}; allowed: keep"
                )
        return shapes.narrower(
            config, rate, before, self.tolerance, self.dimensions, self.multiple, self.split
        )

    def measure(self, source: "Source | None") -> Any:
        from p2law.pruning import width

        assert source is not None
        return width.CRITERIA[self.criterion](source)

    def apply(
        self,
        blocks: "Blocks",
        source: "Source | None",
        measured: Any,
        folder: Path,
        solved: Mapping[str, Any],
    ) -> tuple["Variant", dict[str, Any]]:
        from p2law.pruning import columns, width
        from p2law.pruning.variant import Variant

        to = {name: widths["to"] for name, widths in solved["removed"].items()}
        outside, inside = width.kept_everywhere(measured, blocks, to)
        variant = Variant(blocks, folder, solved["config"], range(len(blocks)))
        errors: list[dict[str, Any]] = []
        weights = None
        if self.makes_up:
            assert source is not None
            weights = columns.made_up(source, self, outside, inside, errors)
        variant.write(outside, inside, weights)
        files = width.write_kept(folder, blocks, outside, inside)
        told = {"widths": solved["removed"], "mask_files": files}
        return variant, told | ({"layer_error": errors} if errors else {})
