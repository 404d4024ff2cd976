"""How good a prediction is: errors, slopes, and criteria that pay for constants.

ASD (average slope difference) is the P² paper's metric; its formula is not public and the one here
is ours (law.md section 1). It is blind to anything that shifts a whole run, so it stands beside R².
"""

from typing import Any

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


def errors(frame: pd.DataFrame, predicted: np.ndarray, delta: float = 1e-3) -> dict[str, Any]:
    """Metrics of predicted losses [n] against a table's: all relative ones as fractions."""
    loss = frame["loss"].to_numpy(dtype=float)
    relative = predicted / loss - 1.0
    logs = np.log(np.maximum(predicted, 1e-12)) - np.log(loss)
    return {
        "points": len(frame),
        "runs": int(frame["run"].nunique()),
        "mean_abs_rel_error": float(np.abs(relative).mean()),
        "mean_signed_rel_error": float(relative.mean()),
        "max_abs_rel_error": float(np.abs(relative).max()),
        "r2": r_squared(loss, predicted),
        "asd_nats_per_1e6_tokens": asd(frame, predicted),
        "huber_sum": float(huber(logs, delta)),
    }
