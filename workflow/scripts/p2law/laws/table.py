"""The loss table: read it, map foreign column names, refuse what would poison a fit.

One row a point (a run at one budget). Every error names the row, so that a user can mend the file.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from p2law.errors import UserError
from p2law.laws.forms.form import QUANTITIES, Form, columns_needed

NAMES = sorted({"loss", "run", *(c for columns, _ in QUANTITIES.values() for c in columns)})
"""Columns that a form can use: what another file's columns may be mapped to."""
POSITIVE = ("N0", "N", "N_average", "D", "L0", "Lp", "loss")
MAX_SPREAD = {"N0": 1e5, "N": 1e5, "N_average": 1e5, "D": 1e7}
"""Largest ratio of two values in one table; beyond it the units are mixed up."""


def read_table(path: Path, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Read a CSV or Parquet loss table; ``columns`` maps our names to the file's.

    ``rate`` is accepted for ``rho``. Raises UserError for a missing file, an unknown mapping,
    an empty table or one that cannot be parsed.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such loss table")
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (ValueError, OSError) as error:  # parser errors of both readers are ValueErrors
        raise UserError(f"{path}: cannot be read as a table ({error})") from None
    for ours, theirs in (columns or {}).items():
        if ours not in NAMES:
            raise UserError(
                f"--column {ours}={theirs}: {ours!r} is no column of ours;"
                f" allowed: {', '.join(NAMES)}"
            )
        if theirs not in frame:
            raise UserError(
                f"{path}: --column {ours}={theirs}: no column {theirs!r};"
                f" the file has {', '.join(map(str, frame.columns))}"
            )
        frame = frame.drop(columns=[ours], errors="ignore").rename(columns={theirs: ours})
    return prepare(frame, str(path))


def prepare(frame: pd.DataFrame, where: str = "table") -> pd.DataFrame:
    """Fill in what the laws need: ``rho`` from ``rate``, and a run of its own for each row.

    Raises UserError for a table without rows and for a row without a run where others have one.
    """
    if frame.empty:
        raise UserError(f"{where}: the loss table has no rows")
    frame = frame.copy()
    if "rho" not in frame and "rate" in frame:
        frame["rho"] = frame["rate"]
    frame["run_given"] = "run" in frame
    if "run" not in frame:
        frame["run"] = [f"row{i + 1}" for i in range(len(frame))]
    unnamed = frame["run"].isna().to_numpy()
    if unnamed.any():
        raise UserError(f"{where} row {int(np.argmax(unnamed)) + 1}: run is empty; name each run")
    frame["run"] = frame["run"].astype(str)
    return frame.reset_index(drop=True)


def check_table(frame: pd.DataFrame, forms: Iterable[Form], where: str = "table") -> None:
    """Refuse a table that these forms cannot be fitted to; the message names the row.

    Checks: columns, numbers, signs, rho in (0, 1) (0 allowed where only 1 - rho is used), one N0
    and L0 a run, no duplicate points, at least two budgets, one unit a column.
    """
    forms = list(forms)
    needed = {"loss"}.union(*(columns_needed(form) for form in forms))
    for column in sorted(needed):
        _check_column(frame, column, where)
    _check_rates(frame, forms, where)
    for column in sorted(needed & set(MAX_SPREAD)):
        _check_units(frame, column, where)
    if frame["run_given"].all() if "run_given" in frame else "run" in frame:
        _check_runs(frame, needed, where)
    else:
        _check_copies(frame, sorted(needed), where)
    if "D" in needed and frame["D"].nunique() < 2:
        raise UserError(
            f"{where}: every row has D = {frame['D'].iloc[0]:g}; a law in D needs at least"
            " two budgets"
        )


def _fail(frame: pd.DataFrame, bad: np.ndarray, where: str, what: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise UserError(f"{where} row {row + 1} (run {frame['run'].iloc[row]}): {what(row)}")


def _check_column(frame: pd.DataFrame, column: str, where: str) -> None:
    if column not in frame:
        given = frame["run_given"].all() if "run_given" in frame else True
        ours = {"run_given"} | (set() if given else {"run"})
        held = ", ".join(str(name) for name in frame.columns if name not in ours)
        raise UserError(
            f"{where}: column {column!r} is missing; it has {held}; name another with --column"
        )
    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=float)
    shown = frame[column].tolist()
    _fail(
        frame,
        ~np.isfinite(values),
        where,
        lambda row: f"{column} = {shown[row]!r}; a finite number is needed",
    )
    if column in POSITIVE:
        _fail(frame, values <= 0, where, lambda row: f"{column} = {shown[row]!r}; must be above 0")


def _check_rates(frame: pd.DataFrame, forms: list[Form], where: str) -> None:
    used = {quantity for form in forms for quantity in form.quantities}
    if not used & {"rho", "dense", "rho/(1-rho)", "1+rho"}:
        return
    rho = frame["rho"].to_numpy(dtype=float)
    low = rho <= 0 if used & {"rho", "rho/(1-rho)"} else rho < 0
    allowed = "(0, 1)" if used & {"rho", "rho/(1-rho)"} else "[0, 1)"
    _fail(frame, low | (rho >= 1), where, lambda row: f"rho = {rho[row]:g}; must lie in {allowed}")


def _check_units(frame: pd.DataFrame, column: str, where: str) -> None:
    values = frame[column].to_numpy(dtype=float)
    centre = np.exp(np.median(np.log(values)))
    far = np.abs(np.log(values / centre))
    limit = np.log(MAX_SPREAD[column])
    if np.ptp(np.log(values)) > limit:
        bad = far >= far.max()
        _fail(
            frame,
            bad,
            where,
            lambda row: (
                f"{column} = {values[row]:g} where the table's median is {centre:g}:"
                " are units mixed (billions in one row)? Use one unit for the whole column"
            ),
        )


def _check_runs(frame: pd.DataFrame, needed: set[str], where: str) -> None:
    keys = [c for c in ("run", "D", "schedule", "evaluation") if c in frame]
    if "D" in frame:
        _fail(
            frame,
            frame.duplicated(keys).to_numpy(),
            where,
            lambda row: (
                f"a second point at D = {frame['D'].iloc[row]:g} (the first is row"
                f" {_first_copy(frame, keys, row)}); one row a run and budget"
            ),
        )
    for column in sorted(needed & {"N0", "L0", "Lp", "N", "rho"}):
        _check_constant(frame, column, where)


def _check_copies(frame: pd.DataFrame, columns: list[str], where: str) -> None:
    """Without runs, points may repeat a setting with another loss, but not be copies."""
    _fail(
        frame,
        frame.duplicated(columns).to_numpy(),
        where,
        lambda row: f"a copy of row {_first_copy(frame, columns, row)} in {', '.join(columns)}",
    )


def _first_copy(frame: pd.DataFrame, columns: list[str], row: int) -> int:
    """Number, from 1, of the first row that equals this one in some columns."""
    same = (frame[columns] == frame[columns].iloc[row]).all(axis=1).to_numpy()
    return int(np.argmax(same)) + 1


def _check_constant(frame: pd.DataFrame, column: str, where: str) -> None:
    first = frame.groupby("run")[column].transform("first").to_numpy(dtype=float)
    values = frame[column].to_numpy(dtype=float)
    _fail(
        frame,
        ~np.isclose(values, first, rtol=1e-6),
        where,
        lambda row: (
            f"{column} = {values[row]:g} but {first[row]:g} earlier in the same run; mixed units?"
        ),
    )
