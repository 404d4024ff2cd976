#!/usr/bin/env python3
"""Other damage measures than the loss for every pruned variant of a study, as CSV.

    damage.py results/default --out damage.csv

KL divergence to the unpruned model, and the relative error of its hidden states (see
p2law/evaluation/damage.py). benchmarks/damage_search.py reads them beside the loss table.
"""

import argparse
import sys
from pathlib import Path

from p2law import errors, manifest
from p2law.errors import UserError


def main() -> None:
    """Measure every variant that the study's tables know."""
    parse = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parse.add_argument("study", type=Path, help="a study's results folder")
    parse.add_argument("--tokens", type=int, default=16_384, help="held-out tokens (16384)")
    parse.add_argument("--out", type=Path, required=True, help="CSV to write")
    options = parse.parse_args()

    import pandas as pd

    from p2law.evaluation.damage import measure_study
    from p2law.laws.table import read_table
    from p2law.training import machine

    machine.settle()
    table = read_table(options.study / "tables" / "losses.parquet")
    models = table.drop_duplicates("model")
    corpora = dict(zip(models["model"], models["family"], strict=True))
    rows = measure_study(options.study, corpora, options.tokens)
    if not rows:
        raise UserError(f"{options.study / 'pruned'}: no pruned variants")
    manifest.write_text(options.out, pd.DataFrame(rows).to_csv(index=False))


if __name__ == "__main__":
    sys.exit(errors.run(main))
