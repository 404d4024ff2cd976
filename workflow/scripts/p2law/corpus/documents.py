"""Documents on their way: spooled to disk, exact duplicates dropped, split by content hash.

A document's side depends on its own text and the seed alone: adding, removing or reordering
others moves none across. Memory: some 150 bytes a document, whatever its length.
"""

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from p2law.errors import UserError


class Spool:
    """Distinct, non-empty documents in the order they came, their text in one file on disk.

    ``hashes``: uint64 ``[documents]``, uniform, a function of seed and text; ``offsets``: uint64
    ``[documents + 1]`` into the file (bytes of UTF-8). ``empty`` and ``duplicates`` count what
    was left out (``duplicates`` by hash, one entry a copy); ``digest`` names the whole text.
    """

    def __init__(
        self, path: Path, documents: Iterable[str], seed: int, max_bytes: int | None
    ) -> None:
        """Read the documents, up to the first that would exceed ``max_bytes`` of UTF-8."""
        self.path = path
        self.empty = 0
        seen: set[bytes] = set()
        hashes, offsets, copies = array("Q"), array("Q", [0]), array("Q")
        whole = hashlib.sha256()
        with path.open("wb") as file:
            for text in documents:
                # A lone surrogate, which JSON can hold and UTF-8 cannot, becomes a question mark.
                raw = text.encode("utf-8", "replace")
                if not raw.strip():
                    self.empty += 1
                    continue
                if max_bytes is not None and offsets[-1] + len(raw) > max_bytes:
                    break
                content = hashlib.sha256(raw).digest()
                salted = hashlib.sha256(f"{seed}:".encode() + content).digest()
                number = int.from_bytes(salted[:8], "little")
                if content[:16] in seen:
                    copies.append(number)
                    continue
                seen.add(content[:16])
                whole.update(content)
                hashes.append(number)
                offsets.append(offsets[-1] + len(raw))
                file.write(raw)
        if not hashes:
            raise UserError("source: the document set is empty (nothing but white space)")
        self.hashes = np.frombuffer(hashes, np.uint64)
        self.offsets = np.frombuffer(offsets, np.uint64).astype(np.int64)
        self.duplicates = np.frombuffer(copies, np.uint64)
        self.digest = whole.hexdigest()
        self._bytes = np.asarray(np.memmap(path, np.uint8, "r"))

    def __len__(self) -> int:
        return len(self.hashes)

    def sizes(self) -> np.ndarray:
        """Bytes of each document: int64 ``[documents]``."""
        return np.diff(self.offsets)

    def raw(self, index: int) -> np.ndarray:
        """One document's UTF-8: uint8 ``[bytes]``, a view of the file."""
        return self._bytes[self.offsets[index] : self.offsets[index + 1]]

    def text(self, index: int) -> str:
        """One document's text."""
        return self.raw(index).tobytes().decode("utf-8")

    def batches(self, indices: np.ndarray, size: int, most: int) -> Iterator[np.ndarray]:
        """``indices`` in runs of at most ``most`` documents and ``size`` bytes (or of one)."""
        ends = np.cumsum(self.sizes()[indices])
        start = 0
        while start < len(indices):
            done = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + size, side="right")))
            stop = min(stop, start + most)
            yield indices[start:stop]
            start = stop


def below(hashes: np.ndarray, share: float) -> np.ndarray:
    """Which hashes fall into the lowest ``share`` of all 64-bit numbers: bool ``[n]``."""
    return hashes < np.uint64(min(int(share * 2.0**64), 2**64 - 1))
