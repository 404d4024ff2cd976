"""A workflow killed in the middle: nothing is lost but unsaved steps, nothing is half-written."""

import hashlib
import os
import signal
import time

import pytest

TARGET = "results/tiny/base/tiny-24/manifest.json"


def wait_for(found, seconds: float = 120.0) -> None:
    """Wait until ``found()`` is true; fail after ``seconds``."""
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.05)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_of_training_it_goes_on_to_the_same_bits(first, clean, how):
    process = clean.start("--", TARGET)
    state = clean.results / "base/tiny-24/state"
    wait_for(lambda: list(state.rglob("lease*")))
    time.sleep(0.5)  # some steps on: the whole training takes a few seconds
    os.killpg(process.pid, how)
    process.wait(timeout=60)
    assert not (clean.folder / TARGET).exists()
    if how == signal.SIGKILL:
        clean.run("--unlock")
    clean.run("--rerun-incomplete", "--", TARGET)
    one, two = (
        (checkout.results / "base/tiny-24/model.safetensors").read_bytes()
        for checkout in (first, clean)
    )
    assert hashlib.sha256(one).hexdigest() == hashlib.sha256(two).hexdigest()
