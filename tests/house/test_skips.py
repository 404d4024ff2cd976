"""A run of the tests that leaves some out says how many and why, in its last lines."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_absent_public_tables_are_counted_aloud(tmp_path):
    checkout = tmp_path / "checkout"
    (checkout / "tests").mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", checkout)
    shutil.copy(ROOT / "tests" / "conftest.py", checkout / "tests")
    (checkout / "tests" / "test_it.py").write_text(
        "import pytest\n\n"
        "@pytest.mark.tables\n"
        "@pytest.mark.parametrize('k', [1, 2, 3])\n"
        "def test_a_table(k, public_tables):\n    assert (public_tables / 'a.csv').is_file()\n\n"
        "def test_other():\n    pass\n"
    )

    def run() -> list[str]:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests"]
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        return done.stdout.splitlines()

    told = (
        "3 tests skipped: no public tables; fetch with: envs/run python benchmarks/public_tables.py"
    )
    assert told in run()
    (checkout / ".tables").mkdir()
    (checkout / ".tables" / "a.csv").touch()
    assert not any("skipped" in line for line in run())
