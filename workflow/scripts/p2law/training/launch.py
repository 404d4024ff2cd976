"""One script as several processes of one or more machines, with one exit code.

torchrun would do but for its exit code, which is 1 whatever its processes say: the retry code
must reach Snakemake and Slurm. Where torchrun started the script it is one of the processes and
nothing is launched; a RANK that anybody else left in the environment is gone by now
(:mod:`p2law.commands.environment`). Where srun started the script once on each of several nodes,
each launches its share, and all meet at the node that srun was called on.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

from p2law.commands.environment import LAUNCHER
from p2law.training.stop import RETRY, SIGNALS

GRACE = 60.0
"""Seconds that the other processes are given to end after one has failed."""


def wanted(processes: int | None, device: str) -> int:
    """How many processes to start: as asked, else one, or on ``cuda`` one a visible GPU."""
    if "RANK" in os.environ:
        return 1
    if processes is None and device == "cpu":
        return 1
    if processes is None:
        import torch

        processes = max(1, torch.cuda.device_count())
    return processes


@dataclass(frozen=True)
class Place:
    """Where a launcher stands among those of a job: index, their number, the meeting point."""

    node: int
    nodes: int
    address: str
    port: int


def place() -> Place:
    """This launcher's place: the only one, or one of an srun step with one task on each node.

    srun was called on the allocation's first node, which is node 0 of the step; the port follows
    from the job's number, so that two jobs on a node do not meet.
    """
    given = {name: os.environ.get(f"SLURM_STEP_NUM_{name}") for name in ("NODES", "TASKS")}
    nodes = int(given["NODES"] or 1)
    if nodes > 1 and given["TASKS"] == given["NODES"]:
        address = os.environ["SLURM_LAUNCH_NODE_IPADDR"]
        port = 20_000 + int(os.environ["SLURM_JOB_ID"]) % 20_000
        return Place(int(os.environ["SLURM_NODEID"]), nodes, address, port)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return Place(0, 1, "127.0.0.1", free.getsockname()[1])


def is_needed(processes: int) -> bool:
    """Whether a job of so many processes a node is more than this process."""
    return "RANK" not in os.environ and (processes > 1 or place().nodes > 1)


def run(processes: int) -> int:
    """Run this script's command line as so many processes here; return their common exit code.

    Signals are passed on. When one process fails the others are stopped, and its code is
    returned: no run goes on with a part of its batch missing. (Over several nodes srun's
    ``--kill-on-bad-exit`` stops the other launchers.)
    """
    here = place()
    children = []
    for local in range(processes):
        rank, world = here.node * processes + local, here.nodes * processes
        ranks: dict[str, str | int] = {"RANK": rank, "LOCAL_RANK": local, "WORLD_SIZE": world}
        ranks |= {"LOCAL_WORLD_SIZE": processes, "NODE_RANK": here.node}
        ranks |= {"MASTER_ADDR": here.address, "MASTER_PORT": here.port, LAUNCHER: os.getpid()}
        environment = {**os.environ, **{name: str(value) for name, value in ranks.items()}}
        children.append(subprocess.Popen([sys.executable, *sys.argv], env=environment))
    passed: set[int] = set()

    def pass_on(number: int, _: object) -> None:
        passed.add(number)
        for child in children:
            child.send_signal(number)

    for number in SIGNALS:
        signal.signal(number, pass_on)
    return _wait(children, passed)


def _wait(children: list[subprocess.Popen], passed: set[int]) -> int:
    """Wait for all; after the first failure the others have :data:`GRACE` seconds.

    ``passed`` holds the signals that were passed on: a process that dies of one had not begun to
    train, so that the run is as good as stopped.
    """
    failed, since = 0, float("inf")
    # Each is asked: a process that nobody asks about would be lost unnoticed behind one that waits.
    while None in (codes := [child.poll() for child in children]):
        if any(codes) and not failed:
            failed, since = next(filter(None, codes)), time.monotonic()
        late = time.monotonic() - since
        # A killed process's partners would wait for it in vain.
        if failed < 0 or late > GRACE:
            for child in children:
                child.kill()
        time.sleep(0.05)
    first = failed or next(filter(None, codes), 0)
    if -first in passed:
        return RETRY
    return 128 - first if first < 0 else first
