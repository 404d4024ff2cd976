"""Weights that a clean-up took away on purpose, and when they must come back.

Beside a manifest whose weights were deleted lies ``cleaned.json``, which names them, and the
evaluation that holds their losses: their stage stays valid. It is run again only once a stage that
will run needs the weights themselves. Imports nothing heavy, since the Snakefile reads this.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from p2law.canonical import write_json
from p2law.results.manifest import CLEANED, missing_files, read_manifest


def read(manifest: Path) -> dict[str, Any]:
    """A manifest's mark: ``files`` that went, their ``evaluation``; both empty without one."""
    mark = Path(manifest).with_name(CLEANED)
    return read_manifest(mark) if mark.exists() else {"files": [], "evaluation": ""}


def lost_files(path: Path, manifest: Mapping[str, Any]) -> list[Path]:
    """As :func:`p2law.results.manifest.missing_files`, without what was deleted on purpose."""
    lost = missing_files(path, manifest)
    if not lost:
        return []
    gone = read(path)["files"]
    folder = Path(path).parent
    return [file for file in lost if file.relative_to(folder).as_posix() not in gone]


def lacks_weights(path: Path) -> bool:
    """Whether a manifest is there whose weights a clean-up has deleted."""
    return any(not (path.parent / name).exists() for name in read(path)["files"])


def remove(path: Path, files: Iterable[str], evaluation: str) -> None:
    """Delete files that a manifest names; the mark is written first.

    ``evaluation`` identifies the rows on which their losses are known (``Specs.evaluation``).
    """
    path = Path(path)
    gone = sorted({*read(path)["files"], *files})
    write_json(path.with_name(CLEANED), {"files": gone, "evaluation": evaluation})
    for name in gone:
        (path.parent / name).unlink(missing_ok=True)


def demand(path: Path) -> None:
    """Take the mark away: the files count as missing from here on, and their stage makes them."""
    Path(path).with_name(CLEANED).unlink(missing_ok=True)
