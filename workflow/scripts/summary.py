"""The report's tables as small HTML pages: pruned models, laws, held-out errors, checks."""

import argparse
import csv
import io
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from html import escape
from pathlib import Path
from typing import Any

from p2law.actuals import Job, by_model, jobs
from p2law.costs import Costs
from p2law.errors import run
from p2law.manifest import read_manifest, write_manifest, write_text
from p2law.study.grid import Study
from p2law.study.specs import BASE
from p2law.tables.oneshot import matched_rates

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px/1.45 system-ui, sans-serif; margin: 1.5em; color: #222; }}
table {{ border-collapse: collapse; margin: 0 0 2em; }}
caption {{ text-align: left; font-weight: 600; padding: .4em 0; }}
th, td {{ padding: .2em .7em; border-bottom: 1px solid #ddd; text-align: right; }}
th:first-child, td:first-child {{ text-align: left; }}
</style></head><body><h1>{title}</h1>{body}</body></html>
"""


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """An HTML table; numbers to four significant digits, None as a dash."""
    cells = ["<tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>"]
    cells += ["<tr>" + "".join(f"<td>{_cell(v)}</td>" for v in row) + "</tr>" for row in rows]
    return f"<table><caption>{escape(caption)}</caption>{''.join(cells)}</table>"


def _cell(value: Any) -> str:
    if value is None:
        return "&ndash;"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def oneshot(tables: Path) -> str:
    """Every pruned model before post-training, by model and rate, best first."""
    import pandas as pd

    rows = pd.read_parquet(tables.parent / "oneshot.parquet")
    pages = []
    for model, group in rows.groupby("model", sort=False):
        group = group.assign(matched=matched_rates(group["rate"]))
        group = group.sort_values(["matched", "Lp"], kind="stable")
        first = group.iloc[0]
        pages.append(
            table(
                f"{model}: L0 {first['L0']:.4f} ± {first['L0_se']:.4f} nats per token on"
                f" {first['evaluation_tokens']:,} held-out tokens",
                [
                    *("method", "what goes", "rate asked", "rate achieved", "loss", "damage"),
                    *("standard error of the damage", "perplexity", "seconds", "memory (GB)"),
                ],
                [
                    [
                        *(row.method, row.settings, row.rate_asked, row.rate, row.Lp, row.damage),
                        *(row.damage_se, row.perplexity, row.seconds, row.peak_memory_bytes / 1e9),
                    ]
                    for row in group.itertuples()
                ],
            )
        )
    return "".join(pages)


def laws(law: dict[str, Any]) -> str:
    """Every fitted form by method: how well it fits, then the constants with their intervals."""
    fits = law["fits"]
    fields = ("r2", "mean_abs_rel_error", "asd_nats_per_1e6_tokens", "aicc")
    health = table(
        "Fit of every form, by method",
        [
            *("family", "method", "form", "R²", "mean relative error", "ASD (nats per 1e6 tokens)"),
            *("AICc", "rank", "constants", "converged"),
        ],
        [
            [
                *(fit[k] for k in ("family", "method", "form")),
                *(fit["metrics"].get(field) for field in fields),
                *(fit[k] for k in ("rank", "constants_fitted", "converged")),
            ]
            for fit in fits
        ],
    )
    constants = table(
        f"Constants with {100 * law['level']:.0f} % run-level intervals",
        ["family", "method", "form", "constant", "value", "low", "high", "unit", "identified"],
        [
            [
                *(fit[k] for k in ("family", "method", "form")),
                *(name, value["value"], value["low"], value["high"], value["unit"]),
                value["identified"],
            ]
            for fit in fits
            if fit.get("replicates")
            for name, value in fit["constants"].items()
        ],
    )
    return health + constants


def holdouts(law: dict[str, Any]) -> str:
    """Held-out errors of every form, split by split."""
    fields = ("mean_abs_rel_error", "mean_signed_rel_error", "asd_nats_per_1e6_tokens")
    fields += ("covered", "interval_width", "identified")
    return table(
        "Held-out errors: the split's points were not fitted",
        [
            *("family", "method", "split", "held out", "form", "mean relative error"),
            *("signed error", "ASD (nats per 1e6 tokens)", "share inside the interval"),
            *("width of the interval", "identified"),
        ],
        [
            [
                *(row[k] for k in ("family", "method", "split", "held", "form")),
                *map(row.get, fields),
            ]
            for row in law["holdouts"]
        ],
    )


def checks(study: Study, law: dict[str, Any] | None) -> str:
    """What a sound study shows: L0 falls with size, losses fall with D, none below its L0."""
    bases = []
    for model in study.models.values():
        path = study.evaluated_manifest(model.name, BASE)
        if path.exists():
            loss = read_manifest(path)["results"]["checkpoints"][BASE]
            bases.append((model.parameters["total"], model.name, loss["loss"], loss["loss_se"]))
    page = table(
        "Base models", ["model", "N0", "L0", "standard error"],
        [(name, size, loss, se) for size, name, loss, se in sorted(bases)],
    )  # fmt: skip
    if law is not None:
        page += table(
            f"Runs whose loss rises with tokens: {len(law['rises'])}",
            ["run", "from D", "to D", "rise (nats)"],
            [(r["run"], r["from_D"], r["to_D"], r["rise"]) for r in law["rises"]],
        )
        page += table(
            f"Points below their L0: {len(law['healed'])}",
            ["run", "D", "loss", "L0", "below (nats)"],
            [(r["run"], r["D"], r["loss"], r["L0"], r["below"]) for r in law["healed"]],
        )
    coverage = read_manifest(study.stage_manifest("tables"))["results"]
    return page + table("Coverage", list(coverage), [list(coverage.values())])


def costs(study: Study) -> str:
    """Estimated cost by stage."""
    return table(
        "Estimated cost by stage (core- or GPU-hours)",
        ["stage", "jobs", "tokens", "FLOP", "hours", "memory (GB)", "disk (GB)"],
        [
            (c.stage, c.jobs, c.tokens, c.flops, c.hours, c.memory_bytes / 1e9, c.disk_bytes / 1e9)
            for c in Costs(study).stages()
        ],
    )


def spent(done: list[Job]) -> str:
    """What the finished jobs took, beside the estimate."""
    rows = by_model(done)
    caption = "Estimate against actual, finished jobs (last attempts; every job: jobs.csv)"
    return table(caption, list(rows[0]), [list(row.values()) for row in rows]) if rows else ""


def jobs_csv(done: list[Job]) -> str:
    """Every finished job as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Job)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(asdict, done))
    return text.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=json.loads, help="key and study, as JSON")
    parser.add_argument("--law", type=Path, help="the law's manifest.json; none without runs")
    parser.add_argument("--tables", required=True, type=Path, help="the tables' manifest.json")
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    arguments = parser.parse_args()
    started = time.time()
    study = Study(arguments.spec["study"], "the study")
    pages = {"oneshot": ("Pruned models", oneshot(arguments.tables))}
    law, inputs = None, {"tables": arguments.tables}
    if arguments.law:
        law = json.loads((arguments.law.parent / "law.json").read_text())
        inputs["law"] = arguments.law
        pages |= {
            "law": ("The laws", laws(law)),
            "holdouts": ("Held-out errors", holdouts(law)),
        }
    done = list(jobs(study))
    pages["checks"] = ("Checks and costs", checks(study, law) + costs(study) + spent(done))
    write_text(arguments.out / "jobs.csv", jobs_csv(done))
    for name, (title, body) in pages.items():
        write_text(arguments.out / f"{name}.html", PAGE.format(title=title, body=body))
    write_manifest(
        arguments.out,
        stage="summary",
        spec=arguments.spec,
        inputs=inputs,
        files=["jobs.csv", *(f"{name}.html" for name in pages)],
        results={"pages": list(pages)},
        started=started,
    )


if __name__ == "__main__":
    sys.exit(run(main))
