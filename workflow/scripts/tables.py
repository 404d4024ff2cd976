"""Gather the evaluations of a study into its loss table (Parquet and CSV) and coverage table."""

import argparse
import json
import sys
import time
from pathlib import Path

from p2law.errors import UserError, run
from p2law.manifest import write_manifest
from p2law.study.grid import Study
from p2law.study.specs import Specs
from p2law.tables.gather import COLUMNS, gather


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=json.loads, help="key and study, as JSON")
    parser.add_argument("--results", required=True, type=Path, help="results/<study>")
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    arguments = parser.parse_args()
    started = time.time()
    study = Study(arguments.spec["study"], "the study", root=arguments.results.parent)
    rows, coverage = gather(study)
    if not rows:
        raise UserError(f"{arguments.results}: no point is finished, so there is no loss table")

    import pandas as pd

    arguments.out.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table.to_parquet(arguments.out / "losses.parquet", index=False)
    table.to_csv(arguments.out / "losses.csv", index=False)
    pd.DataFrame(coverage).to_csv(arguments.out / "coverage.csv", index=False)
    missing = [point for point in coverage if point["state"] == "missing"]
    write_manifest(
        arguments.out,
        stage="tables",
        spec=arguments.spec,
        inputs={"/".join(p): study.evaluated_manifest(*p) for p in Specs(study).groups()},
        files=["losses.parquet", "losses.csv", "coverage.csv"],
        results={"points": len(rows), "runs": table["run"].nunique(), "missing": len(missing)},
        started=started,
    )
    print(f"{len(rows)} points of {table['run'].nunique()} runs; {len(missing)} points missing")


if __name__ == "__main__":
    sys.exit(run(main))
