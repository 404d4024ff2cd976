"""A corpus and a pruned model small enough to train in a second."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from p2law.results import manifest

T = 16
VOCABULARY = 64
CONFIG = {
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": T,
    "tie_word_embeddings": True,
}
TRAIN = {
    "batch_tokens": 8 * T,
    "learning_rate": 1e-2,
    "warmup_tokens": 2 * 8 * T,
    "decay": 0.25,
    "weight_decay": 0.1,
    "betas": [0.9, 0.95],
    "clip": 1.0,
    "precision": "fp32",
    "micro_rows": None,
}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def config() -> dict:
    return dict(CONFIG)


@pytest.fixture
def train() -> dict:
    return dict(TRAIN)


def make_corpus(folder: Path, rows: int = 1000) -> Path:
    """A packed corpus of a noisy successor chain (learnable); returns its manifest."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    jumps = np.where(
        generator.random(rows * T + 1) < 0.8, 1, generator.integers(0, 64, rows * T + 1)
    )
    tokens = (np.cumsum(jumps) % VOCABULARY).astype("<u2")
    for split, share in (("train", tokens), ("validation", tokens[: 64 * T + 1])):
        share.tofile(folder / f"{split}.bin")
    tokens[: 8 * T + 1].tofile(folder / "calibration.bin")
    return manifest.write_manifest(
        folder,
        stage="corpus",
        spec={"key": "corpus", "sequence_length": T},
        inputs={},
        files=["train.bin", "validation.bin", "calibration.bin"],
        results={"vocabulary": VOCABULARY},
        started=time.time(),
    )


def make_pruned(folder: Path, masked: bool = False) -> Path:
    """A checkpoint that looks pruned: fresh weights and, on request, 2:4 masks."""
    from safetensors.torch import save_file

    from p2law.checkpoints import io

    model = io.fresh(CONFIG, seed=3)
    files = []
    if masked:
        weights = {n: p for n, p in model.named_parameters() if n.endswith("_proj.weight")}
        masks = {n: (torch.arange(p.numel()) % 4 < 2).view_as(p) for n, p in weights.items()}
        with torch.no_grad():
            for name, weight in weights.items():
                weight.mul_(masks[name])
        folder.mkdir(parents=True)
        save_file({n: m.to(torch.uint8) for n, m in masks.items()}, folder / io.MASKS)
        files = [io.MASKS]
    return manifest.write_manifest(
        folder,
        stage="prune",
        spec={"key": "pruned"},
        inputs={},
        files=[*io.save(model, folder), *files],
        results={},
        started=time.time(),
    )


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus") / "text")


@pytest.fixture(scope="session")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pruned(tmp_path_factory.mktemp("pruned") / "dense")


@pytest.fixture(scope="session")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pruned(tmp_path_factory.mktemp("pruned") / "sparse", masked=True)


def make_spec(budgets: list[int], schedule: str = "wsd", key: str = "trunk", **train) -> dict:
    """A run's spec with budgets in steps of 8 rows."""
    tokens = [steps * TRAIN["batch_tokens"] for steps in budgets]
    return {
        "key": key,
        "schedule": schedule,
        "budgets": {str(n): f"{key}-{schedule}-{n}" for n in tokens},
        "train": {**TRAIN, **train},
        "seed": 5,
        "sequence_length": T,
    }


@pytest.fixture
def spec():
    """``spec(budgets in steps, schedule, key, **train)`` -> a run's spec."""
    return make_spec
