#!/usr/bin/env python3
"""The report's tables: pruned models, laws, held-out errors, the plan, checks of the study."""

import sys
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from p2law.commands import script
from p2law.results.manifest import read_manifest, write_manifest

if TYPE_CHECKING:
    from p2law.report.pages import Facts
    from p2law.study.stages import Stages


def main() -> None:
    """Write the pages and the folder's manifest."""
    parser = script.parser(__doc__)
    script.spec_option(parser, "key and study")
    parser.add_argument("--law", type=Path, help="the law's manifest.json; none without runs")
    parser.add_argument("--tables", required=True, type=Path, help="the tables' manifest.json")
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    options = parser.parse_args()
    started = time.time()

    from p2law.report import pages
    from p2law.study.grid import Study
    from p2law.study.stages import Stages

    law = options.law.parent if options.law else None
    facts = facts_of(Stages(Study(options.spec["study"], "the study")))
    files = pages.write(facts, options.tables.parent, law, options.out)
    write_manifest(
        options.out,
        stage="summary",
        spec=options.spec,
        inputs={"tables": options.tables, **({"law": options.law} if law else {})},
        files=files,
        results={"pages": [name[:-5] for name in files if name.endswith(".html")]},
        started=started,
    )


def facts_of(stages: "Stages") -> "Facts":
    """What a study's manifests and cost model say, as the rows of its pages."""
    import pandas as pd

    from p2law.cluster.costs import Costs
    from p2law.report.pages import Facts
    from p2law.results.actuals import Job, by_model, jobs
    from p2law.study.stages.measured import BASE

    study, costs = stages.study, Costs(stages)
    bases = []
    for model in study.models.values():
        path = stages["evaluate"].path(model.name, BASE)
        if path.exists():
            loss = read_manifest(path)["results"]["checkpoints"][BASE]
            row = {"family": model.family, "model": model.name, "N0": model.parameters["total"]}
            bases.append(row | {"L0": loss["loss"], "standard error": loss["loss_se"]})
    done, hardware = list(jobs(costs)), study.settings.hardware
    hours = f"a core's at {hardware.gflops:g} GFLOP/s"
    if hardware.device != "cpu":
        hours = f"a {hardware.gpu}'s at {100 * hardware.mfu:g} % of its peak"
    methods = study.settings.methods
    return Facts(
        bases=bases,
        coverage=read_manifest(stages["tables"].path())["results"],
        costs=[
            {"stage": c.stage, "jobs": c.jobs, "tokens": c.tokens, "FLOP": c.flops,
             "hours": c.hours, "memory (GB)": c.memory_bytes / 1e9,
             "disk (GB)": c.disk_bytes / 1e9}
            for c in costs.total()
        ],
        spent=by_model(done),
        jobs=pd.DataFrame(map(asdict, done), columns=[f.name for f in fields(Job)], dtype=object),
        masked={name for name, m in methods.items() if m.MASKED},
        flops_per_hour=costs.rate * 3600,
        hours=hours,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(script.run(main))
