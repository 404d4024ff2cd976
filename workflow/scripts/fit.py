#!/usr/bin/env python3
"""Fit laws to a loss table: one form by hand, or everything the study's law rule needs.

By hand, to any long-format CSV or Parquet (columns N0, N, rho, D, L0, Lp, loss, run; a form needs
only those it uses):

    fit.py LOSSES.csv --form chinchilla --objective huber --delta 1e-3 --out fit.json
    fit.py LOSSES.csv --form p2 --column N0=params --column D=tokens --out fit.json

As the rule does, all forms, methods and hold-outs at once:

    fit.py results/STUDY/tables/losses.parquet --spec '{"key": "...", ...}' --out results/STUDY/law
"""

import argparse
import sys
import time
from pathlib import Path

from p2law import canonical
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
    add("--run", help="only the rows of this run (a law of one curve needs one)")
    add("--bootstrap", type=int, default=1000, help="run-level replicates (default 1000)")
    add("--seed", type=int, default=0, help="of the bootstrap (default 0)")
    add("--processes", type=int, default=1, help="that share the rule's fits (default 1)")
    script.spec_option(
        parse, "the law rule's specification; the options above then do not count", required=False
    )
    return parse


def by_hand(options: argparse.Namespace) -> None:
    """One form on one table: write fit.json, print the constants."""
    from p2law.laws.fitting.fit import fit
    from p2law.laws.forms import registry
    from p2law.laws.judging.extrapolation import extrapolation, warnings
    from p2law.laws.judging.metrics import errors as measure
    from p2law.laws.records import finite, fit_dict
    from p2law.laws.table import check_table, read_table

    columns = {}
    for pair in options.column:
        if "=" not in pair:
            raise UserError(f"--column {pair}: must read NAME=FILE_COLUMN")
        ours, theirs = pair.split("=", 1)
        columns[ours] = theirs
    form = registry.get(options.form)
    table = one_run(read_table(options.table, columns), form, options)
    check_table(table, [form], str(options.table))
    settings = {
        "objective": options.objective, "delta": _delta(options.delta), "signs": options.signs,
        "raw": options.residual == "raw",
    }  # fmt: skip
    result = fit(form, table, **settings)
    draws, note = replicates(result, table, options)
    record = fit_dict(result, draws)
    record["notes"] = [*record["notes"], *note]
    record |= {"gradient": result.gradient, "starts_unfinished": result.starts_unfinished}
    details = {name: record["constants"][name] for name in record["constants"]}
    record["constants"] = {name: c["value"] for name, c in details.items()}
    record["intervals"] = {name: [c["low"], c["high"]] for name, c in details.items()}
    record["units"] = {name: c["unit"] for name, c in details.items()}
    record |= {"form": form.name, "formula": form.formula, "source": form.source}
    record |= {"points": len(table), "metrics": measure(table, result.predicted)}
    error = record["metrics"]["mean_abs_rel_error"]
    record["extrapolation"] = extrapolation(form, table, error, **settings)
    record["notes"] += warnings(record["extrapolation"])
    canonical.write_json(options.out, finite(record))
    print(summary(record))
    if not result.converged:
        raise UserError(
            f"{options.form} did not converge on {options.table}: one more step promises"
            f" {result.gain:.1e} of the objective; {options.out} says so in 'converged'"
        )


def one_run(table, form, options: argparse.Namespace):
    """The rows that ``--run`` names, or all; a law of one curve refuses several runs."""
    runs = table["run"].unique()
    if options.run is not None:
        if options.run not in runs:
            shown = ", ".join(map(str, runs[:10])) + (", ..." if len(runs) > 10 else "")
            raise UserError(f"--run {options.run}: no such run; {options.table} has {shown}")
        return table[table["run"] == options.run].reset_index(drop=True)
    if form.per_run and table["run_given"].all() and len(runs) > 1:
        raise UserError(
            f"form {form.name} is a law of one curve and {options.table} has {len(runs)} runs:"
            f" choose one with --run, such as --run {runs[0]}"
        )
    return table


def replicates(result, table, options: argparse.Namespace):
    """Run-level replicates, or None, and notes on what they are worth."""
    from p2law.laws.judging.uncertainty import FEW_RUNS, bootstrap

    runs = table["run"].nunique()
    if not options.bootstrap:
        return None, []
    if runs < 2:
        return None, ["one run: no run-level interval"]
    draws = bootstrap(result, table["run"].to_numpy(), options.bootstrap, options.seed)
    if not table["run_given"].all():
        return draws, ["no column run: each row counts as a run of its own in the intervals"]
    return draws, [f"{runs} runs are few for run-level intervals"] if runs < FEW_RUNS else []


def _delta(text: str) -> float | str:
    if text == "noise":
        return text
    try:
        return float(text)
    except ValueError:
        raise UserError(f'--delta {text}: must be a number above 0, or "noise"') from None


def summary(record: dict) -> str:
    """The fit in a few lines for the terminal."""
    lines = [record["formula"], f"{record['objective_kind']} objective {record['objective']:.10g}"]
    for name, value in record["constants"].items():
        low, high = record["intervals"][name]
        interval = "" if low is None else f"   95 % [{low:.5g}, {high:.5g}]"
        lines.append(f"  {name:8} {value:<12.6g} {record['units'][name]}{interval}")
    fitted = f"rank {record['rank']} of {record['constants_fitted']}"
    lines.append(f"converged {record['converged']}, {fitted}, condition {record['condition']:.3g}")
    arrived, unfinished = record["starts_at_optimum"], record["starts_unfinished"]
    lines.append(
        f"of the starts {100 * arrived:.0f} % arrived, {100 * unfinished:.0f} % unfinished"
    )
    return "\n".join(lines + [f"note: {note}" for note in record["notes"]])


def by_rule(options: argparse.Namespace, started: float) -> None:
    """All forms on a study's table: write the law folder and its manifest."""
    import pandas as pd

    from p2law.laws.judging import schedules
    from p2law.laws.records import finite
    from p2law.laws.study import fit_study
    from p2law.laws.table import read_table

    spec = options.spec
    table = read_table(options.table)
    law = fit_study(schedules.first(table, spec), spec, options.processes)
    law["schedules"] = finite(schedules.compare(table, spec))
    folder = options.out
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "constants.csv": constants_table(law),
        "comparison.csv": comparison_table(law),
        "holdouts.csv": pd.DataFrame(law["holdouts"]),
        "predictions.csv": pd.DataFrame(law.pop("predictions")),
    }
    if law["schedules"]:
        tables["schedules.csv"] = schedules.as_table(law["schedules"])
    draws = pd.DataFrame(law.pop("draws") or {"family": [], "method": [], "form": []})
    draws.to_parquet(folder / "draws.parquet", index=False)
    for name, table in tables.items():
        canonical.write_text(folder / name, table.to_csv(index=False))
    canonical.write_json(folder / "law.json", law)
    upstream = options.table.parent / manifest.NAME
    manifest.write_manifest(
        folder,
        stage="law",
        spec=spec,
        inputs={"tables": upstream},
        files=["law.json", "draws.parquet", *tables],
        results={
            "points": law["points"],
            "runs": law["runs"],
            "fits": len(law["fits"]),
            "converged": sum(fit["converged"] for fit in law["fits"]),
            "rises": len(law["rises"]),
            "healed": len(law["healed"]),
        },
        started=started,
    )


def constants_table(law: dict):
    """One row a constant: value, interval, unit, and whether the table determines it."""
    import pandas as pd

    return pd.DataFrame(
        {"family": f["family"], "method": f["method"], "form": f["form"], "constant": name, **c}
        for f in law["fits"]
        for name, c in f["constants"].items()
    )


def comparison_table(law: dict):
    """One row a fit: in-sample metrics beside the mean absolute held-out error of each split."""
    import pandas as pd

    keys = ["family", "method", "form"]
    rows = pd.DataFrame(
        {k: f[k] for k in keys}
        | {"constants": f["constants_fitted"], "rank": f["rank"], "converged": f["converged"]}
        | {"objective": f["objective"], **f["metrics"]}
        | {"notes": "; ".join(f["notes"])}
        for f in law["fits"]
    )
    held = pd.DataFrame(law["holdouts"])
    if held.empty:
        return rows
    # Splits with several parts (leave-one-out) count every point once.
    held["sum"] = held["mean_abs_rel_error"] * held["points"]
    total = held.groupby([*keys, "split"])[["sum", "points"]].sum()
    wide = (total["sum"] / total["points"]).unstack("split").add_prefix("held_out_")
    return rows.merge(wide.reset_index(), on=keys, how="outer", sort=True)


if __name__ == "__main__":
    sys.exit(script.run(main))
