"""The evaluate stage: one process for all checkpoints of a group, on one set of rows."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from p2law.checkpoints.files import follow_umask
from p2law.corpus.packed import Packed
from p2law.errors import UserError
from p2law.evaluation import cache, heldout
from p2law.results import manifest

ROWS = "rows.safetensors"


def evaluate(
    spec: Mapping[str, Any],
    corpus: Path,
    checkpoints: Mapping[str, Path],
    out: Path,
    device: str = "cpu",
) -> None:
    """Write every checkpoint's row sums and loss to ``out``; manifests by name come in.

    ``spec``: tokens, sequence_length, batch_rows and, by name, the checkpoints' keys.
    Raises :class:`UserError` where names or keys differ from the spec's.
    """
    from safetensors.numpy import save_file

    started = time.time()
    manifests = check_checkpoints(spec, checkpoints)
    packed = Packed(corpus.parent)
    if packed.sequence_length != spec["sequence_length"]:
        raise UserError(
            f"sequence_length: {spec['sequence_length']}; the corpus is packed in rows of"
            f" {packed.sequence_length}"
        )
    rows = heldout.choose(packed, spec["tokens"])
    sums: dict[str, np.ndarray] = {}
    results: dict[str, Any] = {}
    fresh = 0
    for name, path in checkpoints.items():
        kept = cache.place(out, manifests[name], rows.sha256)
        found = cache.get(kept)
        if found is None:
            found = _computed(path.parent, rows, spec["batch_rows"], packed, device)
            cache.put(kept, found)
            fresh += 1
        sums[name] = found
        results[name] = heldout.summary(found, rows)
        print(f"{name}: {results[name]['loss']:.5f} nats per token", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    save_file(sums, out / ROWS)
    follow_umask(out / ROWS)
    manifest.write_manifest(
        out,
        stage="evaluate",
        spec=spec,
        inputs={"corpus": corpus, **checkpoints},
        files=[ROWS],
        results={
            "evaluation": rows.sha256[:16],
            "evaluation_tokens": rows.targets,
            "rows": len(rows.tokens),
            "targets_per_row": packed.sequence_length,
            "evaluated_now": fresh,
            "checkpoints": results,
        },
        started=started,
    )


def check_checkpoints(
    spec: Mapping[str, Any], checkpoints: Mapping[str, Path]
) -> dict[str, dict[str, Any]]:
    """The checkpoints' manifests by name; their names and keys must be those of the spec."""
    if set(checkpoints) != set(spec["checkpoints"]):
        raise UserError(
            f"--checkpoint: {sorted(checkpoints)}; the spec names {sorted(spec['checkpoints'])}"
        )
    found = {name: manifest.read_manifest(path) for name, path in checkpoints.items()}
    for name, wanted in spec["checkpoints"].items():
        key = found[name]["key"]
        if key != wanted:
            raise UserError(
                f"{checkpoints[name]}: its key is {key}; the spec wants {wanted} for {name}"
            )
    return found


def _computed(
    folder: Path, rows: heldout.Rows, batch_rows: int, packed: Packed, device: str
) -> np.ndarray:
    """Load a checkpoint and run it over the rows."""
    from p2law.checkpoints import io, products

    model = io.load(folder, device=device)
    packed.check_vocabulary(model.config.vocab_size, folder / "config.json")
    return heldout.row_losses(products.by_onednn(model), rows, batch_rows)
