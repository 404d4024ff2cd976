"""Progress: lines of JSON for a log, a bar for a terminal, the same record for `status`."""

import io
import json

import pytest

from p2law.training import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def train(stream, steps=4):
    made = progress.Progress(steps, 128, stream)
    return [
        made.record(leg="trunk", step=k + 1, loss=3.0 - k / 10, learning_rate=1e-3)
        for k in range(steps)
    ]


def test_a_log_gets_one_line_an_interval_and_the_last(monkeypatch):
    now = iter(range(0, 1000, 4))  # a step takes four seconds, a line is due after ten
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))
    stream = io.StringIO()
    records = train(stream, steps=7)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["step"] for line in lines] == [3, 6, 7]
    assert lines[-1] == records[-1]
    assert lines[0]["tokens_per_second"] == pytest.approx(3 * 128 / 12)
    assert lines[0]["eta_seconds"] == pytest.approx(4 * 4)
    assert (lines[-1]["tokens"], lines[-1]["loss"], lines[-1]["eta_seconds"]) == (7 * 128, 2.4, 0)
    assert lines[-1]["peak_memory_bytes"] > 2**20


def test_a_terminal_gets_a_bar():
    stream = Terminal()
    records = train(stream)
    shown = stream.getvalue()
    assert "{" not in shown
    assert "100%" in shown
    assert "leg=trunk, loss=2.700" in shown
    assert records[-1]["step"] == 4
