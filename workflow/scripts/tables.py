"""Gather a study's evaluations into tables, as Parquet and CSV: pruned models, and points of runs.

A study without runs has the first alone. Beside them coverage.csv, every point and its state.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from p2law.commands import script
from p2law.errors import UserError
from p2law.results.manifest import write_manifest
from p2law.study.grid import Study
from p2law.study.stages import Stages
from p2law.tables import gather, oneshot


def main() -> None:
    parser = script.parser(__doc__)
    script.spec_option(parser, "key and study")
    parser.add_argument("--results", required=True, type=Path, help="results/<study>")
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    arguments = parser.parse_args()
    started = time.time()
    study = Study(arguments.spec["study"], "the study", root=arguments.results.parent)
    stages = Stages(study)
    pruned = oneshot.oneshot(stages)
    if not pruned:
        raise UserError(f"{arguments.results}: no pruned model is evaluated beside its base")
    files = write(arguments.out, "oneshot", pruned, oneshot.COLUMNS)
    results = {"variants": len(pruned)}
    if study.runs:
        found = gather.gather(stages)
        if not found.points:
            raise UserError(f"{arguments.results}: no point is finished, so there is no loss table")
        files += write(arguments.out, "losses", found.points, gather.COLUMNS)
        if found.controls:
            files += write(arguments.out, "controls", found.controls, gather.COLUMNS)
        files += write(arguments.out, "coverage", found.coverage, tuple(found.coverage[0]))
        missing = [point for point in found.coverage if point["state"] == "missing"]
        runs = len({row["run"] for row in found.points})
        results |= {"points": len(found.points), "runs": runs, "missing": len(missing)}
    refs = [ref for refs in stages["tables"].reads().values() for ref in refs]
    write_manifest(
        arguments.out,
        stage="tables",
        spec=arguments.spec,
        inputs={"/".join(ref.names): stages.path(ref) for ref in refs},
        files=files,
        results=results,
        started=started,
    )
    print("; ".join(f"{count} {name}" for name, count in results.items()))


def write(folder: Path, name: str, rows: list[dict], columns: Sequence[str]) -> list[str]:
    """Write rows as ``name.csv`` and ``name.parquet``; return the two names."""
    import pandas as pd

    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows, columns=list(columns))
    table.to_csv(folder / f"{name}.csv", index=False)
    table.to_parquet(folder / f"{name}.parquet", index=False)
    return [f"{name}.csv", f"{name}.parquet"]


if __name__ == "__main__":
    sys.exit(script.run(main))
