"""What a study file may hold: every key with its type, unit, default and allowed values.

``read`` turns a plain mapping (YAML as Snakemake merges it) into a :class:`Settings`, or raises one
:class:`~p2law.errors.UserError` that lists every fault by key, value and what is allowed.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from p2law.errors import UserError
from p2law.settings.section import Count, Name, Real, Section, Share, faults, number
from p2law.study.inputs import Corpus, Family
from p2law.study.methods import Method

RESERVED = {
    "base": "evaluated/<model>/base holds the unpruned model's loss",
    "all": "laws of all methods in one are called so",
}
"""What no method may be called, and why."""


def _flag(value: Any) -> Any:
    """Snakemake hands ``--config partial=true`` on as text."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _delta(value: Any) -> Any:
    """A union's own message would show both its branches; this one says what is meant."""
    value = number(value)
    if value == "noise" or (isinstance(value, int | float) and 0 < value < math.inf):
        return value
    raise ValueError('must be a number above 0, or "noise"')


def _above_zero(value: Any) -> Any:
    """Unions of a number and something else: their own message would show every branch."""
    value = number(value)
    if isinstance(value, dict) or (isinstance(value, int | float) and 0 < value < math.inf):
        return value
    raise ValueError("must be a number above 0")


Rate = Annotated[float, BeforeValidator(_above_zero)]


class Train(Section):
    """How a model is trained; tokens are whole batches."""

    batch_tokens: Count = Field(description="global batch, in tokens: whole rows")
    learning_rate: Real = Field(gt=0, description="peak")
    warmup_tokens: Count = Field(description="linear warm-up, absolute so that the trunk is one")
    decay: Share = Field(0.2, description="share of the tokens in the 1 - sqrt decay")
    weight_decay: Real = Field(0.1, ge=0)
    betas: list[Share] = Field([0.9, 0.95], min_length=2, max_length=2)
    clip: Real = Field(1.0, gt=0, description="gradient norm")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of compute; weights stay fp32")

    @model_validator(mode="after")
    def _warmup_is_whole(self) -> "Train":
        if self.warmup_tokens % self.batch_tokens:
            raise ValueError(
                f"warmup_tokens = {self.warmup_tokens}: must be a multiple of"
                f" batch_tokens = {self.batch_tokens}"
            )
        return self


Schedule = Literal["wsd", "cosine", "trajectory"]


class Distil(Section):
    """Knowledge distillation: the loss draws the logits towards the unpruned model's."""

    weight: Real = Field(gt=0, le=1, description="share of the loss; the text has the rest")
    temperature: Real = Field(1.0, gt=0, description="that softens both distributions")


class LastLayers(Section):
    """Train the last layers only; everything below them stays as pruning left it."""

    last: Count = Field(description="decoder layers that train, counted from the output")
    head: bool = Field(True, description="train the output head too; tied, that is the embeddings")


class Posttrain(Train):
    """Post-training of every variant: one run a schedule and seed, one point a budget."""

    learning_rate: Annotated[Rate | dict[Schedule, Rate], BeforeValidator(_above_zero)] = Field(
        description="peak, or a peak for each schedule: a cosine's best is about twice wsd's"
    )
    schedule: Schedule | list[Schedule] = Field(
        "wsd",
        description="one or several; the law rests on the first, the others are compared with it",
    )
    budgets: list[Count] = Field(min_length=1, description="tokens D, rising")
    seeds: list[Annotated[int, Field(ge=0)]] = Field([0], min_length=1)
    layers: Literal["all"] | LastLayers = Field("all", description="which decoder layers train")
    distil: Distil | None = Field(None, description="null trains on the text alone")

    @property
    def schedules(self) -> tuple[str, ...]:
        """Every schedule of the study, the law's first."""
        return (self.schedule,) if isinstance(self.schedule, str) else tuple(self.schedule)

    def peak(self, schedule: str) -> float:
        """A schedule's peak learning rate."""
        rate = self.learning_rate
        return rate[schedule] if isinstance(rate, dict) else rate

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
    def _a_rate_a_schedule(self) -> "Posttrain":
        if not self.schedules or len(set(self.schedules)) < len(self.schedules):
            raise ValueError(f"schedule = {self.schedule}: at least one, each once")
        if isinstance(self.learning_rate, dict) and set(self.learning_rate) != set(self.schedules):
            raise ValueError(
                f"learning_rate is given for {', '.join(self.learning_rate)}: must be for each of"
                f" {', '.join(self.schedules)}"
            )
        return self

    @model_validator(mode="after")
    def _whole_and_warm(self) -> "Posttrain":
        for budget in self.budgets:
            if budget % self.batch_tokens:
                raise ValueError(
                    f"budgets: {budget} must be a multiple of batch_tokens = {self.batch_tokens}"
                )
            trunk = budget - (self.decay * budget if "wsd" in self.schedules else 0)
            if trunk < self.warmup_tokens:
                raise ValueError(
                    f"budgets: {budget} decays from {trunk:.0f} tokens on, below"
                    f" warmup_tokens = {self.warmup_tokens}"
                )
        return self


class Evaluate(Section):
    """The held-out loss; changing it retrains nothing."""

    tokens: Count = Field(description="validation tokens, whole rows drawn over the split")
    batch_rows: Count = Field(16, description="rows at once; does not change the loss")


class Downstream(Section):
    """Tasks by lm-eval, only where `snakemake downstream` asks; needs envs/downstream.txt."""

    tasks: list[str] = Field(
        ["boolq", "piqa", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa"],
        min_length=1,
        description="names of lm-eval's tasks",
    )
    add_bos_token: bool = Field(description="put BOS first: true for Llama-3, false for Qwen")
    shots: Annotated[int, Field(ge=0)] = Field(0, description="solved examples in the prompt")
    batch_rows: Count = Field(8, description="prompts at once; fixed, since scores move with it")
    limit: Count | None = Field(None, description="documents of each task; null for all")
    include: str | None = Field(None, description="folder with further task definitions (YAML)")


class Law(Section):
    """How laws are fitted to the loss table."""

    forms: list[str] | None = Field(
        None, min_length=1, description="names of p2law/laws/forms/registry.py; null for all"
    )
    objective: Literal["huber", "least_squares", "lad"] = "huber"
    delta: Annotated[float | Literal["noise"], BeforeValidator(_delta)] = Field(
        1e-3, description="Huber's, on log loss"
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(200, description="run-level replicates")
    identify: Literal["require", "report"] = Field(
        "require", description="refuse a grid that cannot determine the P² law, or only report it"
    )

    @field_validator("forms")
    @classmethod
    def _known(cls, forms: list[str] | None) -> list[str] | None:
        if forms is not None:
            # Here, since it imports numpy, and most studies name no forms.
            from p2law.laws.forms import registry

            for name in forms:
                registry.get(name)
        return forms


class JobOverride(Section):
    """What one rule's jobs ask for, in place of the formulas; unset values stay computed."""

    gpu: Annotated[int, Field(ge=0)] | None = Field(None, description="GPUs of one job, all nodes")
    threads: Count | None = Field(None, description="cores of one job on each of its nodes")
    mem_mb: Count | None = Field(None, description="host memory on each node; a retry adds as much")
    runtime: Count | None = Field(None, description="minutes; each retry doubles them")


class Hardware(Section):
    """What a job may use. Never part of a stage's identity: it does not change the science."""

    device: Literal["cpu", "cuda"] = "cpu"
    gpu: str = Field("H100", description="GPU model assumed by cost and by the jobs' requests")
    mfu: Share = Field(0.35, description="share of the GPU's peak that cost assumes")
    gflops: Real = Field(40.0, gt=0, description="sustained GFLOP/s of a core that cost assumes")
    gpus_per_node: Count = Field(8, description="GPUs of a node; a larger job takes whole nodes")
    cores_per_gpu: Count = Field(8, description="cores that a job asks for beside each GPU")
    job_hours: Real = Field(
        12.0,
        gt=0,
        description="a training expected to take longer gets more GPUs, up to a node's; jobs ask"
        " for twice the time",
    )
    compile: bool = Field(
        False,
        description="torch.compile the layers of models in training: faster steps after a minute of"
        " compiling; needs a C++ compiler",
    )
    jobs: dict[Literal["base", "prune", "posttrain", "evaluate"], JobOverride] = Field(
        {}, description="by rule, what replaces the formulas; the profile's set-resources go before"
    )


class Settings(Section):
    """A whole study."""

    study: Name = Field(description="name; results go to results/<study>")
    seed: Annotated[int, Field(ge=0)] = 0
    corpus: Corpus
    families: dict[Name, Family] = Field(min_length=1)
    pretrain: Train | None = None
    methods: dict[Name, Method] = Field(min_length=1)
    posttrain: Posttrain | None = Field(
        None, description="left out, the study ends with the losses right after pruning"
    )
    evaluate: Evaluate
    downstream: Downstream | None = None
    law: Law = Law()
    hardware: Hardware = Hardware()
    partial: Annotated[bool, BeforeValidator(_flag)] = Field(
        False, description="tables, law and figures from the finished runs only"
    )

    @field_validator("methods")
    @classmethod
    def _free(cls, methods: dict[str, Method]) -> dict[str, Method]:
        for name in methods:
            if name in RESERVED:
                raise ValueError(f"{name!r} is taken ({RESERVED[name]}); choose another name")
        return methods


def read(config: Mapping[str, Any], origin: str) -> Settings:
    """Validate a study's mapping; ``origin`` names its file(s) in the error."""
    try:
        return Settings.model_validate(dict(config))
    except ValidationError as error:
        raise UserError(f"{origin}: {faults(error, Settings, config)}") from None
