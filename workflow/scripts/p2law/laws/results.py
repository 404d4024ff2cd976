"""The law stage's results, read and written here and nowhere else.

:class:`LawResults` is all that :func:`p2law.laws.study.fit_study` finds; ``write`` puts it into a
folder and ``read`` gives it back. law.json holds the records, draws.parquet the bootstrap's
constants (a row a replicate), predictions.csv every predicted loss; constants.csv, comparison.csv,
holdouts.csv and recipes.csv are the same numbers as tables for people.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from p2law import canonical
from p2law.errors import UserError
from p2law.laws.judging.metrics import each_point_once
from p2law.laws.records import (
    BelowBase,
    Coverage,
    FittedLaw,
    Holdout,
    NextRuns,
    RecipeLaw,
    Rise,
    Skipped,
)

KEYS = ["family", "method", "form"]
"""What names a fit."""
TEXT = (*KEYS, "run", "model", "split", "held", "point_method")
"""Columns of predictions.csv that are text, whatever it looks like."""


@dataclass(frozen=True)
class Law:
    """What law.json holds. ``recipe`` is the one that the laws rest on, empty without a column.

    ``level`` is that of all intervals; ``points`` and ``runs`` count what was fitted.
    """

    spec: dict[str, Any]
    recipe: str
    level: float
    points: int
    runs: int
    coverage: list[Coverage]
    rises: list[Rise]
    below_base: list[BelowBase]
    fits: list[FittedLaw]
    holdouts: list[Holdout]
    advice: list[NextRuns]
    skipped: list[Skipped]
    recipes: list[RecipeLaw]

    def fit(self, family: str, method: str, form: str) -> FittedLaw | None:
        """One fit by its names, or None."""
        names = (family, method, form)
        return next((f for f in self.fits if (f.family, f.method, f.form) == names), None)

    def constants_table(self) -> pd.DataFrame:
        """A row a constant: value, interval, unit, and whether the table determines it."""
        return pd.DataFrame(
            {"family": f.family, "method": f.method, "form": f.form, "constant": name} | asdict(c)
            for f in self.fits
            for name, c in f.constants.items()
        )

    def holdout_table(self) -> pd.DataFrame:
        """A row a hold-out, its errors as columns."""
        rows = [asdict(h) for h in self.holdouts]
        return pd.DataFrame([row | row.pop("errors") for row in rows])

    def comparison_table(self) -> pd.DataFrame:
        """A row a fit: in-sample metrics beside the mean absolute held-out error of each split."""
        rows = pd.DataFrame(
            {"family": f.family, "method": f.method, "form": f.form}
            | {"constants": f.constants_fitted, "rank": f.rank, "status": f.status.value}
            | {"objective": f.objective, **asdict(f.errors), "aicc": f.aicc}
            | {"notes": "; ".join(f.notes)}
            for f in self.fits
        )
        held = self.holdout_table()
        if held.empty or rows.empty:
            return rows
        wide = each_point_once(held, [*KEYS, "split"]).unstack("split").add_prefix("held_out_")
        return rows.merge(wide.reset_index(), on=KEYS, how="outer", sort=True)

    def recipe_table(self) -> pd.DataFrame:
        """A row a family, method and recipe: every constant and the middle loss with intervals."""
        rows = []
        for record in self.recipes:
            row = asdict(record)
            numbers = {"middle": row.pop("middle"), **row.pop("constants")}
            row.pop("difference_by_budget")
            for name, found in numbers.items():
                row |= {name: found["value"], f"{name}_low": found["low"]}
                row[f"{name}_high"] = found["high"]
            rows.append(row)
        return pd.DataFrame(rows)


_LAW: TypeAdapter[Law] = TypeAdapter(Law)


@dataclass(frozen=True, eq=False)
class LawResults(Law):
    """All results of the law stage.

    ``predictions`` has a row a point, form and split ("fit" for fitted points), ``draws`` a row a
    replicate of a headline form's bootstrap.
    """

    predictions: pd.DataFrame
    draws: pd.DataFrame

    def as_json(self) -> dict[str, Any]:
        """The records in plain types, every number finite or None."""
        return finite(asdict(Law(**{f.name: getattr(self, f.name) for f in fields(Law)})))

    def settled(self) -> "LawResults":
        """The same as it is read back: plain types, no number that is not finite."""
        law = _LAW.validate_python(self.as_json())
        return LawResults(**vars(law), predictions=self.predictions, draws=self.draws)

    def write(self, folder: Path) -> list[str]:
        """Write everything into a folder; returns the files' names."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tables = {
            "constants.csv": self.constants_table(),
            "comparison.csv": self.comparison_table(),
            "holdouts.csv": self.holdout_table(),
            "predictions.csv": self.predictions,
        }
        if self.recipes:
            tables["recipes.csv"] = self.recipe_table()
        for name, table in tables.items():
            canonical.write_text(folder / name, table.to_csv(index=False))
        self.draws.to_parquet(folder / "draws.parquet", index=False)
        canonical.write_json(folder / "law.json", self.as_json())
        return ["law.json", "draws.parquet", *tables]

    @classmethod
    def read(cls, folder: Path) -> "LawResults":
        """Read a law folder. Raises UserError where a file is missing or is not of this version."""
        folder = Path(folder)
        for name in ("law.json", "draws.parquet", "predictions.csv"):
            if not (folder / name).is_file():
                raise UserError(f"{folder / name}: missing; run the law stage first")
        try:
            text = (folder / "law.json").read_text(encoding="utf-8")
            law = _LAW.validate_python(json.loads(text))
        except ValueError as error:  # of JSON and of pydantic
            fault = str(error).splitlines()[0]
            raise UserError(
                f"{folder / 'law.json'}: not a law of this version ({fault}); run the law stage"
            ) from None
        predictions = pd.read_csv(
            folder / "predictions.csv",
            dtype=dict.fromkeys(TEXT, str),
        )
        texts = predictions.columns.intersection(TEXT)
        predictions[texts] = predictions[texts].fillna("")
        return cls(
            **vars(law), predictions=predictions, draws=pd.read_parquet(folder / "draws.parquet")
        )


def finite(obj: Any) -> Any:
    """The same object in plain Python types, numbers that are not finite as None."""
    if isinstance(obj, Mapping):
        return {str(k): finite(v) for k, v in obj.items()}
    if isinstance(obj, list | tuple | np.ndarray):
        return [finite(v) for v in obj]
    if isinstance(obj, np.bool_ | bool):
        return bool(obj)
    if isinstance(obj, np.integer | int):
        return int(obj)
    if isinstance(obj, np.floating | float):
        return float(obj) if math.isfinite(obj) else None
    return obj
