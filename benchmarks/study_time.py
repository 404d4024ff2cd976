"""Where a finished study's wall time went: training, starting processes, the rest.

    envs/run python benchmarks/study_time.py results/default --cores 2

Reads what the study left behind: Snakemake's benchmark files (a job's wall time) and the manifests
(seconds spent in training steps, seconds from the process's start to the start of its work). All
shares are of cores x wall, from the first job's start to the last one's end.
"""

import argparse
import json
from collections import defaultdict
from datetime import datetime
from pathlib import Path

JOBS = {"base": 1, "pruned": 2, "posttrained": 2, "evaluated": 2}
"""Folder -> depth of the job's folder below it."""


def manifests(results: Path) -> list[tuple[Path, dict]]:
    """All manifests of a study, without the trainer's state."""
    paths = [p for p in results.rglob("manifest.json") if "state" not in p.parts]
    return [(path, json.loads(path.read_text())) for path in paths]


def job_seconds(results: Path) -> dict[str, float]:
    """Stage -> wall seconds of all its jobs."""
    seconds: dict[str, float] = defaultdict(float)
    for file in (results / "benchmarks").rglob("*.tsv"):
        stage = file.relative_to(results / "benchmarks").parts[0].removesuffix(".tsv")
        seconds[stage] += float(file.read_text().splitlines()[1].split("\t")[0])
    return dict(seconds)


def startup_seconds(results: Path, found: list[tuple[Path, dict]]) -> float:
    """Seconds that processes took until their work began, once a job."""
    once: dict[Path, float] = {}
    for path, manifest in found:
        parts = path.relative_to(results).parts
        job = Path(*parts[: 1 + JOBS.get(parts[0], len(parts) - 2)])
        startup = manifest["provenance"]["startup_seconds"]
        once[job] = min(startup, once.get(job, startup))
    return sum(once.values())


def wall_seconds(results: Path, found: list[tuple[Path, dict]]) -> float:
    """From the first job's start to the last job's end, by the manifests."""
    begins, ends = [], []
    for _, manifest in found:
        run = manifest["provenance"]
        begin = datetime.fromisoformat(run["started"]).timestamp()
        begins.append(begin - run["startup_seconds"])
        ends.append(begin + run["wall_seconds"])
    report = results / "report.html"
    if report.exists():
        ends.append(report.stat().st_mtime)
    return max(ends) - min(begins)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", type=Path, help="results/<study> of a finished clean run")
    parser.add_argument("--cores", type=int, required=True, help="as given to snakemake")
    arguments = parser.parse_args()
    found = manifests(arguments.results)
    jobs = job_seconds(arguments.results)
    wall = wall_seconds(arguments.results, found)
    whole = wall * arguments.cores
    training = sum(m["results"].get("seconds_training", 0.0) for _, m in found)
    startup = startup_seconds(arguments.results, found)
    print(f"wall {wall:.0f} s on {arguments.cores} cores")
    for name, seconds in (
        ("training steps", training),
        ("starting processes", startup),
        ("rest of the jobs", sum(jobs.values()) - training - startup),
        ("no job on a core", whole - sum(jobs.values())),
    ):
        print(f"{name:>20}{seconds:>9.0f} s{100 * seconds / whole:>7.1f} %")
    print("jobs by stage: " + ", ".join(f"{stage} {s:.0f} s" for stage, s in sorted(jobs.items())))


if __name__ == "__main__":
    main()
