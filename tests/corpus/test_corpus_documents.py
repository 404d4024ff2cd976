"""The split by content hash: stable, even, without copies."""

import numpy as np
import pytest

from p2law.corpus.documents import Spool, below
from p2law.errors import UserError


def sides(tmp_path, texts, share=0.2, seed=0):
    spool = Spool(tmp_path / "spool", texts, seed, None)
    held = below(spool.hashes, share)
    return {spool.text(i): bool(held[i]) for i in range(len(spool))}


def test_a_document_stays_on_its_side(tmp_path, texts, prose):
    first = sides(tmp_path, texts)
    assert 0 < sum(first.values()) < len(first)
    assert sides(tmp_path, texts[::-1]) == first
    more = sides(tmp_path, [prose(s) for s in range(500, 540)] + texts[10:])
    assert all(more[text] == first[text] for text in texts[10:])
    wider = sides(tmp_path, texts, share=0.4)
    assert all(wider[text] for text, held in first.items() if held)
    assert sides(tmp_path, texts, seed=1) != first


def test_shares_are_met(tmp_path):
    # 20,000 documents: three standard deviations of the binomial are 0.36 % at a share of 3 %.
    spool = Spool(tmp_path / "spool", (str(i) for i in range(20_000)), 0, None)
    assert below(spool.hashes, 0.03).mean() == pytest.approx(0.03, abs=0.0036)
    assert below(spool.hashes, 1.0).all()
    assert not below(spool.hashes, 0.0).any()


def test_text_comes_back_unchanged(tmp_path):
    texts = ["a\r\nb\x00c", "  \u2028мир 中文 🙂\n", "tail "]
    spool = Spool(tmp_path / "spool", texts, 0, None)
    assert [spool.text(i) for i in range(3)] == texts
    assert spool.sizes().tolist() == [len(text.encode()) for text in texts]


def test_copies_and_empty_documents_are_counted(tmp_path):
    spool = Spool(tmp_path / "spool", ["a", "", "b", "a", " \n", "a"], 0, None)
    assert [spool.text(i) for i in range(len(spool))] == ["a", "b"]
    assert spool.empty == 2
    assert spool.duplicates.tolist() == [int(spool.hashes[0])] * 2


def test_max_bytes_is_a_prefix(tmp_path):
    spool = Spool(tmp_path / "spool", ["abc", "de", "fgh"], 0, 6)
    assert [spool.text(i) for i in range(len(spool))] == ["abc", "de"]


def test_lone_surrogates_become_question_marks(tmp_path):
    spool = Spool(tmp_path / "spool", ["a\ud800b"], 0, None)
    assert spool.text(0) == "a?b"


def test_an_empty_set_is_refused(tmp_path):
    for texts in ([], ["", " "]):
        with pytest.raises(UserError, match="document set is empty"):
            Spool(tmp_path / "spool", texts, 0, None)


def test_batches_cover_in_order(tmp_path):
    spool = Spool(tmp_path / "spool", ["x" * n for n in (5, 3, 9, 1, 40, 2, 6)], 0, None)
    indices = np.array([5, 4, 0, 1, 2, 3])
    batches = list(spool.batches(indices, 10, 100))
    assert np.concatenate(batches).tolist() == indices.tolist()
    sizes = [int(spool.sizes()[batch].sum()) for batch in batches]
    assert sizes == [2, 40, 8, 10]
    assert [len(batch) for batch in spool.batches(indices, 100, 2)] == [2, 2, 2]
