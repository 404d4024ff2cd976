"""A Llama small enough to build in milliseconds."""

import pytest

SHAPE = {
    "model_type": "llama",
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}


@pytest.fixture
def shape():
    return dict(SHAPE)


@pytest.fixture
def checkpoint(tmp_path):
    """A saved checkpoint folder of that shape."""
    from p2law.checkpoints import io

    io.save(io.fresh(SHAPE, 0), tmp_path / "model")
    return tmp_path / "model"
