"""Which finished stages no longer match the study, told from the manifests alone.

Snakemake's own record of parameters lies in ``.snakemake/`` and is lost when results are copied
beside a fresh clone; file times are scrambled by the copy. Manifests travel with the results, so
staleness is read from them: a stage is stale when its manifest's key is not the study's, or when a
file that it names is gone or cut (and not deleted on purpose, see :mod:`p2law.results.cleaned`).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from p2law.results.cleaned import lost_files
from p2law.results.manifest import read_manifest


def stale(expected: Iterable[tuple[Path, Path, dict[str, Any]]]) -> dict[str, str]:
    """Map each output that must be made again to the reason.

    ``expected`` yields (output, the manifest to look at, the spec that the study gives it, with
    its key; see ``Study.expected``). An output that is absent is not stale, but missing.
    """
    reasons = {}
    for output, path, spec in expected:
        if output.exists() and str(output) not in reasons:
            reason = _reason(path, spec) if path.exists() else f"{path} is missing"
            if reason:
                reasons[str(output)] = reason
    return reasons


def _reason(path: Path, spec: dict[str, Any]) -> str:
    manifest = read_manifest(path)
    if manifest["key"] != spec["key"]:
        return _difference(manifest["spec"], spec) or "what it was made from has changed"
    lost = lost_files(path, manifest)
    return f"{lost[0]} is missing or cut" if lost else ""


def _difference(old: Any, new: Any, path: str = "") -> str:
    """The first setting that differs between two specs, as ``key: old -> new``; '' if none."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(
            {*old, *new} - {"key", "budgets", "variants", "checkpoints", "evaluated"}
        ):
            found = _difference(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
            if found:
                return found
        return ""
    return "" if old == new else f"{path}: {old!r} -> {new!r}"
