#!/usr/bin/env python3
"""Which run to make next: what further runs would teach a law, per GPU-hour.

    advise.py results/default
    advise.py results/default --method depth --target-N0 8e9 --target-rho 0.3 --target-D 1e9
    advise.py LOSSES.csv --form p2 --sizes 1e9,3e9 --rates 0.2,0.4 --out advice.csv

The law is that of one family under one recipe: the only or first one, or those named. Criterion:
expected reduction of the mean prediction variance (squared log loss) at the targets, divided by the
run's cost. Targets not named: twice the largest size, at the smallest and largest rate, four times
the largest budget. Runs not named: the table's sizes and one step beyond, its rates, those between
and one beyond, at its budgets. The cost is post-training on 6 N D FLOPs (6 N0 D where zeros stay in
place; under a study's schedule the tokens that its runs train on) and, for a size that the study
does not have, the unpruned model's training where the study trains its own.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from p2law import canonical
from p2law.commands import script
from p2law.results import manifest

if TYPE_CHECKING:
    import pandas as pd

    from p2law.laws.deciding.next_runs import Cost


def main() -> None:
    """Fit, rank the candidates, print and write them."""
    options = parser().parse_args()

    import pandas as pd

    from p2law.cluster.costs import gpu_rate
    from p2law.laws.deciding import advisor, next_runs
    from p2law.laws.fitting.fit import fit
    from p2law.laws.forms import registry
    from p2law.laws.table import check_table, read_table

    per_hour = gpu_rate(options.gpu, options.mfu, "--{}".format) * 3600
    folder = options.source.is_dir()
    table = read_table(options.source / "tables" / "losses.parquet" if folder else options.source)
    table = next_runs.chosen_rows(table, options.family, options.recipe, options.method)
    form = registry.get(options.form)
    check_table(table, [form], str(options.source))
    result = fit(form, table)
    runs = next_runs.runs_asked(table, options.sizes, options.rates, options.budgets)
    targets = next_runs.target_asked(table, options.target_N0, options.target_rho, options.target_D)
    cost = study_cost(options.source, table) if folder else next_runs.run_cost(table)
    found = advisor.advise(result, table, runs, targets, cost)
    missing = ", ".join(advisor.undetermined(result, table)) or "-"
    print(f"{next_runs.described(table)}: {form.name} leaves open {missing}")
    rows = [asdict(advisor.as_record(a)) | {"gpu_hours": a.cost / per_hour} for a in found]
    frame = pd.DataFrame(rows).rename(columns={"cost": "flops"})
    frame["determines"] = frame["determines"].map(", ".join)
    print(frame.head(options.show).to_string(index=False, float_format="{:.4g}".format))
    if options.out:
        canonical.write_text(options.out, frame.to_csv(index=False))


def study_cost(study: Path, table: "pd.DataFrame") -> "Cost":
    """What a run of one family and recipe costs in a study, from its grid."""
    from p2law.cluster.costs import trained_tokens
    from p2law.laws.deciding.next_runs import run_cost

    grid = manifest.read_manifest(study / "tables" / manifest.NAME)["spec"].get("study", {})
    recipes, first = (grid.get("posttrain") or {}).get("recipes", {}), table.iloc[0]
    # What a later recipe leaves out is the first one's.
    recipe = {**next(iter(recipes.values()), {}), **recipes.get(first.get("recipe"), {})}
    models = grid.get("families", {}).get(str(first.get("family")), {}).get("models", {}).values()
    own = [model["tokens"] for model in models if model.get("source") == "pretrain"]
    prunes = {grid.get("methods", {}).get(m, {}).get("prune") for m in table["method"].unique()}

    def trained(budgets: Sequence[float]) -> float:
        return trained_tokens(recipe.get("schedule", "wsd"), budgets, recipe.get("decay", 0.2))

    return run_cost(
        table, trained if recipe else None, sum(own) / len(own) if own else None,
        prunes == {"weights"},
    )  # fmt: skip


def numbers(text: str) -> list[float]:
    """Numbers above 0 with commas between them."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: numbers with commas between them") from None
    if not all(value > 0 for value in values):
        raise argparse.ArgumentTypeError(f"{text}: all must be above 0")
    return values


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = script.parser(__doc__)
    add = parse.add_argument
    add("source", type=Path, help="a study's results folder, or a loss table")
    add("--form", default="p2", help="form of the law (default p2)")
    add("--family", help="whose runs to fit; needed where the table has several")
    add("--recipe", help="recipe whose runs to fit (default the first, which the laws rest on)")
    add("--method", default="all", help="fit one method's runs only (default all)")
    add("--sizes", type=numbers, help="N0 that could be run, comma-separated")
    add("--rates", type=numbers, help="rates that could be run, comma-separated")
    add("--budgets", type=numbers, help="tokens of each run, comma-separated (default the table's)")
    add("--target-N0", type=float, help="N0 whose loss is to be known")
    add("--target-rho", type=float, help="rate there")
    add("--target-D", type=float, help="tokens there")
    add("--gpu", default="H100", help="GPU that hours are quoted for (default H100)")
    add("--mfu", type=float, default=0.35, help="share of its peak that is reached (default 0.35)")
    add("--show", type=int, default=10, help="runs to print (default 10)")
    add("--out", type=Path, help="CSV with all of them")
    return parse


if __name__ == "__main__":
    sys.exit(script.run(main))
