"""Tiny base models and a tiny corpus, in the layout that the stages hand on."""

import time

import numpy as np
import pytest

from p2law.results import manifest

LENGTH, VOCABULARY = 32, 96
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Manifest of a corpus of random tokens: rows of 32 tokens, 24 for calibration."""
    folder = tmp_path_factory.mktemp("corpus")
    draw = np.random.default_rng(0)
    for split in ("train", "validation", "calibration"):
        draw.integers(0, VOCABULARY, 24 * LENGTH + 1).astype("<u2").tofile(folder / f"{split}.bin")
    return manifest.write_manifest(
        folder,
        stage="corpus",
        spec={"key": "corpus", "sequence_length": LENGTH},
        inputs={},
        files=["train.bin", "validation.bin", "calibration.bin"],
        results={"vocabulary": VOCABULARY},
        started=time.time(),
    )


def shape(model_type="llama", **changes):
    """A tiny config of an architecture; ``head_dim`` explicit, as saved configs have it."""
    config = {"model_type": model_type, **SHAPE, **changes}
    if model_type == "mamba":
        for key in ("intermediate_size", "num_attention_heads", "num_key_value_heads"):
            config.pop(key)
        config.pop("max_position_embeddings")
        config |= {"state_size": 4, "pad_token_id": None, **changes}
    elif model_type == "qwen3":
        config.setdefault("head_dim", 8)
    return config


@pytest.fixture(scope="session")
def make_base(tmp_path_factory):
    """Callable: a base checkpoint's manifest for ``(model_type, **config changes)``.

    Norm weights and biases are made random, so that a slice of the wrong axis shows.
    """
    import torch

    from p2law.checkpoints import io

    made = {}

    def make(model_type="llama", dtype=None, **changes):
        name = repr((model_type, dtype, sorted(changes.items())))
        if name not in made:
            model = io.fresh(shape(model_type, **changes), seed=1)
            generator = torch.Generator().manual_seed(2)
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.ndim == 1:
                        noise = torch.randn(parameter.shape, generator=generator)
                        parameter += 0.3 * noise
                    elif parameter.ndim == 2:
                        parameter *= 4  # far enough from zero for blocks to differ
            folder = tmp_path_factory.mktemp("base")
            files = io.save(model.to(dtype or torch.float32), folder)
            made[name] = manifest.write_manifest(
                folder,
                stage="base",
                spec={"key": name},
                inputs={},
                files=files,
                results={},
                started=time.time(),
            )
        return made[name]

    return make


@pytest.fixture
def spec():
    """Callable: the spec of a method with the given settings and rates."""

    def make(settings, *rates, windows=8, seed=3):
        variants = {str(rate): {"key": f"{settings} {rate}", "rate": rate} for rate in rates}
        return {
            "key": f"{settings} {rates}",
            "method": "m",
            "prune": settings,
            "calibration": {"windows": windows},
            "seed": seed,
            "variants": variants,
        }

    return make
