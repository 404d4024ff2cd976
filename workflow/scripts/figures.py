#!/usr/bin/env python3
"""Draw a study's figures from its tables and fitted laws, as PDF, PNG and CSV.

figures.py --spec '{"key": "..."}' --law results/STUDY/law/manifest.json \\
    --tables results/STUDY/tables/manifest.json --out results/STUDY/figures
"""

import sys
import time
from pathlib import Path

from p2law.commands import script
from p2law.results import manifest


def main() -> None:
    """Read the two upstream manifests, draw, write the folder's manifest."""
    started = time.time()
    parse = script.parser(__doc__)
    script.spec_option(parse, "the stage's specification with its key")
    parse.add_argument("--law", type=Path, help="manifest of the law stage; none without runs")
    parse.add_argument("--tables", type=Path, required=True, help="manifest of the tables stage")
    parse.add_argument("--out", type=Path, required=True, help="folder for the figures")
    options = parse.parse_args()

    from p2law.figures.data import read
    from p2law.figures.draw import draw_all

    files = draw_all(read(options.tables, options.law), options.out)
    manifest.write_manifest(
        options.out,
        stage="figures",
        spec=options.spec,
        inputs={"tables": options.tables, **({"law": options.law} if options.law else {})},
        files=files,
        results={"figures": len(files) // 3},
        started=started,
    )


if __name__ == "__main__":
    sys.exit(script.run(main))
