"""Rows of a packed corpus against slices of the token files, and the order's golden values."""

import json

import numpy as np
import pytest

from p2law.corpus.packed import SPLITS, Packed, order, token_dtype
from p2law.errors import UserError
from p2law.results import manifest


def packed(folder, vocabulary, n=53, T=8):
    folder.mkdir()
    rng = np.random.default_rng(0)
    tokens = {split: rng.integers(0, vocabulary, n) for split in SPLITS}
    for split in SPLITS:
        tokens[split].astype(token_dtype(vocabulary)).tofile(folder / f"{split}.bin")
    manifest.write_manifest(
        folder,
        stage="corpus",
        spec={"key": "k", "sequence_length": T},
        inputs={},
        files=[f"{split}.bin" for split in SPLITS],
        results={"vocabulary": vocabulary},
        started=0.0,
    )
    return Packed(folder), tokens


def test_order_is_a_permutation_with_golden_values():
    # Golden: the runs of every published study were trained in this order.
    assert order(12, 0).tolist() == [11, 3, 2, 1, 8, 6, 0, 7, 4, 10, 5, 9]
    assert order(12, 1).tolist() == [9, 2, 4, 7, 5, 0, 11, 8, 10, 6, 3, 1]
    long = order(10_000, 7)
    assert long.dtype == np.int64
    assert np.array_equal(np.sort(long), np.arange(10_000))
    assert np.array_equal(long, order(10_000, 7))
    assert not np.array_equal(long, order(10_000, 8))
    assert len(order(0, 0)) == 0


@pytest.mark.parametrize("vocabulary", [1_000, 65_536, 65_537, 200_000])
def test_rows_are_overlapping_slices(tmp_path, vocabulary):
    corpus, tokens = packed(tmp_path / "c", vocabulary)
    assert corpus.tokens("train").dtype.itemsize == (2 if vocabulary <= 65_536 else 4)
    assert corpus.rows("train") == 6  # 53 tokens: 6 * 8 + 1 fit
    read = corpus.read("validation", np.array([5, 0, 0]))
    assert read.dtype == np.int64
    for row, r in zip(read, (5, 0, 0), strict=True):
        assert row.tolist() == tokens["validation"][r * 8 : r * 8 + 9].tolist()
    assert corpus.read("train", np.array([], np.int64)).shape == (0, 9)


def test_every_token_but_the_first_is_a_target_once(tmp_path):
    corpus, tokens = packed(tmp_path / "c", 500, n=49)
    rows = corpus.read("train", np.arange(corpus.rows("train")))
    assert rows[:, 1:].ravel().tolist() == tokens["train"][1:].tolist()


def test_rows_outside_are_refused(tmp_path):
    corpus, _ = packed(tmp_path / "c", 500)
    for outside in (-1, 6):
        with pytest.raises(IndexError, match="rows 0..5"):
            corpus.read("train", np.array([outside]))
    with pytest.raises(ValueError, match="calibration"):
        corpus.rows("test")


def test_a_missing_or_cut_file_is_named(tmp_path):
    corpus, _ = packed(tmp_path / "c", 500)
    with pytest.raises(UserError, match="manifest.json"):
        Packed(tmp_path)
    file = corpus.folder / "train.bin"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(UserError, match="train.bin"):
        Packed(corpus.folder)
    file.unlink()
    with pytest.raises(UserError, match="train.bin"):
        Packed(corpus.folder)
    (corpus.folder / manifest.NAME).write_text(json.dumps({})[:1])
    with pytest.raises(UserError, match="JSON"):
        Packed(corpus.folder)
