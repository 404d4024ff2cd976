"""Which GPUs a local job takes: never another's, all of its own, and the cluster's inside Slurm."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "workflow" / "scripts" / "with_gpus.py"
SHOW = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))"
HOLD = f"{SHOW}; import sys; sys.stdout.flush(); sys.stdin.read()"
"""Says what it sees and holds it until its standard input is closed."""


@pytest.fixture
def start(tmp_path):
    """Callable: a command under the script, with GPUs of our own invention."""

    def start(number: int, code: str, **environment: str) -> subprocess.Popen:
        given = {k: v for k, v in os.environ.items() if k not in ("SLURM_JOB_ID",)}
        given |= {"TMPDIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": "0,1,2,3"} | environment
        command = [sys.executable, str(SCRIPT), str(number), sys.executable, "-c", code]
        return subprocess.Popen(
            command, env=given, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip

    return start


def seen(process: subprocess.Popen) -> set[str]:
    return set(process.stdout.readline().strip().split(","))


def test_jobs_share_no_gpu_and_the_next_waits_for_one_to_end(start):
    first, second = start(2, HOLD), start(2, HOLD)
    one, other = seen(first), seen(second)
    assert len(one) == len(other) == 2 and one | other == {"0", "1", "2", "3"}
    third = start(1, SHOW)
    time.sleep(1.5)
    assert third.poll() is None
    first.stdin.close()
    assert seen(third) <= one
    second.stdin.close()
    assert [p.wait(20) for p in (first, second, third)] == [0, 0, 0]


def test_a_killed_job_gives_its_gpus_back(start):
    first = start(4, HOLD)
    assert seen(first) == {"0", "1", "2", "3"}
    first.kill()
    first.wait()
    second = start(4, SHOW)
    assert seen(second) == {"0", "1", "2", "3"}


def test_more_than_there_are_is_refused(start):
    process = start(5, SHOW)
    _, told = process.communicate()
    assert process.returncode == 2
    assert "asks for 5 GPUs" in told and "0,1,2,3" in told


def test_inside_slurm_the_cluster_has_chosen(start):
    process = start(2, SHOW, SLURM_JOB_ID="7", CUDA_VISIBLE_DEVICES="6,7,8")
    assert seen(process) == {"6", "7", "8"}


def test_the_exit_code_is_the_commands(start):
    process = start(1, "raise SystemExit(75)")
    assert process.wait(20) == 75


def test_paths_and_arguments_with_spaces_stay_whole(tmp_path):
    """The script in a checkout with a space in its path, a command and an argument with spaces."""
    folder, command = tmp_path / "sp ace", tmp_path / "a command"
    folder.symlink_to(SCRIPT.parent)
    command.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    command.chmod(0o755)
    words = [sys.executable, str(folder / SCRIPT.name), "1", str(command), "a b", "*", ""]
    env = os.environ | {"TMPDIR": str(folder.parent), "CUDA_VISIBLE_DEVICES": "0"}
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "a b|*||"), done.stderr
