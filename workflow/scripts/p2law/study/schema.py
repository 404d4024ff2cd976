"""What a study file may hold: every key with its type, unit, default and allowed values.

``read`` turns a plain mapping (YAML as Snakemake merges it) into a :class:`Settings`, or raises one
:class:`~p2law.errors.UserError` that lists every fault by key, value and what is allowed.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator

from p2law.errors import UserError
from p2law.settings.section import Count, Name, Real, Section, Share, faults, number
from p2law.study.inputs import Corpus, Family
from p2law.study.methods import Method
from p2law.study.recipes import Posttrain, Train

RESERVED = {
    "base": "evaluated/<model>/base holds the unpruned model's loss",
    "all": "laws of all methods in one are called so",
    "control": "the unpruned model's own post-training is called so",
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
    objective: Literal["huber", "least_squares", "lad"] = Field(
        "huber", description="what a fit minimises, on log losses; lad is absolute deviations"
    )
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

    device: Literal["cpu", "cuda"] = Field("cpu", description="what trains, prunes and evaluates")
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
    seed: Annotated[int, Field(ge=0)] = Field(
        0, description="of every draw: the split, initial weights, orders of rows, replicates"
    )
    corpus: Corpus = Field(description="the text, how it is split, and the rows it is cut into")
    families: dict[Name, Family] = Field(
        min_length=1, description="models that share a tokenizer and an architecture"
    )
    pretrain: Train | None = Field(
        None, description="how bases of `source: pretrain` are trained; needed where there is one"
    )
    methods: dict[Name, Method] = Field(min_length=1, description="ways to prune, by name")
    posttrain: Posttrain | None = Field(
        None, description="left out, the study ends with the losses right after pruning"
    )
    evaluate: Evaluate = Field(description="how the held-out loss is read")
    downstream: Downstream | None = Field(
        None, description="tasks that `snakemake downstream` scores; left out, none"
    )
    law: Law = Field(Law(), description="how laws are fitted to the losses")
    hardware: Hardware = Field(Hardware(), description="what jobs may use; moves no number")
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
