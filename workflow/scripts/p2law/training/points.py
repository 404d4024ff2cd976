"""Points: finished results of a run at its budgets, found again without training or torch.

Each point is a checkpoint folder ``D<budget>`` with its manifest. A copy of the manifest is kept
in the run's state as the point's record, so that a point whose manifest was deleted (Snakemake
does, before it starts a job) is given its manifest back where its files still are what they were.
"""

from collections.abc import Mapping
from pathlib import Path

from p2law import canonical
from p2law.results import cleaned, manifest


def settled(folder: Path, record: Path, key: str, inputs: Mapping[str, Path]) -> bool:
    """Whether a finished result with this key lies in a folder, verified.

    Its manifest is restored from the record then, or the record made from the manifest.
    """
    known = record if record.exists() else folder / manifest.NAME
    if not known.exists():
        return False
    found = manifest.read_manifest(known)
    if found["key"] != key or not _intact(folder, found):
        return False
    found["inputs"] = manifest_inputs(inputs)
    canonical.write_json(record, found)
    canonical.write_json(folder / manifest.NAME, found)
    return True


def manifest_inputs(inputs: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """The ``inputs`` part of a manifest for these upstream manifests."""
    return {
        name: {
            "path": str(path),
            "key": manifest.read_manifest(path)["key"],
            "sha256": canonical.sha256_file(path),
        }
        for name, path in inputs.items()
    }


def _intact(folder: Path, found: Mapping[str, dict]) -> bool:
    """Whether every file of a point is there with the bytes that its manifest records.

    Files that were deleted on purpose are not asked for (see :mod:`p2law.results.cleaned`).
    """
    path = folder / manifest.NAME
    gone = cleaned.read(path)["files"]
    return not cleaned.lost_files(path, found) and all(
        canonical.sha256_file(folder / name) == record["sha256"]
        for name, record in found["files"].items()
        if name not in gone
    )
