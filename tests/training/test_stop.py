"""A run stops in time: before its limit, by more where steps and saves take long."""

import os
import signal
import time

import pytest

from p2law.training import run, state, stop
from p2law.training.stop import MARGIN, Stop, Stopped

BATCH = 128  # tokens of a step of these runs


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set: seconds from now."""
    start = now = time.time()

    def turn(seconds: float) -> None:
        nonlocal now
        now = start + seconds

    monkeypatch.setattr(stop.time, "time", lambda: now)
    return turn


def test_stops_a_margin_before_the_limit(clock):
    with Stop(limit=1000) as asked:
        clock(1000 - MARGIN - 1)
        assert asked.wanted() is None
        clock(1000 - MARGIN + 1)
        assert asked.wanted() == "the time limit"


def test_what_a_save_takes_is_left_too(clock):
    with Stop(limit=1000) as asked:
        asked.reserve(200)
        asked.reserve(50)  # a quick save after a slow one changes nothing
        clock(1000 - MARGIN - 201)
        assert asked.wanted() is None
        clock(1000 - MARGIN - 199)
        assert asked.wanted()


def test_the_earlier_of_two_limits_counts(clock, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(time.time() + 500))
    with Stop(limit=1000) as asked:
        clock(500 - MARGIN + 1)
        assert asked.wanted()


def test_without_a_limit_only_signals_stop_and_handlers_come_back(clock):
    before = signal.getsignal(signal.SIGTERM)
    with Stop() as asked:
        clock(1e9)
        assert asked.wanted() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked.wanted() == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) is before


def test_slow_saves_stop_a_run_early(tmp_path, corpus, pruned, spec, monkeypatch):
    """Saves that seem to take 100 s: a limit far off is near after the first of them."""
    write, monotonic, late = state.write, time.monotonic, [0.0]

    def slow(*args, **options):
        late[0] += 100
        return write(*args, **options)

    monkeypatch.setattr(state, "write", slow)
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + late[0])
    with pytest.raises(Stopped, match="the time limit"):
        run.posttrain(spec([8, 16]), pruned, corpus, tmp_path, limit=MARGIN + 150)
    assert not (tmp_path / f"D{16 * BATCH}").exists()
    run.posttrain(spec([8, 16]), pruned, corpus, tmp_path, limit=MARGIN + 1000)
    assert (tmp_path / f"D{16 * BATCH}" / "manifest.json").exists()
