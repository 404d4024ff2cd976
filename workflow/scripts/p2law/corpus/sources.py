"""Sources: where a corpus' documents come from, one at a time, in a fixed order.

Packages and files come in the order of their names' hashes, so that a corpus cut at ``max_bytes``
is an even sample of all of them; within a JSONL or Parquet file, and from the hub, in the order
of the source.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from p2law.checkpoints.imported import hub_errors, pinned
from p2law.errors import UserError

TEXT = {".txt", ".text", ".md", ".rst", ".tex", ".html", ".py", ".pyi", ".c", ".h", ".cc", ".cpp"}
TEXT |= {".rs", ".go", ".java", ".js", ".ts", ".jl", ".r", ".sh", ".sql"}
RECORDS = {".jsonl", ".parquet"}
PIECE = 1 << 20
"""Characters: a longer text file is cut at line ends, since one document may hold no more."""

TEST_FOLDERS = {"tests", "test"}
NOT_ALIKE = {"distutils"}
"""Installed for some Python versions only (numpy/distutils: 3.11 and older)."""
SKIPPED = {"conftest.py", "__config__.py", "_distributor_init.py"}
"""Test set-up, and the two files that hold what a wheel was built with and where: of numpy,
scipy, pandas and matplotlib these alone differ between wheels for Linux x86-64, Linux arm64,
macOS and Python 3.11 | 3.12."""


def documents(source: Mapping[str, Any]) -> Iterator[str]:
    """The documents of a corpus spec's ``source``, in a fixed order.

    Raises :class:`UserError`, naming setting, file or line, for a source that cannot be read.
    """
    kinds = {"packages": _packages, "docstrings": _docstrings, "files": _files, "hub": _hub}
    if source.get("kind") not in kinds:
        raise UserError(f"source kind {source.get('kind')!r}: one of {', '.join(kinds)}")
    return kinds[source["kind"]](source)


def versions(source: Mapping[str, Any]) -> dict[str, str]:
    """Versions of the packages that a source reads, for the manifest; empty for other sources."""
    return {name: _distribution(name).version for name in sorted(source.get("packages", ()))}


def _shuffled(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (hashlib.sha256(name.encode()).digest(), name))


def _distribution(name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise UserError(f"packages: {name!r} is not installed in this environment") from None


def _packages(source: Mapping[str, Any]) -> Iterator[str]:
    """The packages' Python sources."""
    for path in _modules(source):
        yield from _text(path)


def _docstrings(source: Mapping[str, Any]) -> Iterator[str]:
    """The docstrings of each module, its classes and functions in the order of the file, as one
    document; modules without any give none."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for path in _modules(source):
        text = "".join(_text(path))
        try:
            tree = ast.parse(text)
        except SyntaxError as error:
            raise UserError(f"{path} line {error.lineno}: not Python: {error.msg}") from None
        nodes = [node for node in ast.walk(tree) if isinstance(node, documented)]
        nodes.sort(key=lambda node: getattr(node, "lineno", 0))
        found = [ast.get_docstring(node) for node in nodes]
        if document := "\n\n".join(filter(None, found)):
            yield document


def _modules(source: Mapping[str, Any]) -> Iterator[Path]:
    """Python files that the packages' own records list, without tests: the same anywhere."""
    paths = {}
    for package in source["packages"]:
        distribution = _distribution(package)
        for file in distribution.files or []:
            folders = set(file.parts[:-1])
            if (
                file.suffix == ".py"
                and not folders & (TEST_FOLDERS | NOT_ALIKE)
                and file.name not in SKIPPED
            ):
                paths[file.as_posix()] = Path(file.locate())
    for name in _shuffled(paths):
        yield paths[name]


def files(source: Mapping[str, Any]) -> dict[str, Path]:
    """Name -> path of the files that a source of kind ``files`` reads.

    Raises :class:`UserError` where the path names none that can be read.
    """
    root = Path(source["path"]).expanduser()
    if root.is_dir():
        found = {p.relative_to(root).as_posix(): p for p in root.rglob("*")}
        found = {n: p for n, p in found.items() if p.suffix.lower() in TEXT | RECORDS}
    elif root.is_file():
        found = {root.name: root}
    else:
        base = Path(root.anchor) if root.is_absolute() else Path()
        pattern = root.relative_to(base).as_posix()
        found = {p.as_posix(): p for p in base.glob(pattern)}
        if not found and not any(sign in pattern for sign in "*?["):
            raise UserError(f"path {source['path']}: no such file or folder")
    found = {name: path for name, path in found.items() if path.is_file()}
    if not found:
        raise UserError(
            f"path {source['path']}: holds no text; text files ({' '.join(sorted(TEXT))}),"
            " .jsonl and .parquet are read"
        )
    return found


def _files(source: Mapping[str, Any]) -> Iterator[str]:
    found, field = files(source), source.get("text_field", "text")
    for name in _shuffled(found):
        reader = {".jsonl": _jsonl, ".parquet": _parquet}.get(found[name].suffix.lower())
        yield from reader(found[name], field) if reader else _text(found[name])


def _text(path: Path) -> Iterator[str]:
    try:
        # newline="": bytes are kept as they are.
        with path.open(encoding="utf-8", newline="") as file:
            while piece := file.read(PIECE):
                yield piece + (file.readline() if len(piece) == PIECE else "")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _jsonl(path: Path, field: str) -> Iterator[str]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path} line {number}: not readable as JSON: {error}") from None
            yield _field(record, field, f"{path} line {number}")


def _parquet(path: Path, field: str) -> Iterator[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(path)
        if field not in table.schema_arrow.names:
            _field(dict.fromkeys(table.schema_arrow.names), field, str(path))
        row = 0
        for batch in table.iter_batches(batch_size=1024, columns=[field]):
            for text in batch.column(0).to_pylist():
                row += 1
                yield _field({field: text}, field, f"{path} row {row}")
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not readable as Parquet: {error}") from None


def _hub(source: Mapping[str, Any]) -> Iterator[str]:
    """Records of a hub data set at a pinned commit, streamed: nothing is kept but the text."""
    name, revision, field = source["name"], pinned(source), source.get("text_field", "text")
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    with hub_errors(f"{name}@{revision[:12]}"):
        try:
            records = load_dataset(
                name,
                source.get("subset"),
                split=source["split"],
                revision=revision,
                streaming=True,
            )
            for row, record in enumerate(records):
                yield _field(record, field, f"{name} row {row}")
        except (DatasetsError, FileNotFoundError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{name}@{revision[:12]}: {error}") from error


def _field(record: Any, field: str, where: str) -> str:
    """The text of a record. Raises :class:`UserError` with the place where it is not there."""
    if isinstance(record, dict) and isinstance(record.get(field), str):
        return record[field]
    if isinstance(record, dict) and field in record:
        found = f"{field!r} holds a {type(record[field]).__name__}, not text"
    else:
        names = ", ".join(sorted(record)) if isinstance(record, dict) else type(record).__name__
        found = f"no field {field!r} (it has: {names})"
    raise UserError(f"{where}: {found}; set text_field")
