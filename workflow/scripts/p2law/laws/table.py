"""The loss table: read it, map foreign column names, refuse what would poison a fit.

One row a point (a run at one budget). Every error names the row, so that a user can mend the file.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from p2law.errors import UserError
from p2law.laws.forms.form import QUANTITIES, Form, columns_needed

NAMES = sorted({"loss", "run", *(c for columns, _ in QUANTITIES.values() for c in columns)})
"""Columns that a form can use: what another file's columns may be mapped to."""
NUMBERS = [name for name in NAMES if name != "run"]
POSITIVE = ("N0", "N", "N_average", "D", "L0", "Lp", "loss")
UNIT_GAP = {"N0": 1e4, "N": 1e4, "N_average": 1e4, "D": 1e5}
"""Ratio of one value to the next from which a column's units may be mixed up: they are where, too,
what lies below is too small for a count and what lies above too large for millions or billions."""
COUNT = 1e3
"""No model has fewer parameters, no run fewer tokens."""
LARGE = {"N0": 1e5, "N": 1e5, "N_average": 1e5, "D": 1e4}
"""No table in millions or billions has larger values beside such small ones."""
KEPT = 0.02
"""Tolerance of the share of parameters kept against the rate (n:m methods count non-zeros)."""


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
    return prepare(_renamed(frame, columns or {}, path), str(path))


def _renamed(frame: pd.DataFrame, columns: Mapping[str, str], path: Path) -> pd.DataFrame:
    """All names taken from the file as it was, so that two columns may change places."""
    for ours, theirs in columns.items():
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
    taken = {ours: frame[theirs] for ours, theirs in columns.items()}
    return frame.drop(columns=[*columns, *columns.values()], errors="ignore").assign(**taken)


def prepare(frame: pd.DataFrame, where: str = "table") -> pd.DataFrame:
    """Fill in what the laws need: ``rho`` from ``rate``, and a run of its own for each row.

    Raises UserError for a table without rows and for a row without a run where others have one.
    """
    if frame.empty:
        raise UserError(f"{where}: the loss table has no rows")
    frame = frame.copy()
    if "rho" not in frame and "rate" in frame:
        frame["rho"] = frame["rate"]
    for name in NUMBERS:
        if name in frame and not _plain_numbers(frame[name]):
            found = pd.to_numeric(frame[name], errors="coerce").astype(float)
            # What is no number stays as it is, for the check to name.
            frame[name] = found if found.notna().all() else frame[name]
    if "run_given" not in frame:
        frame["run_given"] = "run" in frame
    if "run" not in frame:
        frame["run"] = [f"row{i + 1}" for i in range(len(frame))]
    unnamed = frame["run"].isna().to_numpy()
    if unnamed.any():
        raise UserError(f"{where} row {int(np.argmax(unnamed)) + 1}: run is empty; name each run")
    frame["run"] = frame["run"].astype(str)
    return frame.reset_index(drop=True)


def _plain_numbers(column: pd.Series) -> bool:
    """Whether a column holds numpy's own numbers (not Parquet's decimals, text or bool)."""
    return isinstance(column.dtype, np.dtype) and column.dtype in (float, int)


# ------------------------------------------------------------------- what is refused


def check_table(
    frame: pd.DataFrame, forms: Iterable[Form], where: str = "table", least_budgets: int = 2
) -> None:
    """Refuse a table that these forms cannot be fitted to; the message names the row.

    Checks: columns, numbers, signs, rho in (0, 1) (0 allowed where only 1 - rho is used) and the
    share removed, one N0 and L0 a run, no duplicate points, ``least_budgets``, losses that differ,
    one unit a column.
    """
    forms = list(forms)
    needed = {"loss"}.union(*(columns_needed(form) for form in forms))
    for column in sorted(needed):
        _check_column(frame, column, where)
    _check_rates(frame, forms, where)
    _check_kept(frame, where)
    for column in sorted(needed & set(UNIT_GAP)):
        _check_units(frame, column, where)
    if frame["run_given"].all() if "run_given" in frame else "run" in frame:
        _check_runs(frame, needed, where)
    else:
        _check_copies(frame, sorted(needed), where)
    if "D" in needed and frame["D"].nunique() < least_budgets:
        raise UserError(
            f"{where}: every row has D = {frame['D'].iloc[0]:g}; a law in D needs at least"
            " two budgets"
        )

    if len(frame) > 1 and np.ptp(frame["loss"].to_numpy(dtype=float)) < 1e-9 * float(
        frame["loss"].iloc[0]
    ):
        raise UserError(
            f"{where}: no variation in loss: every row has {frame['loss'].iloc[0]:g}; a law needs"
            " losses that differ"
        )


def _fail(frame: pd.DataFrame, bad: np.ndarray, where: str, what: Callable[[int], str]) -> None:
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


def _check_kept(frame: pd.DataFrame, where: str) -> None:
    """Refuse a kept share in the place of the rate."""
    if not {"N0", "N", "rho"} <= set(frame):
        return
    kept, rho = (frame["N"] / frame["N0"]).to_numpy(dtype=float), frame["rho"].to_numpy(dtype=float)
    swapped = (np.abs(kept - (1 - rho)) > KEPT) & (np.abs(kept - rho) <= KEPT)
    _fail(
        frame, swapped, where,
        lambda row: (
            f"N0 (1 - rho) is not N: {kept[row]:.3g} of N0 is kept and rho = {rho[row]:g};"
            " is rho the kept share? It must be the share removed"
        ),
    )  # fmt: skip


def _check_units(frame: pd.DataFrame, column: str, where: str) -> None:
    """Refuse values that only another unit explains; the message names the rarer side."""
    values = frame[column].to_numpy(dtype=float)
    levels = np.unique(values)
    wide = levels[1:] / levels[:-1] > UNIT_GAP[column]
    mixed = np.flatnonzero(wide & (levels[:-1] < COUNT) & (levels[1:] > LARGE[column]))
    if not len(mixed):
        return
    cut = levels[mixed[0]]
    low = values <= cut
    odd = low if low.sum() <= (~low).sum() else ~low
    centre = float(np.median(values[~odd]))
    _fail(
        frame, odd, where,
        lambda row: (
            f"{column} = {values[row]:g} where the table's median is {centre:g}:"
            " are units mixed (billions in one row)? Use one unit for the whole column"
        ),
    )  # fmt: skip


def _check_runs(frame: pd.DataFrame, needed: set[str], where: str) -> None:
    keys = [c for c in ("family", "run", "D", "recipe", "evaluation") if c in frame]
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
    keys = [c for c in ("family", "run", "recipe") if c in frame]
    first = frame.groupby(keys)[column].transform("first").to_numpy(dtype=float)
    values = frame[column].to_numpy(dtype=float)
    _fail(
        frame,
        ~np.isclose(values, first, rtol=1e-6),
        where,
        lambda row: (
            f"{column} = {values[row]:g} but {first[row]:g} earlier in the same run; mixed units?"
        ),
    )
