"""Row sums that were computed before: kept beside an evaluation, by what they depend on.

An added budget evaluates the new checkpoint only, and a checkpoint trained again to the same
bytes is not evaluated again. A cached file is trusted for its own digest's sake: its name is the
sha256 of weights, rows and RECIPE, and its length and bytes are checked when it is read.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from p2law.canonical import digest
from p2law.checkpoints.files import follow_umask
from p2law.evaluation import RECIPE

NAME = "rows"
PASSIVE = ("masks.safetensors", "kept.safetensors", "generation_config.json", "manifest.json")
"""Files of a checkpoint that do not enter its loss."""


def place(folder: Path, checkpoint: Mapping[str, Any], rows_sha256: str) -> Path:
    """Where the row sums of a checkpoint (its manifest) on some rows are kept."""
    weights = {n: f["sha256"] for n, f in checkpoint["files"].items() if n not in PASSIVE}
    identity = {"weights": weights, "rows": rows_sha256, "recipe": RECIPE}
    return Path(folder) / NAME / f"{digest(identity)}.safetensors"


def get(path: Path) -> np.ndarray | None:
    """Cached row sums, float64 [n]; None where there are none or the file is not what was put."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, "np") as file:
            sums = file.get_tensor("sums")
            seal = (file.metadata() or {}).get("sha256")
    except (SafetensorError, OSError):
        return None
    return sums if seal == _seal(sums) else None


def put(path: Path, sums: np.ndarray) -> None:
    """Keep row sums, atomically."""
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({"sums": sums}, partial, metadata={"sha256": _seal(sums)})
    follow_umask(partial)
    partial.replace(path)


def _seal(sums: np.ndarray) -> str:
    """The sha256 of the sums' bytes."""
    return hashlib.sha256(sums.tobytes()).hexdigest()
