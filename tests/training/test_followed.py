"""A real training as `status` follows it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from p2law.results import status
from p2law.study.grid import Study
from p2law.study.stages import Stages
from p2law.training import run

ROOT = Path(__file__).parents[2]


def test_a_real_run_is_followed_through_kill_and_stop(tmp_path, corpus, pruned, spec):
    """running, then killed: failed; started again and stopped: stopped; finished: done.

    Nothing but the run's own process is there: no controller whose death could matter.
    """
    config = yaml.safe_load((ROOT / "studies" / "tiny.yaml").read_text())
    stages = Stages(Study(config, "tiny.yaml", tmp_path))
    study = stages.study
    one = next(iter(study.runs.values()))
    out = stages["posttrain"].outputs(one.variant.model, one.name)[0].parents[1]
    log = study.root / "logs" / "posttrain" / one.variant.model / f"{one.name}.log"
    log.parent.mkdir(parents=True)
    asked = spec([16, 32, 64], key="k")  # the tiny study's budgets in steps of 128 tokens
    script = Path(run.__file__).parents[2] / "posttrain.py"
    command = [sys.executable, script, "--spec", json.dumps(asked), "--pruned", pruned]
    command += ["--corpus", corpus, "--out", out]

    def state() -> status.Row:
        (row,) = (r for r in status.rows(stages) if r.name == f"{one.variant.model}/{one.name}")
        return row

    def start() -> subprocess.Popen:
        """The run's process, halted as soon as it holds its lease."""
        held = out / "state" / "k" / "lease.json"
        held.unlink(missing_ok=True)
        with log.open("w") as file:
            process = subprocess.Popen([str(word) for word in command], stdout=file, stderr=file)
        while process.poll() is None and not held.exists():
            time.sleep(0.005)
        process.send_signal(signal.SIGSTOP)
        return process

    assert state().state == "waiting"
    process = start()
    assert (state().state, state().points) == ("running", (0, 3))
    process.kill()
    process.wait()
    assert (state().state, state().log) == ("failed", log)
    process = start()
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    assert process.wait() == 75, log.read_text()
    assert state().state == "stopped"
    run.posttrain(asked, pruned, corpus, out)
    assert (state().state, state().points) == ("done", (3, 3))
    assert "1 done" in status.table(list(status.rows(stages)))
