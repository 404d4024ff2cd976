"""WSD with branches against matched cosine runs and one trajectory: losses, fit, tokens.

One pruned model is post-trained under the three schedules at the same budgets, over several
seeds of the row order; every point is evaluated on the same held-out rows. Printed are the paired
differences to cosine (with their standard error over rows), the D-term A / D^alpha fitted to each
run's losses around a common floor E, and the tokens each schedule trained.

    python benchmarks/train_schedules.py --pruned .../manifest.json --corpus .../manifest.json
        --out /tmp/schedules [--budgets 16384 32768 65536 131072 262144] [--seeds 0 1]
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import numpy as np
from scipy.optimize import minimize

from p2law.checkpoints import io
from p2law.corpus.packed import Packed
from p2law.evaluation import heldout
from p2law.manifest import digest, read_manifest
from p2law.training import machine, run

SCHEDULES = ("wsd", "cosine", "trajectory")
BATCH = 2048


def points(args: argparse.Namespace, rows: heldout.Rows) -> tuple[dict, dict]:
    """Row sums by (schedule, seed, budget), and tokens trained by (schedule, seed)."""
    sums, tokens = {}, {}
    for schedule in SCHEDULES:
        for seed in args.seeds:
            train = {"batch_tokens": BATCH, "learning_rate": args.rates[schedule], "decay": 0.2}
            train["warmup_tokens"] = 2 * BATCH
            spec = {"schedule": schedule, "seed": seed, "train": train}
            spec["sequence_length"] = rows.tokens.shape[1] - 1
            spec["key"] = digest(spec)
            spec["budgets"] = {str(n): digest([spec["key"], n]) for n in args.budgets}
            out = args.out / f"{schedule}-{seed}"
            run.posttrain(spec, args.pruned, args.corpus, out)
            for budget in args.budgets:
                folder = out / f"D{budget}"
                found = read_manifest(folder / "manifest.json")["results"]
                spent = found["trunk_tokens"] + found["branch_tokens"]
                tokens[schedule, seed] = tokens.get((schedule, seed), 0) + spent
                sums[schedule, seed, budget] = heldout.row_losses(io.load(folder), rows, 16)
    return sums, tokens


def fit(budgets: list[int], losses: list[float], floor: float) -> tuple[float, float]:
    """Level (the loss at the middle budget) and exponent of floor + A / D^alpha, least squares."""
    slope, level = np.polyfit(np.log(budgets), np.log(np.array(losses) - floor), 1)
    middle = budgets[len(budgets) // 2]
    return floor + float(np.exp(level + slope * np.log(middle))), -float(slope)


def common_floor(budgets: list[int], curves: list[list[float]]) -> float:
    """The floor under which all curves are straightest in log-log, below their smallest loss."""
    low = min(map(min, curves))

    def misfit(share: np.ndarray) -> float:
        floor = low * float(1 / (1 + np.exp(-share[0])))
        return sum(
            np.polyfit(np.log(budgets), np.log(np.array(c) - floor), 1, full=True)[1][0]
            for c in curves
        )

    best = minimize(misfit, [1.0], method="Nelder-Mead")
    return low * float(1 / (1 + np.exp(-best.x[0])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pruned", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--budgets", type=int, nargs="+", default=[16384, 32768, 65536, 131072, 262144]
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--tokens", type=int, default=65536, help="held-out tokens")
    parser.add_argument("--rate", type=float, default=1e-3, help="WSD's peak learning rate")
    parser.add_argument("--cosine-rate", type=float, default=2e-3, help="peak of the other two")
    args = parser.parse_args()
    args.rates = {"wsd": args.rate, "cosine": args.cosine_rate, "trajectory": args.cosine_rate}
    machine.settle()
    rows = heldout.choose(Packed(args.corpus.parent), args.tokens)
    sums, tokens = points(args, rows)
    curves = {
        (schedule, seed): [sums[schedule, seed, n].sum() / rows.targets for n in args.budgets]
        for schedule in SCHEDULES
        for seed in args.seeds
    }
    floor = common_floor(args.budgets, list(curves.values()))
    targets = rows.tokens.shape[1] - 1
    for (schedule, seed), curve in curves.items():
        paired = [
            (sums[schedule, seed, n] - sums["cosine", seed, n]) / targets for n in args.budgets
        ]
        level, alpha = fit(args.budgets, curve, floor)
        record = {"schedule": schedule, "seed": seed, "tokens": tokens[schedule, seed]}
        record["share_of_cosine"] = round(tokens[schedule, seed] / tokens["cosine", seed], 3)
        record |= {"losses": np.round(curve, 4).tolist(), "floor": round(floor, 4)}
        record |= {"level": round(level, 4), "alpha": round(alpha, 4)}
        record["minus_cosine"] = [round(float(p.mean()), 4) for p in paired]
        record["standard_error"] = [round(float(p.std() / len(p) ** 0.5), 4) for p in paired]
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
