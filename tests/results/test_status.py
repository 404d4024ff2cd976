"""`status` tells from files alone what every training is doing."""

import json
import os
import platform
from pathlib import Path

import yaml

from p2law.results import status
from p2law.study.grid import Study
from p2law.study.stages import Stages
from p2law.training import lease

ROOT = Path(__file__).parents[2]


def hold(folder: Path, **changes) -> None:
    """A lease as a running process writes it."""
    record = {
        "token": "t",
        "node": platform.node(),
        "pid": os.getpid(),
        "process_started": lease.process_started(os.getpid()),
        "machine": lease.machine(),
        "progress": {"tokens": 2048, "loss": 3.5, "tokens_per_second": 99.0, "eta_seconds": 61},
        **changes,
    }
    path = folder / "state" / "key" / "lease.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))


def test_states_from_manifests_leases_and_logs(tmp_path):
    config = yaml.safe_load((ROOT / "studies" / "tiny.yaml").read_text())
    stages = Stages(Study(config, "tiny.yaml", tmp_path))
    study, points = stages.study, stages["posttrain"]
    runs = list(study.runs.values())[:4]
    jobs = [(run.variant.model, run.name) for run in runs]
    folders = [points.outputs(*job)[0].parents[1] for job in jobs]
    for path in points.outputs(*jobs[0]):
        path.parent.mkdir(parents=True)
        path.touch()
    hold(folders[1])
    hold(folders[2], pid=2**22 + 1)  # no such process
    log = study.root / "logs" / "posttrain" / runs[3].variant.model / f"{runs[3].name}.log"
    log.parent.mkdir(parents=True)
    log.write_text("error: the disk is full\n")
    found = {row.name: row for row in status.rows(stages)}
    named = [found[f"{run.variant.model}/{run.name}"] for run in runs]
    assert [row.state for row in named] == ["done", "running", "failed", "failed"]
    assert named[3].log == log
    log.write_text("SIGTERM: saved trunk at step 3\n")
    assert {row.name: row.state for row in status.rows(stages)}[named[3].name] == "stopped"
    others = set(found) - {row.name for row in named}
    assert {found[name].state for name in others} == {"waiting"}
    shown = status.table(list(found.values()))
    assert "0:01:01" in shown
    assert "1 done, 1 running, 2 failed" in shown
