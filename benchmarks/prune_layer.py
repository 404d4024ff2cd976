"""Solvers on one synthetic layer: seconds and reconstruction loss of every mask and compensation.

    envs/run python benchmarks/prune_layer.py --width 768 --rows 768 --pattern 2:4

Inputs are correlated (a random mixing matrix); loss is 1/2 tr dW H dW^T relative to zeroing by
Wanda's mask. One thread.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import torch  # noqa: E402

from p2law.checkpoints import products  # noqa: E402
from p2law.pruning import compensate, masks, shapes  # noqa: E402
from p2law.pruning.curvature import Curvature  # noqa: E402
from p2law.pruning.masks import Rule  # noqa: E402
from p2law.pruning.statistics import Statistics  # noqa: E402


def timed(call):
    """The call's answer and its seconds."""
    started = time.perf_counter()
    return call(), time.perf_counter() - started


def main() -> None:
    """Read the size and the pattern."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--rows", type=int, default=768)
    parser.add_argument("--pattern", default="unstructured")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with products.exact(torch.device("cpu")):
        measure(given)


def measure(given: argparse.Namespace) -> None:
    """Print one row a pair of mask and compensation."""
    g = torch.Generator().manual_seed(0)
    X = torch.randn(4096, given.width, generator=g)
    X = X @ torch.randn(given.width, given.width, generator=g)
    W = torch.randn(given.rows, given.width, generator=g)
    inputs = Statistics(given.width, True, "cpu", torch.float32)
    _, seconds = timed(lambda: inputs.add(X))
    print(f"X^T X of {len(X)} tokens {seconds:.2f} s")
    curvature = Curvature(inputs.hessian(), 0.01, "layer")
    _, seconds = timed(lambda: curvature.inverse)
    print(f"factor and inverse {seconds:.2f} s")
    rule = Rule(shapes.pattern_of(given.pattern), 0.5, "layer", (given.rows,))
    unit = None
    for mask in ("wanda", "ria", "obs", "group", "sparsegpt"):
        swept = None
        if mask == "group" and rule.pattern is None:
            continue
        started = time.perf_counter()
        if mask == "group":
            kept = masks.group(W, curvature, rule.pattern)
        elif mask == "sparsegpt":
            swept, kept = compensate.sparsegpt(W, curvature, None, rule)
        else:
            kept = masks.select(masks.SCORED[mask].score(W, inputs, curvature), rule)
        chosen = time.perf_counter() - started
        unit = unit or float(curvature.loss(W * kept - W).sum())
        for weights, solve in {
            "keep": lambda kept=kept: W * kept,
            "sparsegpt": lambda kept=kept: compensate.sparsegpt(W, curvature, kept, rule)[0],
            "mrp-cg": lambda kept=kept, s=swept: compensate.mrp_cg(W, curvature, kept, start=s),
            "mrp": lambda kept=kept: compensate.mrp(W, curvature, kept),
        }.items():
            V, seconds = timed(solve)
            loss = float(curvature.loss(V - W).sum()) / unit
            print(f"{mask:10} {chosen:6.2f} s  {weights:10} {seconds:6.2f} s  loss {loss:.5f}")


if __name__ == "__main__":
    main()
