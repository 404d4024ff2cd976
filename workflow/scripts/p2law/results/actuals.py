"""What a study's jobs took, beside what was estimated: from manifests and Snakemake's benchmarks.

A benchmark file holds the wall time of a job's last attempt; what earlier attempts of a job that
was killed had spent is not in it. Hours are core-hours on CPUs (one core a job), GPU-hours on GPUs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from p2law.cluster.costs import Costs
from p2law.results.manifest import read_manifest
from p2law.study.stage import Names, Stage


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


def jobs(costs: Costs) -> Iterator[Job]:
    """Every finished job of the stages that compute, in the order data flows."""
    for stage, job in costs.stages.jobs():
        if (work := stage.work(costs, *job)) is not None:
            yield from _job(stage, job, costs.job_seconds(work.flops) / 3600)


def _job(stage: Stage, job: Names, estimated: float) -> Iterator[Job]:
    """One job, if its manifests and its benchmark are there."""
    bench, manifests = stage.benchmark(*job), stage.outputs(*job)
    if not bench.exists() or not all(manifest.exists() for manifest in manifests):
        return
    found = [read_manifest(manifest)["provenance"] for manifest in manifests]
    seconds = float(bench.read_text().splitlines()[1].split("\t")[0])
    gpus = found[-1]["hardware"]["gpus"]
    slurm = found[-1].get("slurm") or {}
    yield Job(
        stage=stage.name,
        model=job[0],
        name="/".join(job[1:]),
        estimated_hours=estimated,
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
