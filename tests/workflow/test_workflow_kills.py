"""Random kills of the tiny study: one command more ends it, to the bytes of an undisturbed run."""

import hashlib
import os
import random
import signal
import subprocess
import time

import pytest


def kill(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def made_by(made) -> dict[str, str]:
    """Digests of all weights and tables."""
    paths = [*made.results.rglob("*.safetensors"), *made.results.glob("tables/*")]
    paths += made.results.glob("law/*.csv")
    kept = [p for p in paths if "state" not in p.parts and p.name != "manifest.json"]
    return {
        p.relative_to(made.results).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in kept
    }


def ends_whole(first, made, told: str) -> None:
    """After one command: everything is there, and the same."""
    assert made.planned() == {}, told
    assert made_by(made) == made_by(first), told
    assert (made.results / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(14))
def test_a_study_killed_at_any_moment_ends_with_one_command(first, clean, seed):
    draw = random.Random(seed)
    for _ in range(draw.randint(1, 3)):
        process = clean.start("--rerun-incomplete")
        time.sleep(draw.uniform(5, 60))
        kill(process)
        clean.run("--unlock")
    told = clean.run("--rerun-incomplete")
    ends_whole(first, clean, told)


def last_act(made, stage: str) -> bool:
    """Wait until a stage's first manifest is there; whether it came."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        if any((made.results / stage).rglob("manifest.json")):
            return True
        time.sleep(0.002)
    return False


@pytest.mark.parametrize("stage", ["corpus", "base"])
def test_killed_between_a_manifest_and_snakemakes_record_of_it(first, clean, stage):
    """The job has done its last act; Snakemake thinks its output incomplete, and must go on."""
    process = clean.start("--rerun-incomplete")
    assert last_act(clean, stage)
    kill(process)
    clean.run("--unlock")
    planned = clean.planned("--rerun-incomplete")
    assert {"posttrain", "tables", "law", "report"} <= planned.keys()
    assert "corpus" not in planned


def test_a_lost_base_behind_variants_that_stand_and_a_run_to_train(finished):
    """Both are made: the base again, the run; and nothing else that stands."""
    (finished.results / "base/tiny-16/model.safetensors").unlink()
    (finished.results / "posttrained/tiny-16/depth-0.3/D8192/manifest.json").unlink()
    planned = finished.planned()
    assert planned["base"] == {"train tiny-16"}
    assert planned["posttrain"] == {"tiny-16 depth-0.3"}
    assert "prune" not in planned
