"""The prune stage from manifest to manifest, on tiny models."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from p2law import canonical
from p2law.checkpoints import io
from p2law.checkpoints.count import count
from p2law.errors import UserError
from p2law.pruning.stage import Stage
from p2law.results import manifest

DEPTH = {"prune": "depth"}
WIDTH = {"prune": "width", "multiple": 4}
SPARSE = {"prune": "weights", "pattern": "2:4", "mask": "wanda"}
METHODS = [(DEPTH, 0.2), (WIDTH, 0.2), (SPARSE, 0.5)]


@pytest.mark.parametrize(("settings", "rate"), METHODS)
def test_a_variant_loads_and_its_rate_is_counted(settings, rate, make_base, corpus, spec, tmp_path):
    base = make_base()
    Stage(spec(settings, rate), base, corpus, tmp_path / "m").run()
    folder = tmp_path / "m" / str(rate)
    record = manifest.verify_files(folder / manifest.NAME)
    results = record["results"]
    masks = io.load_masks(folder)
    model = io.load(folder)
    counted = count(model, masks)
    assert results["N0"] == count(io.load(base.parent))["total"]
    assert results["N"] == (counted["nonzero"] if masks else counted["total"])
    assert results["rate"] == pytest.approx(1 - results["N"] / results["N0"])
    assert results["N0"] - results["N"] == results["N0_nonembedding"] - results["N_nonembedding"]
    logits = model(torch.arange(16)[None]).logits
    assert torch.isfinite(logits).all()
    assert not list((tmp_path / "m").glob(".*"))


def test_depth_removes_the_blocks_of_least_influence(make_base, corpus, spec, tmp_path):
    base = make_base()
    Stage(spec(DEPTH, 0.4), base, corpus, tmp_path).run()
    results = manifest.read_manifest(tmp_path / "0.4" / manifest.NAME)["results"]
    scores, gone = results["scores"], results["layers_removed"]
    assert sorted(scores)[: len(gone)] == sorted(scores[i] for i in gone)
    old = load_file(base.parent / "model.safetensors")
    new = load_file(tmp_path / "0.4" / "model.safetensors")
    kept = [i for i in range(4) if i not in gone]
    for position, i in enumerate(kept):
        name = "model.layers.{}.mlp.down_proj.weight"
        assert torch.equal(new[name.format(position)], old[name.format(i)])


def test_two_to_four_is_exact_and_zero_where_the_mask_is(make_base, corpus, spec, tmp_path):
    Stage(spec(SPARSE, 0.5), make_base(), corpus, tmp_path).run()
    masks = io.load_masks(tmp_path / "0.5")
    weights = load_file(tmp_path / "0.5" / "model.safetensors")
    assert len(masks) == 4 * 7
    for name, mask in masks.items():
        assert torch.equal(mask.reshape(-1, 4).sum(1), torch.full((mask.numel() // 4,), 2))
        assert torch.equal(weights[name] != 0, mask.bool())


@pytest.mark.parametrize("settings", [DEPTH, WIDTH, SPARSE])
def test_rate_zero_is_bit_equal(settings, make_base, corpus, spec, tmp_path):
    base = make_base()
    Stage(spec(settings, 0), base, corpus, tmp_path).run()
    old, new = (
        load_file(base.parent / "model.safetensors"),
        load_file(tmp_path / "0" / "model.safetensors"),
    )
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_only_what_is_missing_is_made(make_base, corpus, spec, tmp_path):
    base = make_base()
    Stage(spec(DEPTH, 0.2), base, corpus, tmp_path).run()
    first = (tmp_path / "0.2" / manifest.NAME).stat().st_mtime_ns
    (tmp_path / manifest.NAME).unlink()
    Stage(spec(DEPTH, 0.2, 0.4), base, corpus, tmp_path).run()
    assert (tmp_path / "0.2" / manifest.NAME).stat().st_mtime_ns == first
    weights = tmp_path / "0.4" / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    Stage(spec(DEPTH, 0.2, 0.4), base, corpus, tmp_path).run()
    assert weights.read_bytes() != damaged
    assert (tmp_path / "0.2" / manifest.NAME).stat().st_mtime_ns == first
    record = manifest.read_manifest(tmp_path / manifest.NAME)
    assert sorted(record["files"]) == ["0.2/manifest.json", "0.4/manifest.json"]


def hashes(folder: Path) -> dict:
    files = sorted(folder.rglob("*.safetensors"))
    return {str(file.relative_to(folder)): canonical.sha256_file(file) for file in files}


EVERY_SOLVER = [
    *METHODS,
    ({"prune": "depth", "criterion": "taylor"}, 0.2),
    ({"prune": "width", "multiple": 4, "criterion": "taylor", "dimensions": ["hidden"]}, 0.2),
    ({**WIDTH, "weights": "mrp", "dimensions": ["ffn", "groups", "hidden"]}, 0.4),
    ({**WIDTH, "weights": "mrp-cg"}, 0.2),
    ({**SPARSE, "mask": "sparsegpt", "weights": "sparsegpt"}, 0.5),
    ({**SPARSE, "mask": "group", "weights": "mrp"}, 0.5),
    ({**SPARSE, "mask": "obs", "weights": "mrp-cg", "pattern": "unstructured"}, 0.3),
    ({**SPARSE, "refine": "dsnot", "layer_rates": "owl", "pattern": "unstructured"}, 0.3),
    ({**SPARSE, "mask": "magnitude", "layer_rates": "alpha", "pattern": "unstructured"}, 0.3),
]


@pytest.mark.parametrize(("settings", "rate"), EVERY_SOLVER)
def test_bytes_do_not_depend_on_run_or_threads(settings, rate, make_base, corpus, spec, tmp_path):
    found, before = [], torch.get_num_threads()
    try:
        for run, threads in enumerate((1, 1, 2)):
            torch.set_num_threads(threads)
            Stage(spec(settings, rate), make_base(), corpus, tmp_path / str(run)).run()
            found.append(hashes(tmp_path / str(run)))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_the_script_runs_by_hand_and_reports_user_errors(make_base, corpus, spec, tmp_path):
    script = Path(__file__).parents[2] / "workflow" / "scripts" / "prune.py"

    def call(asked):
        command = [sys.executable, script, "--spec", json.dumps(asked), "--base", make_base()]
        command += ["--corpus", corpus, "--out", tmp_path / "m"]
        return subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )

    good = call(spec(SPARSE, 0.5))
    assert good.returncode == 0, good.stderr
    assert (tmp_path / "m" / manifest.NAME).exists()
    bad = call(spec(DEPTH, 0.2, windows=1000))
    assert bad.returncode == 2
    assert "1000 asked" in bad.stderr
    assert "Traceback" not in bad.stderr


@pytest.mark.parametrize("fault", ["cut", "changed", "nan", "pruned"])
def test_a_bad_base_is_refused_and_leaves_nothing(fault, make_base, corpus, spec, tmp_path):
    import shutil
    import time

    from safetensors.torch import save_file

    source = make_base().parent
    folder = tmp_path / "base"
    shutil.copytree(source, folder)
    weights = folder / "model.safetensors"
    if fault == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif fault == "changed":
        data = bytearray(weights.read_bytes())
        data[-5] ^= 1
        weights.write_bytes(data)
    else:
        state = load_file(weights)
        name = "model.layers.1.mlp.up_proj.weight"
        state[name][:8] = float("nan") if fault == "nan" else 0.0
        save_file(state, weights, metadata={"format": "pt"})
        manifest.write_manifest(
            folder,
            stage="base",
            spec={"key": "k"},
            inputs={},
            files=["config.json", "model.safetensors"],
            results={},
            started=time.time(),
        )
    before = weights.read_bytes()
    message = {"cut": "bytes", "changed": "sha256", "nan": "up_proj", "pruned": "zero already"}
    with pytest.raises(UserError, match=message[fault]):
        Stage(spec(SPARSE, 0.5), folder / manifest.NAME, corpus, tmp_path / "out").run()
    assert weights.read_bytes() == before
    assert not list((tmp_path / "out").glob("*"))
    assert not list((tmp_path / "out").glob(".*"))
