"""What a study takes, by stage: estimated from its file, and actual where it has run."""

import argparse
import json
import sys
from pathlib import Path

from p2law.costs import Cost, Costs
from p2law.errors import run
from p2law.manifest import read_manifest
from p2law.study.grid import Study

COLUMNS = ("stage", "jobs", "tokens", "PFLOP", "hours", "memory GB", "disk GB")
FOLDERS = {"base": "base", "prune": "pruned", "posttrain": "posttrained", "evaluate": "evaluated"}


def actual(study: Study, cost: Cost) -> dict[str, float] | None:
    """Hours, peak memory and disk of a stage's finished jobs, from their manifests."""
    folder = study.root / FOLDERS[cost.stage]
    jobs = [read_manifest(p) for p in folder.rglob("manifest.json") if "state" not in p.parts]
    jobs = [job for job in jobs if job["stage"] in (cost.stage, "prune-method")]
    if not jobs:
        return None
    memory = max(job["provenance"]["peak_memory_bytes"] for job in jobs)
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"hours": spent_seconds(folder) / 3600, "memory": memory, "disk": disk}


def spent_seconds(folder: Path) -> float:
    """Wall seconds of a stage's jobs, as Snakemake's benchmark files record them."""
    stage = {name: stage for stage, name in FOLDERS.items()}[folder.name]
    files = (folder.parent / "benchmarks" / stage).rglob("*.tsv")
    return sum(float(file.read_text().splitlines()[1].split("\t")[0]) for file in files)


def row(cost: Cost) -> list[str]:
    """One stage's estimate, as text."""
    return [
        cost.stage,
        str(cost.jobs),
        f"{cost.tokens:.3g}",
        f"{cost.flops / 1e15:.3g}",
        f"{cost.hours:.3g}",
        f"{cost.memory_bytes / 1e9:.3g}",
        f"{cost.disk_bytes / 1e9:.3g}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, type=json.loads, help="the study, as JSON")
    arguments = parser.parse_args()
    study = Study(arguments.study, "study")
    costs = Costs(study)
    unit = "core" if costs.hardware.device == "cpu" else f"{costs.hardware.gpu} GPU"
    print(
        f"{study.name}: {len(study.models)} models, {len(study.variants)} variants,"
        f" {len(study.runs)} runs, {len(study.runs) * len(study.budgets)} points;"
        f" hours are {unit}-hours at {costs.rate / 1e9:.4g} GFLOP/s"
    )
    print("".join(f"{name:>11}" for name in COLUMNS) + "   actual: hours  memory GB   disk GB")
    for cost in costs.stages():
        line = "".join(f"{cell:>11}" for cell in row(cost))
        spent = actual(study, cost)
        if spent:
            line += f"{spent['hours']:>16.3g}{spent['memory'] / 1e9:>11.3g}"
            line += f"{spent['disk'] / 1e9:>10.3g}"
        print(line)
    total = costs.stages()
    hours, disk = sum(c.hours for c in total), sum(c.disk_bytes for c in total)
    print(f"{'all':>11}{'':>33}{hours:>11.3g}{'':>11}{disk / 1e9:>11.3g}")


if __name__ == "__main__":
    sys.exit(run(main))
