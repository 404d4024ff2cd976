"""A run's promises: resumed bit for bit, branches that are straight runs, only new tokens."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from p2law.checkpoints import io
from p2law.corpus.packed import Packed, order
from p2law.errors import UserError
from p2law.results import manifest
from p2law.training import loop, run, state
from p2law.training.progress import Progress
from p2law.training.stop import Stopped

SCRIPTS = Path(run.__file__).parents[2]
BATCH = 128  # tokens of a step in these tests


def weights(out: Path, steps: int) -> bytes:
    return (out / f"D{steps * BATCH}" / "model.safetensors").read_bytes()


def results(out: Path, steps: int) -> dict:
    return manifest.read_manifest(out / f"D{steps * BATCH}" / "manifest.json")["results"]


def interrupt(monkeypatch, after: int) -> None:
    """Send this process a real SIGTERM while its step number ``after`` (of all legs) ends."""
    record = Progress.record

    def interrupted(self, **values):
        if self.done + 1 == after:
            os.kill(os.getpid(), signal.SIGTERM)
        return record(self, **values)

    monkeypatch.setattr(Progress, "record", interrupted)


def test_the_loop_is_the_plain_training_loop(tmp_path, corpus, pruned, spec):
    """Against unfused AdamW, torch's cross entropy and the schedule written out by hand."""
    run.posttrain(spec([12]), pruned, corpus, tmp_path)
    model, packed = io.load(pruned.parent).train(), Packed(corpus.parent)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim == 2]},
            {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.95),
        weight_decay=0.1,
    )
    visited = order(packed.rows("train"), 5)
    for step in range(12):
        rows = torch.from_numpy(packed.read("train", visited[step * 8 : step * 8 + 8]))
        logits = model(input_ids=rows[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        # Warm-up over 2 steps, decay over the last 3 of 12, each at the middle of its step.
        shape = [0.25, 0.75] + 7 * [1.0] + [1 - ((k + 0.5) / 3) ** 0.5 for k in range(3)]
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * shape[step]
        optimizer.step()
        optimizer.zero_grad()
    trained = io.load(tmp_path / f"D{12 * BATCH}")
    for name, weight in model.state_dict().items():
        # fp32 rounding through 12 steps of Adam, whose first steps divide small by small.
        torch.testing.assert_close(trained.state_dict()[name], weight, rtol=0, atol=2e-5)


@pytest.mark.parametrize("schedule", ["wsd", "cosine", "trajectory"])
@pytest.mark.parametrize("after", [1, 7, 13, 22])
def test_interrupted_run_ends_as_the_undisturbed_one(
    tmp_path, corpus, sparse, spec, monkeypatch, schedule, after
):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run.posttrain(spec([8, 16], schedule), sparse, corpus, whole)
    if after > 16 and schedule != "cosine":
        after = 15
    with monkeypatch.context() as patch:
        interrupt(patch, after)
        with pytest.raises(Stopped, match="SIGTERM"):
            run.posttrain(spec([8, 16], schedule), sparse, corpus, cut)
    done = sum(results(cut, n)["step"] for n in (8, 16) if (cut / f"D{n * BATCH}").exists())
    assert done <= after  # what is saved is the step that was being made, not a later one
    run.posttrain(spec([8, 16], schedule), sparse, corpus, cut)
    for steps in (8, 16):
        assert weights(cut, steps) == weights(whole, steps)
        assert results(cut, steps)["last_losses"] == results(whole, steps)["last_losses"]


def test_stops_within_one_step(tmp_path, corpus, pruned, spec, monkeypatch):
    interrupt(monkeypatch, 4)
    with pytest.raises(Stopped):
        run.posttrain(spec([16]), pruned, corpus, tmp_path)
    assert state.steps(tmp_path / "state" / "trunk" / "trunk") == [4]


def test_resumes_in_another_process(tmp_path, corpus, pruned, spec):
    """The script: SIGTERM once it trains, code 75, started again, bytes of the undisturbed run."""
    asked = spec([3000 // 8], key="k")
    asked["train"]["batch_tokens"] = BATCH
    big = {**asked, "budgets": {str(120 * BATCH): "point"}}
    command = [sys.executable, str(SCRIPTS / "posttrain.py"), "--spec", json.dumps(big)]
    command += ["--pruned", str(pruned), "--corpus", str(corpus), "--out"]
    run.posttrain(big, pruned, corpus, tmp_path / "whole")
    first = subprocess.Popen([*command, str(tmp_path / "cut")], stderr=subprocess.PIPE, text=True)
    while first.poll() is None and not (tmp_path / "cut" / "state" / "k" / "lease.json").exists():
        time.sleep(0.01)
    first.send_signal(signal.SIGTERM)
    _, message = first.communicate(timeout=300)
    assert first.returncode == 75, message
    assert "SIGTERM" in message
    subprocess.run([*command, str(tmp_path / "cut")], check=True, capture_output=True)
    assert weights(tmp_path / "cut", 120) == weights(tmp_path / "whole", 120)
    assert (
        results(tmp_path / "cut", 120)["last_losses"]
        == results(tmp_path / "whole", 120)["last_losses"]
    )
    # The fork's state holds the moments beside the weights.
    fork = Path("state") / "k" / "forks" / "step-000000090" / state.TENSORS
    assert (tmp_path / "cut" / fork).read_bytes() == (tmp_path / "whole" / fork).read_bytes()


def test_a_branch_is_a_straight_run_of_its_length(tmp_path, corpus, pruned, spec):
    run.posttrain(spec([8, 16, 32]), pruned, corpus, tmp_path / "all")
    for steps in (8, 16, 32):
        run.posttrain(spec([steps]), pruned, corpus, tmp_path / str(steps))
        assert weights(tmp_path / "all", steps) == weights(tmp_path / str(steps), steps)


def test_an_added_budget_trains_only_what_is_new(tmp_path, corpus, pruned, spec):
    run.posttrain(spec([8, 32]), pruned, corpus, tmp_path / "grown")
    run.posttrain(spec([8, 16, 32, 40]), pruned, corpus, tmp_path / "grown")
    run.posttrain(spec([8, 16, 32, 40]), pruned, corpus, tmp_path / "whole")
    for steps in (8, 16, 32, 40):
        assert weights(tmp_path / "grown", steps) == weights(tmp_path / "whole", steps)
    middle, last = results(tmp_path / "grown", 16), results(tmp_path / "grown", 40)
    # The trunk left snapshots at steps 6 and 24, where 8 and 32 branch; 16 branches at 12.
    assert (middle["trunk_tokens"], middle["branch_tokens"]) == (6 * BATCH, 4 * BATCH)
    assert (last["trunk_tokens"], last["branch_tokens"]) == (6 * BATCH, 10 * BATCH)


def test_a_deleted_manifest_is_restored_without_training(
    tmp_path, corpus, pruned, spec, monkeypatch
):
    run.posttrain(spec([8, 16]), pruned, corpus, tmp_path)
    path = tmp_path / f"D{8 * BATCH}" / "manifest.json"
    before = path.read_bytes()
    path.unlink()
    monkeypatch.setattr(loop.Loop, "advance", None)
    run.posttrain(spec([8, 16]), pruned, corpus, tmp_path)
    assert path.read_bytes() == before


def test_a_damaged_point_is_trained_again(tmp_path, corpus, pruned, spec):
    run.posttrain(spec([8, 16]), pruned, corpus, tmp_path)
    file = tmp_path / f"D{8 * BATCH}" / "model.safetensors"
    before = file.read_bytes()
    file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    run.posttrain(spec([8, 16]), pruned, corpus, tmp_path)
    assert file.read_bytes() == before
    assert results(tmp_path, 8)["trunk_tokens"] == 0  # its fork was there


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_micro_batches_do_not_change_the_result(tmp_path, corpus, pruned, spec, rows):
    run.posttrain(spec([8]), pruned, corpus, tmp_path / "one")
    run.posttrain(spec([8], micro_rows=rows), pruned, corpus, tmp_path / "many")
    losses = [results(tmp_path / which, 8)["last_losses"] for which in ("one", "many")]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        pytest.param(
            {"compile": True},
            marks=pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler"),
        ),
        {"recompute": True},
    ],
    ids=str,
)
def test_how_layers_are_computed_does_not_change_the_result(tmp_path, corpus, sparse, spec, how):
    run.posttrain(spec([8]), sparse, corpus, tmp_path / "plain")
    run.posttrain(spec([8]), sparse, corpus, tmp_path / "other", means=loop.Means(**how))
    losses = [results(tmp_path / which, 8)["last_losses"] for which in ("plain", "other")]
    # fp32 sums in another order, through Adam.
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)


def test_masks_hold(tmp_path, corpus, sparse, spec):
    run.posttrain(spec([8, 16]), sparse, corpus, tmp_path)
    masks = io.load_masks(sparse.parent)
    tensors, _ = state.read(
        tmp_path / "state" / "trunk" / "forks",
        12,
        identity=run.identity(spec([8]), sparse, corpus),
    )
    for steps in (8, 16):
        folder = tmp_path / f"D{steps * BATCH}"
        assert io.load_masks(folder).keys() == masks.keys()
        model = io.load(folder).state_dict()
        for name, kept in masks.items():
            assert torch.all(model[name][kept == 0] == 0)
            assert torch.all(model[name][kept == 1] != 0)
    for name, kept in masks.items():
        for what in ("weight", "exp_avg", "exp_avg_sq"):
            assert torch.all(tensors[f"{what}/{name}"][kept == 0] == 0)


def test_a_loss_that_is_not_finite_stops_before_the_update(
    tmp_path, corpus, pruned, spec, monkeypatch
):
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        with pytest.raises(Stopped):
            run.posttrain(spec([16]), pruned, corpus, tmp_path)
    forward = loop.Objective.forward
    calls = []

    def poisoned(self, rows):
        calls.append(0)
        return forward(self, rows) * (float("nan") if len(calls) == 3 else 1.0)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Objective, "forward", poisoned)
        with pytest.raises(loop.DivergedError, match="step 5: loss nan"):
            run.posttrain(spec([16]), pruned, corpus, tmp_path)
    assert state.steps(tmp_path / "state" / "trunk" / "trunk") == [3]
    run.posttrain(spec([16]), pruned, corpus, tmp_path)
    run.posttrain(spec([16]), pruned, corpus, tmp_path / "whole")
    assert weights(tmp_path, 16) == weights(tmp_path / "whole", 16)


def test_a_corpus_too_small_for_the_budget_is_refused(tmp_path, corpus, pruned, spec):
    with pytest.raises(UserError, match="no token may repeat"):
        run.posttrain(spec([8, 200]), pruned, corpus, tmp_path)


def test_budgets_are_whole_batches_beyond_the_warmup(tmp_path, corpus, pruned, spec):
    uneven = spec([8])
    uneven["budgets"] = {"1000": "point"}
    with pytest.raises(UserError, match="multiples of train.batch_tokens"):
        run.posttrain(uneven, pruned, corpus, tmp_path)
    with pytest.raises(UserError, match="warm-up takes 2"):
        run.posttrain(spec([2]), pruned, corpus, tmp_path)
    with pytest.raises(UserError, match="train.learning_rat: no such setting"):
        run.posttrain(spec([8], learning_rat=1.0), pruned, corpus, tmp_path)


def test_a_changed_start_is_refused(tmp_path, corpus, pruned, sparse, spec, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        with pytest.raises(Stopped):
            run.posttrain(spec([16]), pruned, corpus, tmp_path)
    with pytest.raises(UserError, match="its start is"):
        run.posttrain(spec([16]), sparse, corpus, tmp_path)
    monkeypatch.setattr(run.torch, "__version__", "2.99.0")
    with pytest.raises(UserError, match=r"its torch is '2.*, this run's is '2.99.0'"):
        run.posttrain(spec([16]), pruned, corpus, tmp_path)
    shutil.rmtree(tmp_path / "state")
