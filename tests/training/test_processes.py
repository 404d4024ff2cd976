"""Several processes (gloo, on the CPU): same losses as one, resumed on another number."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from p2law.results import manifest
from p2law.training import parallel, run

SCRIPT = Path(run.__file__).parents[2] / "posttrain.py"
BATCH = 128


def command(spec, pruned, corpus, out, *options):
    parts = [sys.executable, SCRIPT, "--spec", json.dumps(spec), "--pruned", pruned]
    return [str(part) for part in [*parts, "--corpus", corpus, "--out", out, *options]]


def losses(out, steps):
    path = out / f"D{steps * BATCH}" / "manifest.json"
    return manifest.verify_files(path)["results"]["last_losses"]


@pytest.mark.parametrize("options", [(), ("--shard",)], ids=["ddp", "fsdp2"])
def test_two_processes_train_as_one(tmp_path, corpus, sparse, spec, options):
    asked = spec([8, 16])
    run.posttrain(asked, sparse, corpus, tmp_path / "one")
    two = command(asked, sparse, corpus, tmp_path / "two", "--processes", "2", *options)
    done = subprocess.run(two, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for steps in (8, 16):
        # fp32 sums in another order, through Adam.
        np.testing.assert_allclose(
            losses(tmp_path / "two", steps), losses(tmp_path / "one", steps), rtol=1e-6
        )


@pytest.mark.parametrize("first", [("--processes", "2", "--shard"), ("--processes", "1")])
def test_resumes_on_another_number_of_processes(tmp_path, corpus, sparse, spec, first):
    """The run of 8 steps leaves a fork; the budget of 16 goes on from it, however sharded."""
    second = ("--processes", "1") if "2" in first else ("--processes", "2", "--shard")
    for budgets, options in (([8], first), ([8, 16], second)):
        part = command(spec(budgets), sparse, corpus, tmp_path / "out", *options)
        done = subprocess.run(part, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    run.posttrain(spec([8, 16]), sparse, corpus, tmp_path / "one")
    np.testing.assert_allclose(
        losses(tmp_path / "out", 16), losses(tmp_path / "one", 16), rtol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("lost", [None, "writer", "other"])
def test_a_signal_or_a_lost_process_ends_all(tmp_path, corpus, pruned, spec, lost):
    """SIGTERM to the launcher: code 75. One process killed: the others end, the code says so."""
    out = tmp_path / "out"
    many = command(spec([120]), pruned, corpus, out, "--processes", "2")
    launcher = subprocess.Popen(many, stderr=subprocess.PIPE, text=True)
    held = out / "state" / "trunk" / "lease.json"
    while launcher.poll() is None and not held.exists():
        time.sleep(0.01)
    writer = json.loads(held.read_text())["pid"]
    if lost is None:
        launcher.send_signal(signal.SIGTERM)
    else:
        children = {child.pid for child in psutil.Process(launcher.pid).children()}
        os.kill(writer if lost == "writer" else (children - {writer}).pop(), signal.SIGKILL)
    _, message = launcher.communicate(timeout=300)
    assert launcher.returncode == (75 if lost is None else 137), message
    done = subprocess.run(many, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(losses(out, 120)) == 32


def test_only_the_writer_keeps_what_is_gathered(tmp_path, monkeypatch):
    """A group of one process, which takes either part; a tensor that is not split stays itself."""
    from torch.distributed.tensor import Shard, distribute_tensor

    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1
    )
    try:
        mesh = torch.distributed.init_device_mesh("cpu", (1,))
        whole, alone = torch.arange(6.0), torch.ones(2)
        given = {"split": distribute_tensor(whole, mesh, [Shard(0)]), "alone": alone}
        monkeypatch.setenv("RANK", "0")
        found = parallel.collected(given)
        assert found["alone"] is alone and type(found["split"]) is torch.Tensor
        assert torch.equal(found["split"], whole)
        monkeypatch.setenv("RANK", "1")
        assert parallel.collected(given).keys() == {"alone"}
    finally:
        torch.distributed.destroy_process_group()
