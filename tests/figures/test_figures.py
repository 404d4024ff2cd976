"""Every figure: drawn, reproducible to the byte, its numbers beside it, no global state."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import law_simulate as simulate
from p2law.figures import names
from p2law.figures.draw import DRAW
from p2law.figures.names import FIGURES
from p2law.laws.forms import registry
from p2law.results import manifest

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
FORMS = [*registry.HEADLINE, "chinchilla"]


@pytest.fixture(scope="module")
def draw(run_script):
    """Callable: draw a study's figures into a folder of it."""

    def run(folder: Path, out: str, law: bool = True) -> Path:
        options = ["--law", folder / "law/manifest.json"] if law else []
        tables = folder / "tables/manifest.json"
        run_script(
            "figures.py", "--spec", '{"key": "f"}', *options, "--tables", tables,
            "--out", folder / out,
        )  # fmt: skip
        return folder / out

    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory, write_study) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), simulate.study(), FORMS)


def test_names_and_functions_match():
    assert list(DRAW) == list(names.of(["wsd", "cosine"]))
    assert names.of(["wsd"]) == FIGURES
    assert list(names.of([])) == ["oneshot"]


def test_names_import_nothing_heavy():
    code = (
        "import sys, p2law.figures.names; print([m for m in sys.modules if 'matplot' in m]);"
        "assert 'pandas' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_every_figure_twice_gives_the_same_bytes(whole, draw):
    first, second = draw(whole, "figures"), draw(whole, "again")
    for name in FIGURES:
        for ending in ("pdf", "png", "csv"):
            one, two = (f / f"{name}.{ending}" for f in (first, second))
            assert one.stat().st_size > 0
            assert digest(one) == digest(two), one.name
    written = manifest.verify_files(first / "manifest.json")
    assert len(written["files"]) == 3 * len(FIGURES)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_without_runs_only_the_pruned_models_are_drawn(whole, draw):
    out = draw(whole, "bare", law=False)
    written = manifest.verify_files(out / "manifest.json")
    assert set(written["files"]) == {"oneshot.csv", "oneshot.pdf", "oneshot.png"}
    assert set(written["inputs"]) == {"tables"}
    shown = pd.read_csv(out / "oneshot.csv")
    assert sorted(shown["Lp"]) == sorted(simulate.pruned_models(simulate.study())["Lp"])


def test_a_tiny_study_still_has_every_figure(tmp_path, write_study, draw):
    rows = simulate.study()
    rows = rows[(rows["N0"] < 9e5) & (rows["D"] < 4e4) & (rows["rho"] < 0.2)]
    out = draw(write_study(tmp_path, rows, FORMS), "figures")
    assert all((out / f"{name}.png").exists() for name in FIGURES)


def test_drawing_leaves_no_pyplot_behind(whole):
    code = (
        "import sys; from pathlib import Path; from p2law.figures import data, draw;"
        f"d = data.read(Path(r'{whole}/tables/manifest.json'), Path(r'{whole}/law/manifest.json'));"
        f"draw.draw_all(d, Path(r'{whole}/third')); assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
