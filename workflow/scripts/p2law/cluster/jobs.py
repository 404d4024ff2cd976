"""What each job of a study asks for: GPUs, nodes, cores, memory, walltime, by formula.

A value comes from the profile's set-resources, else from the study's ``hardware.jobs``, else from
the formulas here. None of it is part of a stage's identity. Imports no torch: the rules take
resources from here.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from p2law.cluster.costs import GPU_GIB, PROCESS_BYTES, TRAIN_BYTES, Costs, train_bytes
from p2law.errors import UserError
from p2law.study.stage import Names

USABLE = 0.8
"""Share of a GPU's memory for weights, gradients and moments; the rest is for activations."""

CUDA_BYTES = 3e9
"""Host memory of a process that uses CUDA before it loads a model: context and libraries."""

SHORTEST = {"cpu": 10, "cuda": 30}
"""Minutes; no job asks for less. On GPUs checkpoints of tens of gigabytes are read, hashed and
written, and a solver (SparseGPT) takes longer than its FLOPs say."""

STARTING = 60
"""Seconds from a job's start to its trainer's, at most: two starts of snakemake on a slow disk."""


class Jobs:
    """The requests of one study's jobs.

    ``overrides`` are a profile's set-resources, by rule, as Snakemake holds them (``raw`` is the
    text it read): where they set ``gpu``, the number of nodes, of cores and the walltime follow.
    Raises :class:`UserError` for a request that cannot work: a GPU count that is not whole nodes,
    or does not divide a batch's rows.
    """

    def __init__(
        self, costs: Costs, overrides: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self.costs, self.study, self.hardware = costs, costs.study, costs.hardware
        self.stages = costs.stages
        self.overrides = overrides or {}
        self._gpus: dict[tuple[str, str], int] = {}

    def largest(self) -> int:
        """GPUs of the study's largest job."""
        asking = dict.fromkeys(
            (stage.name, job[0])
            for stage, job in self.stages.jobs()
            if stage.work(self.costs, *job) is not None
            and (stage.trained(*job) or not stage.trains)
        )
        return max(self.gpus(rule, model) for rule, model in asking)

    def gpus(self, rule: str, model: str) -> int:
        """GPUs of one job over all its nodes; 0 for a study on CPUs."""
        if (rule, model) not in self._gpus:
            self._gpus[rule, model] = self._checked(rule, model, self._wanted(rule, model))
        return self._gpus[rule, model]

    def nodes(self, rule: str, model: str) -> int:
        """Nodes of one job: whole ones where it needs more GPUs than one has."""
        return max(1, -(-self.gpus(rule, model) // self.hardware.gpus_per_node))

    def processes(self, rule: str, model: str) -> int:
        """Training processes on each node: one a GPU."""
        return max(1, self.gpus(rule, model) // self.nodes(rule, model))

    def shards(self, model: str) -> bool:
        """Whether one GPU cannot hold a model in training, so that its weights are split."""
        return self.hardware.device == "cuda" and self._share(model) > 1

    def micro_rows(self, rule: str, *job: str) -> int:
        """Rows of a batch that a GPU in training takes at once; 0 where not even one fits.

        What weights, gradients and moments leave of 90 % of its memory, at fp32's activations.
        """
        model, rows = job[0], self.costs.rows
        named = self.study.models[model]
        row = train_bytes(named.config, named.parameters, rows)
        row -= train_bytes(named.config, named.parameters, 0)
        states = TRAIN_BYTES * named.parameters["total"]
        held = states / (self.gpus(rule, model) if self.shards(model) else 1)
        free = 0.9 * GPU_GIB[self.hardware.gpu] * 2**30 - held
        share = self._batch_tokens(rule, job) // rows // self.gpus(rule, model)
        return max(0, min(share, int(free / row)))

    def _batch_tokens(self, rule: str, job: Names) -> int:
        """Tokens of a training job's batch."""
        return self.stages[rule].told(*job)["train"]["batch_tokens"]

    def threads(self, rule: str, model: str) -> int:
        """Cores of one job on each node."""
        asked = self._asked(rule, "threads")
        on_node = self.gpus(rule, model) // self.nodes(rule, model)
        return asked or max(1, self.hardware.cores_per_gpu * on_node)

    def memory(self, rule: str, model: str, attempt: int) -> int:
        """Host memory of one job on each node, MB: 1.5 x the estimate; a retry adds as much."""
        asked = self._asked(rule, "mem_mb") or int(self._bytes(rule, model) * 1.5 / 1e6)
        return asked * attempt

    def minutes(self, rule: str, model: str, flops: float, attempt: int) -> int:
        """Walltime of a job of so many FLOPs: twice the estimate; each retry doubles it."""
        seconds = self.costs.job_seconds(flops / max(1, self.gpus(rule, model)))
        asked = self._asked(rule, "runtime") or max(SHORTEST[self.hardware.device], seconds / 30)
        return int(asked * 2 ** (attempt - 1))

    def _asked(self, rule: str, resource: str) -> int | None:
        asked = [one for name, one in self.hardware.jobs.items() if name == rule]
        return getattr(asked[0], resource) if asked else None

    def _wanted(self, rule: str, model: str) -> int:
        if self.hardware.device == "cpu":
            return 0
        profile = self.overrides.get(rule, {}).get("gpu")
        for asked in (getattr(profile, "raw", profile), self._asked(rule, "gpu")):
            if asked is not None:
                return _whole_number(rule, asked)
        return self._needed(model) if self.stages[rule].trains else 1

    def _share(self, model: str) -> float:
        """GPUs' worth of memory that a model in training takes, activations apart."""
        needed = TRAIN_BYTES * self.study.models[model].parameters["total"]
        return needed / (USABLE * GPU_GIB[self.hardware.gpu] * 2**30)

    @cached_property
    def _trainings(self) -> dict[str, list[tuple[str, Names]]]:
        """Model -> its training jobs, as (rule, job)."""
        found = defaultdict(list)
        for stage, job in self.stages.jobs():
            if stage.trained(*job):
                found[job[0]].append((stage.name, job))
        return found

    def _needed(self, model: str) -> int:
        """A power of two that holds the model and, within a node, ends within ``job_hours``."""
        fit = 2 ** math.ceil(math.log2(max(1.0, self._share(model))))
        flops = max((self.costs.job_flops(rule, *job) for rule, job in self._trainings[model]),
                    default=0.0)  # fmt: skip
        hours = self.costs.job_seconds(flops) / 3600 / self.hardware.job_hours
        fast = 2 ** math.ceil(math.log2(max(1.0, hours)))
        return max(fit, min(fast, self.hardware.gpus_per_node))

    def _checked(self, rule: str, model: str, gpus: int) -> int:
        each = self.hardware.gpus_per_node
        if gpus > each and gpus % each:
            raise UserError(
                f"{rule} of {model} asks for gpu = {gpus}: more than a node's"
                f" hardware.gpus_per_node = {each} must be whole nodes, a multiple of it"
            )
        jobs = [job for name, job in self._trainings[model] if name == rule] if gpus else []
        for rows in {self._batch_tokens(rule, job) // self.costs.rows for job in jobs}:
            if rows % gpus:
                raise UserError(
                    f"{rule} of {model} asks for gpu = {gpus}: a batch of {rows} rows does not"
                    " divide among them; change batch_tokens or hardware.jobs"
                )
        if rule == "evaluate" and gpus:
            self._fits(model)
        return gpus

    def _fits(self, model: str) -> None:
        """An evaluation runs on one GPU: fp32 weights and one batch's logits must fit."""
        gib = GPU_GIB[self.hardware.gpu]
        needed = (self.costs.load_memory(model) - self.costs.weight_bytes(model)) / 2**30
        if needed > gib:
            raise UserError(
                f"evaluate of {model} needs {needed:.0f} GiB of one GPU, a {self.hardware.gpu} has"
                f" {gib}: lower evaluate.batch_rows or name a larger hardware.gpu"
            )

    def _bytes(self, rule: str, model: str) -> float:
        """Host memory on one node: of the process that holds the model, or one a GPU.

        On GPUs every process reads the whole checkpoint before its part goes to the device, and
        the one that saves a sharded run holds all weights and moments.
        """
        if not self.stages[rule].trains:
            return self.costs.load_memory(model)
        if self.hardware.device == "cpu":
            return self.costs.train_memory(model)
        weights = self.costs.weight_bytes(model)
        each = PROCESS_BYTES + CUDA_BYTES + weights
        return self.processes(rule, model) * each + 3 * weights


def _whole_number(rule: str, value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise UserError(
            f"set-resources: {rule}: gpu = {value!r}: must be a number: nodes and cores follow"
        ) from None
