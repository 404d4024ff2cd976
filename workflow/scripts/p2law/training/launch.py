"""One script as several processes of one machine, with one exit code.

torchrun would do but for its exit code, which is 1 whatever its processes say: the retry code
must reach Snakemake and Slurm. Where RANK is set already (torchrun, or srun over several
machines) the script is one of the processes and nothing is launched.
"""

import os
import signal
import socket
import subprocess
import sys
import time

GRACE = 60.0
"""Seconds that the other processes are given to end after one has failed."""


def wanted(processes: int | None) -> int:
    """How many processes to start: as asked, else one a visible GPU, at least one."""
    if "RANK" in os.environ:
        return 1
    if processes is None:
        import torch

        processes = max(1, torch.cuda.device_count())
    return processes


def run(processes: int) -> int:
    """Run this script's command line as so many processes; return their common exit code.

    Signals are passed on. When one process fails the others are stopped, and its code is
    returned: no run goes on with a part of its batch missing.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(processes):
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes}
        ranks |= {"LOCAL_WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = {**os.environ, **{name: str(value) for name, value in ranks.items()}}
        children.append(subprocess.Popen([sys.executable, *sys.argv], env=environment))
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, lambda number, _: [child.send_signal(number) for child in children])
    return _wait(children)


def _wait(children: list[subprocess.Popen]) -> int:
    """Wait for all; after the first failure the others have :data:`GRACE` seconds."""
    failed, since = 0, float("inf")
    while any(child.poll() is None for child in children):
        codes = [child.returncode for child in children if child.returncode]
        if codes and not failed:
            failed, since = codes[0], time.monotonic()
        late = time.monotonic() - since
        # A killed process's partners would wait for it in vain.
        if failed < 0 or late > GRACE:
            for child in children:
                child.kill()
        time.sleep(0.05)
    codes = [child.returncode for child in children if child.returncode]
    first = failed or (codes[0] if codes else 0)
    return 128 - first if first < 0 else first
