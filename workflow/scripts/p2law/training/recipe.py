"""A recipe: how a run trains, as the spec's ``train`` part says, checked before anything starts."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from p2law.errors import UserError


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
    trained_layers: int | None = None
    """Train the output head and this many last layers only; None trains everything."""
    distil: float = 0.0
    """Share of the loss that draws the logits towards the unpruned model's; 0 trains on text."""
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
            ("distil", 0.0, 1.0),
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
        return Recipe(**values)
    except TypeError as error:
        raise UserError(f"train: {error}") from None
