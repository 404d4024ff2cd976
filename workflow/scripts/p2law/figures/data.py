"""What figures are drawn from: the tables and the law stage's results, read once."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from p2law.laws.deciding.study_laws import Laws
from p2law.laws.forms import form as forms
from p2law.laws.forms import registry
from p2law.laws.records import FittedLaw
from p2law.laws.results import LawResults
from p2law.laws.rows import recipes, rows_of
from p2law.laws.table import read_table
from p2law.results.manifest import verify_files

Group = tuple[str, str]
"""(family, method)"""


@dataclass
class Data:
    """A study's numbers: ``oneshot`` (the pruned models' table), ``losses`` (the loss table of all
    recipes, empty without runs) and ``laws`` (the laws' results and the rows they rest on).
    """

    oneshot: pd.DataFrame
    losses: pd.DataFrame = field(default_factory=pd.DataFrame)
    laws: Laws | None = None

    @property
    def results(self) -> LawResults:
        """All that the law stage found."""
        return self.laws.results

    @property
    def points(self) -> pd.DataFrame:
        """The loss table's rows of the recipe that the laws rest on."""
        return self.laws.table

    @property
    def recipes(self) -> list[str]:
        """The table's recipes, the laws' first; one without a name where no column says."""
        return [] if self.losses.empty else recipes(self.losses) or [""]

    @property
    def groups(self) -> list[Group]:
        """(family, method) in the order of the law's fits, pooled ones left out."""
        return list(dict.fromkeys((f.family, f.method) for f in self.results.fits if not f.pooled))

    @property
    def families(self) -> list[str]:
        """The families in the order of the law's fits."""
        return list(dict.fromkeys(fit.family for fit in self.results.fits))

    def label(self, family: str, method: str) -> str:
        """What a panel or series of a family and method is called: by both where there are two."""
        return method if len(self.families) < 2 else f"{family}, {method}"

    def fits(self, form: str) -> list[FittedLaw]:
        """A form's fits that have constants of their own, each family's pooled one last."""
        return [fit for fit in self.results.fits if fit.form == form and fit.constants]

    def fit(self, family: str, method: str, form: str) -> FittedLaw | None:
        """One converged fit, or None."""
        fit = self.results.fit(family, method, form)
        return fit if fit is not None and fit.converged else None

    def predict(self, fit: FittedLaw, rows: pd.DataFrame) -> np.ndarray:
        """Losses [m] that a fit predicts for rows."""
        return forms.predict(registry.get(fit.form), fit.values, rows)

    def runs_of(self, family: str, method: str) -> pd.DataFrame:
        """Points of one family and method."""
        return rows_of(self.points, family, method)


def read(tables: Path, law: Path | None) -> Data:
    """Read what the two manifests name, after checking their files; no law, no runs."""
    verify_files(tables)
    folder = Path(tables).parent
    oneshot = pd.read_parquet(folder / "oneshot.parquet")
    if law is None:
        return Data(oneshot)
    verify_files(law)
    losses = read_table(folder / "losses.parquet")
    return Data(oneshot, losses, Laws(LawResults.read(Path(law).parent), losses))
