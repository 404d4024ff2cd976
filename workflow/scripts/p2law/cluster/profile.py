"""What a profile may override: Snakemake itself takes misspelt rules and resources in silence."""

import difflib
from collections.abc import Iterable, Mapping

from p2law.errors import UserError

RESOURCES = (
    *("mem_mb", "mem_mb_per_cpu", "runtime", "disk_mb", "tmpdir", "threads"),
    *(
        "gpu",
        "gpu_model",
        "gres",
        "nodes",
        "tasks",
        "tasks_per_gpu",
        "cpus_per_task",
        "cpus_per_gpu",
    ),
    *("mpi", "constraint", "qos", "clusters", "reservation"),
    *("slurm_partition", "slurm_account", "slurm_extra"),
)
"""Resources that these rules, Snakemake and its Slurm plugin read."""


def check_profile(rules: Iterable[str], overrides: Mapping[str, Iterable[str]]) -> None:
    """Raise :class:`UserError` for a rule or resource that does not exist.

    ``overrides`` maps a rule to the resources that ``set-resources`` gives it.
    """
    known = list(rules)
    for rule, resources in overrides.items():
        if rule not in known:
            raise UserError(f"set-resources: no rule {rule!r}{_nearest(rule, known)}")
        for resource in resources:
            if resource not in RESOURCES:
                hint = _nearest(resource, RESOURCES)
                raise UserError(f"set-resources: {rule}: no resource {resource!r}{hint}")


def check_gpu_cap(needed: int, cap: int | None) -> None:
    """Raise :class:`UserError` when the profile's ``gpu`` cap is below what the largest job needs.

    Snakemake would hand that job the cap without a word.
    """
    if cap is not None and needed > cap:
        raise UserError(
            f"resources: gpu = {cap} caps all jobs together, but the largest job needs {needed};"
            " raise it in the profile (or --resources), or choose GPUs with more memory"
        )


def _nearest(name: str, allowed: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(allowed), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; allowed: {', '.join(allowed)}"
