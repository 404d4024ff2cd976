#!/usr/bin/env python3
"""What to buy: post-training tokens for a target loss, a marginal gain or a residual.

    plan.py results/default --target 3.1 --gpu H100
    plan.py results/default --model m1 --method depth --rate 0.3 --marginal 0.01 --residual 0.02
    plan.py results/default --N0 220000 --L0 3.28 --Lp 3.9 --method mine --target 3.4
    plan.py results/default --flops 1e15 --parameters 400000

The first argument is a study's results folder (with tables/ and law/). Without --model, --method
and --rate all its variants are answered. A rate that the study lacks is answered by P², and
between measured rates by the damage law too, from an interpolated Lp; a method that was never
post-trained from its one-shot loss (--Lp) by the damage law over all methods, with how far that law
was off on methods it had not seen. --flops ranks the variants by the loss that so
much post-training buys; with --target those that reach it are listed from the cheapest on.
"""

import argparse
import sys
from pathlib import Path

from p2law import canonical
from p2law.commands import script
from p2law.errors import UserError
from p2law.results import manifest

SAME_RATE = 0.02
"""Achieved rates this near to the one asked for are it: rates are made of whole layers."""


def main() -> None:
    """Answer the rules for every variant asked for; print tables, write JSON or CSV."""
    options = parser().parse_args()
    check(options)

    from p2law.cluster.costs import gpu_rate
    from p2law.laws.deciding import buy, plan
    from p2law.laws.deciding.variants import variants_of
    from p2law.laws.records import finite

    per_hour = gpu_rate(options.gpu, options.mfu, "--{}".format) * 3600
    laws = plan.Laws.read(options.study / "law", options.study / "tables" / "losses.parquet")
    known = variants_of(laws.table, masked(options.study))
    variants = buy.small_enough(asked(options, known), options.parameters)
    if not variants:
        raise UserError(f"--parameters {options.parameters:g}: no variant asked for is so small")
    answers = [a for v in variants for a in plan.answer(laws, v, rules(options), per_hour)]
    choices = []
    if options.flops is not None:
        choices = buy.lowest_loss(laws, variants, options.flops, per_hour)
    if not answers and not choices:
        raise UserError("no fitted law can answer for these variants; see law/law.json 'skipped'")
    tables = {
        "answers": plan.as_rows(answers),
        "cheapest": plan.as_rows(buy.fewest_flops(answers)) if len(variants) > 1 else [],
        "choices": plan.as_rows(choices),
    }
    titles = {
        "answers": f"Tokens, with 95 % intervals; GPU-hours of a {options.gpu}",
        "cheapest": "Cheapest ways to the target loss",
        "choices": f"Lowest loss for {options.flops} FLOPs of post-training",
    }
    for name, rows in tables.items():
        show(titles[name], rows)
    if options.out and options.out.suffix == ".csv":
        write_csv(options.out, tables)
    elif options.out:
        hardware = {"gpu": options.gpu, "mfu": options.mfu}
        canonical.write_json(options.out, finite({**hardware, **tables}))


def show(title: str, rows: list[dict]) -> None:
    """A table for the terminal; what is the same in every row is left out."""
    import pandas as pd

    if not rows:
        return
    hidden = ["family", "run", "note", "N", "trained", "law"]
    frame = pd.DataFrame(rows).drop(columns=hidden, errors="ignore")
    print(f"{title}\n{frame.to_string(index=False, float_format='{:.4g}'.format)}\n")


def write_csv(out: Path, tables: dict[str, list[dict]]) -> None:
    """The first table as the file named, others beside it as NAME-<table>.csv."""
    import pandas as pd

    paths = {"answers": out}
    if not tables["answers"]:
        paths = {"choices": out}
    for name, rows in tables.items():
        if rows:
            path = paths.get(name, out.with_name(f"{out.stem}-{name}.csv"))
            canonical.write_text(path, pd.DataFrame(rows).to_csv(index=False))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = script.parser(__doc__)
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
    add("--flops", type=float, help="FLOPs to spend on post-training: ranks the variants")
    add("--parameters", type=float, help="largest number of parameters to keep")
    add("--gpu", default="H100", help="GPU that hours are quoted for (default H100)")
    add("--mfu", type=float, default=0.35, help="share of its peak that is reached (default 0.35)")
    add("--out", type=Path, help="also write .json or .csv")
    return parse


def rules(options: argparse.Namespace) -> dict[str, float]:
    """The rules asked for with their levels."""
    named = {name: getattr(options, name) for name in ("target", "marginal", "residual")}
    return {name: level for name, level in named.items() if level is not None}


def check(options: argparse.Namespace) -> None:
    """Refuse what no law could answer."""
    if not rules(options) and options.flops is None:
        raise UserError("nothing asked: give --target, --marginal, --residual or --flops")
    above = ("target", "marginal", "residual", "flops", "parameters", "N0", "L0", "Lp")
    for name in above:
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise UserError(f"--{name} {value}: must be above 0")
    if options.Lp is not None and options.L0 is not None and options.Lp <= options.L0:
        raise UserError(
            f"--Lp {options.Lp}: at or below --L0 {options.L0}: pruning that did no damage"
            " leaves nothing to heal"
        )
    if options.out and options.out.suffix not in (".csv", ".json"):
        raise UserError(f"--out {options.out}: must end in .csv or .json")


def rate_of(options: argparse.Namespace) -> float | None:
    """The rate asked for, None for all."""
    if options.rate == "all":
        return None
    try:
        rate = float(options.rate)
    except ValueError:
        raise UserError(f"--rate {options.rate}: a number in (0, 1), or all") from None
    if not 0 < rate < 1:
        raise UserError(f"--rate {options.rate}: must lie in (0, 1), or be all")
    return rate


def masked(study: Path) -> set[str]:
    """Methods whose zeros stay in place, so that training costs what the unpruned model does."""
    grid = manifest.read_manifest(study / "tables" / manifest.NAME)["spec"].get("study", {})
    return {name for name, m in grid.get("methods", {}).items() if m.get("prune") == "weights"}


def asked(options: argparse.Namespace, known: list) -> list:
    """The variants asked for: the study's own, moved to another rate or damage where given."""
    rate = rate_of(options)
    if options.N0 is not None:
        return [own_model(options, known[0].family, rate)]
    models = {v.model for v in known}
    if options.model not in {"all", *models}:
        raise UserError(f"--model {options.model}: the study has {', '.join(sorted(models))}")
    chosen = [v for v in known if options.model in ("all", v.model)]
    methods = {v.method for v in chosen}
    trained = options.method in {"all", *methods}
    if not trained and options.Lp is None:
        raise UserError(
            f"--method {options.method}: the study has {', '.join(sorted(methods))}; for a method"
            " never post-trained give --Lp, its loss right after pruning"
        )
    if options.method in methods:
        chosen = [v for v in chosen if v.method == options.method]
    if options.Lp is not None and len({v.model for v in chosen}) > 1:
        raise UserError(f"--Lp {options.Lp}: belongs to one model; name it with --model")
    if trained and options.Lp is None:
        return chosen if rate is None else [v for g in grouped(chosen) for v in nearest(g, rate)]
    return moved(options, chosen, rate, trained)


def grouped(variants: list) -> list[list]:
    """Variants of one model and method together."""
    found: dict[tuple, list] = {}
    for v in variants:
        found.setdefault((v.family, v.model, v.method), []).append(v)
    return list(found.values())


def nearest(group: list, rate: float) -> list:
    """The measured variants of that rate, or one moved to it."""
    near = [v for v in group if abs(v.rho - rate) <= SAME_RATE]
    return near or [group[0].at_rate(rate, group)]


def own_model(options: argparse.Namespace, family: str, rate: float | None):
    """A model that the study lacks: all that the laws need must be given."""
    from p2law.laws.deciding.variants import Variant

    if options.L0 is None or (rate is None and options.Lp is None):
        raise UserError("--N0 describes a model of your own: give --L0, and --rate or --Lp")
    kept = options.N0 * (1 - (rate or 0.0))
    return Variant(
        family=family, method=options.method, model="asked", N0=options.N0, N=kept, trained=kept,
        L0=options.L0, rho=rate, Lp=options.Lp,
    )  # fmt: skip


def moved(options: argparse.Namespace, chosen: list, rate: float | None, trained: bool) -> list:
    """Each model's variant at another rate, with only the damage that the user measured.

    Of a rate that is not given nothing is known but the damage: P² then has no answer, and
    parameters count as before pruning.
    """
    from p2law.laws.deciding.variants import Variant

    found = {}
    for v in chosen:
        method = v.method if trained else options.method
        kept = v.N0 * (1 - (rate or 0.0))
        cost = v.N0 if trained and v.trained == v.N0 else kept
        variant = Variant(
            family=v.family, method=method, model=v.model, N0=v.N0, N=kept, trained=cost,
            L0=v.L0 if options.L0 is None else options.L0, rho=rate, Lp=options.Lp,
        )  # fmt: skip
        found[v.family, v.model, method] = variant
    return list(found.values())


if __name__ == "__main__":
    sys.exit(script.run(main))
