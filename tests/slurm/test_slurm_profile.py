"""slurm/profile.yaml: every value has a reason and a meaning, and jobs get what rules declare."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "slurm" / "profile.yaml"
TOY = Path(__file__).resolve().parent / "toy" / "Snakefile"
# Two starts of snakemake a job, on a busy machine.
MINUTES = 10 * 60


def test_every_value_has_its_reason():
    lines = PROFILE.read_text().splitlines()
    for number, line in enumerate(lines):
        # A key at the left margin: a comment on its line, right above, or right below.
        if re.match(r"[\w-]+:", line) and not line.startswith("executor:"):
            assert "#" in line + lines[number - 1] + lines[number + 1], line


def test_every_key_is_an_option_of_snakemake():
    from snakemake.cli import get_argument_parser

    options = get_argument_parser()._actions
    known = {word for option in options for word in option.option_strings}
    assert {f"--{key}" for key in yaml.safe_load(PROFILE.read_text())} <= known


def test_placeholders_are_loud():
    profile = yaml.safe_load(PROFILE.read_text())
    assert profile["default-resources"]["slurm_account"] == "SET-ACCOUNT"
    assert profile["default-resources"]["slurm_partition"] == "SET-CPU-PARTITION"
    for resources in profile["set-resources"].values():
        assert resources == {"slurm_partition": "SET-GPU-PARTITION"}


@pytest.fixture(scope="module")
def finished(run_snakemake, tmp_path_factory):
    """The toy study, run through Slurm once."""
    folder = tmp_path_factory.mktemp("toy")
    shutil.copy(TOY, folder)
    run_snakemake(folder, timeout=MINUTES)
    return folder


@pytest.mark.slurm
def test_jobs_get_what_their_rules_declare(slurm, finished):
    declared = {
        "base/*.json": ("gpu", "00:05:00", "500M", 2, 1),
        "posttrained/*.json": ("gpu", "00:05:00", "700M", 3, 4),
        "law.json": ("cpu", "00:05:00", "300M", 1, 0),
    }
    nodes = set()
    for pattern, (partition, limit, memory, cpus, gpus) in declared.items():
        for path in finished.glob(pattern):
            given = json.loads(path.read_text())
            record = slurm.job(given["job"])
            assert record["JobState"] == "COMPLETED"
            assert record["Partition"] == partition
            assert record["TimeLimit"] == limit
            assert record["MinMemoryNode"] == memory
            assert record["NumCPUs"] == str(cpus)
            assert record.get("TresPerJob") == (f"gres:gpu:{gpus}" if gpus else None)
            assert record["NodeList"] == given["node"]
            assert len(given["gpus"].split(",")) == gpus if gpus else given["gpus"] == ""
            nodes.add(given["node"])
    assert nodes == {"n1", "n2"}


@pytest.mark.slurm
def test_one_job_over_two_nodes(finished):
    lines = sorted((finished / "two-nodes.txt").read_text().splitlines())
    all_gpus = "0,1,2,3,4,5,6,7"
    assert [line.split()[0] for line in lines] == ["n1", "n2"]
    assert sorted(line.split()[1] for line in lines) == ["0/2", "1/2"]
    # Both name the same first node: where the process group meets.
    assert {tuple(line.split()[2:]) for line in lines} == {(all_gpus, "n1")}


@pytest.mark.slurm
def test_finished_study_submits_nothing(run_snakemake, finished):
    assert "Nothing to be done" in run_snakemake(finished, "-n")


@pytest.mark.slurm
def test_unset_placeholders_stop_before_any_job_runs(slurm, run_snakemake, tmp_path):
    shutil.copy(TOY, tmp_path)
    with pytest.raises(AssertionError, match="SET-") as caught:
        run_snakemake(tmp_path, "--retries", 0, profile=str(PROFILE.parent))
    assert not list(tmp_path.glob("base/*"))
    assert "SET-ACCOUNT" in str(caught.value) or "SET-GPU-PARTITION" in str(caught.value)
