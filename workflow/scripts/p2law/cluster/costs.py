"""What a study costs before it runs: tokens, FLOPs, hours, memory and disk, by stage.

Estimates come from the study alone. Forward FLOPs a token are 2 N_matmul plus attention's
4 L T h / 2 (causal); a training step takes three forwards (Kaplan 2001.08361, section 2.1).
Imports no torch: the Snakefile takes resources from here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from p2law.architectures import counts
from p2law.architectures.architecture import architecture_of
from p2law.errors import UserError
from p2law.study.grid import Run, Variant
from p2law.study.stages import Stages
from p2law.training import chunked_head

PEAK_FLOPS = {
    "A40": 149.7e12,
    "L40S": 362e12,
    "A100": 312e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
}
"""Dense bf16 tensor-core peak, FLOP/s, from the vendor's data sheets."""

GPU_GIB = {"A40": 45, "L40S": 45, "A100": 80, "H100": 80, "H200": 141, "B200": 180}
"""Memory, GiB; A100 is the 80 GB model."""

STARTUP_SECONDS = 5.0
"""A process that imports torch and a transformers model class, measured on a 2-core machine."""

PROCESS_BYTES = 420e6
"""Resident memory of such a process before it loads a model, measured on Linux x86-64."""

TRAIN_BYTES = 16
"""A trained parameter in fp32 with AdamW: weight, gradient, two moments, 4 bytes each."""


@dataclass(frozen=True)
class Cost:
    """One stage's cost. ``hours`` are core-hours on the CPU, GPU-hours otherwise."""

    stage: str
    jobs: int
    tokens: float
    flops: float
    hours: float
    memory_bytes: float
    disk_bytes: float


def forward_flops(config: Mapping[str, Any], counts: Mapping[str, int], rows: int) -> float:
    """FLOPs of one token's forward pass in rows of ``rows`` tokens.

    ``counts`` are the parameters by part (``counts.parameters``): the embedding table is looked
    up, not multiplied, while the head is, tied or not.
    """
    matmul = counts["nonembedding"] + config["vocab_size"] * config["hidden_size"]
    return 2.0 * matmul + 2.0 * counts["layers"] * rows * config["hidden_size"]


def trained_tokens(schedule: str, budgets: Sequence[float], decay: float) -> float:
    """Tokens one run trains on: WSD shares a trunk, cosine trains every budget from the start."""
    if schedule == "cosine":
        return float(sum(budgets))
    if schedule == "trajectory":
        return float(budgets[-1])
    return (1 - decay) * budgets[-1] + decay * sum(budgets)


def train_bytes(config: Mapping[str, Any], counts: Mapping[str, int], batch_tokens: int) -> float:
    """Peak resident bytes of one process that trains a model in fp32 on a CPU.

    Beside the process: 16 bytes a parameter, and what a step keeps of each token until the
    backward pass, as its architecture declares (``activations``). Another 2.5 layers and 2.7
    logits are the backward pass's own and what the allocator cannot fill; fitted to
    benchmarks/train_memory.py, whose sizes they meet within a tenth.
    """
    architecture = architecture_of(config)
    layer = architecture.activations(architecture.sizes(config))
    logits = 0 if chunked_head(config) else config["vocab_size"]
    kept = 4.0 * ((config["num_hidden_layers"] + 2.5) * layer + 2.7 * logits)
    return PROCESS_BYTES + TRAIN_BYTES * counts["total"] + batch_tokens * kept


def gpu_rate(gpu: str, mfu: float, name: Callable[[str], str]) -> float:
    """FLOP/s that a GPU sustains at a share ``mfu`` of its peak.

    Raises :class:`UserError`, the setting called ``name("gpu")`` or ``name("mfu")``.
    """
    if gpu not in PEAK_FLOPS:
        raise UserError(f"{name('gpu')} {gpu!r}: allowed: {', '.join(PEAK_FLOPS)}")
    if not 0 < mfu <= 1:
        raise UserError(f"{name('mfu')} {mfu}: must lie in (0, 1]")
    return PEAK_FLOPS[gpu] * mfu


class Costs:
    """The cost model of one study: what its stages' jobs take (``Stage.work``) on its hardware."""

    def __init__(self, stages: Stages) -> None:
        self.stages, self.study = stages, stages.study
        self.settings = self.study.settings
        self.hardware = self.settings.hardware
        self.rows = self.settings.corpus.sequence_length
        gpu = gpu_rate(
            self.hardware.gpu,
            self.hardware.mfu,
            lambda key: f"{self.study.origin}: hardware.{key} =",
        )
        self.rate = self.hardware.gflops * 1e9 if self.hardware.device == "cpu" else gpu
        """FLOP/s that one core, or one GPU, is assumed to sustain."""
        self.train_memory = cache(self.train_memory)  # asked for by each of thousands of jobs

    def total(self) -> list[Cost]:
        """The cost of each stage that computes, in the order data flows."""
        found = []
        for name, stage in self.stages.items():
            works = [w for job in stage.jobs() if (w := stage.work(self, *job)) is not None]
            if works:
                flops = sum(work.flops for work in works)
                hours = (flops / self.rate + len(works) * STARTUP_SECONDS) / 3600
                memory = max(work.memory for work in works)
                tokens, disk = sum(w.tokens for w in works), sum(w.disk for w in works)
                found.append(Cost(name, len(works), tokens, flops, hours, memory, disk))
        return found

    def job_flops(self, stage: str, *job: str) -> float:
        """FLOPs of one job."""
        work = self.stages[stage].work(self, *job)
        return 0.0 if work is None else work.flops

    def job_seconds(self, flops: float) -> float:
        """Wall seconds of a job of so many FLOPs on one core or GPU, start-up included."""
        return STARTUP_SECONDS + flops / self.rate

    # What stages ask for their jobs' work.

    def model_flops(self, model: str) -> float:
        """Forward FLOPs a token of an unpruned model."""
        named = self.study.models[model]
        return forward_flops(named.config, named.parameters, self.rows)

    def base_tokens(self, model: str) -> int:
        """Tokens that the study trains a base on itself."""
        settings = self.study.models[model].settings
        return settings.tokens if settings.source == "pretrain" else 0

    def run_flops(self, run: Run) -> float:
        """Training FLOPs a token of a run's variant (a masked one trains at dense cost).

        A layers-only recipe leaves out gradients that nothing needs; a teacher adds its forward.
        """
        config, recipe = run.variant.shape["config"], self.study.recipes[run.recipe]
        forward = forward_flops(config, counts.parameters(config), self.rows)
        teacher = self.model_flops(run.variant.model) if recipe.distil is not None else 0.0
        if recipe.layers == "all":
            return 3 * forward + teacher
        head = 2.0 * config["vocab_size"] * config["hidden_size"]
        last = (forward - head) * recipe.layers.last / config["num_hidden_layers"]
        embeddings = recipe.layers.head and config.get("tie_word_embeddings", False)
        through = forward if embeddings else head + last
        return forward + through + last + (head if recipe.layers.head else 0.0) + teacher

    def run_tokens(self, run: Run) -> float:
        """Tokens that one run trains on, all its budgets together."""
        recipe = self.study.recipes[run.recipe]
        return trained_tokens(recipe.schedule, self.study.budgets, recipe.decay)

    def group_checkpoints(self, model: str, group: str) -> int:
        """Checkpoints that one evaluation job reads: a base, or variants and all their points."""
        runs = len(self.study.group_runs(model, group)) * len(self.study.budgets)
        return len(self.study.group_variants(model, group)) + runs or 1

    def weight_bytes(self, model: str) -> float:
        """An unpruned checkpoint on disk, in fp32."""
        return 4.0 * self.study.models[model].parameters["total"]

    def variant_bytes(self, variant: Variant) -> float:
        """A variant's checkpoint on disk, in fp32; a masked one is as large as its base."""
        return 4.0 * counts.parameters(variant.shape["config"])["total"]

    def load_memory(self, model: str) -> float:
        """Peak resident bytes of a job that reads a model and runs it forward."""
        config = self.study.models[model].config
        batch = self.settings.evaluate.batch_rows * self.rows
        logits = batch * config["vocab_size"] * 4 * 2
        return PROCESS_BYTES + 2 * self.weight_bytes(model) + logits

    def base_memory(self, model: str) -> float:
        """Peak resident bytes of the job that trains a base, or fetches and counts it."""
        if not self.base_tokens(model):
            return self.load_memory(model)
        return self._train_bytes(model, self.settings.pretrain.batch_tokens)

    def run_memory(self, run: Run) -> float:
        """Peak resident bytes of a job that post-trains in fp32 on one process.

        As if nothing were pruned; with masks and the weights that a cosine goes back to, in fp32
        each; a teacher's weights, and its and the softened logits, eight tensors of them.
        """
        model, recipe = run.variant.model, self.study.recipes[run.recipe]
        weights = self.weight_bytes(model)
        masked = "zeros" in run.variant.shape["removed"]
        beside = weights * (masked + (recipe.schedule == "cosine"))
        if recipe.distil is not None:
            vocabulary = self.study.models[model].config["vocab_size"]
            beside += weights + 4.0 * 8 * vocabulary * recipe.batch_tokens
        return self._train_bytes(model, recipe.batch_tokens) + beside

    def train_memory(self, model: str) -> float:
        """The most that any training job of a model takes, peak resident bytes."""
        study = self.study
        runs = [run for group in study.groups(model) for run in study.group_runs(model, group)]
        return max([self.base_memory(model), *(self.run_memory(run) for run in runs)])

    def _train_bytes(self, model: str, batch_tokens: int) -> float:
        """Of one process; a batch at once on a CPU, on a GPU a row, or more as they fit."""
        named = self.study.models[model]
        at_once = batch_tokens if self.hardware.device == "cpu" else self.rows
        return train_bytes(named.config, named.parameters, at_once)
