#!/usr/bin/env python3
"""Do 95 % intervals cover? Simulated studies with run-correlated noise and a known P² law.

Two grids, 0.2 % noise of which half the variance is common to a run, Huber 1e-3. ``narrow``: 4 N0
over a factor of 8 x 3 rho x 12 D, the constants of ``simulate.P2_CONSTANTS``; sizes this close
cannot tell N_C N0^-alpha from E, so N_C, E and alpha are not determined there and their intervals
reach a fence of alpha. ``wide``: 6 N0 over a factor of 1,000 x 3 rho x 8 D and a larger N_C, which
determine all seven.

Per constant, the share of studies whose interval holds the truth, by run-level bootstrap (200
replicates), cluster sandwich and profile (exponents; a sandwich is given only where first order
means something, and its count is printed); how often the bootstrap's interval reaches a fence; and
the coverage of prediction intervals for measured losses inside the grid and beyond it.

    benchmarks/law_coverage.py [--grid narrow|wide] [--studies 200] [--shared 0.5] [--first 0]

About .8 (narrow) and .5 (wide) CPU seconds a study; ``--first`` sets the first seed.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import argparse  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections import defaultdict  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import law_simulate as simulate  # noqa: E402
from p2law.laws.fitting.fit import Fit, fit  # noqa: E402
from p2law.laws.forms import registry  # noqa: E402
from p2law.laws.judging.likelihood import profiles, sandwich  # noqa: E402
from p2law.laws.judging.uncertainty import Bootstrap, bootstrap  # noqa: E402

RATES = [0.15, 0.3, 0.45]
GRIDS = {
    "narrow": ([2e5 * 2**k for k in range(4)], [16384.0 * 1.5**k for k in range(12)]),
    "wide": ([1e5 * 4**k for k in range(6)], [16384.0 * 2**k for k in range(8)]),
}
TRUTH = {
    "narrow": simulate.P2_CONSTANTS,
    "wide": simulate.P2_CONSTANTS | {"N_C": 60.0},
}


def draw(
    kind: str,
    sizes: list[float],
    rates: list[float],
    budgets: list[float],
    seed: int,
    shared: float,
) -> pd.DataFrame:
    """A study on a grid; L0 follows one power law of N0 in every grid."""
    clean = simulate.grid(sizes, rates, budgets)
    clean["L0"] = 3.3 * (clean["N0"] / GRIDS[kind][0][0]) ** -0.10
    return simulate.losses(clean, "p2", TRUTH[kind], noise=2e-3, shared=shared, seed=seed)


def asked(kind: str) -> dict[str, tuple[list, list, list]]:
    """Sizes, rates and budgets of what is predicted: new runs inside the grid, and beyond it."""
    sizes, budgets = GRIDS[kind]
    return {
        "inside": (sizes, RATES, budgets),
        "next size": ([2 * sizes[-1]], RATES, budgets),
        "next rate": (sizes, [0.55], budgets),
        "next budget": (sizes, RATES, [2.25 * budgets[-1]]),
    }


def intervals(found: Fit, runs: np.ndarray, by_run: Bootstrap) -> dict[str, dict]:
    """Intervals by method and constant; an open end of a profile is infinite."""
    profile = {
        p.name: (-np.inf if p.low is None else p.low, np.inf if p.high is None else p.high)
        for p in profiles(found, runs)
    }
    return {
        "bootstrap": by_run.intervals(), "sandwich": sandwich(found, runs), "profile": profile,
    }  # fmt: skip


def main() -> None:
    """Print shares in percent."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--grid", default="narrow", choices=list(GRIDS))
    parse.add_argument("--studies", type=int, default=200)
    parse.add_argument("--shared", type=float, default=0.5)
    parse.add_argument("--first", type=int, default=0)
    options = parse.parse_args()
    kind, truth = options.grid, TRUTH[options.grid]
    sizes, budgets = GRIDS[kind]
    hits: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    fences, arrived = defaultdict(list), []
    began = time.process_time()
    for seed in range(options.first, options.first + options.studies):
        rows = draw(kind, sizes, RATES, budgets, seed, options.shared)
        found = fit(registry.get("p2"), rows, delta=1e-3, restarts=12)
        arrived.append(found.starts_at_optimum)
        runs = rows["run"].to_numpy()
        by_run = bootstrap(found, runs, 200, seed)
        for method, named in intervals(found, runs, by_run).items():
            for name, (low, high) in named.items():
                hits[method][name].append(low <= truth[name] <= high)
        for name, (low, high) in by_run.intervals().items():
            fence = found.form.exponents.get(name)
            fences[name].append(
                low <= 0 if fence is None else low <= fence.low or high >= fence.high
            )
        for name, grid in asked(kind).items():
            measured = draw(kind, *grid, 10_000 + seed, options.shared)
            low, high = by_run.prediction_interval(measured)
            held = (low <= measured["loss"]) & (measured["loss"] <= high)
            hits["prediction"][name].append(float(held.mean()))
    shared = f"{100 * options.shared:.0f} % of the variance shared in a run"
    print(f"grid {kind}: {options.studies} studies from seed {options.first}, {shared}")
    print(f"restarts at the best objective: {100 * np.mean(arrived):.1f} %")
    for method, named in hits.items():
        shares = "  ".join(
            f"{name} {100 * np.mean(hit):.1f}" + (f" ({len(hit)})" if method == "sandwich" else "")
            for name, hit in named.items()
        )
        print(f"{method:10s} {shares}")
    reach = "  ".join(f"{name} {100 * np.mean(hit):.0f}" for name, hit in fences.items())
    print(f"bootstrap intervals that reach a fence: {reach}")
    print(f"{time.process_time() - began:.0f} CPU seconds")


if __name__ == "__main__":
    main()
