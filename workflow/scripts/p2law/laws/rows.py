"""Which rows of a loss table a law may see: one recipe, one family, one method or all pooled.

Everyone who chooses rows (the law stage, the plan, the advisor, the figures, a fit by hand) does it
here, so that no number rests on two recipes or on two families at once.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pandas as pd

from p2law.errors import UserError

POOLED = "all"
"""The method of a law over all methods."""


class Group(NamedTuple):
    """Whose rows a law is fitted to; the method may be ``POOLED``."""

    family: str
    method: str


def recipes(table: pd.DataFrame) -> list[str]:
    """The table's recipes in the order in which they come; none where no column names them."""
    return [str(name) for name in dict.fromkeys(table["recipe"])] if "recipe" in table else []


def of_recipe(table: pd.DataFrame, name: str | None = None) -> pd.DataFrame:
    """The rows of one recipe: no law, plan or figure may mix two.

    A table without a column ``recipe`` is of one recipe, whatever its name. Raises UserError where
    the table holds several and none is chosen, or none of that name.
    """
    found = recipes(table)
    if not found or (name is None and len(found) == 1):
        return table.reset_index(drop=True)
    if name is None:
        raise UserError(f"the table holds {len(found)} recipes: {', '.join(found)}; choose one")
    if name not in found:
        raise UserError(f"recipe {name!r}: the table has {', '.join(found)}")
    return table[table["recipe"].astype(str) == name].reset_index(drop=True)


def families(table: pd.DataFrame) -> list[str]:
    """The table's families, sorted; one without a name where no column names them."""
    return sorted(table["family"].astype(str).unique()) if "family" in table else [""]


def methods(table: pd.DataFrame) -> list[str]:
    """The table's methods, sorted; none where no column names them."""
    return sorted(table["method"].astype(str).unique()) if "method" in table else []


def rows_of(table: pd.DataFrame, family: str, method: str = POOLED) -> pd.DataFrame:
    """The rows of one family, of one method or of all."""
    if "family" in table:
        table = table[table["family"].astype(str) == family]
    if method != POOLED and "method" in table:
        table = table[table["method"].astype(str) == method]
    return table.reset_index(drop=True)


def groups(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(family, method, rows) of each method, then of all methods pooled where there are several."""
    for family in families(table):
        rows = rows_of(table, family)
        found = methods(rows)
        for method in found if len(found) == 1 else [*found, POOLED]:
            yield family, method, rows_of(rows, family, method)


def where(table: pd.DataFrame, choices: Iterable[str]) -> pd.DataFrame:
    """The rows that ``COLUMN=VALUE`` pairs name; the values of one column are alternatives."""
    wanted: dict[str, list[str]] = {}
    for pair in choices:
        column, sign, value = pair.partition("=")
        if not sign or column not in table:
            raise UserError(
                f"--where {pair}: must read COLUMN=VALUE; columns: {', '.join(map(str, table))}"
            )
        wanted.setdefault(column, []).append(value)
    for column, values in wanted.items():
        texts = table[column].map(lambda x: f"{x:g}" if isinstance(x, float) else str(x))
        raw = table[column].astype(str)
        for value in values:
            if value not in set(texts) | set(raw):
                held = ", ".join(dict.fromkeys(texts))
                raise UserError(f"--where {column}={value}: no such row; {column} is {held[:300]}")
        table = table[texts.isin(values) | raw.isin(values)]
    return table.reset_index(drop=True)
