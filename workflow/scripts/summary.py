#!/usr/bin/env python3
"""The report's tables: pruned models, laws, held-out errors, the plan, checks of the study."""

import csv
import io
import json
import sys
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from p2law.canonical import write_text
from p2law.cluster.costs import Costs
from p2law.commands import script
from p2law.report.html import page, table
from p2law.results.actuals import Job, by_model, jobs
from p2law.results.manifest import read_manifest, write_manifest
from p2law.study.grid import Study
from p2law.study.stages import BASE, Stages


def checks(stages: Stages, law: dict[str, Any] | None) -> str:
    """What a sound study shows: L0 falls with size, losses fall with D, none below its L0."""
    bases = []
    for model in stages.study.models.values():
        path = stages["evaluate"].path(model.name, BASE)
        if path.exists():
            loss = read_manifest(path)["results"]["checkpoints"][BASE]
            bases.append((model.parameters["total"], model.name, loss["loss"], loss["loss_se"]))
    page = table(
        "Base models", ["model", "N0", "L0", "standard error"],
        [(name, size, loss, se) for size, name, loss, se in sorted(bases)],
    )  # fmt: skip
    if law is not None:
        page += table(
            f"Runs whose loss rises with tokens: {len(law['rises'])}",
            ["run", "from D", "to D", "rise (nats)"],
            [(r["run"], r["from_D"], r["to_D"], r["rise"]) for r in law["rises"]],
        )
        page += table(
            f"Points below their L0: {len(law['healed'])}",
            ["run", "D", "loss", "L0", "below (nats)"],
            [(r["run"], r["D"], r["loss"], r["L0"], r["below"]) for r in law["healed"]],
        )
    coverage = read_manifest(stages["tables"].path())["results"]
    return page + table("Coverage", list(coverage), [list(coverage.values())])


def costs(model: Costs) -> str:
    """Estimated cost by stage."""
    return table(
        "Estimated cost by stage (core- or GPU-hours)",
        ["stage", "jobs", "tokens", "FLOP", "hours", "memory (GB)", "disk (GB)"],
        [
            (c.stage, c.jobs, c.tokens, c.flops, c.hours, c.memory_bytes / 1e9, c.disk_bytes / 1e9)
            for c in model.total()
        ],
    )


def spent(done: list[Job]) -> str:
    """What the finished jobs took, beside the estimate."""
    rows = by_model(done)
    caption = "Estimate against actual, finished jobs (last attempts; every job: jobs.csv)"
    return table(caption, list(rows[0]), [list(row.values()) for row in rows]) if rows else ""


def jobs_csv(done: list[Job]) -> str:
    """Every finished job as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Job)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(asdict, done))
    return text.getvalue()


def planned(stages: Stages, folder: Path, out: Path) -> str:
    """The plan page; its two tables are written as CSV."""
    from p2law.laws.deciding.plan import Laws
    from p2law.laws.deciding.variants import variants_of
    from p2law.report import plan

    study = stages.study
    methods = study.settings.methods
    masked = {name for name, m in methods.items() if m.MASKED}
    laws = Laws.read(folder, stages["tables"].path().parent / "losses.parquet")
    variants = variants_of(laws.table, masked)
    hardware, per_hour = study.settings.hardware, Costs(stages).rate * 3600
    answered = plan.answers(laws, variants, per_hour)
    chosen = plan.choices(laws, variants, per_hour)
    write_text(out / "plan.csv", answered.to_csv(index=False))
    write_text(out / "choices.csv", chosen.to_csv(index=False))
    machine = f"a core's at {hardware.gflops:g} GFLOP/s"
    if hardware.device != "cpu":
        machine = f"a {hardware.gpu}'s at {100 * hardware.mfu:g} % of its peak"
    return plan.page(answered, chosen, machine)


def main() -> None:
    """Write the pages and the folder's manifest."""
    parser = script.parser(__doc__)
    script.spec_option(parser, "key and study")
    parser.add_argument("--law", type=Path, help="the law's manifest.json; none without runs")
    parser.add_argument("--tables", required=True, type=Path, help="the tables' manifest.json")
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    arguments = parser.parse_args()

    from p2law.report.laws import holdouts, laws
    from p2law.report.pruning import oneshot

    started = time.time()
    stages = Stages(Study(arguments.spec["study"], "the study"))
    model = Costs(stages)
    pages = {"oneshot": ("Pruned models", oneshot(arguments.tables))}
    law, inputs, files = None, {"tables": arguments.tables}, []
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.law:
        folder = arguments.law.parent
        law = json.loads((folder / "law.json").read_text())
        inputs["law"] = arguments.law
        files = ["plan.csv", "choices.csv"]
        pages |= {
            "law": ("The laws", laws(law)),
            "holdouts": ("Held-out errors", holdouts(law)),
            "plan": ("The plan", planned(stages, folder, arguments.out)),
        }
    done = list(jobs(model))
    pages["checks"] = ("Checks and costs", checks(stages, law) + costs(model) + spent(done))
    write_text(arguments.out / "jobs.csv", jobs_csv(done))
    for name, (title, body) in pages.items():
        write_text(arguments.out / f"{name}.html", page(title, body))
    write_manifest(
        arguments.out,
        stage="summary",
        spec=arguments.spec,
        inputs=inputs,
        files=["jobs.csv", *files, *(f"{name}.html" for name in pages)],
        results={"pages": list(pages)},
        started=started,
    )


if __name__ == "__main__":
    sys.exit(script.run(main))
