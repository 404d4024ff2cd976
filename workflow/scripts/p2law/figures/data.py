"""What figures are drawn from: the loss table and the law stage's results, read once."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from p2law.laws.forms import form as forms
from p2law.laws.forms import registry
from p2law.laws.judging import schedules
from p2law.laws.table import prepare
from p2law.results.manifest import verify_files

LAWS = ("p2", registry.DAMAGE)
"""Laws that figures show side by side."""
TITLES = {
    "p2": "P²",
    "damage_power": "damage, power",
    "damage_rectified": "damage, rectified",
    "damage_rectified_l0": "damage",
}


@dataclass
class Data:
    """A study's numbers: ``oneshot`` (the pruned models' table), ``every_schedule`` (losses),
    ``law`` (law.json), predictions, holdouts. All but the first are empty without runs.

    ``points`` are those of the loss table that the laws rest on.
    """

    oneshot: pd.DataFrame
    every_schedule: pd.DataFrame = field(default_factory=pd.DataFrame)
    law: dict[str, Any] = field(default_factory=lambda: {"fits": [], "spec": {}})
    predictions: pd.DataFrame = field(default_factory=pd.DataFrame)
    holdouts: pd.DataFrame = field(default_factory=pd.DataFrame)
    draws: pd.DataFrame = field(default_factory=pd.DataFrame)

    @cached_property
    def points(self) -> pd.DataFrame:
        """The loss table's rows of the schedule that the laws rest on."""
        return schedules.first(self.every_schedule, self.law["spec"])

    @property
    def schedules(self) -> list[str]:
        """The table's schedules, the laws' first; one without a name where no column says."""
        if self.every_schedule.empty:
            return []
        return schedules.names(self.every_schedule) or [""]

    @property
    def groups(self) -> list[tuple[str, str]]:
        """(family, method) in the order of the law's fits, pooled ones left out."""
        return list(dict.fromkeys((f["family"], f["method"]) for f in self.fits if not pooled(f)))

    @property
    def fits(self) -> list[dict[str, Any]]:
        """All fits of the law stage."""
        return self.law["fits"]

    def fit(self, family: str, method: str, form: str) -> dict[str, Any] | None:
        """One converged fit, or None."""
        for fit in self.fits:
            if (fit["family"], fit["method"], fit["form"]) == (family, method, form):
                return fit if fit["converged"] else None
        return None

    def constants(self, fit: dict[str, Any]) -> dict[str, float]:
        """A fit's constants by name."""
        return {name: c["value"] for name, c in fit["constants"].items()}

    def predict(self, fit: dict[str, Any], rows: pd.DataFrame):
        """Losses that a fit predicts for rows."""
        return forms.predict(registry.get(fit["form"]), self.constants(fit), rows)

    def runs_of(self, family: str, method: str) -> pd.DataFrame:
        """Points of one family and method."""
        rows = self.points
        if "family" in rows:
            rows = rows[rows["family"].astype(str) == family]
        return rows[rows["method"] == method] if method != "all" else rows


def pooled(fit: dict[str, Any]) -> bool:
    """Whether a fit is over all methods."""
    return fit["method"] == "all"


def read(tables: Path, law: Path | None) -> Data:
    """Read what the two manifests name, after checking their files; no law, no runs."""
    verify_files(tables)
    oneshot = pd.read_parquet(Path(tables).parent / "oneshot.parquet")
    if law is None:
        return Data(oneshot)
    verify_files(law)
    folder = Path(law).parent
    points = prepare(pd.read_parquet(Path(tables).parent / "losses.parquet"))
    return Data(
        oneshot,
        points,
        json.loads((folder / "law.json").read_text(encoding="utf-8")),
        pd.read_csv(folder / "predictions.csv", float_precision="round_trip"),
        pd.read_csv(folder / "holdouts.csv", float_precision="round_trip"),
        pd.read_parquet(folder / "draws.parquet"),
    )
