"""The door of the scripts: what their folder hides, options that hold JSON, how faults are told."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


def test_a_script_hides_no_package_of_its_name(tmp_path):
    """lm-eval imports the package `evaluate`; Python finds a script's own folder first."""
    names = sorted(path.stem for path in SCRIPTS.glob("*.py"))
    assert {"evaluate", "tables"} <= set(names)
    for name in names:
        (tmp_path / f"{name}.py").write_text("HIDDEN = False\n")
    code = (
        f"import sys; sys.path[0] = {str(SCRIPTS)!r}; sys.path.insert(1, {str(tmp_path)!r});"
        "from p2law.commands import script; from importlib import import_module;"
        f"bad = [n for n in {names!r} if not hasattr(import_module(n), 'HIDDEN')];"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""


@pytest.mark.parametrize(("text", "words"), [("{", "not JSON"), ("[]", "a JSON object is needed")])
@pytest.mark.parametrize("name", ["base", "corpus", "prune", "evaluate", "tables", "figures"])
def test_a_spec_that_is_no_object_is_told_in_a_line(name, text, words):
    command = [sys.executable, SCRIPTS / f"{name}.py", "--spec", text]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr
