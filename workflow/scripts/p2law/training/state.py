"""Resumable state: safetensors and JSON only, written whole or not at all.

A state is a folder ``<leg>/step-<n>/`` with ``state.safetensors`` (weights and moments) and
``state.json``, which names the run's identity, the step and each file's sha256. It is written
under a temporary name, synced and renamed, so that a process killed at any instant leaves the
previous state in force; a folder without ``state.json`` is no state. Nothing random is stored:
a step's randomness is seeded by (seed, step), so the step is all there is to resume.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2law.canonical import sha256_file, write_json
from p2law.checkpoints.files import follow_umask
from p2law.errors import UserError, refusal
from p2law.results.manifest import read_manifest

RECORD = "state.json"
TENSORS = "state.safetensors"
KEPT = 2
"""States of a leg that stay when a new one is written."""


def folder_of(leg: Path, step: int) -> Path:
    """The folder of a leg's state after ``step`` steps."""
    return Path(leg) / f"step-{step:09d}"


def steps(leg: Path) -> list[int]:
    """The steps of a leg's states, ascending; leftovers of an interrupted save do not count."""
    found = Path(leg).glob(f"step-*/{RECORD}")
    return sorted(int(path.parent.name.removeprefix("step-")) for path in found)


def write(
    leg: Path,
    step: int,
    tensors: Mapping[str, Any],
    *,
    identity: Mapping[str, str],
    extra: Mapping[str, Any],
    kept: int | None = KEPT,
) -> Path:
    """Write a leg's state after ``step`` steps, then drop all but its last ``kept`` (None: none).

    ``tensors`` are torch tensors by name, ``identity`` what a resuming run must share, ``extra``
    JSON that :func:`read` gives back. Returns the state's folder. Raises :class:`UserError` where
    the disk refuses; the previous states are intact then.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    leg, target = Path(leg), folder_of(leg, step)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        save_file(dict(tensors), partial / TENSORS)
        follow_umask(partial / TENSORS)
        _sync(partial / TENSORS)
        record = {"identity": dict(identity), "leg": leg.name, "step": step, **extra}
        record["files"] = {TENSORS: sha256_file(partial / TENSORS)}
        write_json(partial / RECORD, record)
        _sync(partial)
        discard(target)
        partial.rename(target)
        _sync(leg)
    except (OSError, SafetensorError, UserError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        reason = refusal(error) or error
        raise UserError(f"{target}: the state could not be saved: {reason}") from error
    for old in steps(leg)[:-kept] if kept else []:
        discard(folder_of(leg, old))
    return target


def read(leg: Path, step: int, *, identity: Mapping[str, str]) -> tuple[dict[str, Any], dict]:
    """A leg's tensors (on the CPU) and record after ``step`` steps, verified.

    Raises :class:`UserError` naming the file that is missing, cut or changed, or the part of the
    identity (key, torch version, ...) in which the state is another run's.
    """
    from safetensors.torch import load_file

    folder = folder_of(leg, step)
    record = read_manifest(folder / RECORD)
    for name, value in identity.items():
        if record["identity"].get(name) != value:
            raise UserError(
                f"{folder / RECORD}: its {name} is {record['identity'].get(name)!r}, this run's is"
                f" {value!r}; a state resumes only its own run: delete {folder} to train anew"
            )
    for name, sha256 in record["files"].items():
        path = folder / name
        if not path.exists() or sha256_file(path) != sha256:
            raise UserError(
                f"{path}: its bytes are not those that {RECORD} records (missing, cut or"
                f" changed); delete {folder} to continue from an earlier state"
            )
    return load_file(folder / TENSORS), record


def discard(folder: Path) -> None:
    """Delete a state; its record goes first, so that half of it is never taken for a state."""
    (Path(folder) / RECORD).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def sweep(root: Path) -> None:
    """Delete what interrupted saves left under a run's state folder."""
    for partial in Path(root).glob("*/.step-*.partial"):
        shutil.rmtree(partial, ignore_errors=True)


def _sync(path: Path) -> None:
    """Force a file's or folder's bytes to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
