"""Tables of the fitted laws: fits and constants, what the grid leaves open, held-out errors."""

from collections.abc import Iterable, Mapping
from typing import Any

from p2law.laws.judging.splits import SPLITS
from p2law.report.html import table, text

KEYS = ("family", "method", "form")
FIT = {
    "r2": "R²", "mean_abs_rel_error": "mean relative error",
    "mean_signed_rel_error": "signed error", "asd_nats_per_1e6_tokens": "ASD (nats per 1e6 tokens)",
    "huber_sum": "summed Huber (1e-3, log)", "aicc": "AICc",
}  # fmt: skip


def laws(law: Mapping[str, Any]) -> str:
    """Every fitted form by method: how well it fits, its constants, and what would mend them."""
    health = table(
        "Fit of every form, by method",
        [*KEYS, *FIT.values(), "rank", "constants", "converged"],
        [
            [
                *(fit[k] for k in KEYS), *(fit["metrics"].get(field) for field in FIT),
                *(fit[k] for k in ("rank", "constants_fitted", "converged")),
            ]
            for fit in law["fits"]
        ],
    )  # fmt: skip
    constants = table(
        f"Constants with {100 * law['level']:.0f} % run-level intervals",
        [*KEYS, "constant", "value", "low", "high", "unit", "identified"],
        [
            [
                *(fit[k] for k in KEYS), name, value["value"], value["low"], value["high"],
                value["unit"], value["identified"],
            ]
            for fit in law["fits"]
            if fit.get("replicates")
            for name, value in fit["constants"].items()
        ],
    )  # fmt: skip
    return health + constants + advice(law)


def advice(law: Mapping[str, Any]) -> str:
    """What the grid leaves open and the cheapest further runs that would cure it."""
    if not law["advice"]:
        return text("The grid determines every constant of P² and of the damage law.")
    note = text(
        "What the grid leaves open, and further runs that would cure it: first the cheapest run for"
        " each open constant that one run can determine, then those that reduce most, per FLOP, the"
        " variance of"
        " predictions at twice the largest size and four times the largest budget. Costs are 6 N D"
        " of post-training; workflow/scripts/advise.py counts base models too and takes your own"
        " targets."
    )
    rows = [
        [
            *(found[k] for k in KEYS), found["open"], run["run"], run["cost"], run["determines"],
            100 * run["half_width_before"], 100 * run["half_width_after"],
        ]
        for found in law["advice"]
        for run in found["runs"]
    ]  # fmt: skip
    head = ["left open", "run", "FLOPs", "determines", "half width before, %", "after, %"]
    return note + table("Next runs", [*KEYS, *head], rows)


def holdouts(law: Mapping[str, Any]) -> str:
    """All forms by held-out error, coverage of the intervals, and every single hold-out."""
    note = text(
        "Each form was fitted without some points and asked for them. Errors are mean absolute"
        " relative errors; a split with several parts counts every point once. Choose between laws"
        " on these, not on R²."
    )
    return note + comparison(law) + coverage(law) + every(law)


def comparison(law: Mapping[str, Any]) -> str:
    """A row a family, method and form: held-out error of each split beside AICc and R²."""
    held = _by(law["holdouts"], "mean_abs_rel_error", (*KEYS, "split"))
    fits = {tuple(fit[k] for k in KEYS): fit["metrics"] for fit in law["fits"]}
    splits = [s for s in SPLITS if any(key[3] == s for key in held)]
    rows = []
    for key in dict.fromkeys([*fits, *(k[:3] for k in held)]):
        errors = [held.get((*key, split)) for split in splits]
        metrics = fits.get(key, {})
        found = [None if e is None else 100 * e for e in errors]
        rows.append([*key, *found, metrics.get("r2"), metrics.get("aicc")])
    rows.sort(key=lambda row: (row[0], row[1] != "all", row[1], _mean(row[3:-2])))
    head = [*KEYS, *(f"{split}, %" for split in splits), "R²", "AICc"]
    return table("All forms by held-out error, best first", head, rows)


def coverage(law: Mapping[str, Any]) -> str:
    """Share of held-out losses inside their interval, by form and split, nominal share beside."""
    known = [row for row in law["holdouts"] if row["covered"] is not None]
    keys = ("form", "split")
    shares = _by(known, "covered", keys) | _by(known, "covered", ("form",))
    widths = _by(known, "interval_width", keys) | _by(known, "interval_width", ("form",))
    counts = {key: sum(r["points"] for r in known if r["form"] == key[0]
                       and key[1:] in ((), (r["split"],))) for key in shares}  # fmt: skip
    rows = [
        [key[0], key[1] if len(key) > 1 else "all", 100 * share, 100 * widths[key], counts[key]]
        for key, share in sorted(shares.items())
    ]
    title = f"Held-out losses inside their {100 * law['level']:.0f} % interval"
    return table(title, ["form", "split", "inside, %", "mean width, %", "points"], rows)


def every(law: Mapping[str, Any]) -> str:
    """Every hold-out of every form."""
    fields = ("mean_abs_rel_error", "mean_signed_rel_error", "asd_nats_per_1e6_tokens")
    fields += ("covered", "interval_width", "identified")
    return table(
        "Every hold-out",
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


def _by(rows: Iterable[Mapping], field: str, keys: tuple[str, ...]) -> dict[tuple, float]:
    """Mean of a field over rows of equal keys, each point counted once."""
    sums: dict[tuple, list[float]] = {}
    for row in rows:
        total = sums.setdefault(tuple(row[k] for k in keys), [0.0, 0])
        total[0] += row[field] * row["points"]
        total[1] += row["points"]
    return {key: total / count for key, (total, count) in sums.items()}


def _mean(values: list[float | None]) -> float:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else float("inf")
