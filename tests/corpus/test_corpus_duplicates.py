"""Near-duplicates against brute force: Jaccard of Python sets of word tuples."""

import re

import numpy as np
import pytest

from p2law.corpus.documents import Spool
from p2law.corpus.duplicates import Shingles, near_duplicates

# A word by the docstring's rule, written a second way.
WORD = re.compile("[0-9A-Za-z_\x80-\u07ff]+|[\u0800-\U0010ffff][0-9A-Za-z_\x80-\u07ff]*")


def shingles(text, n):
    words = [re.sub("[A-Z]", lambda m: m[0].lower(), w) for w in WORD.findall(text)]
    if not words:
        return set()
    return {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))}


def brute(held, others, n, threshold):
    sets = [shingles(text, n) for text in held]
    found = []
    for text in others:
        own = shingles(text, n)
        found.append(any(own and len(own & s) >= threshold * len(own | s) for s in sets))
    return found


def mutated(text, changes, rng):
    words = text.split(" ")
    for place in rng.choice(len(words), changes, replace=False):
        words[place] = rng.choice(["omega", "", "été", "7", "中文字", "A.b"])
    return " ".join(words)


def corpus(prose, seed):
    """Documents alike in every degree, with short, wordless and unspaced ones among them."""
    rng = np.random.default_rng(seed)
    licence = prose(10_000, 90)
    held = [licence * (i % 3 == 0) + prose(i, int(rng.integers(5, 200))) for i in range(40)]
    held += ["", "...", "one two three", "中文没有空格的一段文字用来测试分词规则是否正确。" * 2]
    others = [mutated(text, min(k, text.count(" ")), rng) for text in held for k in (0, 1, 2, 4, 9)]
    others += [prose(seed * 1_000 + i, 60) for i in range(200, 260)] + [licence, "One  TWO\nthree!"]
    return held, others


def spooled(tmp_path, texts):
    # Exact copies would be dropped before; a wordless mark at the end keeps every document.
    marked = [text + "\n" + "." * i + " !" for i, text in enumerate(texts)]
    return Spool(tmp_path / "spool", marked, 0, None)


@pytest.mark.parametrize("threshold", [0.3, 0.8, 1.0])
@pytest.mark.parametrize("n", [1, 3, 13])
def test_equals_brute_force(tmp_path, prose, n, threshold):
    held, others = corpus(prose, n)
    spool = spooled(tmp_path, held + others)
    assert len(spool) == len(held) + len(others)
    every = np.arange(len(spool))
    found = near_duplicates(spool, every[: len(held)], every[len(held) :], n, threshold)
    assert found.tolist() == brute(held, others, n, threshold)
    assert 10 < found.sum() < len(others)


def test_sets_are_those_of_python(tmp_path, prose):
    held, others = corpus(prose, 5)
    spool = spooled(tmp_path, held + others)
    hashes, starts = Shingles(4).of(spool, np.arange(len(spool)))
    expected = [len(shingles(text, 4)) for text in held + others]
    assert np.diff(starts).tolist() == expected
    # One number a set element over all documents: no two shingles share a hash.
    assert len(np.unique(hashes)) == len(set().union(*(shingles(t, 4) for t in held + others)))


def test_batches_do_not_matter(tmp_path, prose, monkeypatch):
    held, others = corpus(prose, 2)
    spool = spooled(tmp_path, held + others)
    every = np.arange(len(spool))
    whole = near_duplicates(spool, every[:44], every[44:], 5, 0.8)
    monkeypatch.setattr("p2law.corpus.duplicates.BATCH", 500)
    assert near_duplicates(spool, every[:44], every[44:], 5, 0.8).tolist() == whole.tolist()


def test_empty_sides(tmp_path):
    spool = spooled(tmp_path, ["a b c", "d e f"])
    none = np.empty(0, np.int64)
    assert near_duplicates(spool, none, np.arange(2), 13, 0.8).tolist() == [False, False]
    assert near_duplicates(spool, np.arange(2), none, 13, 0.8).tolist() == []
