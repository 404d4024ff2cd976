"""Looks at the loss table itself, before any law: what it covers, and what no law should hide."""

import numpy as np
import pandas as pd

from p2law.laws.forms.form import Form, columns_needed
from p2law.laws.records import BelowBase, Coverage, Rise
from p2law.laws.rows import POOLED, groups, methods

FAR_ABOVE = 1.4
"""Where every loss is this many times its L0 or more, the two are of different scales: a bit is
1.443 nats, and no post-trained model is known to lose so much."""


def coverage(table: pd.DataFrame) -> list[Coverage]:
    """Points, sizes, rates and budgets that each family and method has, pooled ones left out."""
    found = []
    for family, method, part in groups(table):
        if method != POOLED or not methods(part):
            rates = int(part.groupby("N0")["rho"].nunique().max())
            sizes, budgets = int(part["N0"].nunique()), int(part["D"].nunique())
            runs = int(part["run"].nunique())
            found.append(Coverage(family, method, sizes, rates, budgets, runs, len(part)))
    return found


def usable_rows(form: Form, rows: pd.DataFrame) -> tuple[pd.DataFrame | None, str]:
    """The rows a form can be fitted to and a note on those it cannot; None with the reason."""
    missing = [c for c in columns_needed(form) if c not in rows or rows[c].isna().all()]
    if missing:
        return None, f"the table has no column {missing[0]}"
    note = ""
    if "damage" in form.quantities:
        hurt = (rows["Lp"] > rows["L0"]).to_numpy()
        if not hurt.all():
            lost = sorted(rows.loc[~hurt, "run"].unique())
            note = f"without runs that pruning did not hurt (Lp <= L0): {', '.join(lost)}"
            rows = rows[hurt].reset_index(drop=True)
    if rows.empty or rows["D"].nunique() < 2:
        return None, "fewer than two budgets"
    return rows, note


def rises(table: pd.DataFrame) -> list[Rise]:
    """Places where a run's loss does not fall from one budget to the next."""
    found = []
    for run, points in table.sort_values("D").groupby("run"):
        d, loss = points["D"].to_numpy(float), points["loss"].to_numpy(float)
        for i in np.flatnonzero(np.diff(loss) >= 0):
            found.append(Rise(str(run), d[i], d[i + 1], loss[i + 1] - loss[i]))
    return found


def below_base(table: pd.DataFrame) -> list[BelowBase]:
    """Points whose loss is below their base's L0: a base that post-training improves."""
    low = table[table["loss"] < table["L0"]]
    rows = low[["run", "D", "loss", "L0"]].to_dict("records")
    return [BelowBase(**row, below=row["L0"] - row["loss"]) for row in rows]


def doubts(form: Form, table: pd.DataFrame) -> list[str]:
    """Notes on a table whose numbers fit together badly, or whose rows are of different kinds."""
    notes, n = [], len(table)
    for column in ("L0", "Lp"):
        if column not in columns_needed(form):
            continue
        ratio = (table["loss"] / table[column]).to_numpy(dtype=float)
        low, high = int((ratio < 1).sum()), int((ratio > 1).sum())
        if column == "L0" and low:
            notes.append(f"{low} of {n} losses lie below their L0: another unit or evaluation?")
        if column == "L0" and ratio.min() >= FAR_ABOVE:
            notes.append(
                f"all losses lie {ratio.min():.2g} times above their L0 or more: another unit or"
                " evaluation?"
            )
        if column == "Lp" and high > n / 2:
            notes.append(f"{high} of {n} losses lie above their Lp: another unit or evaluation?")
    found = methods(table)
    if len(found) > 1:
        notes.append(
            f"rows of {len(found)} methods ({', '.join(found)}) are fitted as one law; choose with"
            f" --where, such as --where method={found[0]}"
        )
    return notes
