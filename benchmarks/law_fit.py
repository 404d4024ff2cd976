#!/usr/bin/env python3
"""This engine against a Chinchilla-style grid of L-BFGS: same data, same objective, one run.

The rival is written from its description: L-BFGS with numeric gradients from a grid of starts in
(log amplitudes, exponents), the summed Huber loss (1e-3) of log losses, the best of all starts. It
gets simulated P² data (1,458 starts a table) and, where ``--chinchilla`` names the open table of
Besiroglu et al. (columns "Model Size", "Training FLOP", "loss"), the 240 rows that the published
fit uses and the paper's 4,500 starts. Then one P² fit with 1,000 run-level bootstrap replicates.
CPU seconds of this process, one thread; about a minute a seed and three for the open table.

    benchmarks/law_fit.py [--seeds 3] [--chinchilla chinchilla.csv]
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import argparse  # noqa: E402
import itertools  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from scipy import optimize  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import law_simulate as simulate  # noqa: E402
from p2law.laws.fitting.engine import huber  # noqa: E402
from p2law.laws.fitting.fit import fit  # noqa: E402
from p2law.laws.forms import registry  # noqa: E402
from p2law.laws.judging.uncertainty import Bootstrap, bootstrap  # noqa: E402
from p2law.laws.table import prepare  # noqa: E402

DELTA = 1e-3


def simulated(seed: int) -> pd.DataFrame:
    """P² data: 4 N0 x 3 rho x 12 D, 0.2 % noise."""
    budgets = [16384.0 * 1.5**k for k in range(12)]
    clean = simulate.grid([2e5, 4e5, 8e5, 1.6e6], [0.15, 0.3, 0.45], budgets)
    return simulate.losses(clean, "p2", simulate.P2_CONSTANTS, noise=2e-3, shared=0.0, seed=seed)


def open_table(path: Path) -> pd.DataFrame:
    """The open Chinchilla table without its five highest losses."""
    table = pd.read_csv(path)
    table["N"] = table["Model Size"]
    table["D"] = table["Training FLOP"] / (6 * table["N"])
    return prepare(table.sort_values("loss").iloc[:-5])


def p2_rival(rows: pd.DataFrame) -> tuple[Callable[[np.ndarray], float], Iterable]:
    """Objective of (log N_C, log D_C, log E, alpha, beta, gamma, delta) and 1,458 starts."""
    n, d, r = (np.log(rows[c].to_numpy()) for c in ("N0", "D", "rho"))
    base, target = rows["L0"].to_numpy(), np.log(rows["loss"].to_numpy())

    def objective(x: np.ndarray) -> float:
        a, b, e, alpha, beta, gamma, delta = x
        inner = np.exp(a - alpha * n) + np.exp(b - beta * d) + np.exp(e)
        predicted = base + np.exp(-gamma * r - delta * n) * inner
        return float(huber(np.log(predicted) - target, DELTA))

    return objective, itertools.product(
        (0.0, 4.0, 8.0), (0.0, 4.0, 8.0), (-2.0, 0.0, 2.0), (0.2, 0.6, 1.0), (0.2, 0.6, 1.0),
        (-2.0, -1.0, 0.0), (0.0, 0.2),
    )  # fmt: skip


def chinchilla_rival(rows: pd.DataFrame) -> tuple[Callable[[np.ndarray], float], Iterable]:
    """Objective of (log A, log B, log E, alpha, beta) and the 4,500 starts of 2203.15556."""
    n, d, target = (np.log(rows[c].to_numpy()) for c in ("N", "D", "loss"))

    def objective(x: np.ndarray) -> float:
        a, b, e, alpha, beta = x
        terms = np.exp(a - alpha * n) + np.exp(b - beta * d) + np.exp(e)
        return float(huber(np.log(terms) - target, DELTA))

    return objective, itertools.product(
        np.arange(0, 26, 5.0), np.arange(0, 26, 5.0), np.arange(-1, 1.1, 0.5),
        np.arange(0, 2.1, 0.5), np.arange(0, 2.1, 0.5),
    )  # fmt: skip


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Its result and the CPU seconds it took."""
    began = time.process_time()
    result = work()
    return result, time.process_time() - began


def compare(label: str, form: str, rows: pd.DataFrame, rival: Callable) -> None:
    """Print one line: both on one table."""
    found, ours = timed(lambda: fit(registry.get(form), rows, delta=DELTA))
    objective, starts = rival(rows)

    def search() -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.array(
                [optimize.minimize(objective, x, method="L-BFGS-B").fun for x in starts]
            )

    ends, theirs = timed(search)
    arrived = np.mean(ends <= found.objective * (1 + 1e-4))
    print(
        f"{label:12s} {len(ends):7d} {theirs:8.2f} {ours:7.3f} {theirs / ours:6.0f} x"
        f" {ends.min() / found.objective - 1:12.2e} {100 * arrived:10.1f} %"
        f" {100 * found.starts_at_optimum:6.0f} %",
        flush=True,
    )


def main() -> None:
    """Print a table, a row a data set, then the fit with its replicates."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--seeds", type=int, default=3)
    parse.add_argument("--chinchilla", type=Path, help="the open table, as CSV")
    options = parse.parse_args()
    fit(registry.get("p2"), simulated(99))  # imports and caches, paid once a process
    print("data          starts  rival s  ours s  ratio  best / ours-1  at our best  ours (1e-6)")
    for seed in range(options.seeds):
        compare(f"P2, seed {seed}", "p2", simulated(seed), p2_rival)
    if options.chinchilla:
        compare("Chinchilla", "chinchilla", open_table(options.chinchilla), chinchilla_rival)
    for rows in (simulate.study().query("method == 'depth'"), simulated(0)):

        def whole(rows: pd.DataFrame = rows) -> Bootstrap:
            return bootstrap(
                fit(registry.get("p2"), rows, delta=DELTA), rows["run"].to_numpy(), 1000, 0
            )

        print(f"fit and 1,000 run-level replicates, {len(rows)} points: {timed(whole)[1]:.2f} s")


if __name__ == "__main__":
    main()
