#!/usr/bin/env python3
"""What to buy: post-training tokens for a target loss, a marginal gain or a residual.

    plan.py results/default --target 3.1 --gpu H100
    plan.py results/default --model m1 --method depth --rate 0.3 --marginal 0.01 --residual 0.02
    plan.py results/default --N0 220000 --L0 3.28 --Lp 3.9 --method mine --target 3.4
    plan.py results/default --flops 1e15 --parameters 400000

The first argument is a study's results folder (with tables/ and law/). Without --family, --model,
--method and --rate all its variants are answered, each by its own family's laws and under the
recipe that the laws rest on; losses of two families are never ranked together, since each has its
own tokenizer. A rate that the study lacks is answered by P², and between measured rates by the
damage law too, from an interpolated Lp; a method that was never post-trained from its one-shot loss
(--Lp) by the damage law over all methods, with how far that law was off on methods it had not seen.
--flops ranks the variants by the loss that so much post-training buys; with --target those that
reach it are listed from the cheapest on.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from p2law import canonical
from p2law.commands import script
from p2law.errors import UserError
from p2law.results import manifest


def main() -> None:
    """Answer the rules for every variant asked for; print tables, write JSON or CSV."""
    options = vars(parser().parse_args())
    study, gpu, mfu, out = (options.pop(name) for name in ("study", "gpu", "mfu", "out"))
    if out and out.suffix not in (".csv", ".json"):
        raise UserError(f"--out {out}: must end in .csv or .json")

    from p2law.cluster.costs import gpu_rate
    from p2law.laws.deciding.buy import plan_tables
    from p2law.laws.deciding.candidates import candidates_of
    from p2law.laws.deciding.question import Question
    from p2law.laws.deciding.study_laws import Laws
    from p2law.laws.results import finite

    question = Question(**options)
    per_hour = gpu_rate(gpu, mfu, "--{}".format) * 3600
    laws = Laws.read(study / "law", study / "tables" / "losses.parquet")
    grid = manifest.read_manifest(study / "tables" / manifest.NAME)["spec"].get("study", {})
    methods = grid.get("methods", {})
    masked = {name for name, method in methods.items() if method.get("prune") == "weights"}
    candidates = question.candidates(candidates_of(laws.table, masked))
    tables = plan_tables(laws, candidates, question.rules, question.flops, per_hour)
    titles = {
        "answers": f"Tokens, with 95 % intervals; GPU-hours of a {gpu}",
        "cheapest": "Cheapest ways to the target loss",
        "choices": f"Lowest loss for {question.flops} FLOPs of post-training",
    }
    several = len({c.family for c in candidates}) > 1
    for name, rows in tables.items():
        show(titles[name], rows, several)
    if out and out.suffix == ".csv":
        write_csv(out, tables)
    elif out:
        canonical.write_json(out, finite({"gpu": gpu, "mfu": mfu, **tables}))


def show(title: str, rows: list[dict[str, Any]], several: bool) -> None:
    """A table for the terminal, without what people need not read; of ``several`` families each
    row names its own.
    """
    import pandas as pd

    if rows:
        hidden = ["run", "note", "N", "trained", "law", *([] if several else ["family"])]
        frame = pd.DataFrame(rows).drop(columns=hidden)
        print(f"{title}\n{frame.to_string(index=False, float_format='{:.4g}'.format)}\n")


def write_csv(out: Path, tables: dict[str, list[dict[str, Any]]]) -> None:
    """The first table as the file named, others beside it as NAME-<table>.csv."""
    import pandas as pd

    first = next(name for name in ("answers", "choices") if tables[name])
    for name, rows in tables.items():
        if rows:
            path = out if name == first else out.with_name(f"{out.stem}-{name}.csv")
            canonical.write_text(path, pd.DataFrame(rows).to_csv(index=False))


def parser() -> argparse.ArgumentParser:
    """The command line; all but study, gpu, mfu and out are fields of a Question."""
    parse = script.parser(__doc__)
    add = parse.add_argument
    add("study", type=Path, help="a study's results folder")
    add("--family", help="family's name (default all; with --N0 whose laws answer)")
    add("--model", default="all", help="model's name, or all (default)")
    add("--method", default="all", help="method's name, or all (default)")
    add("--rate", default="all", help="pruning rate in (0, 1), or all (default)")
    add("--L0", type=float, help="loss of the unpruned model, for a model not in the study")
    add("--Lp", type=float, help="loss right after pruning: the damage laws' input")
    add("--N0", type=float, help="parameters before pruning, for a model not in the study")
    add("--target", type=float, help="loss to reach, nats per token")
    add("--marginal", type=float, help="stop where 1e6 more tokens save less than this, nats")
    add("--residual", type=float, help="nats above the loss of endless post-training")
    add("--flops", type=float, help="FLOPs to spend on post-training: ranks the variants")
    add("--parameters", type=float, help="largest number of parameters to keep")
    add("--gpu", default="H100", help="GPU that hours are quoted for (default H100)")
    add("--mfu", type=float, default=0.35, help="share of its peak that is reached (default 0.35)")
    add("--out", type=Path, help="also write .json or .csv")
    return parse


if __name__ == "__main__":
    sys.exit(script.run(main))
