"""Manifests: what a stage leaves beside its files, and how a later stage trusts it.

A manifest names its stage, key (identity), spec, inputs and files by sha256, results and
provenance. It is written last, atomically: a folder without a manifest is not a result.
Imports nothing heavy, since the Snakefile reads manifests while it is parsed.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from p2law.canonical import sha256_file, write_json
from p2law.errors import UserError
from p2law.results import fingerprint

NAME = "manifest.json"
CLEANED = "cleaned.json"
"""Beside a manifest: which files were deleted on purpose (see :mod:`p2law.results.cleaned`)."""
PACKAGES = (
    *("torch", "transformers", "tokenizers", "datasets", "accelerate", "safetensors"),
    *("numpy", "scipy", "pandas", "matplotlib", "snakemake"),
)


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest. Raises :class:`UserError` naming the path if it is missing or cut."""
    path = Path(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such manifest; the stage that writes it has not run") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: not readable as JSON ({error}); delete it and run again"
        ) from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no manifest ({str(found)[:20]}); delete it and run again")
    return found


def is_finished(path: Path, key: str) -> bool:
    """Whether a manifest is there and carries the key."""
    return Path(path).exists() and read_manifest(path)["key"] == key


def missing_files(path: Path, manifest: Mapping[str, Any]) -> list[Path]:
    """The files a manifest names that are absent or of another size (a look at names only)."""
    folder = Path(path).parent
    lost = []
    for name, record in manifest["files"].items():
        try:
            size = (folder / name).stat().st_size
        except FileNotFoundError:
            size = -1
        if size != record["bytes"]:
            lost.append(folder / name)
    return lost


def verify_files(path: Path) -> dict[str, Any]:
    """Read a manifest and check every file's bytes against it.

    Raises :class:`UserError` naming the first file that is missing, cut or changed.
    """
    manifest = read_manifest(path)
    for lost in missing_files(path, manifest):
        if (mark := lost.with_name(CLEANED)).exists() and not lost.exists():
            raise UserError(
                f"{lost}: cleaned away on purpose; delete {mark} and run again to rebuild it"
            )
        found = f"{lost.stat().st_size} bytes" if lost.exists() else "nothing"
        name = lost.relative_to(Path(path).parent).as_posix()
        raise UserError(
            f"{lost}: {found} where {path} records {manifest['files'][name]['bytes']} bytes;"
            " delete that manifest and run again to rebuild it"
        )
    for name, record in manifest["files"].items():
        file = Path(path).parent / name
        if sha256_file(file) != record["sha256"]:
            raise UserError(
                f"{file}: its bytes are not those that {path} records (sha256 differs);"
                " delete that manifest and run again to rebuild it"
            )
    return manifest


def write_manifest(
    folder: Path,
    *,
    stage: str,
    spec: Mapping[str, Any],
    inputs: Mapping[str, Path],
    files: Iterable[str],
    results: Mapping[str, Any],
    started: float,
) -> Path:
    """Write ``folder/manifest.json``, last and atomically; return its path.

    ``spec`` holds the stage's whole specification with its ``key``; ``inputs`` maps names to the
    upstream manifests read; ``files`` are names relative to ``folder``; ``results`` are the
    stage's own numbers; ``started`` is ``time.time()`` at its start (seconds).
    """
    folder = Path(folder)
    (folder / CLEANED).unlink(missing_ok=True)  # whatever went before, all files are there now
    named = {}
    for name in sorted(files):
        file = folder / name
        named[name] = {"sha256": sha256_file(file), "bytes": file.stat().st_size}
    manifest = {
        "stage": stage,
        "key": spec["key"],
        "spec": dict(spec),
        "inputs": {
            name: {
                "path": str(path),
                "key": read_manifest(path)["key"],
                "sha256": sha256_file(path),
            }
            for name, path in inputs.items()
        },
        "files": named,
        "results": dict(results),
        "code": fingerprint.loaded(),
        "provenance": provenance(started),
    }
    path = folder / NAME
    write_json(path, manifest)
    return path


def provenance(started: float) -> dict[str, Any]:
    """When, where, how long and with what a stage ran: never part of any identity."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "wall_seconds": round(time.time() - started, 3),
        "startup_seconds": round(started - psutil.Process().create_time(), 3),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
        "peak_memory_bytes": usage.ru_maxrss * 1024,
        "git": git_revision(),
        "packages": package_versions(),
        "hardware": {"machine": platform.machine(), "cores": os.cpu_count(), "gpus": gpu_names()},
        "python": platform.python_version(),
        "node": os.environ.get("SLURMD_NODENAME") or platform.node(),
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
        "slurm": slurm_job(),
    }


def slurm_job() -> dict[str, Any] | None:
    """The Slurm job that this process is part of, its nodes and its energy; None outside Slurm."""
    number = os.environ.get("SLURM_JOB_ID")
    if number is None:
        return None
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST")
    return {"job": number, "nodes": nodes, "energy_joules": energy_joules(number)}


def energy_joules(job: str) -> int | None:
    """Joules that a job's nodes have reported so far; None where Slurm does not measure them."""
    command = ["sstat", "--noheader", "--parsable2", "--allsteps", "--format=ConsumedEnergyRaw"]
    try:
        done = subprocess.run(
            [*command, f"--jobs={job}"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    values = [int(word) for word in done.stdout.split() if word.isdigit()]
    return max(values, default=0) or None


@cache
def git_revision() -> dict[str, Any]:
    """The checkout's revision and whether it holds uncommitted changes; None without git."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        )
        state = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return {"revision": None, "dirty": None}
    return {"revision": head.stdout.strip(), "dirty": bool(state.stdout.strip())}


@cache
def package_versions() -> dict[str, str]:
    """Installed versions of the packages that can move a number."""
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def gpu_names() -> list[str]:
    """Names of the visible GPUs, asked of torch only where the stage has loaded it already."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
