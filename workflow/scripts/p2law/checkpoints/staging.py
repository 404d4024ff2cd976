"""Staging: a folder's files appear together, once all of them are whole."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2law import manifest


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Give a temporary sibling of ``out``; move its files into ``out`` when the block succeeds.

    On an exception the sibling is removed and ``out`` is untouched. A manifest that lies in
    ``out`` is removed before the first file moves, since it would describe the old files; the
    caller writes the new one last. Same file system, so every move is one rename.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    stage = out.with_name(f".{out.name}.partial")
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    try:
        yield stage
        for file in stage.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        out.mkdir(exist_ok=True)
        (out / manifest.NAME).unlink(missing_ok=True)
        for file in sorted(stage.iterdir()):
            file.replace(out / file.name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
