"""Resumable state: whole or absent, verified, refused by file name."""

import pytest
import torch

from p2law.errors import UserError
from p2law.training import state

IDENTITY = {"key": "k", "torch": "2"}
TENSORS = {"weight/a": torch.arange(6.0).view(2, 3)}


def save(leg, step, tensors=TENSORS, **options):
    return state.write(leg, step, tensors, identity=IDENTITY, extra={"losses": [1.5]}, **options)


def test_reads_what_was_written(tmp_path):
    save(tmp_path / "trunk", 7)
    tensors, record = state.read(tmp_path / "trunk", 7, identity=IDENTITY)
    assert torch.equal(tensors["weight/a"], TENSORS["weight/a"])
    assert (record["step"], record["losses"], record["leg"]) == (7, [1.5], "trunk")


def test_keeps_the_last_two(tmp_path):
    for step in (1, 2, 3, 10):
        save(tmp_path, step)
        save(tmp_path / "forks", step, kept=None)
    assert state.steps(tmp_path) == [3, 10]
    assert state.steps(tmp_path / "forks") == [1, 2, 3, 10]


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs but what the next process does."""


@pytest.mark.parametrize("write", range(9))
def test_killed_at_any_write_the_previous_state_stays(tmp_path, monkeypatch, write):
    """Every call that touches the disk during a save is a place to die before it."""
    import pathlib

    import safetensors.torch

    save(tmp_path, 1)
    calls = []

    def deadly(function):
        def wrapped(*args, **options):
            calls.append(function)
            if len(calls) == write + 1:
                raise Killed
            return function(*args, **options)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", deadly(safetensors.torch.save_file))
        patch.setattr(state, "_sync", deadly(state._sync))
        patch.setattr(state, "write_json", deadly(state.write_json))
        patch.setattr(state, "discard", deadly(state.discard))
        patch.setattr(pathlib.Path, "rename", deadly(pathlib.Path.rename))
        try:
            save(tmp_path, 2, {"weight/a": TENSORS["weight/a"] + 1})
        except Killed:
            pass
        else:
            assert write >= len(calls)
    newest = state.steps(tmp_path)[-1]
    tensors, record = state.read(tmp_path, newest, identity=IDENTITY)
    assert record["step"] == newest
    assert torch.equal(tensors["weight/a"], TENSORS["weight/a"] + (newest - 1))
    assert 1 in state.steps(tmp_path)
    state.sweep(tmp_path.parent)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damage_is_refused_by_file_name(tmp_path, damage):
    file = save(tmp_path, 1) / state.TENSORS
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    {
        "flip": lambda: file.write_bytes(data),
        "cut": lambda: file.write_bytes(data[:-4]),
        "gone": file.unlink,
    }[damage]()
    with pytest.raises(UserError, match=r"step-000000001/state\.safetensors: its bytes"):
        state.read(tmp_path, 1, identity=IDENTITY)


@pytest.mark.parametrize("part", ["key", "torch"])
def test_another_runs_state_is_refused(tmp_path, part):
    save(tmp_path, 1)
    with pytest.raises(UserError, match=f"state.json: its {part} is"):
        state.read(tmp_path, 1, identity={**IDENTITY, part: "other"})


def test_a_full_disk_leaves_the_last_state(tmp_path, monkeypatch):
    import safetensors.torch

    save(tmp_path, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(UserError, match="could not be saved: no space left on the disk"):
        save(tmp_path, 2)
    assert state.steps(tmp_path) == [1]
    assert not list(tmp_path.glob(".*"))
