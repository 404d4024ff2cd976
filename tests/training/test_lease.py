"""The lease: one writer a run; a dead holder's run can be taken over."""

import json
import subprocess
import sys
import threading
import time

import pytest

from p2law.errors import UserError
from p2law.training import lease


def test_a_second_writer_is_refused(tmp_path):
    path = tmp_path / "lease.json"
    with lease.Lease(path) as first:
        with pytest.raises(UserError, match="is training this run"), lease.Lease(path):
            pass
        for step in (3, 4):  # the first step is told at once, the next after an interval
            first.beat({"step": step})
            assert lease.read(path)["progress"] == {"step": 3}
    assert not path.exists()


def test_a_dead_process_is_no_holder(tmp_path):
    path = tmp_path / "lease.json"
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    with lease.Lease(path):
        held = lease.read(path)
    path.write_text(json.dumps({**held, "pid": int(gone.stdout), "process_started": "1"}))
    with lease.Lease(path):
        assert lease.read(path)["pid"] != int(gone.stdout)


def elsewhere(path, **changes) -> None:
    """A lease that a process of another machine holds, whose heart has just beaten."""
    with lease.Lease(path):
        held = lease.read(path)
    path.write_text(json.dumps({**held, "node": "elsewhere", "beat": time.time(), **changes}))


def test_another_machines_holder_lives_while_its_heart_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "LOOK", 0.05)
    path = tmp_path / "lease.json"
    elsewhere(path)

    def beat() -> None:
        lease.write_json(path, {**lease.read(path), "beat": time.time()})

    heart = threading.Timer(0.3, beat)
    heart.start()
    with pytest.raises(UserError, match="on elsewhere"), lease.Lease(path):
        pass
    heart.join()


def test_a_heart_that_stopped_on_another_machine_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "LOOK", 0.05)
    monkeypatch.setattr(lease, "STALE", 0.5)
    path = tmp_path / "lease.json"
    elsewhere(path)
    began = time.monotonic()
    with lease.Lease(path):
        assert lease.read(path)["node"] != "elsewhere"
    assert time.monotonic() - began > 0.4  # not before it has lapsed


def test_a_requeued_job_takes_over_from_itself_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "LOOK", 60)
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    path = tmp_path / "lease.json"
    elsewhere(path)
    with lease.Lease(path):
        assert lease.read(path)["node"] != "elsewhere"


def test_a_holder_notices_that_it_was_replaced(tmp_path):
    path = tmp_path / "lease.json"
    with lease.Lease(path) as first:
        path.write_text(json.dumps({**lease.read(path), "token": "other"}))
        with pytest.raises(UserError, match="taken this run over"):
            first.beat({"step": 1})
    assert lease.read(path)["token"] == "other"
