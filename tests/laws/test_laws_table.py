"""Bad loss tables: one message that names the row, the column and what is allowed."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import law_simulate as simulate
from p2law.errors import UserError
from p2law.laws.forms import registry
from p2law.laws.rows import POOLED, groups, rows_of, where
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


def test_sizes_from_a_fifth_of_a_million_to_seventy_billion_are_one_unit():
    """In parameters, millions or billions; with sizes between and without."""
    for unit in (1.0, 1e6, 1e9):
        for sizes in ([2e5, 7e10], [2e5, 4e7, 1e9, 7e10]):
            rows = prepare(simulate.grid([s / unit for s in sizes], [0.3], [1e9, 2e9], "depth"))
            check_table(rows.assign(loss=3.0 + 0.01 * np.arange(len(rows))), FORMS[:1])


@pytest.mark.parametrize("column", ["N0", "D"])
@pytest.mark.parametrize("unit", [1e6, 1e9])
def test_one_row_in_another_unit_is_named(column, unit):
    bad = table()
    bad["run_given"] = False
    bad.loc[7, column] = bad.loc[7, column] / unit
    if column == "N0":
        bad.loc[7, "N"] = bad.loc[7, "N"] / unit
    with pytest.raises(UserError, match=f"row 8 .*{column} = .*are units mixed"):
        check_table(bad, FORMS)


def test_a_kept_share_is_not_taken_for_the_rate():
    bad = table()
    bad["rho"] = 1 - bad["rho"]
    with pytest.raises(UserError, match=r"row 1 .*N0 \(1 - rho\) is not N.*the kept share"):
        check_table(bad, FORMS)
    # A mask of 2:4 on the blocks alone: N counts what is not zero, to a few thousandths.
    masked = table()
    masked["N"] = masked["N0"] * (1 - masked["rho"] + 0.01)
    check_table(masked, FORMS)
    half = table().query("method == 'sparse'").assign(rho=0.5, N=lambda t: 0.5 * t["N0"])
    check_table(half.reset_index(drop=True), FORMS)


def test_losses_that_do_not_vary_are_refused():
    with pytest.raises(UserError, match="no variation in loss: every row has 3"):
        check_table(table().assign(loss=3.0), FORMS)


def test_two_columns_may_change_places(tmp_path):
    path = tmp_path / "losses.csv"
    right = table().drop(columns=["run_given", "rate"])
    right.rename(columns={"N": "D", "D": "N"}).to_csv(path, index=False)
    read = read_table(path, {"N": "D", "D": "N"})
    assert np.array_equal(read["N"], right["N"]) and np.array_equal(read["D"], right["D"])
    assert "rho" in read and len(read.columns) == len(right.columns) + 1


@pytest.mark.parametrize("kind", ["decimal", "float32", "nullable", "text"])
def test_numbers_of_any_kind_are_numbers(kind, tmp_path):
    """Parquet's decimals come as objects: the same losses, to the kind's own precision."""
    right = table().drop(columns="run_given")
    right["loss"] = right["loss"].round(4)
    odd = right.copy()
    odd["loss"] = {
        "decimal": right["loss"].map(lambda x: Decimal(f"{x:.4f}")),
        "float32": right["loss"].astype("float32"),
        "nullable": right["loss"].astype("Float64"),
        "text": right["loss"].map("{:.4f}".format),
    }[kind]
    odd.to_parquet(tmp_path / "losses.parquet")
    read = read_table(tmp_path / "losses.parquet")
    check_table(read, FORMS)
    assert read["loss"].dtype == np.float64
    assert read["loss"].to_numpy() == pytest.approx(right["loss"].to_numpy(), rel=1e-6)


def test_rows_are_chosen_by_value():
    rows = table()
    depth = where(rows, ["method=depth"])
    assert set(depth["method"]) == {"depth"}
    two = where(rows, ["method=depth", "method=width", "rate=0.15", "rate=0.5"])
    assert {tuple(x) for x in two[["method", "rate"]].values} == {("depth", 0.15), ("width", 0.5)}
    for choice, message in [
        ("method", "COLUMN=VALUE; columns: family"), ("metod=depth", "COLUMN=VALUE; columns"),
        ("method=deep", "no such row; method is depth, width, sparse"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=message):
            where(rows, [choice])
    with pytest.raises(UserError, match="rate=0.15: no such row; rate is 0.45"):
        where(rows, ["method=sparse", "rate=0.15"])


def test_groups_are_families_then_methods_then_all():
    rows = pd.concat([table(), table().assign(family="b")], ignore_index=True)
    found = [(family, method, len(part)) for family, method, part in groups(rows)]
    assert found[:4] == [("b", "depth", 45), ("b", "sparse", 15), ("b", "width", 45),
                         ("b", POOLED, 105)]  # fmt: skip
    assert len(found) == 8 and len(rows_of(rows, "b", "width")) == 45
    bare = table().drop(columns=["family", "method"])
    assert [(f, m, len(p)) for f, m, p in groups(bare)] == [("", POOLED, 105)]
