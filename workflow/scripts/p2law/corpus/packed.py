"""Packed: a corpus of memory-mapped tokens, read by row. Needs numpy only.

Row ``r`` of a split is ``tokens[r*T : r*T + T + 1]``: inputs ``row[:-1]``, targets ``row[1:]``.
Rows overlap by one token, so that every token but a split's first is a target exactly once.
Documents are joined by the tokenizer's end-of-text token; attention runs across it.
"""

from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import as_strided

from p2law.errors import UserError
from p2law.results import manifest

SPLITS = ("train", "validation", "calibration")


def token_dtype(vocabulary: int) -> np.dtype:
    """How tokens of a vocabulary of that size are stored: little-endian uint16 or uint32."""
    return np.dtype("<u2" if vocabulary <= 65_536 else "<u4")


def order(n_rows: int, seed: int) -> np.ndarray:
    """The order in which every run of a study visits its rows: int64 permutation ``[n_rows]``.

    A pure function of its arguments, the same on every machine: uniform 64-bit keys of numpy's
    PCG64, whose stream is guaranteed stable, sorted (numpy's own ``permutation`` is not).
    """
    keys = np.random.PCG64(seed).random_raw(n_rows)
    return np.argsort(keys, kind="stable").astype(np.int64)


class Packed:
    """The tokens of one corpus folder, opened as memory maps (nothing is read ahead).

    ``sequence_length`` T (tokens a row) and ``vocabulary`` come from the folder's manifest.
    Raises :class:`UserError` when the folder has no manifest, or a file is missing or cut; the
    bytes themselves are not hashed here (:func:`p2law.results.manifest.verify_files` does that).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        path = self.folder / manifest.NAME
        self.manifest = manifest.read_manifest(path)
        for lost in manifest.missing_files(path, self.manifest):
            raise UserError(f"{lost}: missing, or not as long as {path} records")
        self.sequence_length = int(self.manifest["spec"]["sequence_length"])
        self.vocabulary = int(self.manifest["results"]["vocabulary"])
        dtype = token_dtype(self.vocabulary)
        files = {split: self.folder / f"{split}.bin" for split in SPLITS}
        # Plain array views: indexing a memmap subclass costs several times as much.
        self._tokens = {s: np.asarray(np.memmap(f, dtype, "r")) for s, f in files.items()}
        # And views in which rows overlap: a row is copied as one run, not token by token.
        T, size = self.sequence_length, dtype.itemsize
        self._rows = {
            s: as_strided(tokens, (self.rows(s), T + 1), (T * size, size), writeable=False)
            for s, tokens in self._tokens.items()
        }

    def tokens(self, split: str) -> np.ndarray:
        """All tokens of a split in file order: read-only map, uint16 or uint32 ``[n]``."""
        if split not in self._tokens:
            raise ValueError(f"split {split!r}: one of {', '.join(SPLITS)}")
        return self._tokens[split]

    def rows(self, split: str) -> int:
        """How many whole rows a split holds."""
        return max(0, (len(self.tokens(split)) - 1) // self.sequence_length)

    def read(self, split: str, indices: np.ndarray) -> np.ndarray:
        """Rows by number: int64 ``[n, T + 1]``. Raises IndexError outside ``[0, rows)``."""
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < self.rows(split):
            raise IndexError(f"{split} has rows 0..{self.rows(split) - 1} in {self.folder}")
        return self._rows[split][indices].astype(np.int64)

    def check_vocabulary(self, size: int, where: Path) -> None:
        """Raise :class:`UserError` where a model of ``size`` tokens cannot read this corpus."""
        if size < self.vocabulary:
            raise UserError(
                f"{where}: vocab_size {size}; the corpus has {self.vocabulary} tokens: another"
                " tokenizer's"
            )

    def row_bytes(self) -> np.ndarray:
        """Bytes of text in each validation row's targets: uint32 ``[rows]``, for bits per byte."""
        return np.fromfile(self.folder / "validation.bytes.bin", "<u4")
