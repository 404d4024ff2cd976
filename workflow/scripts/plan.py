#!/usr/bin/env python3
"""What to buy: post-training tokens for a target loss, a marginal gain or a residual.

    plan.py results/default --target 3.1 --gpu H100
    plan.py results/default --model m1 --method depth --rate 0.3 --marginal 0.01 --residual 0.02
    plan.py results/default --method mine --rate 0.4 --L0 3.28 --Lp 3.9 --N0 220000 --residual 0.05
    plan.py results/default --flops 1e15 --parameters 400000

The first argument is a study's results folder (with tables/ and law/). Without --model, --method
and --rate all its variants are answered; a rate that the study lacks, or a method never
post-trained (with --L0, --Lp and --N0), is answered from the laws.
"""

import argparse
import sys
from pathlib import Path

from p2law import errors, manifest
from p2law.errors import UserError

SAME_RATE = 0.02
"""Achieved rates this near to the one asked for are it: rates are made of whole layers."""


def main() -> None:
    """Answer the rules for every variant asked for; print a table, write JSON or CSV."""
    options = parser().parse_args()

    import pandas as pd

    from p2law.costs import PEAK_FLOPS
    from p2law.laws import plan
    from p2law.laws.records import finite
    from p2law.laws.table import read_table

    if options.gpu not in PEAK_FLOPS:
        raise UserError(f"--gpu {options.gpu}: allowed: {', '.join(PEAK_FLOPS)}")
    if not 0 < options.mfu <= 1:
        raise UserError(f"--mfu {options.mfu}: must lie in (0, 1]")
    rules = {
        name: getattr(options, name)
        for name in ("target", "marginal", "residual")
        if getattr(options, name) is not None
    }
    if not rules and options.flops is None:
        raise UserError("nothing asked: give --target, --marginal, --residual or --flops")
    for name, value in {**rules, "flops": options.flops}.items():
        if value is not None and not value > 0:
            raise UserError(f"--{name} {value}: must be above 0")
    laws = plan.Laws.read(options.study / "law")
    table = read_table(options.study / "tables" / "losses.parquet")
    variants = asked(options, plan.variants_of(table))
    rows = []
    for variant in variants:
        per_hour = PEAK_FLOPS[options.gpu] * options.mfu * 3600
        rows += plan.as_rows(plan.answer(laws, variant, rules, per_hour))
    if options.flops is not None:
        for form in ("p2", "damage_rectified"):
            rows += plan.as_rows(
                plan.best_choices(
                    laws,
                    [v for v in variants if form == "p2" or v.Lp is not None],
                    flops=options.flops,
                    parameters=options.parameters,
                    form=form,
                )
            )
    if not rows:
        raise UserError("no fitted law can answer for these variants; see law/law.json 'skipped'")
    frame = pd.DataFrame(rows)
    print(frame.drop(columns=["family", "N"]).to_string(index=False, float_format="{:.4g}".format))
    if options.out and options.out.suffix == ".csv":
        manifest.write_text(options.out, frame.to_csv(index=False))
    elif options.out:
        manifest.write_json(options.out, finite({"gpu": options.gpu, "answers": rows}))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parse.add_argument
    add("study", type=Path, help="a study's results folder")
    add("--model", default="all", help="model's name, or all (default)")
    add("--method", default="all", help="method's name, or all (default)")
    add("--rate", default="all", help="pruning rate in (0, 1), or all (default)")
    add("--L0", type=float, help="loss of the unpruned model, for a model not in the study")
    add("--Lp", type=float, help="loss right after pruning: the damage laws' input")
    add("--N0", type=float, help="parameters before pruning, for a model not in the study")
    add("--target", type=float, help="loss to reach, nats per token")
    add("--marginal", type=float, help="stop where 1e6 more tokens save less than this, nats")
    add("--residual", type=float, help="nats above the loss of endless post-training")
    add("--flops", type=float, help="training FLOPs to spend: ranks the variants")
    add("--parameters", type=float, help="with --flops: largest number of parameters to keep")
    add("--gpu", default="H100", help="GPU that hours are quoted for (default H100)")
    add("--mfu", type=float, default=0.35, help="share of its peak that is reached (default 0.35)")
    add("--out", type=Path, help="also write .json or .csv")
    return parse


def asked(options: argparse.Namespace, known: list) -> list:
    """The variants asked for: the study's own, moved to another rate or damage where given."""
    from dataclasses import replace

    from p2law.laws.plan import Variant

    rate = None
    if options.rate != "all":
        try:
            rate = float(options.rate)
        except ValueError:
            raise UserError(f"--rate {options.rate}: a number in (0, 1), or all") from None
        if not 0 < rate < 1:
            raise UserError(f"--rate {options.rate}: must lie in (0, 1), or be all")
    if options.N0 is not None:
        if options.L0 is None or rate is None:
            raise UserError("--N0 describes a model of your own: give --L0 and --rate too")
        family = known[0].family
        kept = options.N0 * (1 - rate)
        return [
            Variant(family, options.method, "asked", options.N0, kept, rate, options.L0, options.Lp)
        ]
    models = {v.model for v in known}
    if options.model not in {"all", *models}:
        raise UserError(f"--model {options.model}: the study has {', '.join(sorted(models))}")
    chosen = [v for v in known if options.model in ("all", v.model)]
    methods = {v.method for v in chosen}
    if options.method not in {"all", *methods} and options.Lp is None:
        raise UserError(
            f"--method {options.method}: the study has {', '.join(sorted(methods))}; for a method"
            " never post-trained give --rate and --Lp, the loss right after pruning"
        )
    if options.method in methods:
        chosen = [v for v in chosen if v.method == options.method]
    if rate is None:
        return chosen
    near = [v for v in chosen if abs(v.rho - rate) <= SAME_RATE]
    if near and options.Lp is None:
        return near
    # Another rate: N by the rate's meaning, and only the damage that the user measured.
    unique = {(v.family, v.model, v.method if options.method in {"all", *methods} else ""): v
              for v in chosen}  # fmt: skip
    return [
        replace(
            v, rho=rate, N=v.N0 * (1 - rate), Lp=options.Lp,
            method=v.method if options.method in {"all", *methods} else options.method,
        )
        for v in unique.values()
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(errors.run(main))
