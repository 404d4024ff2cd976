"""Identity of what a study takes from outside: text, tokenizers and checkpoints, by content.

A file is its bytes, wherever it lies and whenever it was written; a package is its version; what
the hub gives is pinned by its revision already. Digests of large files are kept in
``results/<study>/digests.json``, by size and time of change, so that gigabytes are read once.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2law.canonical import sha256_file, write_json
from p2law.checkpoints import files, gguf
from p2law.checkpoints.imported import wanted
from p2law.corpus import sources

LARGE = 2**25
"""Bytes from which a file's digest is kept."""


class Outside:
    """Digests of outside content, for stages' specs; ``kept`` is the file that keeps them."""

    def __init__(self, kept: Path) -> None:
        self.kept, self._known, self._changed = kept, _read(kept), False

    def text(self, source: Mapping[str, Any]) -> dict[str, str]:
        """Name -> digest of a text source's files, or package -> version; empty for the hub's."""
        if source["kind"] != "files":
            return sources.versions(source)
        return self._files(sources.files(source))

    def folder(self, path: str) -> dict[str, str]:
        """Name -> digest of the files that a checkpoint or tokenizer folder is read for."""
        folder = Path(path).expanduser()
        present = [file.name for file in folder.iterdir() if file.is_file()]
        shards = files.shards(folder) if (folder / files.CONFIG).exists() else []
        return self._files({name: folder / name for name in wanted(present, shards)})

    def gguf(self, spec: Mapping[str, Any]) -> dict[str, str]:
        """The digest of a GGUF file, by its name."""
        path = gguf.find(spec)
        return self._files({path.name: path})

    def _files(self, found: Mapping[str, Path]) -> dict[str, str]:
        digests = {name: self._digest(found[name]) for name in sorted(found)}
        if self._changed:
            write_json(self.kept, self._known)
            self._changed = False
        return digests

    def _digest(self, path: Path) -> str:
        state, name = path.stat(), str(path.resolve())
        if state.st_size < LARGE:
            return sha256_file(path)
        seen = [state.st_size, state.st_mtime_ns]
        if self._known.get(name, [None])[:-1] != seen:
            self._known[name] = [*seen, sha256_file(path)]
            self._changed = True
        return self._known[name][-1]


def _read(path: Path) -> dict[str, list[Any]]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}  # a cache: what it lacks is read again
