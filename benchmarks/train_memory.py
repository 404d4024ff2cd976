"""Peak resident memory of training runs beside what `costs` predicts, size by size.

Every size is a real run of the base script in a process of its own, on random tokens: its start,
three steps, a saved state at the fork and the written checkpoint. The peak is the one that its
manifest records.

    OMP_NUM_THREADS=1 python benchmarks/train_memory.py [--sizes 0.1M 1M 10M 1M-wide 10M-wide 135M]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import numpy as np

from p2law.architectures import counts
from p2law.cluster import costs
from p2law.results import manifest

SCRIPT = Path(__file__).parents[1] / "workflow" / "scripts" / "base.py"
ROWS, STEPS = 128, 3
SIZES = {
    # vocabulary, hidden, intermediate, layers, heads, key-value heads, batch tokens
    "0.1M": (1024, 32, 88, 3, 2, 2, 2048),
    "1M": (1024, 112, 304, 6, 4, 4, 2048),
    "1M-batch": (1024, 112, 304, 6, 4, 4, 16384),
    "1M-wide": (16384, 48, 128, 6, 3, 3, 2048),
    "10M": (1024, 320, 856, 8, 5, 5, 2048),
    "10M-wide": (32000, 192, 512, 8, 4, 2, 4096),
    "135M": (49152, 576, 1536, 30, 9, 3, 2048),
}


def configuration(size: str) -> dict:
    """A Llama configuration of one size."""
    vocabulary, hidden, intermediate, depth, heads, groups, _ = SIZES[size]
    return {
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "max_position_embeddings": ROWS,
        "tie_word_embeddings": True,
    }


def corpus(folder: Path, vocabulary: int, rows: int) -> Path:
    """Random packed tokens; returns their manifest."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    kind = "<u2" if vocabulary <= 65536 else "<u4"
    for split, share in {"train": rows, "validation": 8, "calibration": 8}.items():
        tokens = draw.integers(0, vocabulary, share * ROWS + 1).astype(kind)
        tokens.tofile(folder / f"{split}.bin")
    return manifest.write_manifest(
        folder,
        stage="corpus",
        spec={"key": "corpus", "sequence_length": ROWS},
        inputs={},
        files=["train.bin", "validation.bin", "calibration.bin"],
        results={"vocabulary": vocabulary},
        started=time.time(),
    )


def measure(size: str, folder: Path) -> dict[str, float]:
    """Train one size; its measured and predicted peak in bytes."""
    config, batch = configuration(size), SIZES[size][-1]
    train = {"batch_tokens": batch, "learning_rate": 1e-3, "warmup_tokens": batch, "decay": 0.3}
    train["tokens"] = STEPS * batch
    spec = {"source": "pretrain", "key": size, "config": config, "train": train, "seed": 0}
    spec["sequence_length"] = ROWS
    packed = corpus(folder / "corpus", config["vocab_size"], STEPS * batch // ROWS)
    command = [sys.executable, SCRIPT, "--spec", json.dumps(spec)]
    command += ["--corpus", packed, "--out", folder / "model", "--processes", "1"]
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    run = manifest.read_manifest(folder / "model" / "manifest.json")
    return {
        "parameters": run["results"]["N0"],
        "measured": run["provenance"]["peak_memory_bytes"],
        "predicted": costs.train_bytes(config, counts.parameters(config), batch),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    args = parser.parse_args()
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(size, Path(folder))
        found["predicted_over_measured"] = round(found["predicted"] / found["measured"], 3)
        print(json.dumps({"size": size, **found}), flush=True)


if __name__ == "__main__":
    main()
