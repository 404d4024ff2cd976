"""What a study's jobs took, beside what was estimated: from manifests and Snakemake's benchmarks.

A benchmark file holds the wall time of a job's last attempt; what earlier attempts of a job that
was killed had spent is not in it. Hours are core-hours on CPUs (one core a job), GPU-hours on GPUs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2law.cluster.costs import Costs
from p2law.results.manifest import read_manifest
from p2law.study.grid import Study
from p2law.study.specs import BASE


@dataclass(frozen=True)
class Job:
    """One finished job; ``slurm``, ``nodes``, ``gpu`` and ``joules`` are None where not known."""

    stage: str
    model: str
    name: str
    estimated_hours: float
    hours: float
    memory_bytes: int
    slurm: str | None
    nodes: str | None
    gpu: str | None
    joules: int | None


def jobs(study: Study) -> Iterator[Job]:
    """Every finished job of the stages that compute, in the order data flows."""
    costs = Costs(study)
    for model in study.models:
        flops = 3 * costs.model_flops(model) * costs.base_tokens(model)
        yield from _job(study, costs, "base", model, "", flops, [study.base_manifest(model)])
    for model in study.models:
        for method in study.settings.methods:
            path = study.pruned_manifest(model, method)
            flops = costs.prune_flops(model, method)
            yield from _job(study, costs, "prune", model, method, flops, [path])
    for (model, name), run in study.runs.items():
        paths = [study.point_manifest(run, budget) for budget in study.budgets]
        flops = costs.run_flops(run) * costs.run_tokens(run)
        yield from _job(study, costs, "posttrain", model, name, flops, paths)
    for model in study.models:
        for group in (BASE, *study.settings.methods):
            path = study.evaluated_manifest(model, group)
            flops = costs.evaluate_flops(model, None if group == BASE else group)
            yield from _job(study, costs, "evaluate", model, group, flops, [path])


def _job(
    study: Study,
    costs: Costs,
    stage: str,
    model: str,
    name: str,
    flops: float,
    manifests: list[Path],
) -> Iterator[Job]:
    """One job, if its manifests and its benchmark are there."""
    path = study.root / "benchmarks" / stage / model / f"{name}.tsv"
    bench = path if name else path.parent.with_name(f"{model}.tsv")
    if not bench.exists() or not all(manifest.exists() for manifest in manifests):
        return
    found = [read_manifest(manifest)["provenance"] for manifest in manifests]
    seconds = float(bench.read_text().splitlines()[1].split("\t")[0])
    gpus = found[-1]["hardware"]["gpus"]
    slurm = found[-1].get("slurm") or {}
    yield Job(
        stage=stage,
        model=model,
        name=name,
        estimated_hours=costs.job_seconds(flops) / 3600,
        hours=seconds / 3600 * (found[-1].get("processes", 1) if gpus else 1),
        memory_bytes=max(one["peak_memory_bytes"] for one in found),
        slurm=slurm.get("job"),
        nodes=slurm.get("nodes") or found[-1]["node"],
        gpu=gpus[0] if gpus else None,
        joules=slurm.get("energy_joules"),
    )


def by_model(done: Iterable[Job]) -> list[dict[str, Any]]:
    """Sums of finished jobs by stage and model, for a table that people read."""
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in done:
        groups.setdefault((job.stage, job.model), []).append(job)
    return [
        {
            "stage": stage,
            "model": model,
            "jobs": len(group),
            "nodes": ", ".join(sorted({job.nodes for job in group if job.nodes})),
            "GPU": ", ".join(sorted({job.gpu for job in group if job.gpu})) or None,
            "estimated hours": sum(job.estimated_hours for job in group),
            "hours": sum(job.hours for job in group),
            "hours / estimate": sum(j.hours for j in group) / sum(j.estimated_hours for j in group),
            "memory (GB)": max(job.memory_bytes for job in group) / 1e9,
            "energy (MJ)": sum(job.joules or 0 for job in group) / 1e6 or None,
        }
        for (stage, model), group in groups.items()
    ]
