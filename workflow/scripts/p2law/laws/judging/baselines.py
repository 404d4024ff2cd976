"""What a law must beat: predictions that need no law.

``last value`` repeats the run's last seen loss; ``run power law`` fits a D^-b to the run's own
points (both need earlier budgets of the run). ``nearest run`` takes the ratio of loss to L0 of the
nearest run that was seen, at the same budget: nearest in log N0 and log rho.
"""

import numpy as np
import pandas as pd


def last_value(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Last seen loss [m] of each test row's run; NaN where the run was never seen."""
    last = train.sort_values("D").groupby("run")["loss"].last()
    return test["run"].map(last).to_numpy(dtype=float)


def run_power_law(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """log loss = a - b log D of each run, extrapolated [m]; NaN with fewer than two points."""
    predicted = np.full(len(test), np.nan)
    runs = test["run"].to_numpy()
    for run, rows in train.groupby("run"):
        at = runs == run
        if rows["D"].nunique() < 2 or not at.any():
            continue
        slope, level = np.polyfit(np.log(rows["D"]), np.log(rows["loss"]), 1)
        predicted[at] = np.exp(level + slope * np.log(test["D"].to_numpy()[at]))
    return predicted


def nearest_run(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """L0 x (loss / L0) of the nearest seen run at the nearest budget [m]."""
    seen = np.log(train[["N0", "rho", "D"]].to_numpy(dtype=float))
    ratio = (train["loss"] / train["L0"]).to_numpy(dtype=float)
    asked = np.log(test[["N0", "rho", "D"]].to_numpy(dtype=float))
    # Budgets weigh most: only where none is equal does another budget stand in.
    distance = (np.abs(asked[:, None] - seen[None]) * [1.0, 1.0, 100.0]).sum(-1)
    return test["L0"].to_numpy(dtype=float) * ratio[distance.argmin(1)]


def for_split(split: str, train: pd.DataFrame, test: pd.DataFrame) -> dict[str, np.ndarray]:
    """The baselines that make sense for a split, by name."""
    if split == "budget":
        return {
            "baseline: last value": last_value(train, test),
            "baseline: run power law": run_power_law(train, test),
        }
    return {"baseline: nearest run": nearest_run(train, test)}
