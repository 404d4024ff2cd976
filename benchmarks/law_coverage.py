#!/usr/bin/env python3
"""Do 95 % intervals cover? Simulated studies with run-correlated noise and a known P² law.

Per constant: the share of studies whose interval holds the truth, by run-level bootstrap, by
cluster sandwich and, for contrast, by a bootstrap over points; and the coverage of prediction
intervals for a size, a rate and a budget that were not in the study.

    benchmarks/law_coverage.py [--studies 200] [--shared 0.5]
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

from p2law.laws import registry, simulate  # noqa: E402
from p2law.laws.fit import fit  # noqa: E402
from p2law.laws.profile import sandwich  # noqa: E402
from p2law.laws.uncertainty import bootstrap  # noqa: E402

SIZES, RATES = [2e5, 4e5, 8e5, 1.6e6], [0.15, 0.3, 0.45]
BUDGETS = [16384.0 * 1.5**k for k in range(12)]
NEW = {
    "new size": ([3.2e6], RATES, BUDGETS),
    "new rate": (SIZES, [0.55], BUDGETS),
    "new budget": (SIZES, RATES, [16384.0 * 1.5**14]),
}


def draw(grid, seed: int, shared: float):
    """A study on a grid, 0.2 % noise of which ``shared`` is common to a run."""
    clean = simulate.grid(*grid)
    # L0 follows one power law of N0 in every grid, or the new size would start from its own.
    clean["L0"] = 3.3 * (clean["N0"] / SIZES[0]) ** -0.10
    truth = simulate.P2_CONSTANTS
    return simulate.losses(clean, "p2", truth, noise=2e-3, shared=shared, seed=seed)


def main() -> None:
    """Print shares in percent."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--studies", type=int, default=200)
    parse.add_argument("--shared", type=float, default=0.5)
    options = parse.parse_args()
    hits: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    arrived = []
    for seed in range(options.studies):
        rows = draw((SIZES, RATES, BUDGETS), seed, options.shared)
        found = fit(registry.get("p2"), rows, delta=1e-3, restarts=12)
        arrived.append(found.starts_at_optimum)
        runs = rows["run"].to_numpy()
        by_run = bootstrap(found, runs, 200, seed)
        by_point = bootstrap(found, np.arange(len(rows)), 200, seed)
        intervals = {"run": by_run.intervals(), "point": by_point.intervals()}
        intervals["sandwich"] = sandwich(found, runs)
        for kind, named in intervals.items():
            for name, (low, high) in named.items():
                hits[kind][name].append(low <= simulate.P2_CONSTANTS[name] <= high)
        for name, grid in NEW.items():
            asked = draw(grid, 10_000 + seed, options.shared)
            low, high = by_run.prediction_interval(asked)
            hits["prediction"][name] += list((low <= asked["loss"]) & (asked["loss"] <= high))
    print(
        f"{options.studies} studies, {100 * options.shared:.0f} % of the variance shared in a run"
    )
    print(f"restarts at the best objective: {100 * np.mean(arrived):.1f} %")
    for kind, named in hits.items():
        shares = "  ".join(f"{name} {100 * np.mean(hit):.1f}" for name, hit in named.items())
        print(f"{kind:10s} {shares}")


if __name__ == "__main__":
    main()
