"""The law's records: what is written is read back, tables count every point once, one headline."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import law_simulate as simulate
from p2law.errors import UserError
from p2law.laws.fitting.health import Status, status_of
from p2law.laws.forms import registry
from p2law.laws.judging.metrics import each_point_once
from p2law.laws.records import Constant, Estimate, FittedLaw
from p2law.laws.results import Law, LawResults
from p2law.laws.study import fit_study

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


@pytest.fixture(scope="module")
def law() -> LawResults:
    rows = simulate.study().query("method != 'width' and N0 < 9e5")
    return fit_study(rows, {"forms": ["p2", registry.DAMAGE, "rectified"], "bootstrap": 6})


def test_what_is_written_is_read_back(law, tmp_path):
    files = law.write(tmp_path)
    assert set(files) == {f.name for f in tmp_path.iterdir()}
    found = LawResults.read(tmp_path)
    for name in (f.name for f in fields(Law)):
        assert getattr(found, name) == getattr(law, name), name
    pd.testing.assert_frame_equal(found.predictions, law.predictions, check_dtype=False)
    pd.testing.assert_frame_equal(found.draws, law.draws)
    assert isinstance(found.fits[0], FittedLaw) and isinstance(found.fits[0].status, Status)
    constant = found.fit("simulated", "depth", "p2").constants["beta"]
    assert isinstance(constant, Constant) and constant.low <= constant.value <= constant.high


def test_writing_twice_gives_the_same_bytes(law, tmp_path):
    for folder in ("one", "two"):
        law.write(tmp_path / folder)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("name", ["law.json", "draws.parquet", "predictions.csv"])
def test_a_missing_or_foreign_file_is_named(law, tmp_path, name):
    law.write(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=f"{name}: missing; run the law stage"):
        LawResults.read(tmp_path)
    for text in ("[]", "null", "{}", '{"fits": [', '{"fits": [{"form": 3}]}'):
        law.write(tmp_path)
        (tmp_path / "law.json").write_text(text)
        with pytest.raises(UserError, match="law.json: not a law of this version"):
            LawResults.read(tmp_path)


def test_tables_say_what_the_records_say(law):
    constants = law.constants_table()
    assert len(constants) == sum(len(f.constants) for f in law.fits)
    held = law.holdout_table()
    assert list(held["mean_abs_rel_error"]) == [h.errors.mean_abs_rel_error for h in law.holdouts]
    table = law.comparison_table().set_index(["family", "method", "form"])
    for (family, method, form), row in table.iterrows():
        mine = [h for h in law.holdouts if (h.family, h.method, h.form) == (family, method, form)]
        for split in {h.split for h in mine}:
            parts = [h for h in mine if h.split == split]
            total = sum(h.errors.mean_abs_rel_error * h.errors.points for h in parts)
            mean = total / sum(h.errors.points for h in parts)
            assert row[f"held_out_{split}"] == pytest.approx(mean, rel=1e-12)


def test_each_point_counts_once():
    """Against the plain mean over points: parts of 1, 3 and 6 points, and one without a value."""
    rng = np.random.default_rng(0)
    points = [rng.random(n) for n in (1, 3, 6)]
    rows = pd.DataFrame({"form": "a", "split": "s", "points": [1, 3, 6],
                         "mean_abs_rel_error": [p.mean() for p in points]})  # fmt: skip
    rows.loc[3] = ["a", "s", 100, np.nan]
    rows.loc[4] = ["b", "s", 2, 0.5]
    found = each_point_once(rows, ["form", "split"])
    assert found["a", "s"] == pytest.approx(np.concatenate(points).mean(), rel=1e-12)
    assert found["b", "s"] == 0.5


def test_status_tells_the_worst():
    assert status_of(False, True, True) is Status.NOT_CONVERGED
    assert status_of(True, True, True) is Status.UNDETERMINED
    assert status_of(True, False, True) is Status.AT_FENCE
    assert status_of(True, False, False) is Status.CONVERGED
    assert Estimate(1.0).low is None


def test_headline_laws_and_their_titles_stand_in_the_registry():
    assert [registry.get(name).title for name in registry.HEADLINE] == ["P²", "damage"]
    assert registry.get("chinchilla").title == "chinchilla"
    assert len({form.title for form in registry.FORMS.values()}) == len(registry.FORMS)


FOREIGN = ("study", "pruning", "cluster", "training", "evaluation", "corpus", "checkpoints")


def test_a_fit_of_a_csv_loads_no_study_pruning_cost_or_torch(tmp_path):
    table = simulate.study().query("method == 'depth'").drop(columns="run_given")
    table.to_csv(tmp_path / "losses.csv", index=False)
    code = (
        "import sys, fit; sys.argv = ['fit.py', 'losses.csv', '--bootstrap', '3', '--out', 'o'];"
        f"sys.path.append(r'{SCRIPTS}'); fit.main();"
        f"foreign = ['p2law.' + name for name in {FOREIGN}] + ['torch', 'transformers'];"
        "print([m for m in sys.modules if any((m + '.').startswith(f + '.') for f in foreign)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={"PATH": "", "PYTHONPATH": str(SCRIPTS), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
