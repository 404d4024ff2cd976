#!/usr/bin/env python3
"""CPU seconds of one P² fit from 1e2 to 1e5 points: the cost must grow linearly.

benchmarks/law_scaling.py
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import law_simulate as simulate  # noqa: E402
from p2law.laws.fitting.fit import fit  # noqa: E402
from p2law.laws.forms import registry  # noqa: E402


def main() -> None:
    """Print points, seconds, seconds per 1,000 points, objective."""
    print(" points  seconds  per 1,000  starts at optimum")
    for budgets in (9, 84, 834, 8334):
        grid = [16384.0 * 1e3 ** (k / budgets) for k in range(budgets)]
        clean = simulate.grid([2e5, 4e5, 8e5, 1.6e6], [0.15, 0.3, 0.45], grid)
        rows = simulate.losses(clean, "p2", simulate.P2_CONSTANTS, noise=2e-3, shared=0.3, seed=0)
        began = time.process_time()
        found = fit(registry.get("p2"), rows, delta=1e-3)
        seconds = time.process_time() - began
        share = 100 * found.starts_at_optimum
        print(f"{len(rows):7d} {seconds:8.3f} {1e3 * seconds / len(rows):10.4f} {share:10.0f} %")


if __name__ == "__main__":
    main()
