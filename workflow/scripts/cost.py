"""What a study takes, by stage: estimated from its file, and actual where it has run."""

import sys

from p2law.cluster.costs import Cost, Costs
from p2law.commands import script
from p2law.results.actuals import Job, jobs
from p2law.study.grid import Study
from p2law.study.stage import Stage
from p2law.study.stages import Stages

COLUMNS = ("stage", "jobs", "tokens", "PFLOP", "hours", "memory GB", "disk GB")


def actual(stage: Stage, done: list[Job]) -> dict[str, float] | None:
    """Hours, peak memory and disk of a stage's finished jobs."""
    mine = [job for job in done if job.stage == stage.name]
    if not mine:
        return None
    files = (stage.study.root / stage.folder).rglob("*")
    return {
        "hours": sum(job.hours for job in mine),
        "memory": max(job.memory_bytes for job in mine),
        "disk": sum(path.stat().st_size for path in files if path.is_file()),
    }


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
    parser = script.parser(__doc__)
    parser.add_argument("--study", required=True, type=script.json_object, help="the study, JSON")
    arguments = parser.parse_args()
    study = Study(arguments.study, "study")
    stages = Stages(study)
    costs = Costs(stages)
    unit = "core" if costs.hardware.device == "cpu" else f"{costs.hardware.gpu} GPU"
    print(
        f"{study.name}: {len(study.models)} models, {len(study.variants)} variants,"
        f" {len(study.runs)} runs, {len(study.runs) * len(study.budgets)} points;"
        f" hours are {unit}-hours at {costs.rate / 1e9:.4g} GFLOP/s"
    )
    print("".join(f"{name:>11}" for name in COLUMNS) + "   actual: hours  memory GB   disk GB")
    done = list(jobs(costs))
    total = costs.total()
    for cost in total:
        line = "".join(f"{cell:>11}" for cell in row(cost))
        spent = actual(stages[cost.stage], done)
        if spent:
            line += f"{spent['hours']:>16.3g}{spent['memory'] / 1e9:>11.3g}"
            line += f"{spent['disk'] / 1e9:>10.3g}"
        print(line)
    hours, disk = sum(c.hours for c in total), sum(c.disk_bytes for c in total)
    print(f"{'all':>11}{'':>33}{hours:>11.3g}{'':>11}{disk / 1e9:>11.3g}")


if __name__ == "__main__":
    sys.exit(script.run(main))
