"""Tokenizer: trained here on the training side, or a named one; and text to token numbers.

Trained ones are byte-level BPE (Sennrich et al. 2016; GPT-2's splitting pattern): every text has
tokens and decodes to itself.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from p2law.checkpoints import files, gguf
from p2law.checkpoints.imported import (
    TOKENIZER_PATTERNS,
    gguf_tokenizer,
    hub_errors,
    pinned,
)
from p2law.corpus.documents import Spool
from p2law.errors import UserError

END = "<|endoftext|>"
ALPHABET = 256
BATCH = 1 << 22  # bytes of text tokenised at a time: some 300 MB of the library's own records


def sample(spool: Spool, indices: np.ndarray, vocabulary: int) -> np.ndarray:
    """The documents a tokenizer is trained on: an even sample of ``indices``, by hash.

    8 MB of text, or 4 kB for each entry of a larger vocabulary; everything when there is less.
    The highest hashes are taken, since calibration takes the lowest.
    """
    by_hash = indices[np.argsort(spool.hashes[indices], kind="stable")][::-1]
    total = np.cumsum(spool.sizes()[by_hash])
    limit = max(8_000_000, 4_000 * vocabulary)
    return np.sort(by_hash[: np.searchsorted(total, limit) + 1])


def train(spool: Spool, indices: np.ndarray, vocabulary: int, out: Path) -> None:
    """Train a byte-level BPE on those documents; write it as AutoTokenizer loads it.

    Deterministic: merges are chosen by count, then by the pair, whatever the number of threads.
    Raises :class:`UserError` when the text gives fewer entries than asked.
    """
    if vocabulary <= ALPHABET:
        raise UserError(f"tokenizer vocabulary {vocabulary}: above {ALPHABET} (bytes and {END})")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((spool.text(i) for i in indices), trainer)
    if tokenizer.get_vocab_size() < vocabulary:
        raise UserError(
            f"tokenizer vocabulary {vocabulary}: the training text gives only"
            f" {tokenizer.get_vocab_size()} entries; lower it or add text"
        )
    tokenizer.save(str(out / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "clean_up_tokenization_spaces": False,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")


def copy(spec: Mapping[str, Any], out: Path) -> None:
    """Bring the files of a named tokenizer (kind folder, hub or gguf) into ``out``.

    Raises :class:`UserError` for one that cannot be had or has no ``tokenizer.json``.
    """
    if spec["kind"] == "gguf":
        path = gguf.find(spec)
        gguf.check(spec, path)
        gguf_tokenizer(path, out)
    elif spec["kind"] == "hub":
        from huggingface_hub import snapshot_download

        name, revision = spec["name"], pinned(spec)
        with hub_errors(f"tokenizer {name}@{revision[:12]}"):
            snapshot_download(
                name, revision=revision, local_dir=out, allow_patterns=list(TOKENIZER_PATTERNS)
            )
        shutil.rmtree(out / ".cache", ignore_errors=True)
    else:
        folder = Path(spec["path"]).expanduser()
        found = [f for pattern in TOKENIZER_PATTERNS for f in folder.glob(pattern) if f.is_file()]
        for file in found:
            shutil.copyfile(file, out / file.name)
    if not (out / "tokenizer.json").exists():
        place = spec.get("path") or spec.get("name") or spec.get("package")
        raise UserError(f"tokenizer {place}: holds no tokenizer.json (a fast tokenizer is needed)")


class Encoder:
    """A folder's ``tokenizer.json`` as a function from documents to token numbers.

    ``vocabulary``: the highest token number plus one. ``end``: the number of the end-of-text
    token that joins documents. No special token is added, and none is recognised inside a text.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises bare Exception
            raise UserError(f"{folder / 'tokenizer.json'}: not a tokenizer: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        self.vocabulary = max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        name = self._end_name(folder)
        end = self._tokenizer.token_to_id(name) if name else None
        if end is None:
            raise UserError(f"{folder}: the tokenizer names no eos_token, which joins documents")
        self.end: int = end

    @staticmethod
    def _end_name(folder: Path) -> str | None:
        for file in ("tokenizer_config.json", "special_tokens_map.json"):
            if (folder / file).exists():
                token = files.read_json(folder / file).get("eos_token")
                token = token.get("content") if isinstance(token, dict) else token
                if token:
                    return token
        return None

    def encode(
        self, spool: Spool, indices: np.ndarray, batch: int = BATCH
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Each document's number and tokens (uint32 ``[n]``), in the order of ``indices``."""
        for index, _, encoding in self._each(
            spool, indices, batch, self._tokenizer.encode_batch_fast
        ):
            yield index, np.array(encoding.ids, np.uint32)

    def spans(
        self, spool: Spool, indices: np.ndarray
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """As :meth:`encode`, and how many bytes of UTF-8 each token adds (int64 ``[n]``).

        The bytes of a character that spans several tokens count at the first of them, so that
        the sum over a document is its length.
        """
        for index, text, encoding in self._each(
            spool, indices, BATCH, self._tokenizer.encode_batch
        ):
            points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
            sizes = 1 + sum((points >= first).astype(np.int64) for first in (0x80, 0x800, 0x10000))
            place = np.append(0, np.cumsum(sizes))
            ends = place[np.array([end for _, end in encoding.offsets], np.int64)]
            reached = np.maximum.accumulate(np.append(0, ends))
            yield index, np.array(encoding.ids, np.uint32), np.diff(reached)

    def _each(
        self, spool: Spool, indices: np.ndarray, size: int, encode: Callable[..., list[Any]]
    ) -> Iterator[tuple[int, str, Any]]:
        """Each document's number, text and encoding.

        The library tokenises one batch on all its threads while the last one is taken over.
        """

        def work(batch: np.ndarray) -> list[tuple[int, str, Any]]:
            texts = [spool.text(i) for i in batch]
            done = encode(texts, add_special_tokens=False)
            return list(zip(batch.tolist(), texts, done, strict=True))

        with ThreadPoolExecutor(max_workers=1) as pool:
            ahead = None
            for batch in spool.batches(indices, size, 1 << 16):
                done, ahead = ahead, pool.submit(work, batch)
                yield from done.result() if done else ()
            yield from ahead.result() if ahead else ()
