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
        ([*mapped("p2"), "--bootstrap", "-5"], "--bootstrap -5: a whole number, 0 or more"),
        ([*mapped("p2"), "--seed", "-1"], "--seed -1: a whole number, 0 or more"),
        ([*mapped("p2"), "--delta", "nan"], "delta nan: must be a number above 0"),
        ([*mapped("p2"), "--column", "N0=name"], "N0 is given twice, as params before"),
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


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A CSV with our own names and three methods."""
    path = tmp_path_factory.mktemp("study") / "losses.csv"
    simulate.study(seed=5).drop(columns="run_given").to_csv(path, index=False)
    return path


def changed(study: Path, folder: Path, **columns) -> Path:
    table = pd.read_csv(study)
    table.assign(**columns).to_csv(folder / "changed.csv", index=False)
    return folder / "changed.csv"


@pytest.mark.parametrize("way", ["same", "link", "dots"])
def test_the_table_is_never_overwritten(study, tmp_path, monkeypatch, way):
    path = changed(study, tmp_path)
    before = path.read_bytes()
    (tmp_path / "link.csv").symlink_to(path)
    (tmp_path / "sub").mkdir()
    out = {"same": path, "link": tmp_path / "link.csv", "dots": tmp_path / "sub/../changed.csv"}[
        way
    ]
    with pytest.raises(UserError, match="is the table itself"):
        by_hand(monkeypatch, path, "--out", out)
    assert path.read_bytes() == before
    with pytest.raises(UserError, match="is a folder"):
        by_hand(monkeypatch, path, "--out", tmp_path / "sub")


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"L0": lambda t: t["L0"] / np.log(2)}, "105 of 105 losses lie below their L0"),
        ({"L0": lambda t: np.exp(t["L0"])}, "105 of 105 losses lie below their L0"),
        ({"L0": lambda t: t["L0"] + 1}, "105 of 105 losses lie below their L0"),
        ({"loss": lambda t: t["loss"] / np.log(2)}, "times above their L0 or more"),
        ({"loss": lambda t: np.exp(t["loss"])}, "times above their L0 or more"),
    ],
)
def test_two_scales_of_loss_in_one_fit_are_told(study, tmp_path, monkeypatch, capsys, change, note):
    path = changed(study, tmp_path, **change)
    out = tmp_path / "fit.json"
    try:
        by_hand(monkeypatch, path, "--bootstrap", "0", "--out", out)
    except UserError as error:  # not converged: the doubts stand in the message
        assert note in str(error)
        return
    found, said = json.loads(out.read_text()), capsys.readouterr().out
    assert any(note in n and "another unit or evaluation?" in n for n in found["notes"])
    assert note in said and "mean error" in said and "R²" in said


def test_a_sound_table_raises_no_doubt_and_its_errors_are_printed(
    study, tmp_path, monkeypatch, capsys
):
    found = by_hand(
        monkeypatch, study, "--where", "method=depth", "--bootstrap", "0", "--out",
        tmp_path / "fit.json",
    )  # fmt: skip
    said = capsys.readouterr().out
    assert "another unit" not in said and "methods" not in said
    error, r2 = found["metrics"]["mean_abs_rel_error"], found["metrics"]["r2"]
    assert f"mean error {100 * error:.3g} %, R² {r2:.6g}" in said


def test_rows_of_several_methods_are_told_and_can_be_chosen(study, tmp_path, monkeypatch):
    out = ("--bootstrap", "0", "--out", tmp_path / "fit.json")
    whole = by_hand(monkeypatch, study, *out)
    assert any("rows of 3 methods (depth, sparse, width)" in n for n in whole["notes"])
    one = by_hand(monkeypatch, study, "--where", "method=depth", *out)
    assert one["points"] == 45 and one["objective"] < whole["objective"]


@pytest.mark.parametrize("column", ["family", "recipe"])
def test_families_and_recipes_are_never_fitted_as_one(study, tmp_path, monkeypatch, column):
    path = changed(study, tmp_path, **{column: lambda t: t["run"].map(lambda r: "ab"[len(r) % 2])})
    out = ("--bootstrap", "0", "--out", tmp_path / "fit.json")
    with pytest.raises(UserError, match=f"2 values of {column} .*--where {column}="):
        by_hand(monkeypatch, path, *out)
    assert by_hand(monkeypatch, path, "--where", f"{column}=a", *out)["points"] < 105


def test_constants_at_a_fence_are_marked_in_the_terminal(study, tmp_path, monkeypatch, capsys):
    """Losses that a D^-5 makes: beta ends at its upper fence, 3."""
    path = changed(
        study, tmp_path, loss=lambda t: t["L0"] + t["rho"] * (0.2 + (t["D"] / 1.6e4) ** -5.0)
    )
    found = by_hand(
        monkeypatch, path, "--form", "p2_no_size_term", "--bootstrap", "0", "--out",
        tmp_path / "fit.json",
    )  # fmt: skip
    assert found["at_fences"]["beta"] == "high" and found["constants"]["beta"] == 3.0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("  beta"))
    assert "at its high fence" in line
    assert found["status"] in ("at a fence", "undetermined")
