"""Does the law hold where it was not fitted? A first answer from the table alone.

A good fit can extrapolate badly (the OLMo ladder: .25 % in the fit, 3.8 % at 13B). For each size
and token column the law is fitted to the lower half of the values and predicts the upper half.
"""

from typing import Any

import numpy as np
import pandas as pd

from p2law.laws.fitting.fit import fit
from p2law.laws.forms.form import Form, columns_needed

COLUMNS = ("N0", "N", "N_average", "D")
SHARE = 0.5
"""Share of a column's values, from the smallest, that the check fits."""
WORSE = 3.0
"""Ratio of held-out to fitted error above which the fit carries a warning."""


def extrapolation(form: Form, table: pd.DataFrame, fitted_error: float, **settings: Any) -> dict:
    """Held-out errors by column, as fractions, and how many times the fit's own they are.

    ``fitted_error`` is the mean absolute relative error of the whole fit; ``settings`` are
    :func:`fit`'s. Columns whose lower half does not determine the law (two sizes,
    say) are left out: what it predicts beyond is anybody's.
    """
    found = {}
    for column in COLUMNS:
        if column not in columns_needed(form):
            continue
        levels = np.unique(table[column])
        if len(levels) < 3:
            continue
        last = levels[min(int(np.ceil(SHARE * len(levels))), len(levels) - 1)]
        top = (table[column] >= last).to_numpy()
        rest = fit(form, table[~top].reset_index(drop=True), **settings)
        if rest.undetermined or rest.form.constants != form.constants:
            continue
        error = rest.predict(table[top]) / table.loc[top, "loss"].to_numpy() - 1.0
        found[column] = {
            "from": float(last),
            "points": int(top.sum()),
            "mean_abs_rel_error": float(np.abs(error).mean()),
            "mean_signed_rel_error": float(error.mean()),
            "times_fitted_error": float(np.abs(error).mean() / max(fitted_error, 1e-12)),
        }
    return found


def warnings(found: dict) -> list[str]:
    """A sentence for each column whose upper half the law predicts much worse than it fits."""
    return [
        f"extrapolates badly: fitted below {column} = {held['from']:.4g} it misses the rest by"
        f" {100 * held['mean_abs_rel_error']:.2g} %, {held['times_fitted_error']:.1f} times the"
        " error of the fit; trust no prediction far beyond the table"
        for column, held in found.items()
        if held["times_fitted_error"] > WORSE
    ]
