"""Bad loss tables: one message that names the row, the column and what is allowed."""

import numpy as np
import pandas as pd
import pytest

import law_simulate as simulate
from p2law.errors import UserError
from p2law.laws.forms import registry
from p2law.laws.table import check_table, prepare, read_table

FORMS = [registry.get("p2"), registry.get("damage_power")]


def table() -> pd.DataFrame:
    return prepare(simulate.study().drop(columns="run_given"))


def test_a_good_table_passes():
    check_table(table(), FORMS)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("loss", np.nan, r"row 8 .*loss = nan; a finite number"),
        ("loss", -1.0, r"row 8 .*loss = -1.0; must be above 0"),
        ("loss", 0.0, r"row 8 .*must be above 0"),
        ("D", 0.0, r"row 8 .*D = 0.0; must be above 0"),
        ("L0", np.nan, r"row 8 .*L0 = nan"),
        ("rho", 0.0, r"row 8 .*rho = 0; must lie in \(0, 1\)"),
        ("rho", 1.2, r"row 8 .*rho = 1.2; must lie in \(0, 1\)"),
        ("N0", 0.00022, r"row 8 .*N0 = 0.00022 .*units"),
        ("N0", 330e3, r"row 8 .*N0 = 330000 but 220000 earlier in the same run"),
        ("N0", 0.22, r"row 8 .*N0 = 0.22 where the table's median is .*units"),
        ("loss", np.inf, r"row 8 .*loss = inf; a finite number"),
        ("L0", 0.0, r"row 8 .*L0 = 0.0; must be above 0"),
        ("rho", 29.0, r"row 8 .*rho = 29; must lie in \(0, 1\)"),
        ("rho", -0.1, r"row 8 .*rho = -0.1; must lie in \(0, 1\)"),
        ("D", np.nan, r"row 8 .*D = nan; a finite number"),
        ("D", 16384.0, r"row 8 .*second point at D = 16384 \(the first is row 6\)"),
    ],
)
def test_a_bad_row_is_named(column, value, message):
    bad = table()
    bad[column] = bad[column].astype(float)
    bad.loc[7, column] = value
    with pytest.raises(UserError, match=message):
        check_table(bad, FORMS)


def test_text_in_a_number_column_is_named():
    bad = table()
    bad["loss"] = bad["loss"].astype(object)
    bad.loc[2, "loss"] = "n/a"
    with pytest.raises(UserError, match="row 3 .*'n/a'"):
        check_table(bad, FORMS)


def test_missing_column_and_single_budget():
    with pytest.raises(UserError, match="column 'L0' is missing"):
        check_table(table().drop(columns="L0"), FORMS)
    with pytest.raises(UserError, match="at least two budgets"):
        check_table(table().query("D == 16384"), FORMS)


def test_read_maps_columns_and_accepts_rate(tmp_path):
    path = tmp_path / "losses.csv"
    table().drop(columns=["rho", "run_given"]).rename(columns={"N0": "params"}).to_csv(path)
    read = read_table(path, {"N0": "params"})
    check_table(read, FORMS)
    assert np.array_equal(read["rho"], read["rate"])
    with pytest.raises(UserError, match="no column 'nope'"):
        read_table(path, {"N0": "nope"})
    with pytest.raises(UserError, match="no such loss table"):
        read_table(tmp_path / "absent.csv")


def test_rows_without_runs_are_runs_of_their_own():
    read = prepare(pd.DataFrame({"N": [1e6, 1e6], "D": [1e6, 1e6], "loss": [3.0, 3.1]}))
    assert read["run"].nunique() == 2


def test_copies_are_named_where_there_are_no_runs():
    bad = prepare(pd.concat([table(), table().iloc[[4]]]).drop(columns=["run", "run_given"]))
    with pytest.raises(UserError, match="row 106 .*a copy of row 5 in D, L0, Lp, N0, loss, rho"):
        check_table(bad, FORMS)
    bad.loc[105, "loss"] *= 1.001  # the same setting measured again is no copy
    check_table(bad, FORMS)


def test_a_row_without_a_run_is_named():
    bad = table().drop(columns="run_given")
    bad.loc[3, "run"] = None
    with pytest.raises(UserError, match="row 4: run is empty"):
        prepare(bad)


def test_damage_below_zero_is_named():
    bad = table()
    bad.loc[bad["run"] == bad["run"][0], "Lp"] = 1.0
    with pytest.raises(UserError, match="row 1: Lp = 1.0.*damage > 0"):
        registry_fit(bad)


def registry_fit(rows: pd.DataFrame):
    from p2law.laws.fitting.fit import fit

    return fit(registry.get("damage_power"), rows)
