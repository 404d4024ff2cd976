"""What every test runs under: one thread a process, no hub, Slurm only where it is installed."""

import os
import shutil

import pytest

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"

SLURM_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")


def pytest_collection_modifyitems(items):
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = [name for name in SLURM_PROGRAMS if not shutil.which(name, path=path)]
    if not missing:
        return
    reason = (
        f"no {', '.join(missing)} here: apt-get install --no-install-recommends slurm-wlm munge"
    )
    for item in items:
        if item.get_closest_marker("slurm"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def study_law():
    """A simulated study of two methods and what the law stage makes of it: (table, law)."""
    from p2law.laws import simulate
    from p2law.laws.study import fit_study

    table = simulate.study()
    table = table[table["method"] != "width"].reset_index(drop=True)
    spec = {"forms": ["p2", "damage_rectified", "chinchilla"], "bootstrap": 20}
    return table, fit_study(table, spec)
