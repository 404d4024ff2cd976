"""Every figure: drawn, reproducible to the byte, its numbers beside it, no global state."""

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import law_simulate as simulate
from p2law.figures import names, oneshot
from p2law.figures.draw import DRAW
from p2law.figures.names import FIGURES
from p2law.laws.forms import registry
from p2law.results import manifest
from p2law.tables.oneshot import matched_rates

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


def run(*command: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=SCRIPTS, capture_output=True, text=True
    )


FORMS = ("p2", registry.DAMAGE, "chinchilla")


def study(folder: Path, rows: pd.DataFrame, forms: tuple[str, ...] = FORMS) -> Path:
    """tables/ and law/ of a study, as the rules write them."""
    tables = folder / "tables"
    tables.mkdir()
    rows.drop(columns=["rho", "run_given"]).to_parquet(tables / "losses.parquet")
    pruned_models(rows).to_parquet(tables / "oneshot.parquet")
    manifest.write_manifest(
        tables, stage="tables", spec={"key": "t"}, inputs={},
        files=["losses.parquet", "oneshot.parquet"], results={}, started=time.time(),
    )  # fmt: skip
    spec = {"key": "l", "forms": list(forms), "bootstrap": 20}
    if "schedule" in rows:
        spec["schedule"] = rows["schedule"].iloc[0]
    done = run(
        "fit.py", tables / "losses.parquet", "--spec", json.dumps(spec), "--out", folder / "law"
    )
    assert done.returncode == 0, done.stderr
    return folder


def pruned_models(rows: pd.DataFrame) -> pd.DataFrame:
    """The variants behind a loss table, as the tables stage writes them."""
    first = rows.groupby(["model", "method", "rho"], as_index=False).first()
    kinds = {"depth": "depth", "width": "width"}
    return first.assign(
        prune=first["method"].map(kinds).fillna("weights"), settings=first["method"],
        rate=first["rho"], damage=first["Lp"] - first["L0"], damage_se=0.01,
    )  # fmt: skip


def draw(folder: Path, out: str, law: bool = True) -> Path:
    options = ["--law", folder / "law/manifest.json"] if law else []
    done = run(
        "figures.py", "--spec", '{"key": "f"}', *options,
        "--tables", folder / "tables/manifest.json", "--out", folder / out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / out


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return study(tmp_path_factory.mktemp("study"), simulate.study())


def test_names_and_functions_match():
    assert list(DRAW) == list(names.of(["wsd", "cosine"]))
    assert names.of(["wsd"]) == FIGURES


def test_names_import_nothing_heavy():
    code = "import sys, p2law.figures.names; print([m for m in sys.modules if 'matplot' in m])"
    assert run("-c", code + "; assert 'pandas' not in sys.modules").stdout.strip() == "[]"


def test_every_figure_twice_gives_the_same_bytes(whole):
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


def test_the_csv_holds_the_measured_losses(whole):
    out = draw(whole, "figures")
    shown = pd.read_csv(out / "curves.csv").query("series == 'measured'")
    assert sorted(shown["loss"]) == sorted(simulate.study()["loss"])


def test_without_runs_only_the_pruned_models_are_drawn(whole):
    out = draw(whole, "bare", law=False)
    written = manifest.verify_files(out / "manifest.json")
    assert set(written["files"]) == {"oneshot.csv", "oneshot.pdf", "oneshot.png"}
    assert set(written["inputs"]) == {"tables"}
    shown = pd.read_csv(out / "oneshot.csv")
    assert sorted(shown["Lp"]) == sorted(pruned_models(simulate.study())["Lp"])


def test_methods_are_ranked_within_their_kind():
    rows = [("a", "depth", 0.2, 1.0), ("b", "depth", 0.2, 0.5), ("c", "weights", 0.2, 0.7)]
    rows += [("d", "weights", 0.4, 0.1), ("e", "weights", 0.21, 0.6), ("a", "depth", 0.4, 9.0)]
    table = pd.DataFrame(rows, columns=["method", "prune", "rate", "damage"])
    table["matched"] = matched_rates(table["rate"])
    # At 0.2, where most methods are; d, which is not there, comes last of its kind.
    assert [method for _, method in oneshot.order(table)] == ["e", "c", "d", "b", "a"]


def test_a_tiny_study_still_has_every_figure(tmp_path):
    rows = simulate.study()
    rows = rows[(rows["N0"] < 9e5) & (rows["D"] < 4e4) & (rows["rho"] < 0.2)]
    out = draw(study(tmp_path, rows), "figures")
    assert all((out / f"{name}.png").exists() for name in FIGURES)


def test_drawing_leaves_no_pyplot_behind(whole):
    code = (
        "import sys; from pathlib import Path; from p2law.figures import data, draw;"
        f"d = data.read(Path(r'{whole}/tables/manifest.json'), Path(r'{whole}/law/manifest.json'));"
        f"draw.draw_all(d, Path(r'{whole}/third')); assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


def test_several_schedules_are_compared(tmp_path):
    """Two schedules: one figure more, the others drawn from the first schedule's points alone."""
    rows = simulate.study()
    rows = rows[rows["method"] == "depth"]
    rows = rows.assign(variant=rows["method"] + rows["rate"].map("-{:g}".format))
    parts = []
    for name in ("wsd", "cosine"):
        done = rows["D"] if name == "wsd" else rows.groupby("run")["D"].cumsum()
        run = rows["run"] + ("" if name == "wsd" else "-cosine")
        parts.append(rows.assign(schedule=name, tokens_trained=done, run=run))
    out = draw(study(tmp_path, pd.concat(parts, ignore_index=True), ("p2",)), "figures")
    table = pd.read_csv(out / "schedules.csv")
    assert set(table["panel"]) == {"loss", "exponent", "tokens"}
    assert set(table["schedule"]) == {"wsd", "cosine"}
    shares = table[table["panel"] == "tokens"].set_index("schedule")["share"]
    assert shares["cosine"] == pytest.approx(1.0)
    drawn = pd.read_csv(out / "curves.csv")
    assert not drawn["run"].str.endswith("-cosine").any()
    compared = pd.read_csv(tmp_path / "law" / "schedules.csv")
    assert {"middle", "beta", "tokens_trained"} <= set(compared)
