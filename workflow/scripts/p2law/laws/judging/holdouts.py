"""Hold-outs of the study: each form fitted without some points and asked for them.

A split and its leave-one-out twin (the largest size, the highest rate) are one fit: what was
fitted to the same rows is not fitted again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from p2law.laws.fitted import JointFit, RunByRunFit, prediction_rows
from p2law.laws.forms.form import Form
from p2law.laws.judging import baselines, metrics
from p2law.laws.judging.splits import Split, all_splits
from p2law.laws.records import Holdout, Skipped
from p2law.laws.rows import Group

REPLICATES = 200
"""Bootstrap replicates for the interval of a headline form's held-out prediction."""


@dataclass
class Answer:
    """What a law fitted to a split's rows says of the others."""

    predicted: np.ndarray
    interval: tuple[np.ndarray, np.ndarray]
    determined: bool


def holdout_records(
    law: JointFit | RunByRunFit, rows: pd.DataFrame, label: Group
) -> tuple[list[Holdout], list[dict[str, Any]], list[Skipped]]:
    """Records, predictions (one row a held-out point), and splits skipped with the reason."""
    name, records, predictions, skipped = law.form.name, [], [], []
    answers: dict[bytes, Answer] = {}
    for split in all_splits(rows):
        reason = split.reason or _impossible(law.form, split, rows)
        if reason:
            skipped.append(Skipped(*label, form=name, split=split.name, reason=reason))
            continue
        test = rows[split.test].reset_index(drop=True)
        mask = split.train.tobytes()
        if mask not in answers:
            law.fit(rows[split.train].reset_index(drop=True), _replicates(law.spec))
            answers[mask] = Answer(law.predict(test), law.interval(test), law.determined)
        answer = answers[mask]
        share, width = covered(test, *answer.interval)
        records.append(Holdout(
            *label, form=name, split=split.name, held=split.held,
            errors=metrics.errors(test, answer.predicted), covered=share, interval_width=width,
            determined=answer.determined, fitted_points=int(split.train.sum()),
        ))  # fmt: skip
        predictions += prediction_rows(
            test, answer.predicted, answer.interval, label, name, split.name, split.held
        )
    return records, predictions, skipped


def _replicates(spec: Mapping[str, Any]) -> int:
    return min(REPLICATES, spec["bootstrap"])


def _impossible(form: Form, split: Split, rows: pd.DataFrame) -> str:
    """Why a form of one curve cannot answer this split; empty where it can."""
    if not form.per_run:
        return ""
    if split.name != "budget":
        return "a law of one run cannot predict another"
    fewest, needed = int(rows[split.train].groupby("run").size().min()), len(form.constants)
    return "" if fewest >= needed else f"a run has {fewest} points for {needed} constants"


def covered(
    test: pd.DataFrame, low: np.ndarray, high: np.ndarray
) -> tuple[float | None, float | None]:
    """Share of measured losses inside their interval and the mean relative width; None without."""
    if not np.isfinite(low).all():
        return None, None
    loss = test["loss"].to_numpy()
    inside = (low <= loss) & (loss <= high)
    return float(inside.mean()), float(((high - low) / loss).mean())


def baseline_records(rows: pd.DataFrame, label: Group) -> Iterator[Holdout]:
    """What needs no law, on every split that it can answer."""
    for split in all_splits(rows):
        if split.reason:
            continue
        train, test = rows[split.train], rows[split.test].reset_index(drop=True)
        for name, predicted in baselines.for_split(split.name, train, test).items():
            if np.isfinite(predicted).all():
                yield Holdout(
                    *label, form=name, split=split.name, held=split.held,
                    errors=metrics.errors(test, predicted), covered=None, interval_width=None,
                    determined=None, fitted_points=int(split.train.sum()),
                )  # fmt: skip
