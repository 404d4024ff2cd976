"""What a study costs before it runs: tokens, FLOPs, hours, memory and disk, by stage.

Estimates come from the study alone. Forward FLOPs a token are 2 N_matmul plus attention's
4 L T h / 2 (causal); a training step takes three forwards (Kaplan 2001.08361, section 2.1).
Imports no torch: the Snakefile takes resources from here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from p2law.architectures import counts
from p2law.architectures.architecture import architecture_of
from p2law.errors import UserError
from p2law.study.grid import Run, Study
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

SNAPSHOTS = 2
"""Rolling states kept while a job runs, beside one for good where each budget leaves the trunk; a
state holds the weights and two moments."""


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


def trained_tokens(schedule: str, budgets: list[int], decay: float) -> float:
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
    """The cost model of one study."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.hardware = study.settings.hardware
        self.rows = study.settings.corpus.sequence_length
        gpu = gpu_rate(
            self.hardware.gpu, self.hardware.mfu, lambda key: f"{study.origin}: hardware.{key} ="
        )
        self.rate = self.hardware.gflops * 1e9 if self.hardware.device == "cpu" else gpu
        """FLOP/s that one core, or one GPU, is assumed to sustain."""

    def model_flops(self, model: str) -> float:
        """Forward FLOPs a token of an unpruned model."""
        named = self.study.models[model]
        return forward_flops(named.config, named.parameters, self.rows)

    def run_flops(self, run: Run) -> float:
        """Training FLOPs a token of a run's variant (a masked one trains at dense cost).

        A layers-only recipe leaves out gradients that nothing needs; a teacher adds its forward.
        """
        config, section = run.variant.shape["config"], self.study.settings.posttrain
        forward = forward_flops(config, counts.parameters(config), self.rows)
        teacher = self.model_flops(run.variant.model) if section.distil is not None else 0.0
        if section.layers == "all":
            return 3 * forward + teacher
        head = 2.0 * config["vocab_size"] * config["hidden_size"]
        last = (forward - head) * section.layers.last / config["num_hidden_layers"]
        embeddings = section.layers.head and config.get("tie_word_embeddings", False)
        through = forward if embeddings else head + last
        return forward + through + last + (head if section.layers.head else 0.0) + teacher

    def stages(self) -> list[Cost]:
        """The cost of each stage that computes, in the order data flows."""
        return [self._base(), self._prune(), self._posttrain(), self._evaluate()]

    def base_tokens(self, model: str) -> int:
        settings = self.study.models[model].settings
        return settings.tokens if settings.source == "pretrain" else 0

    def run_tokens(self, run: Run) -> float:
        """Tokens that one run trains on, all its budgets together."""
        section = self.study.settings.posttrain
        return trained_tokens(run.schedule, section.budgets, section.decay)

    def _base(self) -> Cost:
        models = self.study.models
        tokens = {m: self.base_tokens(m) for m in models}
        flops = sum(3 * self.model_flops(m) * t for m, t in tokens.items())
        disk = sum(self.weight_bytes(m) for m in models)
        memory = max(self.base_memory(m) for m in models)
        return self._cost("base", len(models), sum(tokens.values()), flops, memory, disk)

    def _prune(self) -> Cost:
        study, models = self.study, self.study.models
        methods = study.settings.methods
        tokens = study.settings.corpus.calibration_windows * self.rows * len(methods) * len(models)
        flops = sum(self.prune_flops(model, method) for model in models for method in methods)
        disk = sum(self.weight_bytes(v.model) for v in study.variants.values())
        memory = max(self.load_memory(m) for m in models)
        return self._cost("prune", len(methods) * len(models), tokens, flops, memory, disk)

    def prune_flops(self, model: str, method: str) -> float:
        """FLOPs of one prune job: every rate runs the calibration windows forward."""
        settings = self.study.settings
        rates = len(settings.methods[method].rates)
        return self.model_flops(model) * settings.corpus.calibration_windows * self.rows * rates

    def _posttrain(self) -> Cost:
        runs = list(self.study.runs.values())
        tokens = sum(self.run_tokens(run) for run in runs)
        flops = sum(self.run_flops(run) * self.run_tokens(run) for run in runs)
        points = len(self.study.budgets)
        copies = points + 3 * (points + SNAPSHOTS)
        sizes = (counts.parameters(run.variant.shape["config"])["total"] for run in runs)
        disk = sum(4.0 * size * copies for size in sizes)
        memory = max((self.train_memory(run.variant.model) for run in runs), default=0.0)
        return self._cost("posttrain", len(runs), tokens, flops, memory, disk)

    def _evaluate(self) -> Cost:
        study, each = self.study, self.study.settings.evaluate.tokens
        groups = [(m, g) for m in study.models for g in (None, *study.settings.methods)]
        count = sum(self.group_checkpoints(*pair) for pair in groups)
        flops = sum(self.evaluate_flops(*pair) for pair in groups)
        memory = max(self.load_memory(m) for m in study.models)
        disk = count * each / self.rows * 8
        return self._cost("evaluate", len(groups), count * each, flops, memory, disk)

    def group_checkpoints(self, model: str, method: str | None) -> int:
        """Checkpoints that one evaluation job reads; no method means the base."""
        if method is None:
            return 1
        variants = len(self.study.settings.methods[method].rates)
        return variants + len(self.study.group_runs(model, method)) * len(self.study.budgets)

    def evaluate_flops(self, model: str, method: str | None) -> float:
        """FLOPs of one evaluation job, its checkpoints counted as dense."""
        each = self.study.settings.evaluate.tokens * self.model_flops(model)
        return each * self.group_checkpoints(model, method)

    def _cost(
        self, stage: str, jobs: int, tokens: float, flops: float, memory: float, disk: float
    ) -> Cost:
        hours = (flops / self.rate + jobs * STARTUP_SECONDS) / 3600
        return Cost(stage, jobs, tokens, flops, hours, memory, disk)

    # One job's needs: the rules ask for these.

    def weight_bytes(self, model: str) -> float:
        """A checkpoint on disk, in fp32."""
        return 4.0 * self.study.models[model].parameters["total"]

    def load_memory(self, model: str) -> float:
        """Peak resident bytes of a job that reads a model and runs it forward."""
        config = self.study.models[model].config
        batch = self.study.settings.evaluate.batch_rows * self.rows
        logits = batch * config["vocab_size"] * 4 * 2
        return PROCESS_BYTES + 2 * self.weight_bytes(model) + logits

    def base_memory(self, model: str) -> float:
        """Peak resident bytes of the job that trains a base, or fetches and counts it."""
        return self.train_memory(model) if self.base_tokens(model) else self.load_memory(model)

    def train_memory(self, model: str) -> float:
        """Peak resident bytes of a job that trains a model in fp32 on one process."""
        named, settings = self.study.models[model], self.study.settings
        pretrain = settings.pretrain if named.settings.source == "pretrain" else None
        needs = [0.0]
        if pretrain is not None:
            batch = self._at_once(pretrain.batch_tokens)
            needs += [train_bytes(named.config, named.parameters, batch)]
        if settings.posttrain is not None:
            batch = self._at_once(settings.posttrain.batch_tokens)
            needs += [train_bytes(named.config, named.parameters, batch) + self._beside(model)]
        return max(needs)

    def _at_once(self, batch_tokens: int) -> int:
        """Tokens of a batch in one pass: all on a CPU; on a GPU a row, or more as they fit."""
        return batch_tokens if self.hardware.device == "cpu" else self.rows

    def _beside(self, model: str) -> float:
        """Bytes of what a post-training run may hold beside its model: the dearest run's.

        Masks and the weights that a cosine goes back to, in fp32 each; a teacher's weights, and
        its and the softened logits, eight tensors of them.
        """
        section, weights = self.study.settings.posttrain, self.weight_bytes(model)
        masked = any(
            method.prune["prune"] == "weights" for method in self.study.settings.methods.values()
        )
        beside = weights * (masked + ("cosine" in section.schedules))
        if section.distil is not None:
            vocabulary = self.study.models[model].config["vocab_size"]
            beside += weights + 4.0 * 8 * vocabulary * section.batch_tokens
        return beside

    def job_seconds(self, flops: float) -> float:
        """Wall seconds of a job of so many FLOPs on one core or GPU, start-up included."""
        return STARTUP_SECONDS + flops / self.rate
