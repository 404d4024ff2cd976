"""What every training of a study is doing, from manifests, leases and logs alone.

Nothing is asked of Snakemake or Slurm: the answer is the same after their controller died.
Imports no torch.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2law.study.stages import Stages
from p2law.training import lease


@dataclass(frozen=True)
class Row:
    """One training: a base model or a run.

    name       its path in the study
    state      done, running, stopped, failed or waiting
    points     finished manifests, of how many
    progress   the last heartbeat's record; empty where there is none
    log        its log, where a look at it is called for
    """

    name: str
    state: str
    points: tuple[int, int]
    progress: dict[str, Any]
    log: Path | None = None


def rows(stages: Stages) -> Iterator[Row]:
    """Every training of a study, bases first, in the study's order."""
    for stage, job in stages.jobs():
        if stage.trained(*job):
            folder = stage.study.root.joinpath(stage.folder, *job)
            name = "/".join(job if stage.weights else (stage.name, *job))
            yield _row(name, folder, stage.outputs(*job), stage.log(*job))


def _row(name: str, folder: Path, manifests: list[Path], log: Path) -> Row:
    """The state of one training, whose states lie in ``folder/state``."""
    points = (sum(path.exists() for path in manifests), len(manifests))
    leases = [held for path in folder.glob("state/*/lease.json") if (held := lease.read(path))]
    newest = max(leases, key=lambda held: held["written"], default=None)
    if newest and lease.alive(newest):
        return Row(name, "running", points, newest["progress"])
    if points[0] == points[1]:
        return Row(name, "done", points, {})
    if newest:  # it died without a chance to say so
        return Row(name, "failed", points, newest["progress"], log)
    if log.exists():
        saved = "saved " in (log.read_text(errors="replace").splitlines() or [""])[-1]
        return Row(name, "stopped" if saved else "failed", points, {}, log)
    return Row(name, "waiting", points, {})


def table(found: list[Row]) -> str:
    """The rows as text, with a line of totals."""
    lines = [f"{'training':36}{'state':>9}{'points':>8}{'tokens':>13}{'loss':>8}{'tok/s':>9}  left"]
    for row in found:
        p = row.progress
        line = f"{row.name:36}{row.state:>9}{row.points[0]:>5}/{row.points[1]:<2}"
        if p:
            line += f"{p['tokens']:>13,}{p['loss']:>8.3f}{p['tokens_per_second']:>9,.0f}"
            line += f"  {duration(p['eta_seconds'])}" if row.state == "running" else "  -"
        lines.append(line + (f"  see {row.log}" if row.log else ""))
    counts = dict.fromkeys(("done", "running", "stopped", "failed", "waiting"), 0)
    for row in found:
        counts[row.state] += 1
    total = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return "\n".join([*lines, f"{time.strftime('%H:%M:%S')}  {total}"])


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
