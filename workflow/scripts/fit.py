#!/usr/bin/env python3
"""Fit laws to a loss table: one form by hand, or everything the study's law rule needs.

By hand, to any long-format CSV or Parquet (columns N0, N, rho, D, L0, Lp, loss, run; a form needs
only those it uses):

    fit.py LOSSES.csv --form chinchilla --objective huber --delta 1e-3 --out fit.json
    fit.py LOSSES.csv --form p2 --column N0=params --column D=tokens --out fit.json
    fit.py results/STUDY/tables/losses.csv --where method=depth --out fit.json

As the rule does, all forms, methods and hold-outs at once:

    fit.py results/STUDY/tables/losses.parquet --spec '{"key": "...", ...}' --out results/STUDY/law
"""

import argparse
import sys
import time
from pathlib import Path

from p2law.commands import script
from p2law.errors import UserError
from p2law.results import manifest


def main() -> None:
    """Parse the command line and run one of the two uses."""
    started = time.time()
    options = parser().parse_args()
    if options.spec is None:
        by_hand(options)
    else:
        by_rule(options, started)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = script.parser(__doc__)
    add = parse.add_argument
    add("table", type=Path, help="loss table, CSV or Parquet, one row a point")
    add("--out", type=Path, required=True, help="JSON file (by hand) or folder (with --spec)")
    add("--form", default="p2", help="form of the law (default p2); an unknown name lists all")
    add("--objective", default="huber", help="huber (default), least_squares or lad")
    add("--delta", default="1e-3", help='threshold of huber, or "noise" (default 1e-3)')
    add("--residual", default="log", choices=["log", "raw"], help="of log losses or of losses")
    add("--signs", default="nonnegative", choices=["nonnegative", "free"], help="of amplitudes")
    add("--column", action="append", default=[], metavar="NAME=FILE_COLUMN", help="map a column")
    add("--where", action="append", default=[], metavar="COLUMN=VALUE", help="choose rows")
    add("--run", help="only the rows of this run (a law of one curve needs one)")
    add("--bootstrap", type=int, default=1000, help="run-level replicates (default 1000)")
    add("--seed", type=int, default=0, help="of the bootstrap (default 0)")
    add("--processes", type=int, default=1, help="that share the rule's fits (default 1)")
    script.spec_option(
        parse, "the law rule's specification; the options above then do not count", required=False
    )
    return parse


def by_hand(options: argparse.Namespace) -> None:
    """One form on one table: write the JSON file, print the constants."""
    from p2law.laws.by_hand import Asked
    from p2law.laws.by_hand import by_hand as fit_by_hand

    asked = Asked(
        table=options.table, out=options.out, form=options.form, columns=_columns(options.column),
        rows=tuple(options.where), run=options.run, objective=options.objective,
        delta=_delta(options.delta), signs=options.signs, raw=options.residual == "raw",
        bootstrap=options.bootstrap, seed=options.seed,
    )  # fmt: skip
    print(fit_by_hand(asked))


def _columns(pairs: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        ours, sign, theirs = pair.partition("=")
        if not sign:
            raise UserError(f"--column {pair}: must read NAME=FILE_COLUMN")
        if found.setdefault(ours, theirs) != theirs:
            raise UserError(f"--column {pair}: {ours} is given twice, as {found[ours]} before")
    return found


def _delta(text: str) -> float | str:
    if text == "noise":
        return text
    try:
        return float(text)
    except ValueError:
        raise UserError(f'--delta {text}: must be a number above 0, or "noise"') from None


def by_rule(options: argparse.Namespace, started: float) -> None:
    """All forms on a study's table: write the law folder and its manifest."""
    from p2law.laws.study import fit_study
    from p2law.laws.table import read_table

    law = fit_study(read_table(options.table), options.spec, options.processes)
    manifest.write_manifest(
        options.out,
        stage="law",
        spec=options.spec,
        inputs={"tables": options.table.parent / manifest.NAME},
        files=law.write(options.out),
        results={
            "points": law.points,
            "runs": law.runs,
            "fits": len(law.fits),
            "converged": sum(fit.converged for fit in law.fits),
            "rises": len(law.rises),
            "below_base": len(law.below_base),
        },
        started=started,
    )


if __name__ == "__main__":
    sys.exit(script.run(main))
