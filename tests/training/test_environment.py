"""What a shell leaves in the environment changes no number and starts no wait for processes."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from p2law.commands import environment
from p2law.errors import UserError
from p2law.training import run

SCRIPT = Path(run.__file__).parents[2] / "posttrain.py"
LEFT = {"WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "2", "MASTER_ADDR": "localhost"}
LEFT |= {"MASTER_PORT": "29511"}
FOREIGN = {
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_DYNAMO_BACKEND": "eager",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_TORCH_DEVICE": "meta",
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "true",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "TRANSFORMERS_SDPA_FORCE_GQA": "1",
}


def command(spec, pruned, corpus, out, *options):
    parts = [sys.executable, SCRIPT, "--spec", json.dumps(spec), "--pruned", pruned]
    return [str(part) for part in [*parts, "--corpus", corpus, "--out", out, *options]]


@pytest.mark.parametrize("left", [FOREIGN, LEFT, LEFT | {"OMPI_COMM_WORLD_SIZE": "4"}])
def test_a_training_ends_as_without_them(tmp_path, corpus, sparse, spec, left):
    run.posttrain(spec([8]), sparse, corpus, tmp_path / "plain")
    done = subprocess.run(
        command(spec([8]), sparse, corpus, tmp_path / "left"),
        env=os.environ | left, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == (
        f"not obeyed, since the options decide: {', '.join(sorted(left))}"
    )
    assert done.stdout.startswith("computes on cpu in fp32; processes: 1, threads: 1")
    for name in ("model.safetensors", "config.json"):
        plain, found = (tmp_path / where / "D1024" / name for where in ("plain", "left"))
        assert found.read_bytes() == plain.read_bytes()


def test_several_processes_of_ours_take_no_ranks_but_ours(tmp_path, corpus, pruned, spec):
    many = command(spec([8]), pruned, corpus, tmp_path / "out", "--processes", "2")
    done = subprocess.run(many, env=os.environ | LEFT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "computes on cpu:0 in fp32; processes: 2" in done.stdout


def test_torchrun_may_start_the_script(tmp_path, corpus, pruned, spec):
    parts = command(spec([8]), pruned, corpus, tmp_path / "out")[1:]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *parts]
    done = subprocess.run(torchrun, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "processes: 2" in done.stdout
    assert (tmp_path / "out" / "D1024" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("left", "words"),
    [
        ({environment.LAUNCHER: "1"}, "P2LAW_LAUNCHER=1: that process did not start this one"),
        (
            {"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_USE_AGENT_STORE": "True"},
            "MASTER_ADDR and MASTER_PORT name localhost:29511, where no torchrun listens",
        ),
    ],
)
def test_a_launchers_own_mark_that_was_left_is_refused(tmp_path, corpus, pruned, spec, left, words):
    alone = command(spec([8]), pruned, corpus, tmp_path / "out")
    done = subprocess.run(
        alone, env=os.environ | LEFT | left, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_ends_a_wait_for_processes_that_never_come(tmp_path, corpus, pruned, spec, number):
    """One of two nodes, by srun's variables; the other is never started."""
    srun = {"SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_ID": "9137"}
    srun |= {"SLURM_LAUNCH_NODE_IPADDR": "127.0.0.1", "SLURM_NODEID": "0"}
    one = command(spec([8]), pruned, corpus, tmp_path / "out")
    waiting = subprocess.Popen(one, env=os.environ | srun, text=True, stdout=subprocess.PIPE)
    assert waiting.stdout.readline() == "meeting 2 processes at 127.0.0.1:29137\n"
    time.sleep(3)  # into torch's own wait
    waiting.send_signal(number)
    assert waiting.wait(timeout=30) == 75
    assert not (tmp_path / "out").exists()


def test_every_variable_that_accelerate_reads_is_known():
    """From the installed version's source: what a new version reads must be decided here too."""
    root = Path(importlib.util.find_spec("accelerate").origin).parent
    reads = r"(?:environ(?:\.get|\.pop)?[(\[]|getenv\(|_from_env\()\s*f?[\"']([A-Z][A-Z0-9_]+)"
    found = set()
    for path in root.rglob("*.py"):
        if not {"commands", "test_utils"} & set(path.relative_to(root).parts):
            found |= set(re.findall(reads, path.read_text()))
    ours = environment.PRECISION + environment.RANKS + environment.MPI
    others = {name for name in found if not name.startswith(ours)}
    # Trackers and their accounts; a CPU count; hardware that no lock of ours installs.
    assert others <= {
        *("AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SECRET_ACCESS_KEY"),
        *("CLEARML_PROJECT", "CLEARML_TASK", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_NESTED_RUN"),
        *("MLFLOW_RUN_ID", "MLFLOW_TAGS", "FOO", "NPROC", "DEEPSPEED_USE_HPU", "PJRT_DEVICE"),
        *("PT_HPU_LAZY_MODE", "PYTORCH_ENABLE_MPS_FALLBACK", "TPU_NAME", "USE_TORCH_XLA"),
    }
    assert len(found) > 40


def test_what_is_ours_stays(monkeypatch, capsys):
    for name in ("ACCELERATE_X", "RANK", "PMI_SIZE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv(environment.LAUNCHER, str(os.getppid()))
    assert environment.settle() == ["ACCELERATE_X"]
    assert os.environ["RANK"] == os.environ["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv(environment.LAUNCHER, "1")
    with pytest.raises(UserError, match="unset it"):
        environment.settle()
    monkeypatch.delenv(environment.LAUNCHER)
    assert sorted(environment.settle()) == ["PMI_SIZE", "RANK"]
    assert environment.settle() == []


def test_a_device_that_is_not_there_is_refused(tmp_path, corpus, pruned, spec):
    asked = command(spec([8]), pruned, corpus, tmp_path / "out", "--device", "cuda")
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(asked, env=hidden, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: --device cuda: torch") and "allowed here: cpu" in line
