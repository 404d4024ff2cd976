"""Near-duplicates: training documents that say what a validation document says.

Two documents are near-duplicates when the Jaccard similarity of their sets of word n-grams
(shingles; Broder 1997) reaches a threshold. Found exactly, not by a sketch: a training document
can reach the threshold only if that share of its own shingles occurs in validation at all, which
few do, and those few are compared set by set with the candidates of a prefix filter (Bayardo et
al. 2007). Shingles are 48-bit hashes made by numpy.
"""

from dataclasses import dataclass

import numpy as np

from p2law.corpus.documents import Spool

BATCH = 1 << 20  # bytes of text hashed at a time: its arrays fit in the cache
BITS = 48  # of a shingle's hash; the other 16 hold its document's number in the batch
_CHARACTER = 0x9E3779B97F4A7C15  # odd: has an inverse modulo 2^64
_WORD = 0xD1342543DE82EF95


def near_duplicates(
    spool: Spool, validation: np.ndarray, others: np.ndarray, shingle: int, threshold: float
) -> np.ndarray:
    """Which of ``others`` are near-duplicates of a validation document: bool ``[others]``.

    ``validation`` and ``others``: int64 document numbers. A document shorter than ``shingle``
    words is one shingle of all its words; one without words has no near-duplicate.
    """
    hasher = Shingles(shingle)
    index = _Index([hasher.of(spool, batch) for batch in spool.batches(validation, BATCH, 1 << 16)])
    found = [np.empty(0, dtype=bool)]
    for batch in spool.batches(others, BATCH, 1 << 16):
        hashes, starts = hasher.of(spool, batch)
        found.append(index.similar(hashes, starts, threshold))
    return np.concatenate(found)


class Shingles:
    """Hashes word n-grams of documents. A word: a run of ASCII letters, digits, underscores and
    two-byte UTF-8 characters, ASCII case folded; every longer character begins a word, so that
    scripts without spaces have words too."""

    def __init__(self, length: int) -> None:
        self.length = length
        self._folded = np.zeros(256, np.uint8)
        for byte in range(256):
            if chr(byte).isalnum() or byte == ord("_") or byte >= 0x80:
                self._folded[byte] = ord(chr(byte).lower()) if byte < 0x80 else byte
        self._powers: dict[int, np.ndarray] = {}

    def of(self, spool: Spool, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shingles of each document, its own duplicates removed.

        Returns uint64 ``[shingles]``, sorted within each document, and where each document's
        begin: int64 ``[documents + 1]``.
        """
        raws = [spool.raw(i) for i in batch]
        edges = np.concatenate([[0], np.cumsum([len(raw) for raw in raws])])
        words, first = self._words(np.concatenate(raws), edges)
        total = self._powered_sum(_mix(words), _WORD)
        inverse = self._power(pow(_WORD, -1, 1 << 64), len(words))
        counts = np.diff(first)
        shingles = np.where(counts > self.length, counts - self.length + 1, counts > 0)
        starts = np.concatenate([[0], np.cumsum(shingles)])
        document = np.repeat(np.arange(len(batch)), shingles)
        begin = np.arange(starts[-1]) - starts[document] + first[document]
        end = begin + np.minimum(self.length, counts)[document]
        hashes = _mix((total[end] - total[begin]) * inverse[begin])
        return _distinct(hashes >> np.uint64(64 - BITS), document, len(batch))

    def _words(self, text: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A hash for every word, and where each document's words begin (``[documents + 1]``)."""
        folded = self._folded[text]
        inside = folded > 0
        breaks = text >= 0xE0  # lead byte of a character of three or four bytes
        breaks[1:] |= ~inside[:-1]
        breaks[edges[:-1][edges[:-1] < len(text)]] = True
        begin = np.flatnonzero(inside & breaks)
        # A word ends at the next separator or at the next word, whichever comes first.
        stops = np.append(np.flatnonzero(~inside | breaks), len(text))
        end = stops[np.searchsorted(stops, begin, side="right")]
        total = self._powered_sum(folded, _CHARACTER)
        inverse = self._power(pow(_CHARACTER, -1, 1 << 64), len(text))
        return (total[end] - total[begin]) * inverse[begin], np.searchsorted(begin, edges)

    def _powered_sum(self, values: np.ndarray, base: int) -> np.ndarray:
        """Prefix sums of ``values[i] * base^i`` modulo 2^64: ``[n + 1]``, from which the
        polynomial hash of any run is two reads and a product with ``base^-begin``."""
        total = np.zeros(len(values) + 1, np.uint64)
        np.cumsum(values * self._power(base, len(values)), out=total[1:])
        return total

    def _power(self, base: int, n: int) -> np.ndarray:
        """``base^0 .. base^(n-1)`` modulo 2^64."""
        if base not in self._powers or len(self._powers[base]) < n:
            factors = np.full(max(n, 2 * len(self._powers.get(base, ()))), base, np.uint64)
            factors[:1] = 1
            self._powers[base] = np.cumprod(factors)
        return self._powers[base][:n]


@dataclass
class _Postings:
    hashes: np.ndarray  # distinct shingles, sorted: uint64 [h]
    starts: np.ndarray  # where each one's documents begin: int64 [h + 1]
    documents: np.ndarray  # int64 [pairs]


class _Index:
    """Shingle sets of the validation documents, by document and by shingle."""

    def __init__(self, parts: list[tuple[np.ndarray, np.ndarray]]) -> None:
        self.shingles = np.concatenate([np.empty(0, np.uint64), *(part[0] for part in parts)])
        sizes = np.concatenate([np.empty(0, np.int64), *(np.diff(part[1]) for part in parts)])
        self.starts = np.concatenate([[0], np.cumsum(sizes)])
        document = np.repeat(np.arange(len(sizes)), sizes)
        by_hash = np.argsort(self.shingles, kind="stable")
        hashes, counts = np.unique(self.shingles, return_counts=True)
        starts = np.concatenate([[0], np.cumsum(counts)])
        self.postings = _Postings(hashes, starts, document[by_hash])
        # One byte for each leading 24 bits: most shingles elsewhere are ruled out by one read.
        self._maybe = np.zeros(1 << 24, bool)
        self._maybe[hashes >> np.uint64(BITS - 24)] = True

    def similar(self, hashes: np.ndarray, starts: np.ndarray, threshold: float) -> np.ndarray:
        """Which documents (as :meth:`Shingles.of` gives them) have a near-duplicate here."""
        frequency = np.zeros(len(hashes), np.int64)
        maybe = np.flatnonzero(self._maybe[hashes >> np.uint64(BITS - 24)])
        place = np.searchsorted(self.postings.hashes, hashes[maybe])
        place[place == len(self.postings.hashes)] = 0
        hit = self.postings.hashes[place] == hashes[maybe] if len(maybe) else maybe > 0
        frequency[maybe[hit]] = np.diff(self.postings.starts)[place[hit]]
        shared = np.concatenate([[0], np.cumsum(frequency > 0)])
        shared = shared[starts[1:]] - shared[starts[:-1]]
        sizes = np.diff(starts)
        found = np.zeros(len(sizes), bool)
        for i in np.flatnonzero((sizes > 0) & (shared >= threshold * sizes)):
            own = slice(starts[i], starts[i + 1])
            found[i] = self._match(hashes[own], frequency[own], threshold)
        return found

    def _match(self, own: np.ndarray, frequency: np.ndarray, threshold: float) -> bool:
        """Whether a validation document is similar to one document's sorted shingles.

        Of ``n`` shingles at least ``threshold * n`` must be shared, so that any
        ``n - ceil(threshold * n) + 1`` of them hold a shared one: the rarest are looked up.
        """
        n = len(own)
        rare = own[np.argsort(frequency, kind="stable")[: n - int(np.ceil(threshold * n)) + 1]]
        places = np.searchsorted(self.postings.hashes, rare)
        candidates: set[int] = set()
        for place, shingle in zip(places, rare, strict=True):
            if place < len(self.postings.hashes) and self.postings.hashes[place] == shingle:
                span = slice(self.postings.starts[place], self.postings.starts[place + 1])
                candidates.update(self.postings.documents[span].tolist())
        for candidate in sorted(candidates):
            other = self.shingles[self.starts[candidate] : self.starts[candidate + 1]]
            if not threshold * n <= len(other) <= n / threshold:
                continue
            common = len(np.intersect1d(own, other, assume_unique=True))
            if common >= threshold * (n + len(other) - common):
                return True
        return False


def _mix(hashes: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64: spreads every input bit over all output bits."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def _distinct(
    hashes: np.ndarray, document: np.ndarray, documents: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sort hashes within each document and drop repeats; give hashes and document starts.

    Document above hash in one 64-bit number sorts ten times as fast as the two of them.
    """
    keys = np.sort((document.astype(np.uint64) << np.uint64(BITS)) | hashes)
    first = np.ones(len(keys), bool)
    first[1:] = keys[1:] != keys[:-1]
    keys = keys[first]
    edges = np.arange(documents + 1, dtype=np.uint64) << np.uint64(BITS)
    starts = np.searchsorted(keys, edges[:-1])
    return keys & np.uint64((1 << BITS) - 1), np.append(starts, len(keys))
