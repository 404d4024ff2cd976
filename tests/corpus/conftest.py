"""Small texts with words that repeat, in the shapes that the sources take."""

import numpy as np
import pytest

WORDS = ["alpha", "beta", "Gamma", "delta_1", "return", "été", "мир", "self", "x", "42", "zeta"]


def _prose(seed, words=120, vocabulary=WORDS):
    """Lines of words drawn from a vocabulary, a function of the seed."""
    drawn = np.random.default_rng(seed).choice(vocabulary, words)
    lines = [" ".join(drawn[i : i + 9]) for i in range(0, words, 9)]
    return "\n    ".join(lines) + f"\n# {seed}\n"


@pytest.fixture
def prose():
    """The function that gives a text of ``words`` words for a seed."""
    return _prose


@pytest.fixture
def texts():
    return [_prose(seed) for seed in range(60)]


@pytest.fixture
def folder(tmp_path, texts):
    """A folder of 60 text files."""
    path = tmp_path / "texts"
    path.mkdir()
    for i, text in enumerate(texts):
        (path / f"{i:03}.txt").write_bytes(text.encode())
    return path


@pytest.fixture
def spec(folder):
    """A corpus spec over that folder: seconds, not minutes."""
    return {
        "key": "0" * 64,
        "source": {"kind": "files", "path": str(folder), "text_field": "text"},
        "tokenizer": {"kind": "train", "vocabulary": 300},
        "sequence_length": 16,
        "validation_share": 0.2,
        "calibration_windows": 8,
        "max_bytes": None,
        "near_duplicates": {"shingle": 13, "threshold": 0.8},
        "seed": 0,
    }
