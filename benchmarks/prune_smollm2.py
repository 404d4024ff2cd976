"""Every weight-pruning method on a real checkpoint: seconds and held-out loss, before and after.

    envs/run python benchmarks/prune_smollm2.py BASE/manifest.json CORPUS/manifest.json OUT

BASE is any base model's folder (SmolLM2-135M by the base source "gguf"), CORPUS a corpus with its
tokenizer. All methods see the same calibration windows; the loss is over the first validation rows.
2:4, then 50 % of the linear weights unstructured.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from p2law import manifest  # noqa: E402
from p2law.checkpoints import io  # noqa: E402
from p2law.corpus.packed import Packed  # noqa: E402
from p2law.pruning import shapes  # noqa: E402
from p2law.pruning.stage import Stage  # noqa: E402

METHODS = {
    "magnitude": ("magnitude", "keep"),
    "wanda": ("wanda", "keep"),
    "ria": ("ria", "keep"),
    "sparsegpt": ("sparsegpt", "sparsegpt"),
    "apt-s": ("obs", "mrp-cg"),
    "apt-m": ("group", "mrp-cg"),
    "sparsegpt+mrp": ("sparsegpt", "mrp-cg"),
}


@torch.no_grad()
def held_out_loss(folder: Path, corpus: Packed, rows: int) -> float:
    """Mean nats per token over the first ``rows`` validation rows."""
    model, total = io.load(folder), 0.0
    read = torch.from_numpy(corpus.read("validation", np.arange(rows)))
    for row in read:
        logits = model(row[None, :-1]).logits[0]
        total += float(torch.nn.functional.cross_entropy(logits, row[1:]))
    return total / rows


def main() -> None:
    """Print a row a method and pattern, and write them all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--patterns", nargs="+", default=["2:4", "unstructured"])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    corpus = Packed(given.corpus.parent)
    config = json.loads((given.base.parent / "config.json").read_text())
    counts = shapes.parameters(config)
    table = [{"method": "dense", "loss": held_out_loss(given.base.parent, corpus, given.rows)}]
    print(json.dumps(table[0]), flush=True)
    for pattern in given.patterns:
        rate = 0.5 if pattern != "unstructured" else 0.5 * counts["linear"] / counts["total"]
        for name in given.methods:
            mask, weights = METHODS[name]
            if mask == "group" and pattern == "unstructured":
                continue
            settings = {"prune": "weights", "pattern": pattern, "mask": mask, "weights": weights}
            spec = {"key": f"{name} {pattern}", "method": name, "prune": settings, "seed": 0}
            spec |= {"calibration": {"windows": given.windows}}
            spec["variants"] = {"x": {"key": f"{name} {pattern} {given.windows}", "rate": rate}}
            out = given.out / f"{name}-{pattern.replace(':', '-')}"
            started = time.perf_counter()
            Stage(spec, given.base, given.corpus, out).run()
            seconds = time.perf_counter() - started
            results = manifest.read_manifest(out / "x" / manifest.NAME)["results"]
            loss = held_out_loss(out / "x", corpus, given.rows)
            row = {"method": name, "pattern": pattern, "seconds": round(seconds, 1), "loss": loss}
            table.append(row | {"rate": results["rate"]})
            print(json.dumps(table[-1]), flush=True)
    manifest.write_json(given.out / "table.json", table)


if __name__ == "__main__":
    main()
