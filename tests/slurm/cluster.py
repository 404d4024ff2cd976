#!/usr/bin/env python3
"""A real Slurm of two nodes on this machine, with eight fake GPUs each, for tests and trials.

    apt-get install --no-install-recommends slurm-wlm munge
    eval "$(tests/slurm/cluster.py start)"      two idle nodes after a second; sbatch, ... work
    envs/run snakemake --profile $P2LAW_SLURM/profile.yaml --configfile studies/tiny.yaml
    tests/slurm/cluster.py status
    tests/slurm/cluster.py stop

Everything (munge key, sockets, state, spool, logs) lies in one folder, ports are free ones, and the
daemons are plain processes: no systemd, no root needed, no other Slurm disturbed. Clients find it
through the `bin/` that `start` puts first on PATH: its wrappers name the configuration, since
snakemake's jobs drop the variable SLURM_CONF. `profile.yaml` is slurm/profile.yaml with this
cluster's partitions, no account (there is no accounting) and quicker looks at jobs. The nodes
claim more CPUs and memory than there are, so that jobs are placed as on large machines; each job
goes to the node with less to do. There are no cgroups: memory limits are not enforced. A fake GPU
is a link to /dev/null that Slurm counts and hands out as CUDA_VISIBLE_DEVICES.
"""

import argparse
import contextlib
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DEFAULT_FOLDER = Path(tempfile.gettempdir()) / f"p2law-slurm-{getpass.getuser()}"
NODES = ("n1", "n2")
GPUS = 8
CPUS = 16
MEMORY_MB = 64000
DAEMONS = ("munged", "slurmctld", *(f"slurmd-{node}" for node in NODES))
CLIENTS = (
    "sbatch",
    "srun",
    "salloc",
    "scancel",
    "scontrol",
    "sinfo",
    "squeue",
    "sacct",
    "sacctmgr",
)
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

SLURM_CONF = Path(__file__).with_name("slurm.conf.template")
# What a user of this cluster changes in slurm/profile.yaml.
PROFILE = Path(__file__).resolve().parents[2] / "slurm" / "profile.yaml"
SITE = {
    r"(?m)^  slurm_account:.*\n": "",
    "SET-CPU-PARTITION": "cpu",
    "SET-GPU-PARTITION": "gpu",
    r"(?m)^(slurm-init-seconds-before-status-checks): .*": r"\1: 2",
    r"(?m)^(latency-wait): .*": r"\1: 10",
}


class Cluster:
    """One local Slurm whose files lie in `folder`."""

    def __init__(self, folder: Path = DEFAULT_FOLDER):
        self.folder = Path(folder).resolve()
        self.conf = self.folder / "slurm.conf"

    def environment(self) -> dict[str, str]:
        """Return the variables with which a process talks to this cluster."""
        return {**os.environ, "PATH": f"{self.folder}/bin{os.pathsep}{PATH}"}

    def command(self, *words: object, timeout: float = 60) -> str:
        """Run a Slurm client and return what it prints; raises CalledProcessError."""
        return subprocess.run(
            [str(word) for word in words],
            env=self.environment(),
            check=True,
            capture_output=True,
            text=True,
            timeout=timeout,
        ).stdout

    def job(self, job_id: str | int) -> dict[str, str]:
        """Return what scontrol records of a job, also long after it ended."""
        words = self.command("scontrol", "--oneliner", "show", "job", job_id).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def start(self) -> None:
        """Write the configuration, start the daemons, wait until both nodes are idle."""
        missing = [name for name in ("munged", "slurmctld", "slurmd") if not which(name)]
        if missing:
            raise SystemExit(
                f"no {', '.join(missing)} here:"
                " apt-get install --no-install-recommends slurm-wlm munge"
            )
        if any(self.pid(daemon) for daemon in DAEMONS):
            raise SystemExit(f"a cluster of {self.folder} is running: stop it first")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o755, parents=True)
        self._write_configuration()
        for daemon in DAEMONS:
            self.start_daemon(daemon)
        self.wait_for_idle_nodes()

    def start_daemon(self, name: str) -> None:
        """Start one of DAEMONS, again if it was killed; state is kept in the folder."""
        environment = {**os.environ, "SLURM_CONF": str(self.conf), "PATH": PATH}
        if name == "munged":
            words = ["munged", "--force", f"--socket={self.folder}/munge.socket"]
            words += [f"--{kind}-file={self.folder}/munge.{kind}" for kind in ("key", "seed")]
            words += [f"--pid-file={self.folder}/munged.pid"]
            words += [f"--log-file={self.folder}/munged.log"]
        elif name == "slurmctld":
            words = ["slurmctld", "-f", str(self.conf)]
        else:
            words = ["slurmd", "-f", str(self.conf), "-N", name.removeprefix("slurmd-")]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)} failed: {done.stdout}{done.stderr}")

    def kill_daemon(self, name: str, sig: int = signal.SIGKILL) -> None:
        """Kill one of DAEMONS and wait until it is gone (it removes its pid file long before)."""
        pid = self.pid(name)
        if pid:
            os.kill(pid, sig)
        while pid and self._runs(pid):
            time.sleep(0.1)

    def lose_node(self, node: str) -> None:
        """Kill a node's daemon and every process of its jobs, as a power cut would."""
        jobs = self.command("squeue", "--noheader", "--nodelist", node, "--format=%A").split()
        self.kill_daemon(f"slurmd-{node}")
        steps, others = [], []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                command, setting = ((path / f).read_bytes() for f in ("cmdline", "environ"))
            except OSError:
                continue
            if str(self.folder).encode() not in setting:
                continue
            if any(f"slurmstepd: [{job}.".encode() in command for job in jobs):
                steps.append(int(path.name))
            elif any(f"SLURM_JOB_ID={job}\0".encode() in setting + b"\0" for job in jobs):
                others.append(int(path.name))
        # Steps first: they would report their processes' deaths as a failure of the job.
        for pid in steps + others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def wait_for_idle_nodes(self, timeout: float = 60) -> None:
        """Return when every node is idle; raise SystemExit with the logs' ends otherwise."""
        deadline = time.monotonic() + timeout
        states = ""
        while time.monotonic() < deadline:
            try:
                states = self.command("sinfo", "--Node", "--noheader", "--format=%N %t", timeout=10)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
                states = ""
            if len(idle := {line for line in states.splitlines() if line.endswith(" idle")}) == 2:
                return
            time.sleep(0.1)
        logs = "\n".join(
            f"{log}:\n" + "\n".join(log.read_text().splitlines()[-10:])
            for log in sorted(self.folder.glob("*.log"))
        )
        raise SystemExit(f"nodes not idle after {timeout} s: {states!r} ({idle})\n{logs}")

    def stop(self) -> None:
        """Cancel all jobs, end the daemons and what jobs left behind; remove nothing."""
        if self.pid("slurmctld"):
            self.command("scancel", "--user", getpass.getuser())
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and self.command("squeue", "--noheader").strip():
                time.sleep(0.2)
        for daemon in reversed(DAEMONS):
            self.kill_daemon(daemon, signal.SIGTERM)
        for pid in self._left_over():
            os.kill(pid, signal.SIGKILL)

    def pid(self, daemon: str) -> int | None:
        """Return the process id of a running daemon of this cluster, None if it is not running."""
        try:
            pid = int((self.folder / f"{daemon}.pid").read_text())
        except (OSError, ValueError):
            return None
        return pid if self._runs(pid) else None

    def _runs(self, pid: int) -> bool:
        """Return whether a process is alive and was started with a file of this folder."""
        try:
            return str(self.folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    def _left_over(self) -> list[int]:
        """Return the ids of job and step processes of this cluster."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                environment = (path / "environ").read_bytes()
                name = (path / "comm").read_text()
            except OSError:
                continue
            ours = str(self.folder).encode() in environment
            step = name.startswith("slurmstepd")
            if ours and (b"SLURM_JOB_ID=" in environment or step):
                found.append(int(path.name))
        return found

    def _write_configuration(self) -> None:
        for name in ("state", "bin", "dev", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        host = socket.gethostname().split(".")[0]
        ports = free_ports(1 + len(NODES))
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
            f" CPUs={CPUS} RealMemory={MEMORY_MB} Gres=gpu:{GPUS} State=UNKNOWN"
            for node, port in zip(NODES, ports[1:], strict=True)
        )
        self.conf.write_text(
            SLURM_CONF.read_text().format(
                folder=self.folder, host=host, user=getpass.getuser(), ports=ports, nodes=nodes
            )
        )
        for number in range(GPUS):
            (self.folder / f"dev/nvidia{number}").symlink_to("/dev/null")
        files = f"{self.folder}/dev/nvidia[0-{GPUS - 1}]"
        (self.folder / "gres.conf").write_text(f"Name=gpu File={files}\n")
        profile = PROFILE.read_text()
        for pattern, text in SITE.items():
            profile = re.sub(pattern, text, profile)
        (self.folder / "profile.yaml").write_text(profile)
        for client in filter(which, CLIENTS):
            wrapper = self.folder / "bin" / client
            wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={self.conf} exec {which(client)} "$@"\n')
            wrapper.chmod(0o755)


def which(program: str) -> str | None:
    """Return where a program lies, also in the administrators' folders."""
    return shutil.which(program, path=PATH)


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["start", "stop", "status", "env"])
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="default: %(default)s")
    arguments = parser.parse_args()
    cluster = Cluster(arguments.folder)
    if arguments.action == "start":
        begin = time.monotonic()
        cluster.start()
        print(f"Slurm in {cluster.folder}: {time.monotonic() - begin:.1f} s", file=sys.stderr)
    if arguments.action in ("start", "env"):
        print(f"export P2LAW_SLURM={cluster.folder} PATH={cluster.folder}/bin:$PATH")
    if arguments.action == "stop":
        cluster.stop()
    if arguments.action == "status":
        for daemon in DAEMONS:
            print(f"{daemon}: {cluster.pid(daemon) or 'not running'}")
        if cluster.pid("slurmctld"):
            print(cluster.command("sinfo") + cluster.command("squeue"), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
