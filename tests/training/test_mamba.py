"""A Mamba in training: from a study's config, over its blocks, its state's rates undecayed."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from p2law.checkpoints import io
from p2law.cluster.costs import Costs
from p2law.corpus.packed import Packed
from p2law.results import manifest
from p2law.study.grid import Study
from p2law.study.stages import Stages
from p2law.training import loop, pretrain, recipe, run

MAMBA = {
    **{"model_type": "mamba", "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 3},
    **{"state_size": 4, "time_step_rank": 4},
}
BATCH = 128


@pytest.fixture(scope="module")
def mamba(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mamba") / "pruned"
    files = io.save(io.fresh(MAMBA, seed=3), folder)
    return manifest.write_manifest(
        folder, stage="prune", spec={"key": "mamba"}, inputs={}, files=files, results={},
        started=time.time(),
    )  # fmt: skip


def made(corpus, train, steps=4, **changes) -> loop.Loop:
    model, asked = io.fresh(MAMBA, seed=3), recipe.parse({**train, **changes})
    return loop.Loop(model, Packed(corpus.parent), asked, seed=1, steps=steps)


def test_a_study_trains_one(tmp_path, tiny, corpus, train):
    """From the study file's config to a checkpoint: no key that a Mamba does not have is added."""
    family = tiny["families"]["tiny"]
    family["config"] = {"model_type": "mamba", "state_size": 4}
    for settings in family["models"].values():
        settings["config"] = {"hidden_size": 16, "num_hidden_layers": 4}
    tiny["methods"] = {"depth": {"prune": "depth", "rates": [0.15], "tolerance": 0.2}}
    study = Study(tiny, "tiny.yaml", tmp_path)
    name, model = next(iter(study.models.items()))
    assert Costs(Stages(study)).train_memory(name) > 0
    config = dict(model.config)
    assert "max_position_embeddings" not in config
    assert config["vocab_size"] == family["tokenizer"]["vocabulary"]
    spec = {"key": "k", "sequence_length": 16, "seed": 0, "config": {**config, "vocab_size": 64}}
    spec["train"] = {**train, "tokens": 8 * BATCH}
    pretrain.pretrain(spec, corpus, tmp_path / "base")
    found = manifest.verify_files(tmp_path / "base" / "manifest.json")["results"]
    assert found["step"] == 8 and np.isfinite(found["last_losses"]).all()


def test_the_states_rates_and_the_skip_do_not_decay(corpus, train):
    """AdamW's decay written out: what it takes off a weight is lr x decay x the weight."""
    plain, decayed = (made(corpus, train, weight_decay=decay) for decay in (0.0, 0.5))
    before = {name: weight.detach().clone() for name, weight in plain.weights.items()}
    for one in (plain, decayed):
        one.advance(1, lambda _: 1e-2, lambda _: None)
    for name, weight in plain.weights.items():
        exempt = weight.ndim < 2 or name.endswith(("mixer.A_log", "mixer.D"))
        gone = 0.0 if exempt else 1e-2 * 0.5
        expected = weight.detach() - gone * before[name]
        torch.testing.assert_close(decayed.weights[name].detach(), expected, rtol=0, atol=1e-6)
    assert before["backbone.layers.0.mixer.A_log"].abs().max() > 1  # which a decay would move


def test_the_last_layers_are_blocks(corpus, train):
    """Not mixers: a block's norm goes with it."""
    moved = set(made(corpus, train, layers={"last": 2, "head": False}).weights)
    assert {name.split(".")[2] for name in moved} == {"1", "2"}
    assert {f"backbone.layers.{i}.norm.weight" for i in (1, 2)} <= moved
    assert len(moved) == 2 * 10


@pytest.mark.parametrize("options", [("--shard",), ()], ids=["fsdp2", "ddp"])
def test_two_processes_train_as_one(tmp_path, corpus, mamba, spec, options):
    script = Path(run.__file__).parents[2] / "posttrain.py"
    words = [sys.executable, script, "--spec", json.dumps(spec([8])), "--pruned", mamba]
    words += ["--corpus", corpus, "--out", tmp_path / "two", "--processes", 2, *options]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run.posttrain(spec([8]), mamba, corpus, tmp_path / "one")
    one, two = (
        manifest.verify_files(tmp_path / name / "D1024" / "manifest.json")["results"]
        for name in ("one", "two")
    )
    np.testing.assert_allclose(two["last_losses"], one["last_losses"], rtol=1e-6)
