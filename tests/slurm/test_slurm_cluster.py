"""The local Slurm is a Slurm: two nodes, fake GPUs, its own folder, and it goes away again."""

import shutil
import tempfile
import time
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slurm


def test_two_nodes_with_eight_gpus_each(slurm):
    out = slurm.command(
        "srun", "--nodes=2", "--ntasks-per-node=1", "--gres=gpu:8",
        "sh", "-c", "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES",
    )  # fmt: skip
    assert sorted(out.splitlines()) == ["n1 0,1,2,3,4,5,6,7", "n2 0,1,2,3,4,5,6,7"]


def test_jobs_without_gpus_see_none_and_records_stay(slurm):
    out = slurm.command("srun", "-n1", "sh", "-c", "echo $SLURM_JOB_ID [$CUDA_VISIBLE_DEVICES]")
    job_id, gpus = out.split()
    assert gpus == "[]"
    # srun returns when its step has ended, a little before the job has.
    deadline = time.monotonic() + 60
    while (state := slurm.job(job_id)["JobState"]) != "COMPLETED":
        assert time.monotonic() < deadline, state
        time.sleep(0.2)


def test_two_clusters_at_once_and_no_process_left(slurm):
    folder = Path(tempfile.mkdtemp(prefix="p2law-slurm-"))
    other = type(slurm)(folder)
    other.start()
    other.command("sbatch", "--wrap", "sleep 300", "--output=/dev/null")
    with pytest.raises(SystemExit, match="stop it first"):
        other.start()
    other.stop()
    assert not any(other.pid(daemon) for daemon in ("munged", "slurmctld", "slurmd-n1"))
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(str(folder).encode() in words for words in running)
    assert slurm.pid("slurmctld")
    shutil.rmtree(folder)


def test_profile_is_the_repositorys_with_this_site_filled_in(slurm):
    profile = yaml.safe_load((slurm.folder / "profile.yaml").read_text())
    assert profile["default-resources"]["slurm_partition"] == "cpu"
    assert "slurm_account" not in profile["default-resources"]
    assert profile["set-resources"]["posttrain"]["slurm_partition"] == "gpu"
    assert "SET-" not in str(profile)
