"""Pruning at the shapes of Llama-3.1-8B: seconds and peak resident memory of each method.

    envs/run python benchmarks/prune_scale.py /fast/scratch --layers 32

Writes a random bf16 checkpoint (16 GB at 32 layers) and a random corpus into the folder given,
then prunes in a fresh process each: depth (block influence), FFN width (activation), 2:4 by
magnitude and 2:4 by Wanda, on 4 windows of 64 tokens. Variants are deleted after each.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

from p2law import manifest  # noqa: E402

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

    from p2law.pruning.architectures import architecture_of
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


def prune(name: str, base: Path, corpus: Path, out: Path) -> str:
    """One method in a process of its own; a row of the table."""
    settings, rate = METHODS[name]
    variants = {"x": {"key": name, "rate": rate}}
    spec = {"key": name, "method": name, "prune": settings, "variants": variants}
    spec |= {"calibration": {"windows": WINDOWS}, "seed": 0}
    command = [sys.executable, SCRIPTS / "prune.py", "--spec", json.dumps(spec)]
    command += ["--base", base, "--corpus", corpus, "--out", out]
    started = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - started
    record = manifest.read_manifest(out / "x" / manifest.NAME)
    spent = manifest.read_manifest(out / manifest.NAME)["provenance"]
    shutil.rmtree(out)
    rate = record["results"]["rate"]
    peak, busy = spent["peak_memory_bytes"] / 2**30, spent["cpu_seconds"]
    return (
        f"{name:15} rate {rate:.4f}  {seconds:7.1f} s wall  {busy:7.1f} s CPU  peak {peak:5.2f} GiB"
    )


def main() -> None:
    """Write the inputs where they are missing, prune, print a row a method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="scratch space for 16 GB and a variant")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    given = parser.parse_args()
    base, corpus = given.folder / f"base-{given.layers}", given.folder / "corpus"
    if not (base / manifest.NAME).exists():
        started = time.perf_counter()
        shutil.rmtree(base, ignore_errors=True)
        write_base(base, given.layers)
        print(f"base of {given.layers} layers written in {time.perf_counter() - started:.1f} s")
    if not (corpus / manifest.NAME).exists():
        write_corpus(corpus)
    for name in given.methods:
        out = given.folder / "pruned"
        print(prune(name, base / manifest.NAME, corpus / manifest.NAME, out), flush=True)


if __name__ == "__main__":
    main()
