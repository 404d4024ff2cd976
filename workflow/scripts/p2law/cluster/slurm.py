"""What Slurm would refuse or never start, said before the first job is submitted."""

import getpass
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2law.errors import UserError

PLACEHOLDER = "SET-"
"""What the names in slurm/profile.yaml begin with until someone sets them."""


@dataclass(frozen=True)
class Node:
    """What one kind of node of a partition offers to a job; minutes is None without a limit."""

    cpus: int
    memory_mb: int
    gpus: int
    minutes: float | None


def read_partitions() -> dict[str, list[Node]]:
    """Ask ``sinfo`` for partitions and nodes; :class:`UserError` where there is no Slurm."""
    if not shutil.which("sinfo"):
        raise UserError(
            "no Slurm here: 'sinfo' is not on PATH. Start this on a cluster's login node,"
            " or leave out --profile slurm to run on this machine"
        )
    command = ["sinfo", "--noheader", "--Node", "--format=%R|%c|%m|%G|%l"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"Slurm does not answer: sinfo says {done.stderr.strip()!r}")
    return parse_partitions(done.stdout)


def read_accounts() -> set[str] | None:
    """Accounts that this user may charge; None where the site keeps none or does not tell."""
    if not shutil.which("sacctmgr"):
        return None
    command = ["sacctmgr", "--noheader", "--parsable2", "show", "associations"]
    command += [f"user={getpass.getuser()}", "format=account"]
    done = subprocess.run(command, capture_output=True, text=True)
    return (set(done.stdout.split()) or None) if done.returncode == 0 else None


def parse_partitions(text: str) -> dict[str, list[Node]]:
    """Read lines ``partition|cpus|memory MB|gres|time limit`` as ``sinfo`` prints them."""
    partitions: dict[str, list[Node]] = {}
    for line in text.split("\n"):
        if line.strip():
            name, cpus, memory, gres, limit = line.strip().split("|")
            gpus = sum(int(n) for n in re.findall(r"\bgpu:(?:[^:,(]+:)?(\d+)", gres))
            node = Node(int(cpus.rstrip("+")), int(memory.rstrip("+")), gpus, _minutes(limit))
            partitions.setdefault(name, []).append(node)
    return partitions


def check_jobs(
    jobs: Iterable[tuple[str, Mapping[str, Any]]],
    partitions: Mapping[str, list[Node]],
    accounts: set[str] | None = None,
) -> None:
    """Raise :class:`UserError` when a job's account, partition or size cannot be had.

    ``jobs`` holds (rule, resources with ``_cores``) of what is to be submitted, ``accounts`` what
    may be charged where that is known.
    """
    for rule, resources in jobs:
        for name in ("slurm_account", "slurm_partition"):
            if str(resources.get(name, "")).startswith(PLACEHOLDER):
                raise UserError(
                    f"{name} of rule {rule} is still {resources[name]}:"
                    " set it in the profile (slurm/profile.yaml)"
                )
        account = resources.get("slurm_account")
        if accounts and account is not None and str(account) not in accounts:
            raise UserError(
                f"slurm_account of rule {rule} is {account!r}; sacctmgr lets you charge"
                f" {', '.join(sorted(accounts))}. Set it in the profile (slurm/profile.yaml)"
            )
        partition = resources.get("slurm_partition")
        if partition is None:
            continue
        if partition not in partitions:
            raise UserError(
                f"slurm_partition of rule {rule} is {partition!r}; sinfo knows"
                f" {', '.join(sorted(partitions))}. Set it in the profile (slurm/profile.yaml)"
            )
        _check_size(rule, resources, partition, partitions[partition])


def _check_size(rule: str, resources: Mapping[str, Any], partition: str, nodes: list[Node]) -> None:
    """Compare one job with the largest of each that a partition's nodes offer."""
    share = int(resources.get("nodes", 1) or 1)
    wants: dict[str, tuple[float, float]] = {
        "gpu": (-(-int(resources.get("gpu", 0) or 0) // share), max(n.gpus for n in nodes)),
        "mem_mb": (int(resources.get("mem_mb", 0) or 0), max(n.memory_mb for n in nodes)),
        "threads": (int(resources.get("_cores", 1) or 1), max(n.cpus for n in nodes)),
    }
    limits = [node.minutes for node in nodes if node.minutes is not None]
    if len(limits) == len(nodes):
        wants["runtime"] = (int(resources.get("runtime", 0) or 0), max(limits))
    for name, (wanted, most) in wants.items():
        if wanted > most:
            raise UserError(
                f"rule {rule} asks for {name} {wanted} on a node; partition {partition} has at"
                f" most {most:.0f}. Choose another partition or set-resources in the profile"
            )


def take_over(
    jobs: set[str],
    folder: str,
    files: Iterable[str | Path],
    overrides: Iterable[str] = (),
    patience: float = 180,
) -> list[str]:
    """Cancel what an earlier snakemake left in the queue and is about to be submitted again.

    A snakemake that was killed leaves its jobs behind, and the next one knows nothing of them: a
    second writer would start beside the first. A job is one of these when its comment names the
    rule and wildcards of one of ``jobs`` (as the plugin writes it), it works in ``folder`` (where
    --directory points, if it was given), and its command line names the same study: the same
    ``files`` (--configfile, by path) and the same ``overrides`` (--config, KEY=VALUE). Trainers
    save their state when they are cancelled, so that nothing is lost. Returns the jobs' numbers
    once all of them have ended; :class:`UserError` if they have not after ``patience`` seconds.
    """
    mine = Command.of(folder, files, overrides)
    found = [n for n in _queued(jobs, folder) if Command.read(_script(n), folder) == mine]
    if not found:
        return []
    subprocess.run(["scancel", *found], capture_output=True)
    deadline = time.monotonic() + patience
    while left := sorted(set(found) & set(_queued(jobs, folder))):
        if time.monotonic() > deadline:
            raise UserError(
                f"jobs {', '.join(left)} of an earlier snakemake did not end within"
                f" {patience:.0f} s of scancel; see 'scontrol show job', then start again"
            )
        time.sleep(1)
    return found


@dataclass(frozen=True)
class Command:
    """What of a snakemake's command line says which study it runs."""

    files: tuple[str, ...]
    overrides: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, folder: str, files: Iterable[str | Path], overrides: Iterable[str]) -> "Command":
        """A command's words, with paths as seen from ``folder``; of a key given twice the last."""
        places = [os.path.realpath(Path(folder) / file) for file in files]
        pairs = {key: value for key, _, value in (word.partition("=") for word in overrides)}
        return cls(tuple(places), frozenset(pairs.items()))

    @classmethod
    def read(cls, script: str, folder: str) -> "Command | None":
        """The snakemake that a job's script starts; None where it starts none."""
        try:
            words = shlex.split(script, comments=True)
        except ValueError:  # quotes that are never closed: not the plugin's
            return None
        if not any(word.rpartition("/")[2] == "snakemake" for word in words):
            return None
        options: dict[str, list[str]] = {}
        named = ""
        for word in words:
            if word.startswith("-"):
                named = word
            else:
                options.setdefault(named, []).append(word)
        files = options.get("--configfiles", options.get("--configfile", []))
        return cls.of(folder, files, options.get("--config", []))


def _queued(jobs: set[str], folder: str) -> list[str]:
    """Numbers of this user's jobs in the queue with one of these comments and that folder."""
    command = ["squeue", "--noheader", "--user", getpass.getuser(), "--format=%i|%Z|%k"]
    done = subprocess.run(command, capture_output=True, text=True)
    rows = [line.split("|", 2) for line in done.stdout.splitlines() if line.count("|") >= 2]
    return [number for number, place, comment in rows if place == folder and comment in jobs]


def _script(number: str) -> str:
    """A job's script, as it was submitted; nothing where Slurm no longer has it."""
    command = ["scontrol", "write", "batch_script", number, "-"]
    return subprocess.run(command, capture_output=True, text=True).stdout


def _minutes(limit: str) -> float | None:
    """Slurm's [days-]hours:minutes:seconds, minutes:seconds or 'infinite'."""
    if limit == "infinite":
        return None
    days, _, clock = limit.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    seconds = sum(part * 60**power for power, part in enumerate(reversed(parts)))
    return int(days or 0) * 1440 + seconds / 60
