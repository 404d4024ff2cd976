"""One form fitted to somebody's own table: what ``fit.py`` does without a study.

Imports nothing of studies, pruning or costs: a CSV of losses is all that it needs.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from p2law import canonical
from p2law.errors import UserError
from p2law.laws.describe import described
from p2law.laws.fitting.fit import Fit, fit
from p2law.laws.forms import registry
from p2law.laws.forms.form import Form
from p2law.laws.judging.extrapolation import extrapolation, warnings
from p2law.laws.judging.soundness import doubts
from p2law.laws.judging.uncertainty import Bootstrap, bootstrap
from p2law.laws.records import FittedLaw
from p2law.laws.results import finite
from p2law.laws.rows import Group, families, of_recipe, recipes, where
from p2law.laws.table import check_table, read_table


@dataclass(frozen=True)
class Asked:
    """What a user asks of :func:`by_hand`.

    ``columns`` maps our names to the file's; ``rows`` are COLUMN=VALUE choices; ``run`` is one
    run's name; ``delta`` a number or "noise".
    """

    table: Path
    out: Path
    form: str = registry.P2
    columns: Mapping[str, str] = field(default_factory=dict)
    rows: tuple[str, ...] = ()
    run: str | None = None
    objective: str = "huber"
    delta: float | str = 1e-3
    signs: str = "nonnegative"
    raw: bool = False
    bootstrap: int = 1000
    seed: int = 0


def by_hand(asked: Asked) -> str:
    """Fit, write the fit as JSON, and return it in a few lines for the terminal.

    Raises UserError for a bad setting or table, before anything is written, and, once it is
    written, for a fit that did not converge.
    """
    form = registry.get(asked.form)
    _check(asked)
    table = chosen_rows(read_table(asked.table, asked.columns), form, asked)
    check_table(table, [form], str(asked.table))
    settings: dict[str, Any] = {
        "objective": asked.objective, "delta": asked.delta, "signs": asked.signs, "raw": asked.raw,
    }  # fmt: skip
    result = fit(form, table, **settings)
    draws, notes = replicates(result, table, asked)
    law = described(result, table, draws, Group("", ""))
    found = extrapolation(form, table, law.errors.mean_abs_rel_error, **settings)
    doubted = doubts(form, table)
    notes = [*law.notes, *notes, *doubted, *warnings(found)]
    record = as_json(law, form) | {"notes": list(dict.fromkeys(notes)), "extrapolation": found}
    record["points"] = len(table)
    canonical.write_json(asked.out, finite(record))
    if not law.converged:
        raise UserError(
            f"{asked.form} did not converge on {asked.table}: one more step promises"
            f" {result.gain:.1e} of the objective; "
            + "; ".join([f"{asked.out} says so in 'status'", *doubted])
        )
    return summary(law, form, record["notes"])


def _check(asked: Asked) -> None:
    for name, value in (("bootstrap", asked.bootstrap), ("seed", asked.seed)):
        if value < 0:
            raise UserError(f"--{name} {value}: a whole number, 0 or more")
    if asked.out.exists() and asked.table.exists() and asked.out.samefile(asked.table):
        raise UserError(f"--out {asked.out} is the table itself; the fit would overwrite it")
    if asked.out.is_dir():
        raise UserError(f"--out {asked.out} is a folder; a fit by hand is one JSON file")


def chosen_rows(table: pd.DataFrame, form: Form, asked: Asked) -> pd.DataFrame:
    """The rows asked for; refused where they are of several families or recipes, or, for a law of
    one curve, of several runs.
    """
    table = where(table, asked.rows)
    for column, found in (("recipe", recipes(table)), ("family", families(table))):
        if len(found) > 1:
            raise UserError(
                f"{asked.table}: rows of {len(found)} values of {column} ({', '.join(found)}),"
                f" whose losses do not compare; choose with --where {column}={found[0]}"
            )
    table = of_recipe(table)
    runs = table["run"].unique()
    if asked.run is not None:
        if asked.run not in runs:
            shown = ", ".join(map(str, runs[:10])) + (", ..." if len(runs) > 10 else "")
            raise UserError(f"--run {asked.run}: no such run; {asked.table} has {shown}")
        return table[table["run"] == asked.run].reset_index(drop=True)
    if form.per_run and table["run_given"].all() and len(runs) > 1:
        raise UserError(
            f"form {form.name} is a law of one curve and {asked.table} has {len(runs)} runs:"
            f" choose one with --run, such as --run {runs[0]}"
        )
    return table


def replicates(
    result: Fit, table: pd.DataFrame, asked: Asked
) -> tuple[Bootstrap | None, list[str]]:
    """Run-level replicates, or None, and notes on what they are worth."""
    if not asked.bootstrap:
        return None, []
    if table["run"].nunique() < 2:
        return None, ["one run: no run-level interval"]
    draws = bootstrap(result, table["run"].to_numpy(), asked.bootstrap, asked.seed)
    if not table["run_given"].all():
        return draws, ["no column run: each row counts as a run of its own in the intervals"]
    return draws, []


def as_json(law: FittedLaw, form: Form) -> dict[str, Any]:
    """A fit as one flat object: constants, intervals and units by name, metrics, health."""
    record = asdict(law)
    for name in ("family", "method", "sandwich", "profiles", "model_error", "per_run"):
        del record[name]
    constants = law.constants
    return record | {
        "constants": {name: c.value for name, c in constants.items()},
        "intervals": {name: [c.low, c.high] for name, c in constants.items()},
        "units": {name: c.unit for name, c in constants.items()},
        "at_fences": {name: c.at_fence for name, c in constants.items() if c.at_fence},
        "undetermined": law.undetermined,
        "converged": law.converged,
        "source": form.source,
        "metrics": record.pop("errors"),
    }


def summary(law: FittedLaw, form: Form, notes: list[str]) -> str:
    """The fit in a few lines: constants and what limits them, errors, health, notes."""
    lines = [form.formula, f"{law.objective_kind} objective {law.objective:.10g}"]
    for name, c in law.constants.items():
        interval = "" if c.low is None else f"   95 % [{c.low:.5g}, {c.high:.5g}]"
        marks = [f"at its {c.at_fence} fence"] if c.at_fence else []
        marks += [] if c.determined else ["not determined"]
        mark = f"   ({', '.join(marks)})" if marks else ""
        lines.append(f"  {name:8} {c.value:<12.6g} {c.unit}{interval}{mark}")
    r2 = "none" if law.errors.r2 is None else f"{law.errors.r2:.6g}"
    lines.append(f"mean error {100 * law.errors.mean_abs_rel_error:.3g} %, R² {r2}")
    fitted = f"rank {law.rank} of {law.constants_fitted}"
    lines.append(f"{law.status.value}, {fitted}, condition {law.condition:.3g}")
    lines.append(
        f"of the starts {100 * (law.starts_at_optimum or 0):.0f} % arrived,"
        f" {100 * (law.starts_unfinished or 0):.0f} % unfinished"
    )
    return "\n".join(lines + [f"note: {note}" for note in notes])
