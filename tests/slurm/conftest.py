"""The local Slurm that all tests marked `slurm` share, and how they run snakemake on it."""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SNAKEMAKE = Path(sys.executable).with_name("snakemake")


def load_cluster():
    spec = importlib.util.spec_from_file_location("p2law_slurm_cluster", HERE / "cluster.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def slurm():
    """A running Cluster; short path, since a socket's name has at most 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="p2law-slurm-"))
    cluster = load_cluster().Cluster(folder)
    cluster.start()
    yield cluster
    cluster.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def run_snakemake(slurm):
    """Call snakemake in a folder, through Slurm unless profile=None; returns all it prints."""

    def call(folder: Path, *words: object, profile: str | None = "", timeout: float = 900) -> str:
        words = [str(word) for word in words]
        if profile is not None:
            words = ["--profile", profile or str(slurm.folder / "profile.yaml"), *words]
        environment = slurm.environment()
        environment["PATH"] = f"{SNAKEMAKE.parent}:{environment['PATH']}"
        done = subprocess.run(
            [SNAKEMAKE, *words],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return call
