"""The lease: one writer a run; a dead holder's run can be taken over."""

import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time

import pytest

from p2law.errors import UserError
from p2law.training import lease
from p2law.training.stop import Stop, Stopped


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
    """A lease that a process of another machine holds."""
    with lease.Lease(path):
        held = lease.read(path)
    lease.write_json(path, {**held, "node": "elsewhere", "machine": "another", **changes})


@pytest.mark.parametrize("clock", [0.0, -1e9, 1e9], ids=["even", "behind", "ahead"])
def test_another_machines_holder_lives_while_its_file_changes(tmp_path, monkeypatch, clock):
    """Whatever the times in it or of it: only that it changes counts."""
    monkeypatch.setattr(lease, "LOOK", 0.05)
    monkeypatch.setattr(lease, "STALE", 1.0)
    path = tmp_path / "lease.json"
    elsewhere(path)

    def beat() -> None:
        lease.write_json(path, {**lease.read(path), "beats": 2})
        os.utime(path, (time.time() + clock, time.time() + clock))

    heart = threading.Timer(0.3, beat)
    heart.start()
    with pytest.raises(UserError, match="on elsewhere"), lease.Lease(path):
        pass
    heart.join()


@pytest.mark.parametrize("clock", [0.0, -1e9, 1e9], ids=["even", "behind", "ahead"])
def test_a_heart_that_stopped_on_another_machine_is_waited_for(
    tmp_path, monkeypatch, capsys, clock
):
    """STALE seconds of the waiter's clock, whatever the holder's clock was; and it says so."""
    monkeypatch.setattr(lease, "LOOK", 0.05)
    monkeypatch.setattr(lease, "STALE", 0.5)
    path = tmp_path / "lease.json"
    elsewhere(path, beat=time.time() + clock)
    os.utime(path, (time.time() + clock, time.time() + clock))
    began = time.monotonic()
    with lease.Lease(path):
        assert lease.read(path)["node"] != "elsewhere"
    assert time.monotonic() - began > 0.4  # not before it has lapsed
    assert f"held by process {os.getpid()} on elsewhere; waiting" in capsys.readouterr().out


def test_a_clock_that_is_set_changes_nothing(tmp_path, monkeypatch):
    """Neither heartbeats nor their absence are told by the wall clock."""
    monkeypatch.setattr(lease, "LOOK", 0.05)
    monkeypatch.setattr(lease, "STALE", 0.5)
    path, now = tmp_path / "lease.json", time.time()
    monkeypatch.setattr(lease.time, "time", lambda: now - 1e6)
    elsewhere(path)
    with lease.Lease(path) as mine:
        monkeypatch.setattr(lease, "BEAT", 0.0)
        files = set()
        for step in (1, 1, 1):
            mine.beat({"step": step})
            files.add(path.read_text())
        assert len(files) == 3


def test_a_host_of_the_same_name_is_another_machine(tmp_path, monkeypatch):
    """Its process numbers are not ours: two containers may both be called by one name."""
    monkeypatch.setattr(lease, "LOOK", 0.05)
    path = tmp_path / "lease.json"
    elsewhere(path, node=platform.node(), pid=2**22 + 1)
    heart = threading.Timer(
        0.2, lambda: lease.write_json(path, {**lease.read(path), "progress": {"step": 9}})
    )
    heart.start()
    with pytest.raises(UserError, match="is training this run"), lease.Lease(path):
        pass
    heart.join()


def test_who_cannot_wait_goes_by_the_files_own_time(tmp_path):
    path = tmp_path / "lease.json"
    elsewhere(path, beat=time.time() - 1e6)  # what the holder's clock says is not asked
    assert lease.alive(lease.read(path))
    os.utime(path, (time.time() - lease.STALE - 1,) * 2)
    assert not lease.alive(lease.read(path))
    os.utime(path, (time.time() + 3600,) * 2)  # a server ahead of us: nothing is to be deleted
    assert lease.alive(lease.read(path))


def test_a_waiter_can_be_stopped(tmp_path, monkeypatch):
    """While it waits for the holder, and while it waits behind another waiter."""
    monkeypatch.setattr(lease, "LOOK", 0.05)
    path = tmp_path / "lease.json"
    elsewhere(path)
    for behind in (False, True):
        with path.with_suffix(".lock").open("w") as gate, Stop() as stop:
            if behind:
                fcntl.flock(gate, fcntl.LOCK_EX)
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
            with pytest.raises(Stopped, match="SIGTERM: while waiting for"):
                lease.Lease(path, stop.wanted).__enter__()
    assert lease.read(path)["node"] == "elsewhere"


@pytest.mark.parametrize("text", ["", "[]", "null", '{"token": '])
def test_what_is_no_lease_is_none(tmp_path, text):
    path = tmp_path / "lease.json"
    path.write_text(text)
    assert lease.read(path) is None
    with lease.Lease(path) as mine:
        assert lease.read(path)["token"] == mine.mine["token"]


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
