"""What a plan is asked about: a model, how it is pruned, and what was measured of it."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from p2law.errors import UserError


@dataclass(frozen=True)
class Candidate:
    """A pruned model that may be post-trained; None leaves out the laws that need it.

    ``N0`` and ``N`` in parameters before and after pruning, ``trained`` those that a training step
    computes (N0 where zeros stay in place), ``rho`` the rate, losses in nats per token of the
    family's tokenizer; ``run`` is the study's run of this variant, if it has one; ``note`` what its
    numbers rest on, if not on measurement.
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

    @property
    def masked(self) -> bool:
        """Whether its zeros stay in place, so that training costs what the unpruned model does."""
        return self.trained == self.N0

    def at_rate(self, rho: float, known: "Sequence[Candidate]") -> "Candidate":
        """The same model and method at another rate, Lp between those of the rates ``known``.

        Straight in log damage against log rate; None outside the measured rates.
        """
        near = sorted((c.rho, c.Lp - c.L0) for c in known if c.Lp is not None and c.rho is not None)
        moved = replace(self, rho=rho, N=self.N0 * (1 - rho), Lp=None, run="")
        moved = replace(moved, trained=self.N0 if self.masked else moved.N)
        if len(near) < 2 or not near[0][0] <= rho <= near[-1][0]:
            return moved
        rates, damages = np.log(near).T
        damage = np.interp(math.log(rho), rates, damages)
        return replace(moved, Lp=self.L0 + math.exp(damage), note="Lp interpolated between rates")


def candidates_of(table: pd.DataFrame, masked: Collection[str] = frozenset()) -> list[Candidate]:
    """The variants of a loss table, one for all seeds; methods in ``masked`` keep their zeros."""
    rows = table.drop_duplicates([c for c in ("family", "model", "method", "rho") if c in table])
    found = []
    for row in rows.to_dict("records"):
        method, kept = str(row.get("method", "all")), float(row.get("N", row["N0"]))
        found.append(Candidate(
            family=str(row.get("family", "")), method=method, model=str(row.get("model", "")),
            N0=float(row["N0"]), N=kept, trained=float(row["N0"]) if method in masked else kept,
            L0=float(row["L0"]), rho=float(row["rho"]), run=str(row["run"]),
            Lp=float(row["Lp"]) if row.get("Lp", 0.0) > row["L0"] else None,
        ))  # fmt: skip
    return found


def by_family(candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    """Candidates of each family: only these may be compared, since nats are of its tokenizer."""
    found: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        found.setdefault(candidate.family, []).append(candidate)
    return found


def one_family(families: Iterable[str], asked: str | None, why: str) -> str:
    """The family asked for, or the only one there is.

    Raises :class:`UserError` for a family that is not there, and for several of which none is
    named: ``why`` begins that message.
    """
    there = sorted(set(families))
    if asked is None and len(there) == 1:
        return there[0]
    if asked is None:
        raise UserError(f"{why}: name one with --family: {', '.join(there)}")
    if asked not in there:
        raise UserError(f"--family {asked}: allowed: {', '.join(there)}")
    return asked
