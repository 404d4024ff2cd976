"""A recipe: how a run trains, as the spec's ``train`` part says, checked before anything starts."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from p2law.errors import UserError


@dataclass(frozen=True)
class Distil:
    """Distillation: ``weight`` of the loss draws the logits towards the unpruned model's.

    That part is T^2 times the cross entropy of both softmaxes at ``temperature`` T, so that its
    gradient keeps its size (Hinton et al. 2015, arXiv 1503.02531, section 2).
    """

    weight: float
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.weight <= 1.0:
            raise UserError(f"train.distil.weight: {self.weight}; allowed are above 0 to 1")
        if not self.temperature > 0.0:
            raise UserError(f"train.distil.temperature: {self.temperature}; allowed are above 0")


@dataclass(frozen=True)
class LastLayers:
    """Train the ``last`` decoder layers and, with ``head``, the output head; nothing else."""

    last: int
    head: bool = True


@dataclass(frozen=True)
class Recipe:
    """The settings of the loop that move its numbers."""

    batch_tokens: int
    """Tokens of one step over all processes; a multiple of the sequence length."""
    learning_rate: float
    """Peak of the schedule."""
    warmup_tokens: int
    """Tokens of the linear warm-up, absolute, so that a trunk does not depend on its budgets."""
    decay: float
    """Share of a budget's tokens over which its branch decays."""
    weight_decay: float = 0.1
    """AdamW's decoupled decay, on matrices only (not on norms and biases)."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's moment decays."""
    clip: float = 1.0
    """Largest norm of the gradient of the mean token loss."""
    precision: str = "fp32"
    """'fp32', or 'bf16' for compute in bfloat16 over fp32 master weights."""
    micro_rows: int | None = None
    """Rows of one forward and backward pass; None takes a process's whole share of the batch."""
    layers: LastLayers | None = None
    """The layers that train; None trains everything ('all' in a spec)."""
    distil: Distil | None = None
    """How the unpruned model teaches; None trains on the text alone."""
    tokens: int | None = None
    """Tokens of a base model's training; a post-training run has budgets instead."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("batch_tokens", 1, None),
            ("learning_rate", 0.0, 1.0),
            ("warmup_tokens", 0, None),
            ("decay", 0.0, 1.0),
            ("weight_decay", 0.0, None),
            ("clip", 0.0, None),
        ):
            value = getattr(self, name)
            if value < low or (high is not None and value > high):
                raise UserError(f"train.{name}: {value}; allowed are {low} to {high or 'any'}")
        if self.precision not in ("fp32", "bf16"):
            raise UserError(f"train.precision: {self.precision!r}; allowed are 'fp32' and 'bf16'")

    def steps(self, tokens: int, what: str) -> int:
        """Whole steps of so many tokens. Raises :class:`UserError` where they do not divide."""
        if tokens <= 0 or tokens % self.batch_tokens:
            raise UserError(
                f"{what}: {tokens} tokens; allowed are multiples of train.batch_tokens"
                f" ({self.batch_tokens})"
            )
        return tokens // self.batch_tokens


def parse(train: Mapping[str, Any]) -> Recipe:
    """The recipe of a spec's ``train`` part. Raises :class:`UserError` naming a wrong setting."""
    known = {field.name for field in fields(Recipe)}
    unknown = sorted(set(train) - known)
    if unknown:
        raise UserError(f"train.{unknown[0]}: no such setting; allowed are {sorted(known)}")
    values = {**train}
    if "betas" in values:
        values["betas"] = tuple(values["betas"])
    try:
        if values.get("distil") is not None:
            values["distil"] = Distil(**values["distil"])
        if "layers" in values:
            asked = values["layers"]
            values["layers"] = None if asked == "all" else LastLayers(**asked)
        return Recipe(**values)
    except TypeError as error:
        raise UserError(f"train: {error}") from None
