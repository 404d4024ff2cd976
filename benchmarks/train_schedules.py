"""WSD with branches against matched cosine runs and one trajectory: losses, fit, tokens.

One pruned model is post-trained under the three schedules at the same budgets. First each
schedule's peak learning rate is chosen among the same few by the mean loss over all budgets, with a
seed of its own; then several seeds of the row order are trained at these. Every point is evaluated
on the same held-out rows. The D-term A / D^alpha is fitted to each run's losses over the floor E
under which all of them are straightest; its level is the loss at the middle budget.

Printed are each run, and at the end the differences of level and exponent to cosine's at equal
seeds: their mean, their standard deviation over seeds, and what noise alone would make of them (the
standard error of an exponent from its own five points' scatter, and the spread over seeds).
``--cosine-floor 0`` lets the cosines end at rate zero, as WSD's branches do, not at a tenth: how
much of a difference in level is the end of the decay and not its shape.

    python benchmarks/train_schedules.py --pruned .../manifest.json --corpus .../manifest.json
        --out /tmp/schedules [--budgets 16384 32768 65536 131072 262144] [--seeds 1 2 3 4]
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import numpy as np
from scipy.optimize import minimize_scalar

from p2law.canonical import digest
from p2law.checkpoints import io, products
from p2law.corpus.packed import Packed
from p2law.evaluation import heldout
from p2law.training import machine, recipe, run, schedule

SCHEDULES = ("wsd", "cosine", "trajectory")
TUNED = 0
"""Seed of the runs that choose the peak rates; no other number rests on it."""


def curve(
    args: argparse.Namespace, rows: heldout.Rows, kind: str, seed: int, rate: float
) -> tuple[list[float], int]:
    """Held-out losses at all budgets, and the tokens that the run trained on."""
    train = {"batch_tokens": args.batch, "learning_rate": rate, "decay": args.decay}
    train["warmup_tokens"] = 2 * args.batch
    spec = {"schedule": kind, "seed": seed, "train": train}
    spec["sequence_length"] = rows.tokens.shape[1] - 1
    spec["key"] = digest(spec)
    spec["budgets"] = {str(n): digest([spec["key"], n]) for n in args.budgets}
    end = args.decay if kind == "wsd" else args.cosine_floor
    out = args.out / f"{kind}-{rate:g}-{end:g}-{seed}"
    run.posttrain(spec, args.pruned, args.corpus, out)
    losses = []
    for budget in args.budgets:
        model = products.by_onednn(io.load(out / f"D{budget}"))
        losses.append(float(heldout.row_losses(model, rows, 16).sum() / rows.targets))
    plan, _ = run.planned(spec, recipe.parse(train))
    return losses, args.batch * sum(schedule.work(plan).values())


def line(budgets: list[int], losses: list[float], floor: float) -> tuple[float, float, float]:
    """Level, exponent and its standard error of floor + A / D^alpha, least squares in logs."""
    x = np.log(budgets) - np.log(budgets[len(budgets) // 2])
    y = np.log(np.array(losses) - floor)
    slope, level = np.polyfit(x, y, 1)
    scatter = y - np.polyval([slope, level], x)
    error = np.sqrt((scatter**2).sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum())
    return floor + float(np.exp(level)), -float(slope), float(error)


def common_floor(budgets: list[int], curves: list[list[float]]) -> float:
    """The floor under which all curves are straightest in log-log, below their smallest loss."""
    low = min(map(min, curves))

    def misfit(share: float) -> float:
        logs = [np.log(np.array(losses) - share * low) for losses in curves]
        return sum(np.polyfit(np.log(budgets), y, 1, full=True)[1][0] for y in logs)

    return low * minimize_scalar(misfit, bounds=(0.0, 0.999), method="bounded").x


def tune(args: argparse.Namespace, rows: heldout.Rows) -> dict[str, float]:
    """Each schedule's best peak rate; the trajectory is a cosine and takes its rate."""
    best = {}
    for kind in ("wsd", "cosine"):
        means = {}
        for rate in args.rates:
            losses, _ = curve(args, rows, kind, TUNED, rate)
            means[rate] = float(np.mean(losses))
            print(json.dumps({"tuning": kind, "rate": rate, "losses": losses}), flush=True)
        best[kind] = min(means, key=means.get)
    return {**best, "trajectory": best["cosine"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pruned", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--budgets", type=int, nargs="+", default=[16384, 32768, 65536, 131072, 262144]
    )
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-4, 1e-3, 2e-3, 4e-3])
    parser.add_argument("--decay", type=float, default=0.2)
    parser.add_argument("--cosine-floor", type=float, default=schedule.COSINE_FLOOR)
    parser.add_argument("--batch", type=int, default=2048, help="tokens of a step")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--tokens", type=int, default=65536, help="held-out tokens")
    args = parser.parse_args()
    machine.settle()
    schedule.COSINE_FLOOR = args.cosine_floor
    rows = heldout.choose(Packed(args.corpus.parent), args.tokens)
    rates = tune(args, rows)
    found = {
        (kind, seed): curve(args, rows, kind, seed, rates[kind])
        for seed in args.seeds
        for kind in SCHEDULES
    }
    report(args, rates, found)


def report(args: argparse.Namespace, rates: dict[str, float], found: dict) -> None:
    """Print every run's fit, then each schedule's differences to cosine over seeds."""
    annealed = [losses for (kind, _), (losses, _) in found.items() if kind != "trajectory"]
    floor = common_floor(args.budgets, annealed)
    fits = {key: line(args.budgets, losses, floor) for key, (losses, _) in found.items()}
    for (kind, seed), (losses, tokens) in found.items():
        level, alpha, error = fits[kind, seed]
        share = tokens / found["cosine", seed][1]
        record = {"schedule": kind, "seed": seed, "rate": rates[kind], "tokens": tokens}
        record |= {"share_of_cosine": round(share, 3), "losses": np.round(losses, 4).tolist()}
        record |= {"level": round(level, 4), "alpha": round(alpha, 4)}
        print(json.dumps({**record, "alpha_error": round(error, 4)}), flush=True)
    for kind in SCHEDULES:
        mine, theirs = (
            np.array([fits[name, seed] for seed in args.seeds]) for name in (kind, "cosine")
        )
        apart = mine - theirs
        noise = np.hypot(mine[:, 2], theirs[:, 2]).mean()
        record = {
            "minus_cosine": kind,
            "cosine_floor": args.cosine_floor,
            "loss_floor": round(floor, 4),
            "seeds": len(args.seeds),
        }
        for k, name in enumerate(("level", "alpha")):
            record[name] = round(float(apart[:, k].mean()), 4)
            record[f"{name}_sd_over_seeds"] = round(float(apart[:, k].std(ddof=1)), 4)
            record[f"{name}_spread_of_cosine"] = round(float(theirs[:, k].std(ddof=1)), 4)
        print(json.dumps({**record, "alpha_noise_of_one_pair": round(float(noise), 4)}))


if __name__ == "__main__":
    main()
