"""The oldest Snakemake that the Snakefile accepts does what the lock's does."""

import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEAST = re.search(r'min_version\("([\d.]+)"\)', (ROOT / "Snakefile").read_text())[1]


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def test_the_lock_holds_no_older_snakemake_than_the_snakefile_accepts():
    locked = re.search(r"^snakemake==([\d.]+)", (ROOT / "envs/cpu.lock").read_text(), re.M)[1]
    assert numbers(LEAST) <= numbers(locked)
    assert metadata.version("snakemake") == locked


@pytest.mark.slow
def test_the_oldest_snakemake_reruns_the_same(finished, tmp_path):
    """Installed beside the environment's, before it on the path."""
    wanted = f"snakemake=={LEAST}{'.0' if LEAST.count('.') == 1 else ''}"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*pip, tmp_path / "older", wanted], check=True)
    older = {"PYTHONPATH": str(tmp_path / "older")}
    told = finished.snakemake("--version", **older).stdout
    assert told.strip().startswith(LEAST)

    def planned() -> dict[str, set[str]]:
        done = finished.snakemake("-n", **older)
        assert done.returncode == 0, done.stdout[-3000:]
        jobs: dict[str, set[str]] = {}
        for stage, what in re.findall(r"^Job \d+: (\w+): (.*)$", done.stdout, re.M):
            jobs.setdefault(stage, set()).add(what)
        return jobs

    assert planned() == {}
    shutil.rmtree(finished.folder / ".snakemake")
    assert planned() == {}
    (finished.results / "pruned/tiny-24/sparse24/0.5/model.safetensors").unlink()
    finished.study("rates: [0.15, 0.3]", "rates: [0.15, 0.3, 0.48]")
    assert planned() == finished.planned()
    done = finished.snakemake("--rerun-incomplete", **older)
    assert done.returncode == 0, done.stdout[-3000:]
    assert planned() == {} == finished.planned()
