"""A disk that takes no more is told in one line, whatever was being written; exit code 2."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from p2law import canonical
from p2law.errors import UserError, refusal, writing

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
MOUNTS = subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
WRITE = f"""if True:
    import sys
    sys.path.insert(0, {str(SCRIPTS)!r})
    import shutil
    from pathlib import Path
    import numpy as np
    import pandas as pd
    from safetensors.numpy import save_file
    from p2law.errors import UserError, writing
    disk, array = Path(sys.argv[1]), np.arange(100_000)
    writers = [
        lambda path: path.write_text("x" * 100_000),
        lambda path: shutil.copyfile(pd.core.frame.__file__, path),
        lambda path: array.tofile(path),
        lambda path: save_file({{"x": array}}, path),
        lambda path: pd.DataFrame({{"x": array}}).to_parquet(path),
        lambda path: pd.DataFrame({{"x": array}}).to_csv(path),
    ]
    for write in writers:
        try:
            with writing(Path("results/x")):
                write(disk / "file")
        except UserError as error:
            print(error, flush=True)
        (disk / "file").unlink(missing_ok=True)
"""


@pytest.mark.skipif(not MOUNTS, reason="file systems cannot be mounted here")
def test_every_writers_own_error_is_known(tmp_path):
    """The real errors of the real libraries, on a file system of 64 kB."""
    mount = f'mount -t tmpfs -o size=64k none {tmp_path} && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", mount, "-", sys.executable, "-c", WRITE, tmp_path]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.stdout == "results/x: no space left on the disk\n" * 6, done.stderr


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left on the disk"),
        (errno.EDQUOT, "no space left in the disk quota"),
        (errno.EROFS, "can only be read"),
        (errno.EFBIG, "larger than a limit"),
        (errno.ENOENT, None),
        (errno.EIO, None),
    ],
)
def test_refusals_by_number_and_no_other_error(number, words):
    for error in (OSError(number, "x"), RuntimeError(f"I/O error: x (os error {number})")):
        found = refusal(error)
        assert found is None if words is None else words in found
    assert refusal(ValueError("no space left")) is None


def test_other_errors_pass_as_they_are():
    with pytest.raises(KeyError), writing(Path("x")):
        raise KeyError("x")


@pytest.mark.parametrize(
    ("error", "named"),
    [
        ("OSError(28, 'No space left on device')", "results/made"),
        ("OSError(28, 'No space left on device', 'a/file.bin')", "a/file.bin"),
        ("RuntimeError('I/O error: No space left on device (os error 28)')", "results/made"),
    ],
)
def test_the_door_of_every_script_says_it_in_one_line(error, named):
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); from p2law.commands import script\n"
        f"def main(): raise {error}\n"
        "sys.exit(script.run(main))"
    )
    command = [sys.executable, "-c", code, "--out", "results/made"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: {named}: no space left on the disk\n"


def test_a_whole_file_stays_where_the_next_does_not_fit(tmp_path, monkeypatch):
    path = tmp_path / "manifest.json"
    canonical.write_json(path, {"a": 1})
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(canonical.os, "fsync", full)
    with pytest.raises(UserError, match=f"{path}: no space left on the disk"):
        canonical.write_json(path, {"a": 2})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
