"""The table of pruned models: a results tree written by hand, row sums and all."""

import math
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from p2law import canonical
from p2law.errors import UserError
from p2law.results import manifest
from p2law.study.grid import Study
from p2law.study.stages import Stages
from p2law.study.stages.measured import BASE
from p2law.study.stages.models import start
from p2law.tables.oneshot import COLUMNS, oneshot

TINY = Path(__file__).parents[2] / "studies" / "tiny.yaml"
ROWS, TARGETS = 8, 64


def row_sums(name: str) -> np.ndarray:
    """Rows of very different difficulty; pruning adds about 2 nats a token to each, unevenly."""
    base = TARGETS * np.linspace(1.0, 5.0, ROWS)
    return base if name == BASE else base + TARGETS * (2 + 0.1 * np.cos(np.arange(ROWS)))


def loss_of(name: str) -> dict:
    each = row_sums(name) / TARGETS
    se = float(each.std(ddof=1)) / math.sqrt(ROWS)
    return {"loss": float(each.mean()), "loss_se": se, "bits_per_byte": float(each.mean()) / 3}


@pytest.fixture
def results(tmp_path) -> Stages:
    """A tiny study without runs, its evaluations with files, the rest as manifests alone."""
    config = yaml.safe_load(TINY.read_text())
    del config["posttrain"]
    study = Study(config, "tiny", root=tmp_path)
    stages = Stages(study)
    for family in study.settings.families:
        files = {"tokenizer.json": {"sha256": "f" * 64, "bytes": 1}}
        canonical.write_json(stages["corpus"].path(family), {"files": files})
    for variant in study.variants.values():
        counts = ("rate", "N0", "N", "N0_nonembedding", "N_nonembedding")
        found = {name: variant.shape[name] for name in counts}
        found |= {"calibration_sha256": "c" * 64 if variant.method == "depth" else None, "seed": 0}
        record = {"results": found, "spec": {"calibration": {"windows": 16}}}
        record["provenance"] = {"wall_seconds": 3.5, "peak_memory_bytes": 10**9}
        canonical.write_json(stages.path(start(variant)), record)
    for model, group in stages["evaluate"].results():
        write_evaluation(stages, model, group, list(stages["evaluate"].checkpoints(model, group)))
    return stages


def write_evaluation(stages, model, group, names, rows="rows"):
    path = stages["evaluate"].path(model, group)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: row_sums(name) for name in names}, path.parent / "rows.safetensors")
    losses = {name: loss_of(name) for name in names}
    found = {"evaluation": rows, "evaluation_tokens": ROWS * TARGETS, "targets_per_row": TARGETS}
    manifest.write_manifest(
        path.parent, stage="evaluate", spec={"key": "k"}, inputs={}, files=["rows.safetensors"],
        results={**found, "checkpoints": losses}, started=time.time(),
    )  # fmt: skip


def test_one_row_a_variant_with_every_column(results):
    rows = oneshot(results)
    assert len(rows) == len(results.study.variants) == 6
    assert all(set(row) == set(COLUMNS) for row in rows)
    for row in rows:
        assert row["L0"] == 3.0
        assert row["damage"] == row["Lp"] - row["L0"]
        assert row["perplexity"] == math.exp(row["Lp"])
        assert (row["calibration_windows"] > 0) == (row["method"] == "depth")
    assert {row["settings"] for row in rows} == {
        "blocks by block_influence",
        "2:4 by wanda, weights keep",
    }


def test_the_damages_error_is_that_of_paired_rows(results):
    row = oneshot(results)[0]
    added = 0.1 * np.cos(np.arange(ROWS))
    # Sums of some hundred nats in float64: differences keep 12 digits.
    assert row["damage_se"] == pytest.approx(added.std(ddof=1) / math.sqrt(ROWS), rel=1e-9)
    assert row["damage_se"] < row["Lp_se"] / 10


def test_what_is_not_evaluated_has_no_row(results):
    results["evaluate"].path("tiny-16", "depth").unlink()
    assert len(oneshot(results)) == 4
    results["evaluate"].path("tiny-16", BASE).unlink()
    assert {row["model"] for row in oneshot(results)} == {"tiny-24"}


def test_other_rows_and_damaged_files_are_refused(results):
    names = ["0.15/pruned", "0.3/pruned"]
    write_evaluation(results, "tiny-24", "depth", names, rows="others")
    with pytest.raises(UserError, match="other rows .others. than the base of tiny-24"):
        oneshot(results)
    write_evaluation(results, "tiny-24", "depth", names)
    file = results["evaluate"].path("tiny-24", "depth").parent / "rows.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    with pytest.raises(UserError, match="sha256 differs"):
        oneshot(results)
