"""``fit.py`` on somebody's own CSV: every form, foreign column names, and what is refused."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

import fit as script  # noqa: E402
import law_simulate as simulate  # noqa: E402
from p2law.errors import UserError  # noqa: E402
from p2law.laws.forms import form as forms  # noqa: E402
from p2law.laws.forms import registry  # noqa: E402

THEIRS = {
    "N0": "params", "N": "kept params", "D": "tokens", "rho": "removed", "L0": "base_loss",
    "Lp": "pruned_loss", "loss": "val", "run": "name", "N_average": "mean_params",
}  # fmt: skip


@pytest.fixture(scope="module")
def losses(tmp_path_factory) -> Path:
    """A CSV whose columns are all named otherwise, in another order."""
    table = simulate.study(seed=5).query("method == 'depth'")
    table = table.assign(N_average=0.9 * table["N0"]).rename(columns=THEIRS)
    path = tmp_path_factory.mktemp("csv") / "losses.csv"
    table[sorted(THEIRS.values())].to_csv(path, index=False)
    return path


def by_hand(monkeypatch, *arguments) -> dict:
    out = next(a for b, a in zip(arguments, arguments[1:], strict=False) if b == "--out")
    monkeypatch.setattr(sys, "argv", ["fit.py", *map(str, arguments)])
    script.main()
    return json.loads(Path(out).read_text())


def mapped(form: str) -> list[str]:
    needed = ["loss", "run", *forms.columns_needed(registry.get(form))]
    return [x for name in needed for x in ("--column", f"{name}={THEIRS[name]}")]


@pytest.mark.parametrize("name", list(registry.FORMS))
def test_every_form_by_hand(name, losses, tmp_path, monkeypatch):
    out = tmp_path / "fit.json"
    one = ["--run", "m1/depth-0.29/0"] if registry.get(name).per_run else []
    found = by_hand(
        monkeypatch, losses, "--form", name, *mapped(name), *one, "--bootstrap", "20",
        "--out", out,
    )  # fmt: skip
    form = registry.get(name)
    expected = {"B", "D_t", "E", "beta"} if name == "rectified" else set(form.constants)
    assert set(found["constants"]) == expected == set(found["intervals"]) == set(found["units"])
    assert found["converged"] is True and found["rank"] <= found["constants_fitted"]
    assert found["starts_at_optimum"] + found["starts_unfinished"] <= 1.0
    for key in ("objective", "gain", "gradient", "condition"):
        assert np.isfinite(found[key]), key
    assert set(found["centred"]) == set(form.constants) and found["centres"]
    held = set(found["extrapolation"])
    assert held <= {"N0", "N", "N_average", "D"}
    assert "D" in held or name != "p2_no_size_term"  # others' halves may not determine them
    # Full precision: the reported constants give the reported errors back.
    table = pd.read_csv(losses).rename(columns={v: k for k, v in THEIRS.items()})
    if form.per_run:
        table = table[table["run"] == one[1]]
        c = found["constants"]
        predicted = c["B"] / (c["D_t"] + table["D"] ** c["beta"]) + c["E"]
        assert found["intervals"]["E"] == [None, None]
        assert any("one run" in note for note in found["notes"])
    else:
        predicted = forms.predict(form, found["constants"], table)
        low, high = found["intervals"][form.constants[-1]]
        assert low <= high
    error = np.abs(predicted / table["loss"] - 1).mean()
    assert error == pytest.approx(found["metrics"]["mean_abs_rel_error"], rel=1e-6)


def test_objectives_and_signs(losses, tmp_path, monkeypatch):
    out = tmp_path / "fit.json"
    for objective, signs in (("huber", "free"), ("least_squares", "free"), ("lad", "nonnegative")):
        found = by_hand(
            monkeypatch, losses, *mapped("p2"), "--objective", objective, "--delta", "noise",
            "--signs", signs, "--bootstrap", "0", "--out", out,
        )  # fmt: skip
        assert found["objective_kind"] == objective and found["signs"] == signs
        assert found["converged"] is True and found["gain"] < 1e-8
        assert found["intervals"]["beta"] == [None, None]


def test_without_runs_each_row_is_one_and_the_fit_says_so(losses, tmp_path, monkeypatch):
    found = by_hand(
        monkeypatch, losses, "--form", "chinchilla", "--column", "loss=val", "--column",
        "N=kept params", "--column", "D=tokens", "--bootstrap", "20", "--out",
        tmp_path / "fit.json",
    )  # fmt: skip
    assert any("each row counts as a run" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--form", "p2", "--column", "Nzero=params"], "'Nzero' is no column of ours; allowed: D,"),
        (["--form", "p2", "--column", "N0=nope"], "no column 'nope'"),
        (["--form", "p2", "--column", "N0"], "must read NAME=FILE_COLUMN"),
        (["--form", "p2", "--column", "loss=val"], "column 'D' is missing.*--column"),
        (["--form", "p2", *mapped("p2"), "--delta", "-1"], "delta -1.0: must be a number above 0"),
        (["--form", "p2", *mapped("p2"), "--delta", "wide"], "--delta wide"),
        (["--form", "p2", *mapped("p2"), "--objective", "ridge"], "'ridge' is unknown; allowed"),
        (["--form", "p2", *mapped("p2"), "--run", "m9"], "--run m9: no such run; .* has m0/"),
        (["--form", "rectified", *mapped("rectified")], "a law of one curve .* 9 runs.*--run"),
        (["--form", "p2", *mapped("p2"), "--run", "m0/depth-0.15/0"], ""),
    ],
)
def test_refusals_name_the_setting(arguments, message, losses, tmp_path, monkeypatch):
    out = tmp_path / "fit.json"
    if not message:  # one run is a fit of what one run determines, and says what it dropped
        found = by_hand(monkeypatch, losses, *arguments, "--out", out)
        assert set(found["constants"]) == {"D_C", "E", "beta"} and found["notes"]
        return
    with pytest.raises(UserError, match=message):
        by_hand(monkeypatch, losses, *arguments, "--out", out)
    assert not out.exists()


def test_a_fit_that_did_not_converge_is_an_error_and_says_so(losses, tmp_path, monkeypatch):
    from p2law.laws.fitting import fit as engine

    # A polish that was stopped early: a step would still gain a thousandth.
    real = engine.polish

    def lazy(problem, starts, delta, signs, settled):
        ended = real(problem, starts, delta, signs, settled)
        ended.gain = 1e-3
        return ended

    monkeypatch.setattr(engine, "polish", lazy)
    out = tmp_path / "fit.json"
    with pytest.raises(UserError, match="did not converge"):
        by_hand(monkeypatch, losses, *mapped("p2"), "--bootstrap", "5", "--out", out)
    assert json.loads(out.read_text())["converged"] is False
