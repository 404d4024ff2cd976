"""Search for the damage variable and form with the least held-out error, and confirm the choice.

    damage_search.py results/default --damage damage.csv --out search
    damage_search.py results/default --confirm results/methods --out search

The protocol is damage_protocol.py's; what it found is told in docs/damage.md. Without --damage
(written by damage_measures.py) only variables made of losses are tried. --confirm opens the second
study and predicts it from the headline forms fitted to the first; look at it once.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import pandas as pd

import damage_protocol as damage
from p2law.laws.forms import registry
from p2law.laws.study import check_spec
from p2law.laws.table import read_table

LOSSES = ("damage", "relative")


def main() -> None:
    """Run the search, or the confirmation."""
    parse = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parse.add_argument("study", type=Path, help="results folder of the study that decides")
    parse.add_argument("--damage", type=Path, help="CSV of benchmarks/damage_measures.py")
    parse.add_argument("--nested", action="store_true", help="also what the choice is worth")
    parse.add_argument("--confirm", type=Path, help="results folder of the study kept back")
    parse.add_argument("--out", type=Path, required=True, help="folder of the CSV files")
    options = parse.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    table = losses(options.study)
    if options.confirm:
        found = confirm(table, losses(options.confirm))
        found.to_csv(options.out / "confirm.csv", index=False)
        return
    variables = LOSSES
    if options.damage:
        keys = ["model", "method", "rate_asked"]
        table = table.merge(pd.read_csv(options.damage), on=keys, validate="many_to_one")
        variables = tuple(damage.VARIABLES)
    rows = damage.usable(table, variables)
    among = damage.candidates(variables)
    show("one-shot variables", damage.scores(rows, among), options.out / "search.csv")
    later = damage.usable(damage.after_first(rows), LOSSES)
    few = damage.candidates(("damage",))
    same = rows[rows["D"] > rows.groupby("run")["D"].transform("min")].reset_index(drop=True)
    show("the same points, from Lp", damage.scores(same, few), options.out / "later_one_shot.csv")
    show("from the first budget's loss", damage.scores(later, few), options.out / "later.csv")
    if options.nested:
        found = damage.nested(rows, among)
        found.to_csv(options.out / "nested.csv", index=False)
        print(found.to_string())
        weighted = (found["error"] * found["points"]).groupby(found["kind"]).sum()
        print(100 * weighted / found.groupby("kind")["points"].sum())


def losses(study: Path) -> pd.DataFrame:
    """A study's loss table."""
    return read_table(study / "tables" / "losses.parquet")


def show(title: str, found: pd.DataFrame, out: Path) -> None:
    """Print errors in %, write fractions."""
    found.to_csv(out, index=False)
    percent = found.set_index(["candidate", "constants"]) * 100
    print(f"{title}: held-out error, %\n{percent.round(3).to_string()}")
    print(f"chosen: {damage.choose(found)}\n", flush=True)


def confirm(fitted: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame:
    """Every headline form on the study kept back: errors and coverage by method."""
    spec = check_spec({"bootstrap": 200})
    parts = []
    for name in registry.HEADLINE:
        form = registry.get(name)
        hurt = [rows[rows["Lp"] > rows["L0"]].reset_index(drop=True) for rows in (fitted, asked)]
        parts.append(damage.confirm(form, *hurt, spec))
    found = pd.concat(parts, ignore_index=True)
    found["covered"] = (found["low"] <= found["loss"]) & (found["loss"] <= found["high"])
    found["width"] = (found["high"] - found["low"]) / found["loss"]
    by = found.assign(error=found["error"].abs()).groupby(["form", "method"])
    print(by[["error", "covered", "width"]].mean().round(4).to_string())
    over = found.assign(error=found["error"].abs()).groupby("form")
    print(over[["error", "covered", "width"]].mean().round(4).to_string())
    return found


if __name__ == "__main__":
    main()
