"""Build a corpus: documents, split, near-duplicates, tokenizer, tokens, manifest.

Validation is a share of the documents by content hash. Calibration takes the other documents of
lowest hash, a few windows of each, until it is full; training is the rest, in the order of the
source, without near-duplicates of validation. Everything streams through a spool on disk.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from p2law.checkpoints.staging import staged
from p2law.corpus import sources
from p2law.corpus.documents import Spool, below
from p2law.corpus.duplicates import near_duplicates
from p2law.corpus.packed import SPLITS, token_dtype
from p2law.corpus.tokenizer import Encoder, copy, sample, train
from p2law.errors import UserError
from p2law.results import manifest

SLICE = 4  # windows taken of one calibration document at most, so that they span many


def build(spec: Mapping[str, Any], out: Path, needs_tokens: int = 0) -> dict[str, Any]:
    """Build the corpus of a spec in ``out``; return the manifest's results.

    A folder that already holds it (same key, files whole) is kept. Raises :class:`UserError`,
    leaving ``out`` as it was, for whatever the user can mend, among it fewer training tokens
    than ``needs_tokens`` (no part of the corpus' identity: it decides nothing but that).
    """
    started = time.time()
    out = Path(out)
    if (kept := _kept(spec, out)) is not None:
        _enough(kept["splits"]["train"]["rows"], spec["sequence_length"], needs_tokens)
        return kept
    tokenizer = dict(spec["tokenizer"])
    with staged(out) as stage:
        spool_file = stage / "spool"
        spool = Spool(
            spool_file, sources.documents(spec["source"]), spec["seed"], spec["max_bytes"]
        )
        _say(f"{len(spool):,} documents, {int(spool.offsets[-1]):,} bytes")
        validation, others, near = _sides(spec, spool)
        _say(f"{len(validation):,} for validation; {near:,} near-duplicates of them dropped")
        if tokenizer["kind"] == "train":
            chosen = sample(spool, others, tokenizer["vocabulary"])
            train(spool, chosen, tokenizer["vocabulary"], stage)
            tokenizer["sample_documents"] = len(chosen)
            tokenizer["sample_bytes"] = int(spool.sizes()[chosen].sum())
        else:
            copy(tokenizer, stage)
        encoder = Encoder(stage)
        _say(f"tokenizer of {encoder.vocabulary:,} ready")
        splits = _write_splits(spec, spool, validation, others, encoder, stage)
        _enough(splits["train"]["rows"], spec["sequence_length"], needs_tokens)
        results = {
            "vocabulary": encoder.vocabulary,
            "end_of_text": encoder.end,
            "tokenizer": tokenizer,
            "source": {
                "documents": len(spool),
                "bytes": int(spool.offsets[-1]),
                "sha256": spool.digest,
                "packages": sources.versions(spec["source"]),
            },
            "bytes_per_token": splits["train"]["bytes"] / splits["train"]["tokens"],
            "splits": splits,
            "dropped": _dropped(spec, spool, near),
        }
        spool_file.unlink()
        files = [file.name for file in stage.iterdir()]
    manifest.write_manifest(
        out, stage="corpus", spec=spec, inputs={}, files=files, results=results, started=started
    )
    return results


def _kept(spec: Mapping[str, Any], out: Path) -> dict[str, Any] | None:
    path = out / manifest.NAME
    if not path.exists() or manifest.read_manifest(path)["key"] != spec["key"]:
        return None
    try:
        return manifest.verify_files(path)["results"]
    except UserError as error:
        _say(f"built again: {error}")
        return None


def _enough(rows: int, row: int, needs_tokens: int) -> None:
    """Refuse a corpus of fewer training tokens than a study takes: they would repeat."""
    if rows * row < max(1, needs_tokens):
        raise UserError(
            f"corpus: {max(0, rows) * row:,} training tokens (whole rows of {row}) where the study"
            f" needs {needs_tokens:,}; add text, raise max_bytes, or lower the budgets"
        )


def _sides(spec: Mapping[str, Any], spool: Spool) -> tuple[np.ndarray, np.ndarray, int]:
    """Validation documents, the others without near-duplicates, and how many those were."""
    held = below(spool.hashes, spec["validation_share"])
    validation, others = np.flatnonzero(held), np.flatnonzero(~held)
    for side, name in ((validation, "validation"), (others, "training")):
        if not len(side):
            raise UserError(
                f"validation_share {spec['validation_share']}: of {len(spool)} documents none is"
                f" left for {name}; add documents or change the share"
            )
    if spec["near_duplicates"] is None:
        return validation, others, 0
    similar = near_duplicates(spool, validation, others, **spec["near_duplicates"])
    return validation, others[~similar], int(similar.sum())


def _dropped(spec: Mapping[str, Any], spool: Spool, near: int) -> dict[str, Any]:
    held = int(below(spool.duplicates, spec["validation_share"]).sum())
    exact = {"validation": held, "train": len(spool.duplicates) - held}
    return {"empty": spool.empty, "exact_duplicates": exact, "near_duplicates": {"train": near}}


class _Writer:
    """One split's tokens, appended to its file; each document ends with the end-of-text token."""

    def __init__(self, folder: Path, split: str, encoder: Encoder) -> None:
        self.file = (folder / f"{split}.bin").open("wb")
        self.dtype, self.end = token_dtype(encoder.vocabulary), encoder.end
        self.documents = self.tokens = 0

    def add(self, tokens: np.ndarray) -> None:
        """Append a document and the end-of-text token."""
        self.documents += 1
        self.file.write(np.append(tokens, self.end).astype(self.dtype).tobytes())
        self.tokens += len(tokens) + 1

    def close(self, row: int, most: int | None = None) -> dict[str, int]:
        """Finish, keeping ``most`` tokens; give documents, tokens and rows of ``row`` tokens."""
        if most is not None:
            self.file.truncate(most * self.dtype.itemsize)
            self.tokens = most
        self.file.close()
        rows = (self.tokens - 1) // row
        return {"documents": self.documents, "tokens": self.tokens, "rows": rows}


def _write_splits(
    spec: Mapping[str, Any],
    spool: Spool,
    validation: np.ndarray,
    others: np.ndarray,
    encoder: Encoder,
    stage: Path,
) -> dict[str, dict[str, int]]:
    """Tokenise and write the three splits; give each one's counts."""
    row = spec["sequence_length"]
    counts = {"validation": _validation(spool, validation, encoder, stage, row)}
    used, counts["calibration"] = _calibration(spec, spool, others, encoder, stage)
    writer, training = _Writer(stage, "train", encoder), np.setdiff1d(others, used)
    for _, tokens in encoder.encode(spool, training):
        writer.add(tokens)
    counts["train"] = {**writer.close(row), "bytes": int(spool.sizes()[training].sum())}
    return {split: counts[split] for split in SPLITS}


def _validation(
    spool: Spool, documents: np.ndarray, encoder: Encoder, stage: Path, row: int
) -> dict[str, int]:
    """Write validation tokens and, for bits per byte, the bytes of each row's targets."""
    writer, lengths = _Writer(stage, "validation", encoder), [np.empty(0, np.int64)]
    for _, tokens, added in encoder.spans(spool, documents):
        writer.add(tokens)
        lengths.append(np.append(added, 0))  # the end-of-text token is no text
    counts = writer.close(row)
    if counts["rows"] < 1:
        raise UserError(
            f"corpus: {counts['tokens']} validation tokens give no row of {row} tokens and its"
            " target; add documents or raise validation_share"
        )
    targets = np.concatenate(lengths)[1 : 1 + counts["rows"] * row].reshape(counts["rows"], row)
    (stage / "validation.bytes.bin").write_bytes(targets.sum(axis=1).astype("<u4").tobytes())
    return {**counts, "bytes": int(sum(int(part.sum()) for part in lengths))}


def _calibration(
    spec: Mapping[str, Any], spool: Spool, others: np.ndarray, encoder: Encoder, stage: Path
) -> tuple[list[int], dict[str, int]]:
    """Write exactly the windows asked for; give the documents used and the counts."""
    row = spec["sequence_length"]
    wanted, most = spec["calibration_windows"] * row + 1, SLICE * row
    writer, used = _Writer(stage, "calibration", encoder), []
    by_hash = others[np.argsort(spool.hashes[others], kind="stable")]
    for index, tokens in encoder.encode(spool, by_hash, batch=1 << 18):
        first = int(spool.hashes[index] % np.uint64(max(1, len(tokens) - most + 1)))
        writer.add(tokens[first : first + most])
        used.append(index)
        if writer.tokens >= wanted:
            return used, writer.close(row, wanted)
    raise UserError(
        f"calibration_windows {spec['calibration_windows']}: windows of {row} tokens need"
        f" {wanted:,} tokens, at most {most} a document; the documents outside validation give"
        f" {writer.tokens:,}"
    )


def _say(text: str) -> None:
    print(f"corpus: {text}", file=sys.stderr, flush=True)
