"""Looks at the loss table itself, before any law: what it covers, and what no law should hide."""

from typing import Any

import numpy as np
import pandas as pd


def coverage(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Points, sizes, rates and budgets that each method has."""
    keys = [c for c in ("family", "method") if c in table]
    parts = table.groupby(keys, sort=True) if keys else [((), table)]
    rows = []
    for values, part in parts:
        rows.append(
            dict(zip(keys, values, strict=True))
            | {
                "sizes": int(part["N0"].nunique()),
                "rates": int(part.groupby("N0")["rho"].nunique().max()),
                "budgets": int(part["D"].nunique()),
                "runs": int(part["run"].nunique()),
                "points": len(part),
            }
        )
    return rows


def rises(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Places where a run's loss does not fall from one budget to the next."""
    found = []
    for run, points in table.sort_values("D").groupby("run"):
        d, loss = points["D"].to_numpy(), points["loss"].to_numpy()
        for i in np.flatnonzero(np.diff(loss) >= 0):
            found.append(
                {"run": run, "from_D": d[i], "to_D": d[i + 1], "rise": loss[i + 1] - loss[i]}
            )
    return found


def healed(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Points whose loss is below their base's L0: a base that post-training improves."""
    low = table[table["loss"] < table["L0"]]
    return [
        {"run": r.run, "D": r.D, "loss": r.loss, "L0": r.L0, "below": r.L0 - r.loss}
        for r in low.itertuples()
    ]
