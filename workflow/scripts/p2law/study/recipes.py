"""How models are trained: the settings of a base's training, and the recipes of post-training.

A recipe is one way to post-train: its schedule, learning rate, which layers train, what teaches.
Every run of a study is (variant, recipe, seed); the law rests on the first recipe, the others are
compared with it and never mixed into its table rows.
"""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, field_validator, model_validator

from p2law.settings.section import Count, Name, Real, Section, Share, number

Schedule = Literal["wsd", "cosine", "trajectory"]
FIRST = "wsd"
"""What the one recipe is called in the new form of a study that named none."""


class SizeRule(Section):
    """A peak that follows the unpruned model's size: rate x (size / N0)^exponent."""

    rate: Real = Field(gt=0, description="peak at size N0")
    N0: Real = Field(gt=0, description="parameters of the model that `rate` is for")
    exponent: Real = Field(description="power of the size; below 0, larger models learn slower")


def _rate(value: Any) -> Any:
    """A union's own message would show every branch; this one says what is meant."""
    value = number(value)
    if isinstance(value, Mapping) or (isinstance(value, int | float) and 0 < value < math.inf):
        return value
    raise ValueError("must be a number above 0, a number for each model, or {rate, N0, exponent}")


def _branch(value: Any) -> Any:
    """Settle which branch a mapping is, so that its faults are told of that one alone."""
    if isinstance(value, Mapping) and set(value) & set(SizeRule.model_fields):
        return SizeRule.model_validate(value)
    return value


Positive = Annotated[float, BeforeValidator(number), Field(gt=0, allow_inf_nan=False)]
LearningRate = Annotated[
    float | SizeRule | dict[Name, Positive], BeforeValidator(_branch), BeforeValidator(_rate)
]


class Train(Section):
    """How a model is trained; tokens are whole batches."""

    batch_tokens: Count = Field(description="global batch, in tokens: whole rows")
    learning_rate: LearningRate = Field(
        description="peak: one for all models, one by name for each model, or a rule of size"
    )
    warmup_tokens: Count = Field(description="linear warm-up, absolute so that the trunk is one")
    decay: Share = Field(0.2, description="share of the tokens in the 1 - sqrt decay")
    weight_decay: Real = Field(0.1, ge=0, description="AdamW's decoupled decay, of matrices only")
    betas: list[Share] = Field(
        [0.9, 0.95], min_length=2, max_length=2, description="decay rates of AdamW's two moments"
    )
    clip: Real = Field(1.0, gt=0, description="largest norm of the gradient")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of compute; weights stay fp32")

    def peak(self, model: str, parameters: int) -> float:
        """The peak learning rate of a model of so many parameters before pruning.

        Raises ValueError where rates are given by model and this one has none.
        """
        rate = self.learning_rate
        if isinstance(rate, SizeRule):
            return rate.rate * (parameters / rate.N0) ** rate.exponent
        if isinstance(rate, Mapping):
            if model not in rate:
                raise ValueError(f"learning_rate: none for {model}; it names {', '.join(rate)}")
            return rate[model]
        return rate

    @model_validator(mode="after")
    def _warmup_is_whole(self) -> "Train":
        if self.warmup_tokens % self.batch_tokens:
            raise ValueError(
                f"warmup_tokens = {self.warmup_tokens}: must be a multiple of"
                f" batch_tokens = {self.batch_tokens}"
            )
        return self


class Distil(Section):
    """Knowledge distillation: the loss draws the logits towards the unpruned model's."""

    weight: Real = Field(gt=0, le=1, description="share of the loss; the text has the rest")
    temperature: Real = Field(1.0, gt=0, description="that softens both distributions")


class LastLayers(Section):
    """Train the last layers only; everything below them stays as pruning left it."""

    last: Count = Field(description="decoder layers that train, counted from the output")
    head: bool = Field(True, description="train the output head too; tied, that is the embeddings")


class Recipe(Train):
    """One way to post-train. Settings that a later recipe leaves out are the first one's."""

    schedule: Schedule = Field(
        "wsd",
        description="wsd: one trunk a run, a decay branch at every budget; cosine: every budget"
        " from the start; trajectory: one cosine, points on its way",
    )
    layers: Literal["all"] | LastLayers = Field("all", description="which decoder layers train")
    distil: Distil | None = Field(None, description="null trains on the text alone")

    def first_decay(self, budget: int) -> float:
        """Tokens after which a budget's decay begins."""
        return budget - (self.decay * budget if self.schedule == "wsd" else 0)


class Posttrain(Section):
    """Post-training of every variant: one run a recipe and seed, one point a budget."""

    budgets: list[Count] = Field(min_length=1, description="tokens D, rising")
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        [0], min_length=1, description="order of the training rows; the first is the law's main one"
    )
    control: bool | None = Field(
        None,
        description="train the unpruned model by the same recipes on the same rows; null does so"
        " for bases that were not trained on the study's own text",
    )
    recipes: dict[Name, Recipe] = Field(
        min_length=1, description="ways to train by name: the law's first, others beside it"
    )

    @model_validator(mode="before")
    @classmethod
    def _whole_recipes(cls, value: Any) -> Any:
        """Refuse the form that knew no recipes; fill a later recipe from the first."""
        if not isinstance(value, Mapping):
            return value
        retired = [key for key in value if key in Recipe.model_fields]
        recipes = value.get("recipes")
        if retired and isinstance(recipes, Mapping):
            places = ", ".join(f"recipes.{name}" for name in recipes)
            raise ValueError(f"{', '.join(retired)}: a recipe's; put it into {places}")
        if retired:
            raise ValueError(f"{', '.join(retired)}: now a recipe's. Write\n{new_form(value)}")
        if not isinstance(recipes, Mapping) or not all(
            isinstance(recipe, Mapping) for recipe in recipes.values()
        ):
            return value
        first: Mapping[str, Any] = next(iter(recipes.values()), {})
        return {**value, "recipes": {name: {**first, **one} for name, one in recipes.items()}}

    @field_validator("recipes")
    @classmethod
    def _named_apart(cls, recipes: dict[str, Recipe]) -> dict[str, Recipe]:
        for name in recipes:
            if re.fullmatch(r"(?:.*-)?seed\d+", name):
                raise ValueError(f"{name!r} would read like a seed in a run's name; choose another")
        return recipes

    @field_validator("budgets")
    @classmethod
    def _rising(cls, budgets: list[int]) -> list[int]:
        if any(b <= a for a, b in zip(budgets, budgets[1:], strict=False)):
            raise ValueError("budgets must rise strictly")
        return budgets

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("seeds must differ")
        return seeds

    @model_validator(mode="after")
    def _whole_and_warm(self) -> "Posttrain":
        for name, recipe in self.recipes.items():
            for budget in self.budgets:
                if budget % recipe.batch_tokens:
                    raise ValueError(
                        f"budgets: {budget} must be a multiple of recipes.{name}.batch_tokens ="
                        f" {recipe.batch_tokens}"
                    )
                if recipe.first_decay(budget) < recipe.warmup_tokens:
                    raise ValueError(
                        f"budgets: {budget} decays from {recipe.first_decay(budget):.0f} tokens on,"
                        f" below recipes.{name}.warmup_tokens = {recipe.warmup_tokens}"
                    )
        return self


def new_form(old: Mapping[str, Any]) -> str:
    """The posttrain section of a study from before recipes, as YAML in today's form."""
    moved = {key: value for key, value in old.items() if key in Recipe.model_fields}
    schedules = moved.pop("schedule", FIRST)
    rates = moved.pop("learning_rate", None)
    recipes: dict[str, Any] = {}
    for schedule in [schedules] if isinstance(schedules, str) else schedules:
        rate = rates.get(schedule) if isinstance(rates, Mapping) and schedule in rates else rates
        told = {"schedule": schedule, **({} if rate is None else {"learning_rate": rate})}
        recipes[schedule] = told if recipes else {**told, **moved}
    kept = {key: value for key, value in old.items() if key in ("budgets", "seeds", "control")}
    text = yaml.safe_dump({"posttrain": {**kept, "recipes": recipes}}, sort_keys=False)
    return "\n".join(f"  {line}" for line in text.splitlines())
