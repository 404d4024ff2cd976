#!/usr/bin/env python3
"""P² by this engine against a Chinchilla-style grid, same data, same objective, one run.

The rival is written from its description: L-BFGS with numeric gradients from a grid of starts in
(log amplitudes, exponents), the summed Huber loss of log losses, best of all starts. Also times
one fit with 1,000 run-level bootstrap replicates. CPU seconds of this process (one thread).

    benchmarks/law_fit.py [--seeds 3]
"""

import argparse
import itertools
import sys
import time
from pathlib import Path

import numpy as np
from scipy import optimize

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

from p2law.laws import registry, simulate  # noqa: E402
from p2law.laws.engine import huber  # noqa: E402
from p2law.laws.fit import fit  # noqa: E402
from p2law.laws.uncertainty import bootstrap  # noqa: E402

DELTA = 1e-3


def table(seed: int):
    """Simulated P² data: 4 N0 x 3 rho x 12 D, 0.2 % noise."""
    budgets = [16384.0 * 1.5**k for k in range(12)]
    clean = simulate.grid([2e5, 4e5, 8e5, 1.6e6], [0.15, 0.3, 0.45], budgets)
    return simulate.losses(clean, "p2", simulate.P2_CONSTANTS, noise=2e-3, shared=0.0, seed=seed)


def chinchilla_style(rows) -> np.ndarray:
    """Objectives [1458] at the ends of a 3^6 x 2 grid of L-BFGS starts with numeric gradients."""
    n, d, r = (np.log(rows[c].to_numpy()) for c in ("N0", "D", "rho"))
    base, target = rows["L0"].to_numpy(), np.log(rows["loss"].to_numpy())

    def objective(x: np.ndarray) -> float:
        a, b, e, alpha, beta, gamma, delta = x
        inner = np.exp(a - alpha * n) + np.exp(b - beta * d) + np.exp(e)
        with np.errstate(over="ignore"):
            predicted = base + np.exp(-gamma * r - delta * n) * inner
        return float(huber(np.log(predicted) - target, DELTA))

    starts = itertools.product(
        (0.0, 4.0, 8.0), (0.0, 4.0, 8.0), (-2.0, 0.0, 2.0), (0.2, 0.6, 1.0), (0.2, 0.6, 1.0),
        (-2.0, -1.0, 0.0), (0.0, 0.2),
    )  # fmt: skip
    return np.array(
        [optimize.minimize(objective, start, method="L-BFGS-B").fun for start in starts]
    )


def main() -> None:
    """Print a table, a row a seed."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--seeds", type=int, default=3)
    seeds = parse.parse_args().seeds
    fit(registry.get("p2"), table(99))  # imports and caches, paid once a process
    print("seed  rival s  ours s  ratio  rival best / ours - 1  rival starts at best  ours")
    for seed in range(seeds):
        rows = table(seed)
        began = time.process_time()
        found = fit(registry.get("p2"), rows, delta=DELTA)
        ours = time.process_time() - began
        began = time.process_time()
        ends = chinchilla_style(rows)
        rival = time.process_time() - began
        over = ends.min() / found.objective - 1
        arrived = np.mean(ends <= found.objective * (1 + 1e-4))
        print(
            f"{seed:4d} {rival:8.2f} {ours:7.3f} {rival / ours:6.0f} {over:22.2e}"
            f" {100 * arrived:20.1f} % {100 * found.starts_at_optimum:4.0f} %",
            flush=True,
        )
    rows = simulate.study().query("method == 'depth'")
    began = time.process_time()
    found = fit(registry.get("p2"), rows, delta=DELTA)
    bootstrap(found, rows["run"].to_numpy(), 1000, seed=0)
    print(f"fit and 1,000 run-level replicates, 45 points: {time.process_time() - began:.2f} s")
    rows = table(0)
    began = time.process_time()
    found = fit(registry.get("p2"), rows, delta=DELTA)
    bootstrap(found, rows["run"].to_numpy(), 1000, seed=0)
    print(f"fit and 1,000 run-level replicates, 144 points: {time.process_time() - began:.2f} s")


if __name__ == "__main__":
    main()
