"""Every architecture by every kind of pruning gives a plain Hugging Face checkpoint."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from p2law.architectures.architecture import ARCHITECTURES
from p2law.checkpoints import io
from p2law.errors import UserError
from p2law.pruning.methods import depth, weights
from p2law.pruning.stage import Stage
from p2law.pruning.statistics import Statistics
from p2law.results import manifest

KINDS = {
    "depth": ({"prune": "depth"}, 0.2),
    "width": ({"prune": "width", "dimensions": ["ffn", "hidden"], "tolerance": 0.2}, 0.3),
    "weights": ({"prune": "weights", "pattern": "1:2", "mask": "obs", "weights": "mrp-cg"}, 0.5),
}
LOADER = """if True:
    import json, sys
    import torch
    from transformers import AutoModelForCausalLM
    tokens, sums = torch.arange(24)[None] * 5 % 96, {}
    for folder in json.loads(sys.argv[1]):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True)
        with torch.no_grad():
            sums[folder] = model.eval()(tokens).logits.double().sum().item()
    assert "p2law" not in sys.modules
    print(json.dumps(sums))
"""


def kinds_of(architecture):
    return [k for k in KINDS if k != "width" or ARCHITECTURES[architecture].structured]


def test_a_fresh_process_without_this_library_loads_them_all(make_base, corpus, spec, tmp_path):
    folders = []
    for name in ARCHITECTURES:
        for kind in kinds_of(name):
            settings, rate = KINDS[kind]
            Stage(spec(settings, rate), make_base(name), corpus, tmp_path / name / kind).run()
            folders.append(str(tmp_path / name / kind / str(rate)))
    assert len(folders) == 6 * 3 - 1
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-c", LOADER, json.dumps(folders)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    tokens = torch.arange(24)[None] * 5 % 96
    for folder, total in json.loads(done.stdout.splitlines()[-1]).items():
        with torch.no_grad():
            ours = io.load(folder)(tokens).logits.double().sum().item()
        assert total == ours, folder


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_rate_zero_is_bit_equal_for_every_architecture(name, make_base, corpus, spec, tmp_path):
    base = make_base(name)
    old = load_file(base.parent / "model.safetensors")
    for kind in kinds_of(name):
        Stage(spec(KINDS[kind][0], 0), base, corpus, tmp_path / kind).run()
        new = load_file(tmp_path / kind / "0" / "model.safetensors")
        assert old.keys() == new.keys()
        assert all(torch.equal(old[key], new[key]) for key in old)


def test_every_depth_criterion_takes_every_architecture(make_base, corpus, spec, tmp_path):
    for name in ARCHITECTURES:
        for criterion in depth.CRITERIA:
            out = tmp_path / name / criterion
            settings = {"prune": "depth", "criterion": criterion, "guard_first": 1, "guard_last": 1}
            Stage(spec(settings, 0.2), make_base(name), corpus, out).run()
            record = manifest.read_manifest(out / "0.2" / manifest.NAME)
            assert set(record["results"]["layers_removed"]) <= {1, 2}


def test_a_result_says_how_it_was_made(make_base, corpus, spec, tmp_path):
    """What issue after issue of the public tools asks for, in each variant's manifest."""
    for kind, (settings, rate) in KINDS.items():
        Stage(spec(settings, rate), make_base(), corpus, tmp_path / kind).run()
        record = manifest.verify_files(tmp_path / kind / str(rate) / manifest.NAME)
        results, provenance = record["results"], record["provenance"]
        assert len(results["calibration_sha256"]) == 64
        assert results["seed"] == 3
        assert provenance["wall_seconds"] > 0
        assert provenance["peak_memory_bytes"] > 1e6
        assert 0 < results["rate"] == 1 - results["N"] / results["N0"]
        if kind == "depth":
            assert len(results["layers_removed"]) == 1
        if kind == "width":
            kept = load_file(tmp_path / kind / str(rate) / "kept.safetensors")
            assert set(kept) == {"hidden", *(f"model.layers.{i}.ffn" for i in range(4))}
            assert int(kept["hidden"].sum()) == results["widths"]["hidden"]["to"]
        if kind == "weights":
            assert len(results["layer_error"]) == 4 * 7
            for layer in results["layer_error"]:
                assert 0 < layer["compensated"] < layer["masked"]


LIMITED = """if True:
    import json, pathlib, resource, sys
    from p2law.errors import UserError
    from p2law.pruning.stage import Stage
    asked, most = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    for spec, *paths in asked:
        try:
            Stage(spec, *map(pathlib.Path, paths)).run()
        except UserError as error:
            print(error)
"""


def test_a_file_system_that_refuses_leaves_nothing(make_base, corpus, spec, tmp_path):
    """The kernel itself refuses here, in the middle of the weights."""
    base, asked = make_base(), []
    before = {file: file.read_bytes() for file in base.parent.iterdir()}
    for kind, (settings, rate) in KINDS.items():
        asked.append([spec(settings, rate), str(base), str(corpus), str(tmp_path / kind)])
    command = [sys.executable, "-c", LIMITED, json.dumps([asked, 40_000])]
    environment = {**os.environ, "PYTHONPATH": str(Path(manifest.__file__).parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == len(KINDS)
    for kind, line in zip(KINDS, said, strict=True):
        assert "model.safetensors: cannot be written" in line
        assert "is the disk full?" in line
        assert not list((tmp_path / kind).iterdir())
    assert {file: file.read_bytes() for file in base.parent.iterdir()} == before


def test_a_dead_input_gets_no_weight_and_breaks_nothing(make_base, corpus, spec, tmp_path):
    """A neuron whose gate is zero never fires: its column of down_proj goes, the rest is whole."""
    folder = tmp_path / "base"
    source = make_base(intermediate_size=128)
    shutil.copytree(source.parent, folder)
    state = load_file(folder / "model.safetensors")
    state["model.layers.1.mlp.gate_proj.weight"][5] = 0
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    base = manifest.write_manifest(
        folder, stage="base", spec={"key": "k"}, inputs={}, results={}, started=time.time(),
        files=["config.json", "model.safetensors"],
    )  # fmt: skip
    for choice in weights.WEIGHTS:
        settings = {"prune": "weights", "mask": "sparsegpt", "weights": choice}
        Stage(spec(settings, 0.5), base, corpus, tmp_path / choice).run()
        new = load_file(tmp_path / choice / "0.5" / "model.safetensors")
        masks = io.load_masks(tmp_path / choice / "0.5")
        assert all(torch.isfinite(tensor).all() for tensor in new.values())
        assert not new["model.layers.1.mlp.down_proj.weight"][:, 5].any()
        assert all((m.reshape(-1, 4).sum(1) == 2).all() for m in masks.values())


def test_a_layer_whose_hessian_cannot_be_factored_is_named(
    make_base, corpus, spec, tmp_path, monkeypatch
):
    """Float rounding can leave X^T X with a negative eigenvalue: here one is made."""
    real = Statistics.hessian

    def hessian(self):
        H = real(self)
        if len(H) == 64:
            H[0, 1] = H[1, 0] = 50 * H.diagonal().max()
        return H

    monkeypatch.setattr(Statistics, "hessian", hessian)
    settings = {"prune": "weights", "mask": "sparsegpt", "weights": "sparsegpt"}
    with pytest.raises(UserError, match=r"layers.0.mlp.down_proj: .*not positive definite"):
        Stage(spec(settings, 0.5), make_base(), corpus, tmp_path / "out").run()
    assert not list((tmp_path / "out").iterdir())
