"""What the paper's study would hand to sbatch, rule by rule; no cluster is needed."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = Path(__file__).with_name("options.py")
GOLDEN = Path(__file__).with_name("paper_options.txt")
LOCAL = {"all", "corpus", "fetch", "tables", "law", "figures", "summary", "report"}


def options(study: str | Path, *words: str) -> list[str]:
    """One line a job; in a process of its own, since Snakemake sets up global state."""
    done = subprocess.run(
        [sys.executable, OPTIONS, str(study), *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout, done.stderr[-3000:]
    return done.stdout.splitlines()


def of(lines: list[str], job: str) -> str:
    (line,) = [line for line in lines if line.startswith(f"{job}: ")]
    return line.removeprefix(f"{job}: ")


@pytest.fixture(scope="module")
def paper() -> list[str]:
    return options("studies/paper.yaml")


def test_every_job_of_the_paper_study_asks_for_what_was_agreed(paper):
    # Changed on purpose? options.py tells how to write the file again; then read its diff.
    assert paper == GOLDEN.read_text().splitlines()


def test_only_stages_that_load_models_are_submitted_and_only_those_get_gpus(paper):
    for line in paper:
        rule = line.split()[0].rstrip(":")
        assert line.endswith(": local") == (rule in LOCAL)
        assert ("--gpus" in line) == (rule not in LOCAL)


def test_a_job_larger_than_a_node_takes_whole_nodes_and_one_task_on_each():
    lines = options("studies/paper.yaml", "--set-resources", "posttrain:gpu=16")
    job = of(lines, "posttrain llama-3.1-8B depth-0.15")
    assert "--nodes 2" in job and "--ntasks 2" in job and "--gpus 16" in job
    assert "--cpus-per-task 64" in job  # of each node's task: 8 a GPU
    assert "--ntasks-per-gpu" not in job
    assert "--nodes 1" in of(lines, "prune llama-3.1-8B depth")


def test_a_study_overrides_the_formulas_by_rule(tmp_path):
    study = yaml.safe_load((ROOT / "studies/paper.yaml").read_text())
    study["hardware"]["jobs"] = {
        "posttrain": {"gpu": 8, "mem_mb": 500_000, "runtime": 300, "threads": 16}
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(study))
    # The command line's set-resources take the place of all the profile's.
    words = ("posttrain:runtime=77", "posttrain:slurm_partition=gpu")
    lines = options(tmp_path / "mine.yaml", "--set-resources", *words)
    assert of(lines, "posttrain qwen2.5-3B width-0.25") == (
        "-A acc -p gpu -t 77 --mem 500000 --nodes 1 --requeue --cpus-per-task 16 --gpus 8"
    )


def test_a_study_on_cpus_asks_for_no_gpu():
    lines = options("studies/cpu.yaml")
    assert not [line for line in lines if "gpu " in line and "--gpus" in line]
    assert {line.split()[0] for line in lines if not line.endswith("local")} == {
        "corpus", "base", "prune", "posttrain", "evaluate"
    }  # fmt: skip
