"""Jobs that Slurm could not place are refused with what to set and where."""

import pytest

from p2law.errors import UserError
from p2law.study.cluster import Node, check_jobs, parse_partitions

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
