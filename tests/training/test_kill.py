"""kill -9 at random moments of a run: it always resumes, to the bytes of an undisturbed one."""

import os
import random
import signal
import time

import pytest

from p2law.results import manifest
from p2law.training import run, saver

BATCH = 128
KILLS = 50


@pytest.mark.slow
def test_killed_at_fifty_moments(tmp_path, corpus, sparse, spec, monkeypatch):
    """Forked children train and are killed after a random time; states are saved all the while."""
    asked = spec([40, 80, 120])
    run.posttrain(asked, sparse, corpus, tmp_path / "whole")
    monkeypatch.setattr(saver, "SAVE_EVERY", 0.0)
    moments = random.Random(0)
    kills, out = 0, tmp_path / "cut"
    while kills < KILLS:
        child = os.fork()
        if child == 0:
            try:
                run.posttrain(asked, sparse, corpus, out)
                os._exit(0)
            finally:
                os._exit(1)
        time.sleep(moments.uniform(0.0, 0.5))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            kills += 1
        else:  # it ended first: begin the next run
            assert os.WEXITSTATUS(status) == 0
            _same(out, tmp_path / "whole")
            out = tmp_path / f"cut-{kills}"
    run.posttrain(asked, sparse, corpus, out)
    _same(out, tmp_path / "whole")


def _same(out, whole):
    """The same points with the same bytes, and nothing else."""
    names = [f"D{n * BATCH}" for n in (120, 40, 80)]
    assert sorted(path.name for path in out.glob("D*")) == sorted(names)
    for name in names:
        manifest.verify_files(out / name / "manifest.json")
        file = "model.safetensors"
        assert (out / name / file).read_bytes() == (whole / name / file).read_bytes()
    assert not list(out.glob("state/*/lease.json"))
