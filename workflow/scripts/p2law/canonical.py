"""What everyone needs of files: canonical JSON, digests, and writes that are whole or not there."""

import ast
import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from p2law.errors import writing

LIBRARY = Path(__file__).parent


def canonical(obj: Any) -> str:
    """JSON with sorted keys and no spaces: equal objects give equal text. NaN is refused."""
    return json.dumps(obj, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(obj: Any) -> str:
    """The sha256 (hex) of an object's canonical JSON."""
    return hashlib.sha256(canonical(obj).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """The sha256 (hex) of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader, or a machine that loses power, sees all of it or nothing."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def write_json(path: Path, obj: Any) -> None:
    """Write an object as readable JSON, atomically (see :func:`write_text`)."""
    write_text(path, json.dumps(obj, indent=1, allow_nan=False) + "\n")


def code_digest(*rooms: str) -> str:
    """Digest of the library's rooms by their Python syntax: comments and layout do not count."""
    return digest([_syntax(room) for room in rooms])


@cache
def _syntax(room: str) -> str:
    sources = sorted((LIBRARY / room).rglob("*.py"))
    return digest([ast.dump(ast.parse(path.read_text(encoding="utf-8"))) for path in sources])
