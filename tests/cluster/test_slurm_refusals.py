"""Jobs that Slurm could not place are refused with what to set and where."""

from pathlib import Path

import pytest
from snakemake_interface_executor_plugins.utils import format_cli_arg

from p2law.cluster.slurm import Node, check_jobs, parse_partitions, take_over
from p2law.errors import UserError

PARTITIONS = parse_partitions(
    "cpu|64|256000|(null)|1-00:00:00\ngpu|128|1000000+|gpu:a100:8(S:0-1),shard:4|12:30:00\n"
    "gpu|32|500000|gpu:4|12:30:00\nlong|8|1000|(null)|infinite\n"
)
JOB = {
    "slurm_partition": "gpu",
    "gpu": 8,
    "nodes": 1,
    "mem_mb": 900_000,
    "runtime": 750,
    "_cores": 16,
}


def test_sinfo_is_read():
    assert PARTITIONS["cpu"] == [Node(64, 256_000, 0, 1440)]
    assert PARTITIONS["gpu"] == [Node(128, 1_000_000, 8, 750), Node(32, 500_000, 4, 750)]
    assert PARTITIONS["long"] == [Node(8, 1000, 0, None)]


def test_what_fits_passes():
    check_jobs([("posttrain", JOB), ("posttrain", JOB | {"gpu": 16, "nodes": 2})], PARTITIONS)
    check_jobs([("tables", {})], PARTITIONS)
    check_jobs([("law", {"slurm_partition": "long", "runtime": 10**6})], PARTITIONS)


def test_an_account_that_may_not_be_charged_is_refused():
    job = JOB | {"slurm_account": "physics"}
    check_jobs([("base", job)], PARTITIONS, {"physics", "maths"})
    check_jobs([("base", job)], PARTITIONS, None)  # the site keeps no accounts, or does not tell
    with pytest.raises(UserError, match="'physics'; sacctmgr lets you charge chemistry, maths"):
        check_jobs([("base", job)], PARTITIONS, {"maths", "chemistry"})


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """A squeue, scontrol and scancel of three jobs; scancel empties the queue."""
    (tmp_path / "rows").write_text(
        "11|/study|rule_posttrain_wildcards_m_depth-0.3\n"
        "12|/study|rule_posttrain_wildcards_m_depth-0.5\n"
        "13|/elsewhere|rule_posttrain_wildcards_m_depth-0.3\n"
    )
    programs = {
        "squeue": f"cat {tmp_path}/rows",
        "scancel": f'echo "$@" > {tmp_path}/cancelled; : > {tmp_path}/rows',
        "scontrol": f"cat {tmp_path}/script",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    submitted(tmp_path, ["/study/studies/tiny.yaml"])
    return tmp_path


def submitted(queue, files, overrides=()) -> None:
    """The script of every job, in the words that Snakemake 9.27 writes."""
    words = ["/env/bin/python -m snakemake --snakefile /study/Snakefile --cores 1"]
    words.append(format_cli_arg("--target-jobs", "posttrain:model=m,run=depth-0.3"))
    words.append(format_cli_arg("--config", list(overrides)))
    words.append("--default-resources base64//dG1wZGlyPXN5c3RlbV90bXBkaXI= --scheduler 'ilp'")
    words.append(format_cli_arg("--configfiles", [Path(file) for file in files]))
    words.append("--mode remote")
    note = "#!/bin/sh\n# This script was created by sbatch --wrap; it's Slurm's.\n\n"
    (queue / "script").write_text(note + " ".join(filter(None, words)) + "\n")


MINE = {"rule_posttrain_wildcards_m_depth-0.3"}


@pytest.mark.parametrize(
    "study",
    [
        (["/study/studies/tiny.yaml"],),
        (["/study/a b/tiny.yaml"],),
        ([], ["study=other"]),
        (
            ["/study/x.yaml", "/study/y.yaml"],
            ["study=other", "methods={'depth': {'rates': [0.3]}}"],
        ),
        (["/study/x.yaml"], ["seed=1"]),
    ],
)
def test_a_killed_controllers_jobs_are_cancelled_and_no_others(queue, study):
    submitted(queue, *study)
    assert take_over(MINE, "/study", *study) == ["11"]
    assert (queue / "cancelled").read_text().split() == ["11"]


def test_a_study_file_is_known_by_another_spelling(queue):
    files = ["studies/tiny.yaml"], [Path("/study/studies/../studies/tiny.yaml")]
    rows = (queue / "rows").read_text()
    for spelled in files:
        (queue / "rows").write_text(rows)
        assert take_over(MINE, "/study", spelled) == ["11"]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ((["/study/a/study.yaml"],), (["/study/b/study.yaml"],)),  # the name alone is the same
        ((["/study/a/study.yaml"],), ([],)),
        (([],), (["/study/config.yaml"],)),
        ((["/study/x.yaml"], ["study=one"]), (["/study/x.yaml"], ["study=two"])),
        ((["/study/x.yaml"], ["study=one"]), (["/study/x.yaml"],)),
        ((["/study/x.yaml"],), (["/study/x.yaml"], ["study=one"])),
        ((["/study/x.yaml", "/study/y.yaml"],), (["/study/y.yaml", "/study/x.yaml"],)),
    ],
)
def test_jobs_of_another_study_in_the_same_folder_are_left_alone(queue, theirs, ours):
    """The later file wins over the earlier, so their order matters as well."""
    submitted(queue, *theirs)
    assert take_over(MINE, "/study", *ours) == []
    assert not (queue / "cancelled").exists()


@pytest.mark.parametrize("script", ["", "#!/bin/sh\npython other.py\n", "snakemake 'open"])
def test_a_job_that_is_no_snakemake_is_left_alone(queue, script):
    (queue / "script").write_text(script)
    assert take_over(MINE, "/study", []) == []


def test_jobs_that_do_not_end_are_told(queue):
    (queue / "scancel").write_text("#!/bin/sh\n")
    with pytest.raises(UserError, match="jobs 11 of an earlier snakemake did not end within 0 s"):
        take_over(MINE, "/study", ["studies/tiny.yaml"], patience=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"slurm_account": "SET-ACCOUNT"}, "slurm_account of rule base is still SET-ACCOUNT"),
        ({"slurm_partition": "SET-GPU-PARTITION"}, "set it in the profile"),
        ({"slurm_partition": "gpus"}, "'gpus'; sinfo knows cpu, gpu, long"),
        ({"gpu": 9}, "gpu 9 on a node; partition gpu has at most 8"),
        ({"gpu": 17, "nodes": 2}, "gpu 9 on a node"),
        ({"mem_mb": 1_000_001}, "mem_mb 1000001"),
        ({"_cores": 129}, "threads 129"),
        ({"runtime": 751}, "runtime 751"),
    ],
)
def test_what_cannot_be_had_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        check_jobs([("base", JOB | change)], PARTITIONS)
