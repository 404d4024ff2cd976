"""Pruning at the shapes of Llama-3.1-8B: seconds and peak resident memory of each method.

    envs/run python benchmarks/prune_scale.py /fast/scratch --layers 4 8 16 32

Writes a random bf16 checkpoint of each depth (16 GB at 32 layers) and a random corpus into the
folder given, then prunes in a fresh process each: depth (block influence), FFN width (activation),
2:4 by magnitude and 2:4 by Wanda, on 4 windows of 64 tokens. Variants are deleted after each, bases
at the end. The last rows give each method's seconds a layer between one depth and the next: they
are equal where cost grows linearly.
"""

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

from p2law.results import manifest  # noqa: E402

LENGTH, WINDOWS = 64, 4
METHODS = {
    "depth": ({"prune": "depth"}, 0.25),
    "width": ({"prune": "width", "multiple": 256}, 0.25),
    "2:4 magnitude": ({"prune": "weights", "mask": "magnitude"}, 0.5),
    "2:4 wanda": ({"prune": "weights", "mask": "wanda"}, 0.5),
}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}


def write_base(folder: Path, layers: int) -> Path:
    """A checkpoint of random weights, streamed like a variant; its manifest."""
    import torch

    from p2law.architectures.architecture import architecture_of
    from p2law.pruning.store import Writer, write_json

    started, config = time.time(), {**CONFIG, "num_hidden_layers": layers}
    arch = architecture_of(config)
    sizes = arch.sizes(config)
    (embedding, axes), *last = arch.outer_tensors(config).items()
    named = {embedding: axes}
    for i in range(layers):
        block = arch.block_tensors(config)
        named |= {f"{arch.blocks}.{i}.{name}": each for name, each in block.items()}
    named |= dict(last)
    plan = {name: ("BF16", tuple(sizes[a] for a in each)) for name, each in named.items()}
    folder.mkdir(parents=True)
    writer = Writer(folder, plan)
    g = torch.Generator().manual_seed(0)
    pool = (torch.randn(2**24 + 9973, generator=g) * 0.02).bfloat16()
    for name, (_, shape) in plan.items():
        if len(shape) == 1:
            writer.add(name, torch.ones(shape, dtype=torch.bfloat16))
        else:
            pool = pool.roll(4099)
            size = shape[0] * shape[1]
            writer.add(name, pool.repeat(-(-size // len(pool)))[:size].reshape(shape))
    write_json(folder / "config.json", config)
    files = ["config.json", *writer.close()]
    return manifest.write_manifest(
        folder,
        stage="base",
        spec={"key": f"random {layers}"},
        inputs={},
        files=files,
        results={},
        started=started,
    )


def write_corpus(folder: Path) -> Path:
    """Random tokens in the corpus layout; its manifest."""
    import numpy as np

    folder.mkdir(parents=True)
    draw, files = np.random.default_rng(0), []
    for split in ("train", "validation", "calibration"):
        files.append(f"{split}.bin")
        tokens = draw.integers(0, CONFIG["vocab_size"], WINDOWS * LENGTH + 1)
        tokens.astype("<u4").tofile(folder / files[-1])
    return manifest.write_manifest(
        folder,
        stage="corpus",
        spec={"key": "random", "sequence_length": LENGTH},
        inputs={},
        files=files,
        results={"vocabulary": CONFIG["vocab_size"]},
        started=time.time(),
    )


def prune(name: str, base: Path, corpus: Path, out: Path) -> dict:
    """One method in a process of its own: rate, seconds, peak memory (GiB)."""
    settings, rate = METHODS[name]
    variants = {"x": {"key": name, "rate": rate}}
    spec = {"key": name, "method": name, "prune": settings, "variants": variants}
    spec |= {"calibration": {"windows": WINDOWS}, "seed": 0}
    command = [sys.executable, SCRIPTS / "prune.py", "--spec", json.dumps(spec)]
    command += ["--base", base, "--corpus", corpus, "--out", out]
    shutil.rmtree(out, ignore_errors=True)
    started = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - started
    record = manifest.read_manifest(out / "x" / manifest.NAME)
    spent = manifest.read_manifest(out / manifest.NAME)["provenance"]
    shutil.rmtree(out)
    return {
        "rate": record["results"]["rate"],
        "wall": seconds,
        "cpu": spent["cpu_seconds"],
        "peak": spent["peak_memory_bytes"] / 2**30,
    }


def main() -> None:
    """Write the inputs where they are missing, prune, print a row a method and depth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="scratch space for 16 GB and a variant")
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    given = parser.parse_args()
    corpus, found = given.folder / "corpus", {}
    if not (corpus / manifest.NAME).exists():
        write_corpus(corpus)
    for layers in given.layers:
        base = given.folder / f"base-{layers}"
        shutil.rmtree(base, ignore_errors=True)
        started = time.perf_counter()
        path = write_base(base, layers)
        print(f"{layers:2} layers written in {time.perf_counter() - started:.1f} s", flush=True)
        for name in given.methods:
            row = prune(name, path, corpus / manifest.NAME, given.folder / "pruned")
            found[name, layers] = row
            print(
                f"{layers:2} layers {name:15} rate {row['rate']:.4f} {row['wall']:7.1f} s wall"
                f" {row['cpu']:7.1f} s CPU  peak {row['peak']:5.2f} GiB",
                flush=True,
            )
        shutil.rmtree(base)
    for name in given.methods:
        slopes = [
            f"{a}-{b}: {(found[name, b]['cpu'] - found[name, a]['cpu']) / (b - a):.2f}"
            for a, b in itertools.pairwise(given.layers)
        ]
        print(f"{name:15} CPU seconds a layer, {', '.join(slopes)}")


if __name__ == "__main__":
    main()
