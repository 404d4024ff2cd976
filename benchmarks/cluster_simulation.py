"""How long the paper's study takes on 8, 32 and 128 GPUs: a discrete simulation.

    envs/run python benchmarks/cluster_simulation.py [--study studies/paper.yaml]

Jobs, their order, their GPUs and the estimate of their time are the study's own (p2law.cluster).
Assumed of the cluster, and printed: nodes of hardware.gpus_per_node GPUs, no other users, the
longest waiting job first and any other that fits beside it; a job waits ``--queue``
minutes once it could run, costs ``--overhead`` minutes beside its work (start, loading, hashing,
saving), and its true time is the estimate times a log-normal factor of spread ``--spread`` (median
1). Downloads, tables and law need no GPU and are left out, and so are retries.
"""

import argparse
import heapq
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "workflow" / "scripts"))

from p2law.cluster.costs import Costs  # noqa: E402
from p2law.cluster.jobs import Jobs  # noqa: E402
from p2law.study.grid import Study  # noqa: E402
from p2law.study.stages import Stages  # noqa: E402


@dataclass(frozen=True)
class Task:
    """One job: GPUs, hours of work without overhead, and the jobs it waits for."""

    name: str
    gpus: int
    hours: float
    needs: tuple[str, ...] = ()
    priority: int = 0


@dataclass
class Cluster:
    """Free GPUs of each node."""

    free: list[int]
    each: int
    held: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def place(self, task: Task) -> bool:
        """Give a task its GPUs: on the fullest node that has them, or whole nodes."""
        if task.gpus <= self.each:
            fits = [n for n, free in enumerate(self.free) if free >= task.gpus]
            chosen = [(min(fits, key=lambda n: self.free[n]), task.gpus)] if fits else []
        else:
            empty = [n for n, free in enumerate(self.free) if free == self.each]
            wanted = task.gpus // self.each
            chosen = [(n, self.each) for n in empty[:wanted]] if len(empty) >= wanted else []
        for node, gpus in chosen:
            self.free[node] -= gpus
        self.held[task.name] = chosen
        return bool(chosen)

    def release(self, task: Task) -> None:
        for node, gpus in self.held.pop(task.name):
            self.free[node] += gpus


PRIORITY = {"prune": 40, "posttrain": 30, "evaluate": 60}
"""As in the rules; what stands before them needs no GPU."""


def tasks(jobs: Jobs) -> Iterator[Task]:
    """The study's GPU jobs."""
    for stage, job in jobs.stages.jobs():
        if stage.name in PRIORITY:
            gpus = max(1, jobs.gpus(stage.name, job[0]))
            hours = jobs.costs.job_seconds(stage.work(jobs.costs, *job).flops / gpus) / 3600
            above = {
                (ref.stage, jobs.stages[ref.stage].job(ref.names))
                for refs in stage.reads(*job).values()
                for ref in refs
            }
            needs = tuple(" ".join((n, *names)) for n, names in sorted(above) if n in PRIORITY)
            yield Task(" ".join((stage.name, *job)), gpus, hours, needs, PRIORITY[stage.name])


def simulate(
    todo: list[Task], cluster: Cluster, queue: float, overhead: float, spread: float, seed: int
) -> tuple[float, float]:
    """Wall-clock hours until the last job ends, and GPU-hours of work (overhead not counted)."""
    draw = random.Random(seed)
    factor = {t.name: draw.lognormvariate(0.0, spread) for t in sorted(todo, key=lambda t: t.name)}
    waiting = {t.name: set(t.needs) for t in todo}
    by_name = {t.name: t for t in todo}
    arrivals = [(queue, t.name) for t in todo if not t.needs]
    heapq.heapify(arrivals)
    ends: list[tuple[float, str]] = []
    ready: list[Task] = []
    now = work = 0.0
    while arrivals or ends or ready:
        now = min([heap[0][0] for heap in (arrivals, ends) if heap])
        while ends and ends[0][0] <= now:
            done = by_name[heapq.heappop(ends)[1]]
            cluster.release(done)
            for name, needs in waiting.items():
                if done.name in needs:
                    needs.discard(done.name)
                    if not needs:
                        heapq.heappush(arrivals, (now + queue, name))
        while arrivals and arrivals[0][0] <= now:
            ready.append(by_name[heapq.heappop(arrivals)[1]])
        for one in sorted(ready, key=lambda t: (-t.priority, -t.hours, t.name)):
            if cluster.place(one):
                ready.remove(one)
                hours = one.hours * factor[one.name]
                work += one.gpus * hours
                heapq.heappush(ends, (now + hours + overhead, one.name))
    return now, work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--study", type=Path, default=ROOT / "studies/paper.yaml")
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--queue", type=float, default=10, help="minutes in the queue")
    parser.add_argument("--overhead", type=float, default=5, help="minutes a job beside its work")
    parser.add_argument("--spread", type=float, default=0.2, help="of log true time / estimate")
    parser.add_argument("--seeds", type=int, default=20, help="draws of the true times")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    study = Study(yaml.safe_load(arguments.study.read_text()), str(arguments.study))
    jobs = Jobs(Costs(Stages(study)))
    todo, each = list(tasks(jobs)), jobs.hardware.gpus_per_node
    estimated = sum(t.gpus * t.hours for t in todo)
    longest = max(t.hours for t in todo)
    print(
        f"{len(todo)} jobs, {estimated:.0f} {jobs.hardware.gpu} GPU-hours at"
        f" {jobs.hardware.mfu:.0%} of peak, longest job {longest:.1f} h; assumed:"
        f" {arguments.queue:g} min in the queue, {arguments.overhead:g} min of overhead a job,"
        f" spread of times {arguments.spread:g}, {arguments.seeds} draws"
    )
    print(f"{'GPUs':>6}{'bound h':>9}{'wall h':>9}{'range':>15}{'utilisation':>13}")
    for gpus in arguments.gpus:
        walls, used = [], []
        for seed in range(arguments.seeds):
            sizes = [each] * (gpus // each) or [gpus]
            wall, work = simulate(
                todo,
                Cluster(sizes, each),
                arguments.queue / 60,
                arguments.overhead / 60,
                arguments.spread,
                seed,
            )
            walls.append(wall)
            used.append(work / (gpus * wall))
        mean = sum(walls) / len(walls)
        extent = f"{min(walls):.1f}-{max(walls):.1f}"
        bound = max(estimated / gpus, longest)
        share = sum(used) / len(used)
        print(f"{gpus:>6}{bound:>9.1f}{mean:>9.1f}{extent:>15}{share:>12.0%}")


if __name__ == "__main__":
    main()
