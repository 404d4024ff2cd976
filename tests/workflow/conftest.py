"""One finished tiny study, made once by real Snakemake, and copies of it to change and ask."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "config.yaml", "workflow", "studies", "envs")
STUDY = "studies/tiny.yaml"


@dataclass
class Checkout:
    """A working copy of the repository in a temporary folder."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """This process's, with this Python's folder first on PATH: jobs call ``python``."""
        here = str(Path(sys.executable).parent)
        return os.environ | {"PATH": os.pathsep.join([here, os.environ["PATH"]])}

    def snakemake(
        self, *words: str, study: str = STUDY, cores: int = 2, **variables: str
    ) -> subprocess.CompletedProcess:
        """Run Snakemake here; the result's stdout holds both streams."""
        command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--configfile", study]
        return subprocess.run(
            [*command, *words],
            cwd=self.folder,
            env=self.environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def start(self, *words: str) -> subprocess.Popen:
        """Start Snakemake here in a process group of its own, to be killed."""
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", STUDY, *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def run(self, *words: str, **options) -> str:
        """Run Snakemake to success."""
        done = self.snakemake(*words, **options)
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def planned(self, *words: str, **options) -> dict[str, set[str]]:
        """What a dry run would do: stage -> what its jobs' messages say."""
        jobs: dict[str, set[str]] = {}
        for stage, what in re.findall(
            r"^Job \d+: (\w+): (.*)$", self.run("-n", *words, **options), re.M
        ):
            jobs.setdefault(stage, set()).add(what)
        return jobs

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text that must be there once."""
        file = self.folder / path
        text = file.read_text()
        assert text.count(old) == 1, f"{path} holds {text.count(old)} times {old!r}"
        file.write_text(text.replace(old, new))

    def study(self, old: str, new: str) -> None:
        self.edit(STUDY, old, new)

    @property
    def results(self) -> Path:
        return self.folder / "results" / "tiny"


def checkout(folder: Path) -> Checkout:
    """A copy of the repository's working tree without results."""
    folder.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / part)
    return Checkout(folder)


@pytest.fixture(scope="session")
def first(tmp_path_factory) -> Checkout:
    """The finished tiny study. Never change it: ask for ``finished``."""
    made = checkout(tmp_path_factory.mktemp("finished") / "p2law")
    made.run()
    return made


@pytest.fixture
def finished(first, tmp_path) -> Checkout:
    """A copy of the finished study with Snakemake's records, times kept."""
    shutil.copytree(first.folder, tmp_path / "p2law", symlinks=True)
    return Checkout(tmp_path / "p2law")


@pytest.fixture
def fresh(first, tmp_path) -> Checkout:
    """A fresh clone beside copied results: no Snakemake records, and times as a plain cp leaves."""
    made = checkout(tmp_path / "p2law")
    subprocess.run(["cp", "-r", first.folder / "results", made.folder], check=True)
    return made


@pytest.fixture
def clean(tmp_path) -> Checkout:
    """A clone in which nothing has run."""
    return checkout(tmp_path / "clean")
