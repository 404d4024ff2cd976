"""What a plan is asked about: a model, how it is pruned, and what was measured of it."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Variant:
    """What a plan is asked about; None leaves out the laws that need it.

    ``N0`` and ``N`` in parameters before and after pruning, ``trained`` those that a training step
    computes (N0 where zeros stay in place), ``rho`` the rate, losses in nats per token; ``run`` is
    the study's run of this variant, if it has one; ``note`` what its numbers rest on, if not on
    measurement.
    """

    family: str
    method: str
    model: str
    N0: float
    N: float
    trained: float
    L0: float
    rho: float | None = None
    Lp: float | None = None
    run: str = ""
    note: str = ""

    def measured(self) -> dict[str, Any]:
        """Its fields that a law may read."""
        return {k: v for k, v in asdict(self).items() if v is not None}

    def at_rate(self, rho: float, known: "list[Variant]") -> "Variant":
        """The same model and method at another rate, Lp between those of the rates ``known``.

        Straight in log damage against log rate; None outside the measured rates.
        """
        near = sorted((v for v in known if v.Lp is not None), key=lambda v: v.rho)
        moved = replace(self, rho=rho, N=self.N0 * (1 - rho), Lp=None, run="")
        moved = replace(moved, trained=self.N0 if self.trained == self.N0 else moved.N)
        if len(near) < 2 or not near[0].rho <= rho <= near[-1].rho:
            return moved
        damage = np.interp(
            math.log(rho), [math.log(v.rho) for v in near],
            [math.log(v.Lp - v.L0) for v in near],
        )  # fmt: skip
        return replace(moved, Lp=self.L0 + math.exp(damage), note="Lp interpolated between rates")


def variants_of(table: pd.DataFrame, masked: set[str] = frozenset()) -> list[Variant]:
    """The variants of a loss table, one a run's first seed; ``masked`` methods keep their zeros."""
    rows = table.drop_duplicates([c for c in ("family", "model", "method", "rho") if c in table])
    found = []
    for row in rows.to_dict("records"):
        method, kept = str(row.get("method", "all")), float(row.get("N", row["N0"]))
        found.append(Variant(
            family=str(row.get("family", "")), method=method, model=str(row.get("model", "")),
            N0=float(row["N0"]), N=kept, trained=float(row["N0"]) if method in masked else kept,
            L0=float(row["L0"]), rho=float(row["rho"]), run=str(row["run"]),
            Lp=float(row["Lp"]) if row.get("Lp", 0.0) > row["L0"] else None,
        ))  # fmt: skip
    return found
