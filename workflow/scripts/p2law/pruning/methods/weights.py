"""Weights: single ones become zeros, by a mask and a compensation that are chosen apart."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from p2law.architectures.architecture import architecture_of
from p2law.architectures.counts import Config
from p2law.errors import UserError
from p2law.pruning import shapes
from p2law.pruning.methods.method import Method, Needs
from p2law.settings.section import Among, Real

if TYPE_CHECKING:
    from p2law.pruning.blocks import Blocks
    from p2law.pruning.calibration import Source
    from p2law.pruning.variant import Variant

MASKS = {
    "magnitude": "|W|",
    "wanda": "Wanda (2306.11695): |W| times the norm of the input",
    "ria": "RIA: |W| relative to its row and column, times the input norm's root",
    "obs": "mask S of APT (2410.15567): w^2 / (2 [H^-1]_jj)",
    "group": "mask M of APT (2410.15567), n:m only: the set cheapest to remove together",
    "sparsegpt": "SparseGPT (2301.00774): w^2 / U_jj^2 on the weights as updated so far",
}
WEIGHTS = {
    "keep": "kept weights stay as they are",
    "sparsegpt": "SparseGPT (2301.00774): column by column, later columns make up for it",
    "mrp": "APT (2410.15567): all kept weights at their optimum, exactly",
    "mrp-cg": "the same optimum by conjugate gradients: large layers in little time",
}
LAYER_RATES = {
    "uniform": "the same share in every block",
    "owl": "OWL (2310.05175): blocks with more outliers keep more",
    "alpha": "AlphaPruning (2410.10912): blocks with lighter-tailed spectra lose more",
}
REFINEMENTS = {
    "none": "the mask stays as chosen",
    "dsnot": "DSnoT (2310.08915): swaps that shrink each row's mean error",
}
SCOPES = {
    "own": "the scope of the mask's paper: layer for magnitude, obs and sparsegpt, else row",
    "row": "the same count in every output row (n:m has its own groups)",
    "layer": "one ranking over the whole matrix",
}
CURVED = ("obs", "group", "sparsegpt")
"""Masks that need X^T X."""
MOST = 0.99
"""Of a linear weight's share that may become zeros."""


def _is_pattern(text: str) -> str:
    shapes.pattern_of(text)
    return text


class Weights(Method):
    """Single weights of the blocks' linear layers become zeros, and stay zeros in post-training.
    Which go (`mask`) and what the others become (`weights`) are independent: APT is `obs` or
    `group` with `mrp`, and the lowest error on a layer is that of `sparsegpt` with `mrp`. An "n:m"
    pattern keeps n of every m along the input and fixes the rate: leave out `rates`. `group` needs
    n:m; `owl` and `alpha` need unstructured.
    """

    prune: Literal["weights"] = Field(description="single weights")
    pattern: Annotated[str, AfterValidator(_is_pattern)] = Field(
        "2:4",
        description='"n:m" keeps n of every m inputs (n < m); "unstructured" has no such groups',
        json_schema_extra={"pattern": "^(unstructured|[1-9][0-9]*:[1-9][0-9]*)$"},
    )
    scope: Annotated[str, Among(SCOPES)] = Field(
        "own", description="within what weights are ranked"
    )
    mask: Annotated[str, Among(MASKS)] = Field("wanda", description="which weights stay")
    weights: Annotated[str, Among(WEIGHTS)] = Field(
        "keep", description="what the weights that stay become"
    )
    layer_rates: Annotated[str, Among(LAYER_RATES)] = Field(
        "uniform", description="what share each block loses, given the mean"
    )
    refine: Annotated[str, Among(REFINEMENTS)] = Field(
        "none", description="how a chosen mask is refined"
    )
    damp: Annotated[Real, Field(ge=1e-6, le=1)] = Field(
        0.01, description="added to the diagonal of X^T X, in its mean"
    )

    EXAMPLE: ClassVar[str] = (
        'sparse24: {prune: weights, pattern: "2:4", mask: sparsegpt, weights: mrp-cg}\n'
        "  sparse: {prune: weights, pattern: unstructured, mask: wanda, layer_rates: owl,"
        " refine: dsnot, rates: [0.3]}"
    )
    MASKED: ClassVar[bool] = True

    @model_validator(mode="after")
    def _together(self) -> "Weights":
        """Settings that are each allowed but not with one another."""
        structured, faults = shapes.pattern_of(self.pattern) is not None, []
        if self.mask == "group" and not structured:
            faults.append('mask "group" ranks sets within n:m groups; pattern is unstructured')
        if structured and self.layer_rates != "uniform":
            faults.append(
                f"layer_rates is {self.layer_rates!r}, but pattern {self.pattern} fixes every"
                " layer's share; allowed: uniform"
            )
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def needs(self) -> Needs:
        compensated = self.weights != "keep"
        measured = self.mask != "magnitude" or self.refine != "none" or self.layer_rates == "owl"
        return Needs(text=compensated or measured, curvature=compensated or self.mask in CURVED)

    def passes(self, layers: int) -> float:
        each = 2 + (self.layer_rates == "owl")  # what a block reads, and what it hands on pruned
        return float(self.needs().text * each * len(self.rates))

    def fixed_rate(self) -> float | None:
        """Of n:m the share of zeros, (m - n) / m; the achieved rate is lower, since embeddings and
        norms stay dense: it is counted and stored."""
        pattern = shapes.pattern_of(self.pattern)
        return None if pattern is None else (pattern[1] - pattern[0]) / pattern[1]

    def described(self) -> str:
        main = f"{self.pattern} by {self.mask}, weights {self.weights}"
        return ", ".join([main, *self.changed("scope", "layer_rates", "refine", "damp")])

    def shape(self, config: Config, rate: float, before: shapes.Counts) -> dict[str, Any]:
        stay = self._left_dense(config)
        arch = architecture_of(config)
        sizes, block = arch.sizes(config), arch.block_tensors(config)
        dense = sum(sizes[block[name][0]] * sizes[block[name][1]] for name in stay)
        linear = before["linear"] - before["layers"] * dense
        fixed = self.fixed_rate() is not None
        share = rate if fixed else rate * before["total"] / linear
        if share > MOST and not fixed:
            most = MOST * linear / before["total"]
            raise UserError(
                f"rate {rate}: the linear layers hold {linear} of {before['total']} parameters, so"
                f" at most {most:.3f} can become zeros"
            )
        zeros = round(share * linear)
        removed: dict[str, Any] = {"left_dense": stay} if stay else {}
        removed |= {"zeros": zeros, "share_of_linear": share}
        N = before["total"] - zeros
        return shapes.answer(before, N, config, removed, before["embedding"])

    def _left_dense(self, config: Config) -> list[str]:
        """Layers that the pattern does not divide: they stay dense, and the answer says which."""
        pattern, arch = shapes.pattern_of(self.pattern), architecture_of(config)
        m = pattern[1] if pattern else 1
        fit = {f"{name}.weight" for group in arch.divisible(config, m) for name in group}
        stay = [name for name in arch.linear_weights() if name not in fit]
        if not fit:
            inputs = arch.sizes(config)[arch.block_tensors(config)[stay[0]][1]]
            raise UserError(
                f"pattern {self.pattern}: {stay[0]} has {inputs} inputs, not a multiple of {m}, and"
                " no other layer fits either"
            )
        return stay

    def apply(
        self,
        blocks: "Blocks",
        source: "Source | None",
        measured: Any,
        folder: Path,
        solved: Mapping[str, Any],
    ) -> tuple["Variant", dict[str, Any]]:
        from p2law.pruning import oneshot
        from p2law.pruning.variant import Variant

        variant = Variant(blocks, folder, blocks.config, range(len(blocks)))
        method = oneshot.OneShot(blocks, self.settings(), source)
        return variant, method.prune(solved["removed"]["share_of_linear"], variant)
