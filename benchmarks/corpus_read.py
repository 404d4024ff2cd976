"""Tokens a second that p2law.corpus.packed reads, in the shuffled order of training.

python benchmarks/corpus_read.py [--tokens 50_000_000] [--row 1024] [--batch 32]
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

from p2law.corpus.packed import SPLITS, Packed, order  # noqa: E402
from p2law.results import manifest  # noqa: E402


def main() -> None:
    """Write a corpus of that size, read one pass of it by batches, print the rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=50_000_000)
    parser.add_argument("--row", type=int, default=1024, help="sequence length")
    parser.add_argument("--batch", type=int, default=32, help="rows a batch")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (np.arange(given.tokens, dtype=np.uint32) % 50_000).astype("<u2").tofile(
            folder / "train.bin"
        )
        for split in SPLITS[1:]:
            np.zeros(given.row + 1, "<u2").tofile(folder / f"{split}.bin")
        manifest.write_manifest(
            folder,
            stage="corpus",
            spec={"key": "", "sequence_length": given.row},
            inputs={},
            files=[f"{split}.bin" for split in SPLITS],
            results={"vocabulary": 50_000},
            started=time.time(),
        )
        corpus = Packed(folder)
        rows = order(corpus.rows("train"), seed=0)
        started, read = time.perf_counter(), 0
        for start in range(0, len(rows), given.batch):
            read += corpus.read("train", rows[start : start + given.batch])[:, 1:].size
        seconds = time.perf_counter() - started
    print(f"{read:,} tokens in {seconds:.2f} s: {read / seconds / 1e6:,.0f} M tokens/s")


if __name__ == "__main__":
    main()
