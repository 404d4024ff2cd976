"""Staging: a folder's files appear together, once all of them are whole."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2law.results import manifest


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Give a temporary sibling of ``out``; its files replace those of ``out`` when all is well.

    On an exception the sibling is removed and ``out`` is untouched. Of ``out`` every old file
    goes, its manifest first (an index of old shards beside new weights would be loaded), and its
    folders stay; the caller writes the new manifest last. One file system: a move is a rename.
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
        new = {file.name for file in stage.iterdir()}
        for name in sorted(new):
            (stage / name).replace(out / name)
        for file in out.iterdir():
            if file.is_file() and file.name not in new:
                file.unlink()
    finally:
        shutil.rmtree(stage, ignore_errors=True)
