"""The tests' study through `--profile slurm` on two nodes: the same table as on this machine alone,
and every job got what its rule declared."""

import re

import pytest

# The whole path; report.html holds times and is made by the controller itself.
TARGETS = ("--configfile", "studies/tiny.yaml", "--", "figures")
TABLE = "results/tiny/tables/losses.parquet"
MINUTES = 40 * 60

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def through_slurm(run_snakemake, checkout, tmp_path_factory):
    """A checkout whose study was run on the nodes, and what snakemake printed."""
    folder = checkout(tmp_path_factory.mktemp("slurm"))
    for rules in folder.glob("workflow/rules/*.smk"):
        # Of a job with a message snakemake prints only that, not its resources.
        text = re.sub(r"(?m)^    message:\n        .*\n", "", rules.read_text())
        rules.write_text(text)
    # Four at once: two processors do the work of two nodes.
    return folder, run_snakemake(folder, "--jobs", 4, *TARGETS, timeout=MINUTES)


def in_mb(memory: str) -> int:
    """Slurm's 500M or 2G in megabytes."""
    return int(memory[:-1]) * {"M": 1, "G": 1024}[memory[-1]]


def declared(out: str) -> dict[str, dict[str, str]]:
    """Slurm job id -> what snakemake printed of the job: rule, threads, and its resources."""
    jobs = {}
    for rule, block in re.findall(r"^rule (\w+):\n((?:    .*\n)+)", out, flags=re.MULTILINE):
        fields = dict(re.findall(r"^    (\w+): (.*)$", block, flags=re.MULTILINE))
        resources = dict(re.findall(r"(\w+)=([^,]+)", fields["resources"]))
        jobs[fields["jobid"]] = {
            "rule": rule, "threads": fields.get("threads", "1"), **resources
        }  # fmt: skip
    submitted = re.findall(r"Job (\d+) has been submitted with SLURM jobid (\d+)", out)
    return {slurm_id: jobs[job_id] for job_id, slurm_id in submitted}


def test_every_job_got_what_its_rule_declared(slurm, through_slurm):
    jobs = declared(through_slurm[1])
    assert {job["rule"] for job in jobs.values()} == {
        "corpus", "base", "prune", "posttrain", "evaluate"
    }  # fmt: skip
    nodes = set()
    for slurm_id, job in jobs.items():
        record = slurm.job(slurm_id)
        hours, minutes = divmod(int(job["runtime"]), 60)
        assert record["JobState"] == "COMPLETED"
        assert record["Partition"] == ("cpu" if job["rule"] == "corpus" else "gpu")
        assert record["NumCPUs"] == job["threads"]
        assert in_mb(record["MinMemoryNode"]) == int(job["mem_mb"])
        assert record["TimeLimit"] == f"{hours:02}:{minutes:02}:00"
        assert "TresPerJob" not in record  # a study on CPUs asks for no GPU
        nodes.add(record["NodeList"])
    assert nodes == {"n1", "n2"}


def test_table_equals_the_local_runs(through_slurm, run_snakemake, checkout, sha256, tmp_path):
    local = checkout(tmp_path / "local")
    run_snakemake(local, "--cores", 2, *TARGETS, profile=None, timeout=MINUTES)
    assert sha256(through_slurm[0] / TABLE) == sha256(local / TABLE)


def test_nothing_is_left_to_do_here_or_there(through_slurm, run_snakemake):
    folder = through_slurm[0]
    assert "Nothing to be done" in run_snakemake(folder, "-n", *TARGETS)
    assert "Nothing to be done" in run_snakemake(folder, "-n", *TARGETS, profile=None)
