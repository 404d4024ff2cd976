"""Loss tables drawn from a known law: the oracle of tests, benchmarks and coverage simulations.

Noise is correlated inside a run, as checkpoints of one training are: a share of the variance is
one draw a run, the rest one draw a point.
"""

import numpy as np
import pandas as pd

from p2law.laws.forms import form as forms
from p2law.laws.forms import registry

P2_CONSTANTS = {
    "N_C": 3.0,
    "D_C": 12.0,
    "E": 0.5,
    "alpha": 0.35,
    "beta": 0.30,
    "gamma": -1.4,
    "delta": 0.08,
}
"""A plausible P² law at 0.2 to 1 M parameters; not fitted to anything, not the paper's."""


def grid(
    sizes: list[float], rates: list[float], budgets: list[float], method: str = "depth"
) -> pd.DataFrame:
    """Every size x rate x budget as a loss table without losses (L0 falls with size)."""
    rows = [
        {
            "family": "simulated", "model": f"m{i}", "method": method, "rate": rate,
            "rate_asked": rate, "run": f"m{i}/{method}-{rate:g}/0", "seed": 0, "N0": size,
            "N": size * (1 - rate), "D": budget, "L0": 3.3 * (size / sizes[0]) ** -0.10,
        }
        for i, size in enumerate(sizes)
        for rate in rates
        for budget in budgets
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    frame["rho"] = frame["rate"]
    frame["run_given"] = True
    return frame


def losses(
    frame: pd.DataFrame,
    form: str,
    constants: dict[str, float],
    *,
    noise: float,
    shared: float,
    seed: int,
) -> pd.DataFrame:
    """Fill in ``loss`` (nats) from a law with relative noise.

    ``noise`` is the relative standard deviation of a point, ``shared`` the share of its variance
    that all points of a run have in common.
    """
    rng = np.random.default_rng(seed)
    runs, index = np.unique(frame["run"], return_inverse=True)
    common = rng.standard_normal(len(runs))[index] * np.sqrt(shared)
    own = rng.standard_normal(len(frame)) * np.sqrt(1 - shared)
    clean = forms.predict(registry.get(form), constants, frame)
    return frame.assign(loss=clean * np.exp(noise * (common + own)))


def study(seed: int = 0, noise: float = 0.002) -> pd.DataFrame:
    """A default-study-like table: 3 sizes x (3 depth, 3 width, one 2:4) x 5 budgets, with Lp."""
    sizes = [220e3, 450e3, 1020e3]
    budgets = [16384.0 * 2**k for k in range(5)]
    parts = []
    for k, (method, rates, strength) in enumerate(
        [("depth", [0.15, 0.29, 0.44], 1.0), ("width", [0.16, 0.33, 0.5], 0.75),
         ("sparse", [0.45], 0.55)]
    ):  # fmt: skip
        frame = grid(sizes, rates, budgets, method)
        law = {
            n: v * (strength if n in ("N_C", "D_C", "E") else 1) for n, v in P2_CONSTANTS.items()
        }
        frame = losses(frame, "p2", law, noise=noise, shared=0.5, seed=seed * 10 + k)
        gap = forms.predict(registry.get("p2"), law, frame.assign(D=800.0)) - frame["L0"]
        parts.append(frame.assign(Lp=frame["L0"] + 1.3 * gap))
    return pd.concat(parts, ignore_index=True)
