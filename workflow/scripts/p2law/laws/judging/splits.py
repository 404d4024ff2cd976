"""Hold-outs: which points a law may see and which it must predict.

The P² paper's three ordered splits (later budgets, the largest size, the highest rate) and three
leave-one-out families. A split that the table cannot carry is returned with the reason, not
skipped in silence.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

ORDERED = ("budget", "size", "rate")
SPLITS = (*ORDERED, "leave-one-size", "leave-one-rate", "leave-one-method")
DATA_SHARE = 0.8
"""Share of each run's budgets, from the smallest, that the budget split fits (the paper's)."""


@dataclass
class Split:
    """Rows to fit and rows to predict (boolean [n]), or the reason why there are none."""

    name: str
    held: str
    train: np.ndarray
    test: np.ndarray
    reason: str = ""


def rate_rank(frame: pd.DataFrame) -> np.ndarray:
    """Rank of each row's rate in its model and method, from 0: achieved rates differ by size."""
    keys = ["N0", *(c for c in ("family", "method") if c in frame)]
    return (frame.groupby(keys)["rho"].rank(method="dense") - 1).to_numpy(dtype=int)


def all_splits(frame: pd.DataFrame) -> list[Split]:
    """Every hold-out of a table; ``reason`` is set where one is impossible."""
    return [
        _budget(frame),
        *_by_level(frame, "size", frame["N0"].to_numpy(), "sizes"),
        *_by_level(frame, "rate", rate_rank(frame), "rates"),
        *_by_method(frame),
    ]


def last_budgets(frame: pd.DataFrame) -> np.ndarray:
    """Rows [n] of each run's last budgets, a fifth of them and at least one."""
    rank = frame.groupby("run")["D"].rank(method="dense").to_numpy() - 1
    count = frame.groupby("run")["D"].transform("nunique").to_numpy()
    return rank >= np.minimum(np.ceil(DATA_SHARE * count), count - 1)


def _budget(frame: pd.DataFrame) -> Split:
    test = last_budgets(frame)
    most = int(frame.groupby("run")["D"].nunique().max())
    fitted = int(frame[~test].groupby("run")["D"].nunique().max()) if not test.all() else 0
    reason = "" if fitted >= 2 else f"runs have {most} budgets, 3 are needed"
    return Split("budget", "last budgets of each run", ~test, test, reason)


def _by_level(frame: pd.DataFrame, name: str, level: np.ndarray, word: str) -> list[Split]:
    """The ordered split (highest level held out) and leave-one-out over the other levels."""
    levels = np.unique(level)
    splits = []
    for held in levels[::-1]:
        test = level == held
        is_top = held == levels[-1]
        label = f"N0 = {held:.6g}" if name == "size" else _rate_label(frame, test)
        reason = "" if len(levels) >= 3 else f"{len(levels)} {word}, 3 are needed"
        splits.append(Split(f"leave-one-{name}", label, ~test, test, reason))
        if is_top:
            splits.insert(0, Split(name, label, ~test, test, reason))
        if reason:
            break
    return splits


def _rate_label(frame: pd.DataFrame, rows: np.ndarray) -> str:
    rates = np.unique(frame.loc[rows, "rho"].round(3))
    return f"rho = {rates[0]:g}" if len(rates) == 1 else f"rho = {rates[0]:g} to {rates[-1]:g}"


def _by_method(frame: pd.DataFrame) -> list[Split]:
    methods = sorted(frame["method"].unique()) if "method" in frame else []
    everything = np.ones(len(frame), dtype=bool)
    if len(methods) < 2:
        return [Split("leave-one-method", "", everything, ~everything, "one method")]
    splits = []
    for method in methods:
        test = (frame["method"] == method).to_numpy()
        splits.append(Split("leave-one-method", str(method), ~test, test))
    return splits
