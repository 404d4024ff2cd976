"""Faults of a run: the named error, and the last good state goes on to the undisturbed bytes."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from p2law import canonical
from p2law.checkpoints import io
from p2law.errors import UserError
from p2law.results import manifest
from p2law.training import lease, loop, run, state
from p2law.training.progress import Progress
from p2law.training.stop import Stopped

SCRIPT = Path(run.__file__).parents[2] / "posttrain.py"
BATCH = 128


def weights(out: Path, steps: int) -> bytes:
    return (out / f"D{steps * BATCH}" / "model.safetensors").read_bytes()


@pytest.fixture
def stopped(tmp_path, corpus, pruned, spec, monkeypatch) -> Path:
    """A run of 16 steps that was stopped after 3; its folder."""
    record = Progress.record

    def interrupted(self, **values):
        if self.done + 1 == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return record(self, **values)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "record", interrupted)
        with pytest.raises(Stopped):
            run.posttrain(spec([16]), pruned, corpus, tmp_path / "cut")
    return tmp_path / "cut"


@pytest.fixture
def goes_on(tmp_path, corpus, pruned, spec, stopped):
    """Resume the stopped run and compare it with an undisturbed one."""

    def check() -> None:
        assert state.steps(stopped / "state" / "trunk" / "trunk")[-1] >= 3
        run.posttrain(spec([16]), pruned, corpus, stopped)
        run.posttrain(spec([16]), pruned, corpus, tmp_path / "whole")
        assert weights(stopped, 16) == weights(tmp_path / "whole", 16)

    return check


def test_an_exploding_gradient_stops_before_the_update(
    corpus, pruned, spec, stopped, goes_on, monkeypatch
):
    """The loss is finite, its gradient is not: fp32 ends at 3.4e38."""
    forward = loop.Objective.forward

    def exploding(self, rows):
        loss = forward(self, rows)
        return loss + 1e38 * (loss - loss.detach())

    with monkeypatch.context() as patch:
        patch.setattr(loop.Objective, "forward", exploding)
        with pytest.raises(
            loop.DivergedError, match=r"step 3: loss [0-9.]+, gradient norm (inf|nan)"
        ):
            run.posttrain(spec([16]), pruned, corpus, stopped)
    goes_on()


def test_a_signal_during_a_save_waits_for_it(corpus, pruned, spec, stopped, goes_on, monkeypatch):
    """SIGTERM between the files of a state: the state is whole, the run stops, and goes on."""
    write, sync = state.write, state._sync
    sent = []

    def interrupted(path):
        if not sent:
            sent.append(path)
            os.kill(os.getpid(), signal.SIGTERM)
        sync(path)

    with monkeypatch.context() as patch:
        patch.setattr("p2law.training.saver.SAVE_EVERY", 0.0)
        patch.setattr(state, "_sync", interrupted)
        with pytest.raises(Stopped, match="SIGTERM"):
            run.posttrain(spec([16]), pruned, corpus, stopped)
    assert state.write is write
    # Saved after step 4, when the signal came, and once more where the run stopped: step 5.
    assert state.steps(stopped / "state" / "trunk" / "trunk") == [4, 5]
    goes_on()


def test_a_full_disk_names_the_state_and_keeps_the_last(corpus, pruned, spec, stopped, goes_on):
    """A file size limit stands for the disk: the system refuses the write as it does when full."""
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            run.posttrain(spec([16]), pruned, corpus, stopped)
        except UserError as error:
            os._exit(3 if "could not be saved" in str(error) else 4)
        finally:
            os._exit(5)
    _, status = os.waitpid(child, 0)
    assert os.WEXITSTATUS(status) == 3
    assert not list(stopped.glob("state/trunk/*/.*"))
    goes_on()


def test_a_second_writer_is_refused_and_harms_nothing(corpus, pruned, spec, stopped, goes_on):
    refused = pytest.raises(UserError, match=f"process {os.getpid()} on .* is training this run")
    with lease.Lease(stopped / "state" / "trunk" / "lease.json"), refused:
        run.posttrain(spec([16]), pruned, corpus, stopped)
    goes_on()


@pytest.mark.parametrize("part", ["spec", "corpus", "torch"])
def test_a_state_of_another_run_is_refused(
    tmp_path, corpus, pruned, spec, stopped, goes_on, monkeypatch, part
):
    asked = spec([16])
    folder = stopped / "state" / "trunk"
    if part == "spec":  # as if two specs' keys shared their first letters
        asked["key"] = "trunk-of-another-spec"
        folder.rename(stopped / "state" / asked["key"][:16])
    if part == "corpus":
        changed = manifest.read_manifest(corpus)
        changed["files"]["train.bin"]["sha256"] = "0" * 64
        other = tmp_path / "other"
        other.mkdir()
        for file in corpus.parent.iterdir():
            (other / file.name).symlink_to(file)
        (other / manifest.NAME).unlink()
        corpus = other / manifest.NAME
        canonical.write_json(corpus, changed)
    with monkeypatch.context() as patch:
        if part == "torch":
            patch.setattr(run.torch, "__version__", "2.99.0")
        named = {"spec": "key", "corpus": "corpus", "torch": "torch"}[part]
        with pytest.raises(UserError, match=f"its {named} is .*; a state resumes only its own run"):
            run.posttrain(asked, pruned, corpus, stopped)
    if part == "spec":
        (stopped / "state" / asked["key"][:16]).rename(folder)
    goes_on()


def test_another_tokenizers_vocabulary_is_refused(tmp_path, config, corpus, spec):
    files = io.save(io.fresh({**config, "vocab_size": 60}, seed=0), tmp_path / "small")
    small = manifest.write_manifest(
        tmp_path / "small", stage="prune", spec={"key": "s"}, inputs={}, files=files,
        results={}, started=0.0,
    )  # fmt: skip
    with pytest.raises(UserError, match="config.json: vocab_size 60; the corpus has 64 tokens"):
        run.posttrain(spec([8]), small, corpus, tmp_path / "out")
    assert not list((tmp_path / "out").glob("D*"))


def test_the_script_says_it_in_one_line_and_fails(tmp_path, corpus, pruned, spec):
    asked = spec([8, 200])  # more tokens than the corpus has
    command = [sys.executable, SCRIPT, "--spec", json.dumps(asked), "--pruned", pruned]
    command += ["--corpus", corpus, "--out", tmp_path / "out"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: tokens: 25600 asked, the corpus has")


def test_a_teacher_comes_with_distillation_and_only_then(tmp_path, corpus, pruned, spec):
    with pytest.raises(UserError, match="needs the unpruned model"):
        run.posttrain(spec([8], distil={"weight": 0.5}), pruned, corpus, tmp_path)
    with pytest.raises(UserError, match="training on the text takes none"):
        run.posttrain(spec([8]), pruned, corpus, tmp_path, teacher=pruned)
    with pytest.raises(UserError, match="train.distil.weight: 2.0"):
        run.posttrain(spec([8], distil={"weight": 2.0}), pruned, corpus, tmp_path, teacher=pruned)


def test_a_taught_run_of_the_last_layers(tmp_path, corpus, pruned, spec):
    """Both recipes in one run, resumed: frozen weights stay, the manifest names the teacher."""
    recipe = {"distil": {"weight": 0.5, "temperature": 2.0}, "layers": {"last": 1, "head": False}}
    asked = spec([8, 16], **recipe)
    run.posttrain(spec([8], **recipe), pruned, corpus, tmp_path / "grown", teacher=pruned)
    run.posttrain(asked, pruned, corpus, tmp_path / "grown", teacher=pruned)
    run.posttrain(asked, pruned, corpus, tmp_path / "whole", teacher=pruned)
    assert weights(tmp_path / "grown", 16) == weights(tmp_path / "whole", 16)
    before, after = (io.load(f).state_dict() for f in (pruned.parent, tmp_path / "grown/D2048"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("model.layers.1.") for name in moved)
    found = manifest.read_manifest(tmp_path / "grown" / "D2048" / "manifest.json")
    assert set(found["inputs"]) == {"pruned", "corpus", "teacher"}
