"""The law rule's function on studies of every size, its hold-outs, and the scripts by hand."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import law_simulate as simulate
from p2law.errors import UserError
from p2law.laws.forms import registry
from p2law.laws.judging import baselines, metrics
from p2law.laws.judging.splits import all_splits
from p2law.laws.records import Rise
from p2law.laws.study import fit_study
from p2law.results import manifest

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
FEW = {"forms": ["p2", "rectified", "damage_power", "journey"], "bootstrap": 10}
STUDY = simulate.study()
TINY = STUDY[(STUDY["N0"] < 9e5) & (STUDY["D"] < 7e4) & (STUDY["rho"] < 0.4)]


def run(*command: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=SCRIPTS, capture_output=True, text=True
    )


def test_study_reports_every_method_and_what_it_cannot_determine():
    law = fit_study(STUDY, FEW)
    json.dumps(law.as_json(), allow_nan=False)
    by_name = {(f.method, f.form): f for f in law.fits}
    assert {m for m, _ in by_name} == {"depth", "width", "sparse", "all"}
    assert by_name["depth", "p2"].rank == 7
    assert "gamma" not in by_name["sparse", "p2"].constants
    assert any("gamma" in note for note in by_name["sparse", "p2"].notes)
    gamma = by_name["depth", "p2"].constants["gamma"]
    assert gamma.low < gamma.value < gamma.high
    missing = next(s for s in law.skipped if s.form == "journey")
    assert missing.reason == "the table has no column N_average"
    open_ = {(a.method, a.form): a.open for a in law.advice}
    assert "gamma" in open_["sparse", "p2"]
    assert by_name["depth", "p2"].model_error["size"].groups == 3
    assert "damage_power" not in [f.form for f in law.fits if f.model_error]
    splits = {h.split for h in law.holdouts}
    assert splits == {
        "budget", "size", "rate", "leave-one-size", "leave-one-rate", "leave-one-method"
    }  # fmt: skip
    assert len(law.coverage) == 3 and sum(c.points for c in law.coverage) == len(STUDY)


@pytest.mark.parametrize(
    "rows", [TINY, TINY[TINY["D"] < 4e4], TINY[TINY["N0"] < 3e5], TINY[TINY["method"] == "depth"]]
)
def test_tiny_studies_flag_and_do_not_crash(rows):
    law = fit_study(rows, {**FEW, "bootstrap": 5})
    json.dumps(law.as_json(), allow_nan=False)
    p2 = [f for f in law.fits if f.form == "p2"]
    assert p2 and all(f.notes for f in p2)


def test_rises_and_points_below_the_base_are_listed():
    rows = STUDY[STUDY["method"] == "depth"].reset_index(drop=True)
    rows.loc[1, "loss"] = rows.loc[0, "loss"] + 0.01
    rows.loc[4, "loss"] = rows.loc[4, "L0"] - 0.01
    law = fit_study(rows, {"forms": ["p2"], "bootstrap": 0})
    first = rows["run"][0]
    assert Rise(first, 16384.0, 32768.0, pytest.approx(0.01)) in law.rises
    assert [(p.run, p.below) for p in law.below_base] == [(first, pytest.approx(0.01))]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"form": "p2"}, "unknown key 'form'"),
        ({"forms": ["p3"]}, "form 'p3' is unknown; allowed: p2"),
        ({"objective": "mse"}, "'mse': allowed: huber"),
        ({"delta": 0}, "delta 0: a number above 0"),
        ({"bootstrap": -1}, "bootstrap -1"),
        ({"seed": -3}, "seed -3"),
        ({"schedule": "wsd"}, "unknown key 'schedule'; allowed: .*recipe"),
        ({"signs": "odd"}, "'odd': allowed: nonnegative, free"),
    ],
)
def test_bad_specs(spec, message):
    with pytest.raises(UserError, match=message):
        fit_study(STUDY, spec)


def test_splits_hold_out_what_they_say():
    rows = STUDY[STUDY["method"] == "depth"].reset_index(drop=True)
    splits = {s.name: s for s in reversed(all_splits(rows))}
    assert set(rows.loc[splits["size"].test, "N0"]) == {1020e3}
    assert set(rows.loc[splits["rate"].test, "rho"]) == {0.44}
    assert set(rows.loc[splits["budget"].test, "D"]) == {262144.0}
    assert all((s.train ^ s.test).all() for s in splits.values() if not s.reason)
    assert splits["leave-one-method"].reason == "one method"


def test_metrics_by_hand():
    rows = pd.DataFrame(
        {"run": ["a", "a", "b", "b"], "D": [1e6, 3e6, 1e6, 2e6], "loss": [3.0, 2.8, 2.0, 1.9]}
    )
    predicted = np.array([3.0, 2.9, 2.0, 1.8])
    # Slopes per 1e6 tokens: a -0.1 and -0.05, b -0.1 and -0.2.
    assert metrics.asd(rows, predicted) == pytest.approx((0.05 + 0.1) / 2)
    found = metrics.errors(rows, predicted)
    assert found.mean_abs_rel_error == pytest.approx((0.1 / 2.8 + 0.1 / 1.9) / 4)
    assert found.r2 == pytest.approx(1 - 0.02 / ((rows["loss"] - 2.425) ** 2).sum())
    # n ln(SSE/n) + 2k + 2k(k+1)/(n-k-1) with k = 2 (one constant and the variance), n = 4.
    assert metrics.aicc(np.array([0.1, -0.1, 0.1, -0.1]), 1) == pytest.approx(
        4 * np.log(0.01) + 4 + 12
    )
    assert metrics.aicc(np.ones(3), 1) is None


def test_baselines_by_hand():
    train = pd.DataFrame(
        {"run": "a", "D": [1.0, 2.0], "loss": [4.0, 2.0], "N0": 1.0, "rho": 0.5, "L0": 1.0}
    )
    test = train.iloc[:1].assign(D=4.0)
    assert baselines.last_value(train, test) == [2.0]
    assert baselines.run_power_law(train, test) == pytest.approx([1.0])
    assert baselines.nearest_run(train, test.assign(L0=1.5)) == pytest.approx([3.0])


def tables_folder(folder: Path) -> Path:
    folder.mkdir()
    table = STUDY[STUDY["method"] != "width"].drop(columns=["rho", "run_given"])
    table.to_parquet(folder / "losses.parquet")
    table.to_csv(folder / "losses.csv", index=False)
    return manifest.write_manifest(
        folder, stage="tables", spec={"key": "tables"}, inputs={},
        files=["losses.parquet", "losses.csv"], results={}, started=time.time(),
    )  # fmt: skip


def test_fit_by_hand(tmp_path):
    tables_folder(tmp_path / "tables")
    out = tmp_path / "fit.json"
    done = run(
        "fit.py", tmp_path / "tables" / "losses.csv", "--form", "chinchilla", "--objective",
        "least_squares", "--bootstrap", "20", "--out", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert set(found["constants"]) == {"A", "B", "E", "alpha", "beta"}
    assert found["status"] == "converged" and found["rank"] == 5
    assert set(found["intervals"]) == set(found["constants"])
    bad = run("fit.py", tmp_path / "tables" / "losses.csv", "--form", "nope", "--out", out)
    assert bad.returncode == 2 and "allowed: p2" in bad.stderr and "Traceback" not in bad.stderr


def test_law_folder_is_the_same_twice_and_plan_answers_from_it(tmp_path):
    tables_folder(tmp_path / "tables")
    spec = json.dumps({"key": "law", "forms": ["p2", registry.DAMAGE], "bootstrap": 5})
    for out in ("law", "again"):
        done = run(
            "fit.py", tmp_path / "tables/losses.parquet", "--spec", spec, "--out", tmp_path / out
        )
        assert done.returncode == 0, done.stderr
    first, second = (
        manifest.verify_files(tmp_path / o / "manifest.json") for o in ("law", "again")
    )
    assert first["files"] == second["files"]
    assert first["inputs"]["tables"]["key"] == "tables"
    out = tmp_path / "plan.csv"
    done = run(
        "plan.py", tmp_path, "--target", "3.1", "--marginal", "0.05", "--residual", "0.01",
        "--out", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = pd.read_csv(out)
    assert set(answers["form"]) == {"p2", registry.DAMAGE}
    reached = answers[(answers["rule"] == "target") & (answers["status"] == "ok")]
    assert reached["loss"].to_numpy() == pytest.approx(3.1, abs=1e-6)
    unseen = run(
        "plan.py", tmp_path, "--method", "mine", "--rate", "0.4", "--N0", "220000", "--L0", "3.3",
        "--Lp", "3.9", "--target", "1.0",
    )  # fmt: skip
    assert "out of reach at any budget" in unseen.stdout, unseen.stderr
    assert "never post-trained" in unseen.stdout
    nothing = run("plan.py", tmp_path)
    assert nothing.returncode == 2 and "nothing asked" in nothing.stderr
    mild = run("plan.py", tmp_path, "--N0", "2e5", "--L0", "3.3", "--Lp", "3.2", "--target", "3.2")
    assert mild.returncode == 2 and "at or below --L0" in mild.stderr
    both = run("plan.py", tmp_path, "--flops", "1e12", "--out", tmp_path / "plan.json")
    assert both.returncode == 0, both.stderr
    choices = json.loads((tmp_path / "plan.json").read_text())["choices"]
    assert {c["form"] for c in choices} == {"p2", registry.DAMAGE}
    advice = run("advise.py", tmp_path, "--method", "sparse", "--out", tmp_path / "advice.csv")
    assert advice.returncode == 0, advice.stderr
    assert "leaves open" in advice.stdout
    rows = pd.read_csv(tmp_path / "advice.csv")
    assert (rows["half_width_after"] <= rows["half_width_before"] * (1 + 1e-9)).all()
    assert rows["score"].is_monotonic_decreasing and (rows["gpu_hours"] > 0).all()
    for option, value in (("--rates", "1.4"), ("--mfu", "0"), ("--gpu", "Voodoo2")):
        odd = run("advise.py", tmp_path, option, value)
        assert odd.returncode == 2 and f"{option} {value}" in odd.stderr.replace("'", "")
