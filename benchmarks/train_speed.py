"""Tokens a second of the loop, of the barest PyTorch loop and of transformers' Trainer.

One process, one thread, fp32, the same model, batch and rows. The three take turns of a few
steps, so that whatever else the machine does falls on all of them; medians over all steps are
reported, in tokens a second of wall clock and of the process's own CPU time, with the share of the
matrix-product peak measured in between.

    OMP_NUM_THREADS=1 python benchmarks/train_speed.py [--rounds 6] [--steps 5] [--sizes 0.1 1 10]
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import numpy as np
import torch
from torch.nn import functional
from transformers import Trainer, TrainerCallback, TrainingArguments

from p2law.checkpoints import io, products
from p2law.training import loop, machine, recipe

T, VOCABULARY, ROWS = 128, 1024, 16
SIZES = {"0.1": (32, 3, 2), "1": (112, 6, 4), "10": (320, 8, 5)}
"""Parameters in millions: hidden size, layers, heads."""
Clock = tuple[float, float]


class Rows:
    """Random rows in place of a corpus; reading them costs what a memory map does."""

    sequence_length = T

    def __init__(self, n: int):
        self.tokens = np.random.default_rng(0).integers(0, VOCABULARY, (n, T + 1))

    def rows(self, _: str) -> int:
        return len(self.tokens)

    def read(self, _: str, indices: np.ndarray) -> np.ndarray:
        return self.tokens[indices]


def now() -> Clock:
    return time.perf_counter(), time.process_time()


def ours(model: torch.nn.Module, rows: Rows, steps: int) -> Callable[[], list[Clock]]:
    """The project's loop."""
    asked = recipe.Recipe(ROWS * T, learning_rate=1e-3, warmup_tokens=0, decay=0.2)
    made = loop.Loop(model, rows, asked, seed=0, steps=len(rows.tokens) // ROWS)

    def turn() -> list[Clock]:
        times = [now()]
        made.advance(made.step + steps, lambda _: 1e-3, lambda _: times.append(now()))
        return times

    return turn


def bare(model: torch.nn.Module, rows: Rows, steps: int) -> Callable[[], list[Clock]]:
    """What one would write first: forward, cross entropy, backward, clip, fused AdamW."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-3, fused=True)
    batches = iter(torch.from_numpy(rows.tokens).split(ROWS))

    def turn() -> list[Clock]:
        times = [now()]
        for _ in range(steps):
            batch = next(batches)
            logits = model(input_ids=batch[:, :-1], use_cache=False).logits
            functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            times.append(now())
        return times

    return turn


def trainer(model: torch.nn.Module, rows: Rows, steps: int) -> Callable[[], list[Clock]]:
    """transformers' Trainer with its defaults for this task, logging and saving turned off."""
    samples = [{"input_ids": row[:-1], "labels": row[:-1]} for row in torch.from_numpy(rows.tokens)]
    times: list[Clock] = []

    class Watch(TrainerCallback):
        def on_step_begin(self, *_: object, **__: object) -> None:
            if not times:
                times.append(now())

        def on_step_end(self, *_: object, **__: object) -> None:
            times.append(now())

    folder = tempfile.mkdtemp()
    options = {"per_device_train_batch_size": ROWS, "max_steps": steps, "use_cpu": True}
    options |= {"report_to": [], "save_strategy": "no", "logging_strategy": "no"}
    options |= {"disable_tqdm": True, "optim": "adamw_torch_fused", "dataloader_num_workers": 0}
    made = Trainer(
        model, TrainingArguments(folder, **options), train_dataset=samples, callbacks=[Watch()]
    )

    def turn() -> list[Clock]:
        times.clear()
        made.train()
        return list(times)

    return turn


def peak() -> float:
    """FLOP/s of a large fp32 matrix product on this core, the best of five by either library."""
    one = torch.randn(1024, 1024)
    best = float("inf")
    for multiply in (torch.mm, products.product):
        for _ in range(5):
            start = time.process_time()
            multiply(one, one)
            best = min(best, time.process_time() - start)
    return 2 * 1024**3 / best


def measure(size: str, rounds: int, steps: int) -> dict[str, object]:
    """Medians of one size, the three loops by turns."""
    hidden, depth, heads = SIZES[size]
    config = {
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": hidden,
        "intermediate_size": hidden * 8 // 3 // 8 * 8,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": T,
        "tie_word_embeddings": True,
    }
    rows = Rows((rounds + 1) * steps * ROWS)
    kinds = {"loop": ours, "bare": bare, "trainer": trainer}
    turns = {name: make(io.fresh(config, 0), rows, steps) for name, make in kinds.items()}
    spent: dict[str, list[Clock]] = {name: [] for name in kinds}
    peaks = []
    for number in range(rounds + 1):
        for name, turn in turns.items():
            times = turn()
            if number:  # the first turn warms up
                gaps = zip(times, times[1:], strict=False)
                spent[name] += [(b[0] - a[0], b[1] - a[1]) for a, b in gaps]
        peaks.append(peak())
    parameters = sum(p.numel() for p in io.fresh(config, 0).parameters())
    # Products of weights (three passes) and of attention's scores and values, causal half.
    flops = 6 * parameters + 6 * depth * hidden * T
    result: dict[str, object] = {"parameters": parameters, "peak_gflops": max(peaks) / 1e9}
    for name, gaps in spent.items():
        wall, cpu = (ROWS * T / statistics.median(gap[k] for gap in gaps) for k in (0, 1))
        result[name] = {
            "tokens_per_second": round(wall),
            "tokens_per_cpu_second": round(cpu),
            "share_of_peak": round(cpu * flops / max(peaks), 3),
        }
    for name in ("bare", "trainer"):
        ratio = result["loop"]["tokens_per_cpu_second"] / result[name]["tokens_per_cpu_second"]
        result[f"loop_over_{name}"] = round(ratio, 3)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    args = parser.parse_args()
    torch.set_num_threads(1)
    machine.settle()
    for size in args.sizes:
        print(json.dumps({"size": size, **measure(size, args.rounds, args.steps)}), flush=True)


if __name__ == "__main__":
    main()
