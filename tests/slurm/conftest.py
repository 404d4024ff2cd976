"""The local Slurm that all tests marked `slurm` share, and how they run snakemake on it."""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PARTS = ("Snakefile", "config.yaml", "workflow", "studies", "envs")
FAULTS = "tests/slurm/faults.yaml"
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
def checkout():
    """Copy the working tree without results into a folder."""

    def copy(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                ignore = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, folder / part, ignore=ignore)
            else:
                shutil.copy(source, folder / part)
        (folder / FAULTS).parent.mkdir(parents=True)
        shutil.copy(ROOT / FAULTS, folder / FAULTS)
        return folder

    return copy


@pytest.fixture(scope="session")
def sha256():
    """The sha256 of a file."""
    return lambda path: hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def environment(slurm) -> dict[str, str]:
    """Of a snakemake that finds this environment's programs and the cluster's."""
    found = slurm.environment()
    return {**found, "PATH": f"{SNAKEMAKE.parent}:{found['PATH']}"}


@pytest.fixture(scope="session")
def run_snakemake(slurm, environment):
    """Call snakemake in a folder, through Slurm unless profile=None; returns all it prints."""

    def call(folder: Path, *words: object, profile: str | None = "", timeout: float = 900) -> str:
        words = [str(word) for word in words]
        if profile is not None:
            words = ["--profile", profile or str(slurm.folder / "profile.yaml"), *words]
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


@pytest.fixture(scope="session")
def undisturbed(run_snakemake, checkout, tmp_path_factory) -> Path:
    """The fault tests' study on this machine, left alone."""
    folder = checkout(tmp_path_factory.mktemp("undisturbed"))
    words = ("--cores", 2, "--configfile", FAULTS, "--", "tables")
    run_snakemake(folder, *words, profile=None)
    return folder
