"""Misspelt rules and resources of a profile, which Snakemake takes in silence."""

import pytest

from p2law.cluster.profile import check_gpu_cap, check_profile
from p2law.errors import UserError

RULES = ("base", "posttrain")


def test_known_names_pass():
    check_profile(RULES, {"base": ["mem_mb", "slurm_partition"], "posttrain": ["gpu"]})


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"postrain": ["gpu"]}, "no rule 'postrain'; did you mean 'posttrain'"),
        ({"base": ["memory_mb"]}, "base: no resource 'memory_mb'; did you mean 'mem_mb'"),
        ({"base": ["zzz"]}, "allowed: mem_mb"),
    ],
)
def test_unknown_names_are_refused(overrides, words):
    with pytest.raises(UserError, match=words):
        check_profile(RULES, overrides)


def test_a_gpu_cap_below_the_largest_job_is_refused():
    check_gpu_cap(8, None)
    check_gpu_cap(8, 8)
    with pytest.raises(UserError, match="gpu = 4 .* needs 8"):
        check_gpu_cap(8, 4)
