"""The report's pages from plain values: all that the summary stage writes but its manifest."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from p2law.canonical import write_text
from p2law.laws.deciding.candidates import candidates_of
from p2law.laws.deciding.study_laws import Laws
from p2law.laws.results import LawResults
from p2law.report import law_pages, plan_page, pruned_page
from p2law.report.html import page, table

Rows = Sequence[Mapping[str, Any]]
"""A table's rows; their keys are its head."""


@dataclass(frozen=True)
class Facts:
    """What the pages say of a study beside its tables and laws, each as rows for people.

    ``bases``: family, model, N0, L0, standard error; ``coverage``: what the tables hold;
    ``costs``: the estimate by stage; ``spent``: estimate against actual; ``jobs``: every finished
    job. ``masked`` methods keep their zeros; ``flops_per_hour`` is of the machine that ``hours``
    names ("a core's at 40 GFLOP/s").
    """

    bases: Rows
    coverage: Mapping[str, Any]
    costs: Rows
    spent: Rows
    jobs: pd.DataFrame
    masked: Collection[str]
    flops_per_hour: float
    hours: str


@dataclass
class _Written:
    """The folder, and the names of what was written into it."""

    folder: Path
    files: list[str] = field(default_factory=list)

    def text(self, name: str, text: str) -> None:
        write_text(self.folder / name, text)
        self.files.append(name)

    def page(self, name: str, title: str, body: str) -> None:
        self.text(f"{name}.html", page(title, body))


def write(facts: Facts, tables: Path, law: Path | None, out: Path) -> list[str]:
    """Write every page and the tables behind them into ``out``; returns the files' names.

    ``tables`` and ``law`` are the stages' folders; no law, no runs.
    """
    written = _Written(out)
    written.text("jobs.csv", facts.jobs.to_csv(index=False))
    pruned = pruned_page.pruned(pd.read_parquet(tables / "oneshot.parquet"))
    written.page("oneshot", "Pruned models", pruned)
    laws = Laws.read(law, tables / "losses.parquet") if law else None
    if laws is not None:
        written.page("law", "The laws", law_pages.laws(laws.results))
        written.page("holdouts", "Held-out errors", law_pages.holdouts(laws.results))
        candidates = candidates_of(laws.table, facts.masked)
        answered = plan_page.answers(laws, candidates, facts.flops_per_hour)
        chosen = plan_page.choices(laws, candidates, facts.flops_per_hour)
        written.text("plan.csv", answered.to_csv(index=False))
        written.text("choices.csv", chosen.to_csv(index=False))
        written.page("plan", "The plan", plan_page.page(answered, chosen, facts.hours))
    written.page("checks", "Checks and costs", checks(facts, laws.results if laws else None))
    return written.files


def checks(facts: Facts, results: LawResults | None) -> str:
    """What a sound study shows: L0 falls with size in each family, losses fall with D, none lies
    below its L0. Then the estimated cost by stage beside what was spent.
    """
    bases = sorted(facts.bases, key=lambda row: (str(row["family"]), row["N0"]))
    body = rows_table("Base models", bases)
    if results is not None:
        body += table(
            f"Runs whose loss rises with tokens: {len(results.rises)}",
            ["run", "from D", "to D", "rise (nats)"],
            [(r.run, r.from_D, r.to_D, r.rise) for r in results.rises],
        )
        body += table(
            f"Points below their L0: {len(results.below_base)}",
            ["run", "D", "loss", "L0", "below (nats)"],
            [(r.run, r.D, r.loss, r.L0, r.below) for r in results.below_base],
        )
    body += rows_table("Coverage", [facts.coverage])
    body += rows_table("Estimated cost by stage (core- or GPU-hours)", facts.costs)
    spent = "Estimate against actual, finished jobs (last attempts; every job: jobs.csv)"
    return body + rows_table(spent, facts.spent)


def rows_table(caption: str, rows: Rows) -> str:
    """Rows as an HTML table; nothing where there is none."""
    return table(caption, list(rows[0]), [list(row.values()) for row in rows]) if rows else ""
