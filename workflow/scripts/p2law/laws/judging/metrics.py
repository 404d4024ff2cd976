"""How good a prediction is: errors, slopes, and criteria that pay for constants.

ASD (average slope difference) is the metric of arXiv 2411.10272, which prints no formula: the one
here is ours. It is blind to anything that shifts a whole run, so it stands beside R².
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from p2law.laws.fitting.engine import huber


def asd(frame: pd.DataFrame, predicted: np.ndarray) -> float | None:
    """Average slope difference in nats per 1e6 tokens; None where no run has two budgets.

    Per run the mean over consecutive budgets of |slope - predicted slope|, then the mean over runs.
    """
    rows = frame.assign(predicted=predicted).sort_values(["run", "D"])
    step = rows.groupby("run")[["D", "loss", "predicted"]].diff()
    slope = (step["loss"] - step["predicted"]).abs() / step["D"]
    runs = slope.groupby(rows["run"]).mean().dropna()
    return float(runs.mean() * 1e6) if len(runs) else None


def r_squared(loss: np.ndarray, predicted: np.ndarray) -> float | None:
    """Share of the losses' variance (nats) that is explained; None where they do not vary."""
    spread = float(((loss - loss.mean()) ** 2).sum())
    return 1.0 - float(((loss - predicted) ** 2).sum()) / spread if spread > 0 else None


def aicc(residuals: np.ndarray, constants: int) -> float | None:
    """Small-sample Akaike criterion of log residuals; None where points are too few for it."""
    n, k = len(residuals), constants + 1
    sse = float((residuals**2).sum())
    if n <= k + 1 or sse <= 0:
        return None
    return n * np.log(sse / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1)


@dataclass(frozen=True)
class Errors:
    """Errors of predicted losses: relative ones as fractions, ``huber_sum`` of log residuals."""

    points: int
    runs: int
    mean_abs_rel_error: float
    mean_signed_rel_error: float
    max_abs_rel_error: float
    r2: float | None
    asd_nats_per_1e6_tokens: float | None
    huber_sum: float


def errors(frame: pd.DataFrame, predicted: np.ndarray, delta: float = 1e-3) -> Errors:
    """Errors of predicted losses [n] against a table's."""
    loss = frame["loss"].to_numpy(dtype=float)
    relative = predicted / loss - 1.0
    logs = np.log(np.maximum(predicted, 1e-12)) - np.log(loss)
    return Errors(
        points=len(frame),
        runs=int(frame["run"].nunique()),
        mean_abs_rel_error=float(np.abs(relative).mean()),
        mean_signed_rel_error=float(relative.mean()),
        max_abs_rel_error=float(np.abs(relative).max()),
        r2=r_squared(loss, predicted),
        asd_nats_per_1e6_tokens=asd(frame, predicted) if "D" in frame else None,
        huber_sum=float(huber(logs, delta)),
    )


def each_point_once(
    rows: pd.DataFrame, keys: list[str], column: str = "mean_abs_rel_error"
) -> pd.Series:
    """Mean of a column over rows of equal keys, each row weighed by its ``points``.

    A hold-out's error is the mean over its points, and splits with several parts (leave-one-out)
    hold out every point once: so weighed, every point counts once. Rows whose value is missing
    count in neither sum.
    """
    known = rows[rows[column].notna()]
    total = known[column].astype(float) * known["points"]
    sums = known.assign(_total=total).groupby(keys)[["_total", "points"]].sum()
    return (sums["_total"] / sums["points"]).rename(column)
