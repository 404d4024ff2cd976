"""How long a dry run takes as studies grow: what grows, and with what.

    envs/run python benchmarks/dry_run.py            42 to 1,008 runs, a minute
    envs/run python benchmarks/dry_run.py --large    up to 10,080 runs, some minutes

Studies are studies/paper.yaml with every model named several times and with several seeds, so that
no run exists; `snakemake -n --profile slurm` prints every job, as users see it. Beside it, in this
process: how long the study's own part of the Snakefile takes (expanding the grid, keys of all
stages, the look for stale results), which every job on Slurm pays twice but for the last.
"""

import argparse
import copy
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "workflow" / "scripts"))

from p2law.cluster.costs import Costs  # noqa: E402
from p2law.results.stale import Standing  # noqa: E402
from p2law.study.grid import Study  # noqa: E402
from p2law.study.stages import Stages  # noqa: E402

SIZES = ((1, 1), (1, 8), (10, 1), (1, 24), (10, 24))
"""(copies of each model, seeds)."""


def scaled(copies: int, seeds: int) -> dict:
    """The paper's study with every model ``copies`` times and so many seeds."""
    study = copy.deepcopy(yaml.safe_load((ROOT / "studies/paper.yaml").read_text()))
    study["study"] = "never-run"
    study["posttrain"]["seeds"] = list(range(seeds))
    for family in study["families"].values():
        models = family["models"].items()
        family["models"] = {f"{n}-{i}": model for n, model in models for i in range(copies)}
    return study


def own_seconds(config: dict) -> tuple[float, float, float]:
    """CPU seconds of grid and costs, of all keys, and of the look for stale results."""
    marks = [time.process_time()]
    study = Study(config, "scaled")
    stages = Stages(study)
    Costs(stages)
    marks.append(time.process_time())
    for ref in stages.results():
        stages.key(ref)
    marks.append(time.process_time())
    Standing(stages)
    marks.append(time.process_time())
    first, second, third = (b - a for a, b in zip(marks, marks[1:], strict=False))
    return first, second, third


def dry_run(config: dict) -> tuple[int, float, float, float]:
    """Jobs, wall seconds, CPU seconds and peak memory (MB) of a dry run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        words = ["-n", "--profile", "slurm", "--configfile", str(path)]
        command = [sys.executable, "-m", "snakemake", *words]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        wall = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    jobs = next(int(x.split()[1]) for x in done.stdout.splitlines() if x.startswith("total"))
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return jobs, wall, used, after.ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--large", action="store_true", help="also 10,080 runs")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    print(f"{'models':>8}{'runs':>8}{'jobs':>8}{'wall s':>9}{'CPU s':>8}{'peak MB':>9}", end="")
    print(f"{'ms/job':>8}   of it, ours: {'grid':>6}{'keys':>7}{'stale':>7}")
    for copies, seeds in SIZES if arguments.large else SIZES[:-1]:
        config = scaled(copies, seeds)
        grid, keys, look = own_seconds(config)
        jobs, wall, used, memory = dry_run(config)
        runs = copies * seeds * 42
        print(f"{6 * copies:>8}{runs:>8,}{jobs:>8,}{wall:>9.1f}{used:>8.1f}{memory:>9.0f}", end="")
        print(f"{1e3 * used / jobs:>8.2f}   {'':14}{grid:>6.2f}{keys:>7.2f}{look:>7.2f}")


if __name__ == "__main__":
    main()
