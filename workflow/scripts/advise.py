#!/usr/bin/env python3
"""Which run to make next: what further runs would teach a law, per GPU-hour.

    advise.py results/default
    advise.py results/default --method depth --target-N0 8e9 --target-rho 0.3 --target-D 1e9
    advise.py LOSSES.csv --form p2 --sizes 1e9,3e9 --rates 0.2,0.4 --out advice.csv

Criterion: expected reduction of the mean prediction variance (squared log loss) at the targets,
divided by the run's cost. Targets not named: twice the largest size, at the smallest and largest
rate, four times the largest budget. Runs not named: the table's sizes and one step beyond, its
rates, those between and one beyond, at its budgets. The cost is post-training on 6 N D FLOPs (under
a study's schedule the tokens that its runs train on) and, for a size that the study does not have,
the unpruned model's training where the study trains its own.
"""

import argparse
import sys
from pathlib import Path

from p2law import canonical
from p2law.commands import script
from p2law.errors import UserError
from p2law.results import manifest


def main() -> None:
    """Fit, rank the candidates, print and write them."""
    options = parser().parse_args()

    import pandas as pd

    from p2law.cluster.costs import gpu_rate
    from p2law.laws.deciding import advisor
    from p2law.laws.fitting.fit import fit
    from p2law.laws.forms import registry
    from p2law.laws.table import check_table

    per_hour = gpu_rate(options.gpu, options.mfu, "--{}".format) * 3600
    table, grid = read(options.source)
    if options.method != "all":
        methods = sorted(table["method"].unique())
        if options.method not in methods:
            raise UserError(f"--method {options.method}: the table has {', '.join(methods)}")
        table = table[table["method"] == options.method].reset_index(drop=True)
    form = registry.get(options.form)
    check_table(table, [form], str(options.source))
    result = fit(form, table)
    found = advisor.advise(
        result, table, runs(options, table), targets(options, table), advisor.run_cost(table, grid)
    )
    missing = advisor.undetermined(result, table)
    print(
        f"{form.name}, method {options.method}: the table leaves open {', '.join(missing) or '-'}"
    )
    rows = [advisor.as_row(a) | {"gpu_hours": a.cost / per_hour} for a in found]
    frame = pd.DataFrame(rows).rename(columns={"cost": "flops"})
    frame["determines"] = frame["determines"].map(", ".join)
    print(frame.head(options.show).to_string(index=False, float_format="{:.4g}".format))
    if options.out:
        canonical.write_text(options.out, frame.to_csv(index=False))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = script.parser(__doc__)
    add = parse.add_argument
    add("source", type=Path, help="a study's results folder, or a loss table")
    add("--form", default="p2", help="form of the law (default p2)")
    add("--method", default="all", help="fit one method's runs only (default all)")
    add("--sizes", help="N0 that could be run, comma-separated")
    add("--rates", help="rates that could be run, comma-separated")
    add("--budgets", help="tokens of each run, comma-separated (default the table's)")
    add("--target-N0", type=float, help="N0 whose loss is to be known")
    add("--target-rho", type=float, help="rate there")
    add("--target-D", type=float, help="tokens there")
    add("--gpu", default="H100", help="GPU that hours are quoted for (default H100)")
    add("--mfu", type=float, default=0.35, help="share of its peak that is reached (default 0.35)")
    add("--show", type=int, default=10, help="runs to print (default 10)")
    add("--out", type=Path, help="CSV with all of them")
    return parse


def read(source: Path) -> tuple:
    """The loss table and, of a study, its grid."""
    from p2law.laws.table import read_table

    if not source.is_dir():
        return read_table(source), {}
    grid = manifest.read_manifest(source / "tables" / manifest.NAME)["spec"].get("study", {})
    return read_table(source / "tables" / "losses.parquet"), grid


def runs(options: argparse.Namespace, table):
    """The runs named on the command line, or the default ones."""
    from p2law.laws.deciding import advisor

    lists = {name: _numbers(options, name) for name in ("sizes", "rates", "budgets")}
    if not any(lists.values()):
        return advisor.default_runs(table)
    rates = lists["rates"] or sorted(table["rho"].unique())
    if not all(0 < rate < 1 for rate in rates):
        raise UserError(f"--rates {options.rates}: each must lie in (0, 1)")
    sizes = lists["sizes"] or sorted(table["N0"].unique())
    return advisor.candidate_runs(table, sizes, rates, lists["budgets"])


def targets(options: argparse.Namespace, table):
    """The target named on the command line, or the default ones."""
    from p2law.laws.deciding import advisor

    named = {name: getattr(options, f"target_{name}") for name in ("N0", "rho", "D")}
    if not any(named.values()):
        return advisor.default_targets(table)
    for name, value in named.items():
        if value is None or not value > 0:
            raise UserError(f"--target-{name} {value}: a target needs N0, rho and D, all above 0")
    return advisor.candidate_runs(table, [named["N0"]], [named["rho"]], [named["D"]])


def _numbers(options: argparse.Namespace, name: str) -> list[float] | None:
    text = getattr(options, name)
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--{name} {text}: numbers with commas between them") from None
    if not all(value > 0 for value in values):
        raise UserError(f"--{name} {text}: all must be above 0")
    return values


if __name__ == "__main__":
    sys.exit(script.run(main))
