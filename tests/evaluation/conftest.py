"""A corpus and two models small enough to evaluate in a second."""

import time

import numpy as np
import pytest
import torch

from p2law.checkpoints import io
from p2law.results import manifest

T, VOCABULARY = 16, 64
CONFIG = {
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": T,
}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Manifest of a corpus of random tokens whose validation split has 40 rows."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("corpus")
    draw = np.random.default_rng(0)
    for split, rows in (("train", 8), ("validation", 40), ("calibration", 8)):
        draw.integers(0, VOCABULARY, rows * T + 1).astype("<u2").tofile(folder / f"{split}.bin")
    np.full(40, 4 * T, "<u4").tofile(folder / "validation.bytes.bin")
    return manifest.write_manifest(
        folder,
        stage="corpus",
        spec={"key": "corpus", "sequence_length": T},
        inputs={},
        files=["train.bin", "validation.bin", "calibration.bin"],
        results={"vocabulary": VOCABULARY},
        started=time.time(),
    )


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Manifests of two fresh models, "a" and "b"; their keys are their names."""
    made = {}
    for seed, name in enumerate("ab"):
        folder = tmp_path_factory.mktemp("model") / name
        files = io.save(io.fresh(CONFIG, seed=seed), folder)
        made[name] = manifest.write_manifest(
            folder,
            stage="posttrain",
            spec={"key": name},
            inputs={},
            files=files,
            results={},
            started=time.time(),
        )
    return made


@pytest.fixture
def spec():
    """``spec(names, tokens)`` -> an evaluation's spec."""

    def make(names: str = "ab", tokens: int = 32 * T) -> dict:
        return {
            "key": "evaluation",
            "tokens": tokens,
            "split": "validation",
            "sequence_length": T,
            "batch_rows": 8,
            "checkpoints": {name: name for name in names},
        }

    return make
