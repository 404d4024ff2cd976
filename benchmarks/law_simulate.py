"""Loss tables drawn from a known law: the oracle of tests, benchmarks and coverage simulations.

Noise is correlated inside a run, as checkpoints of one training are: a share of the variance is
one draw a run, the rest one draw a point.
"""

from itertools import product

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


METHODS = (
    "blocks",
    "angular",
    "taylor",
    "ffn",
    "heads",
    "hidden",
    "wanda",
    "obs",
    "mrp",
    "24",
    "48",
)
"""Methods of :func:`crossed`, from the most harmful to the least; three kinds of pruning."""
FULL = 3
"""Methods of :func:`crossed` that were tried everywhere."""
SCALE = {"first": 1.0, "second": 1.3}
"""Families of :func:`crossed`: losses of the second are the first's times 1.3, as those of another
tokenizer are, so that every answer in tokens must be the same in both."""
RECIPES = {"wsd": {}, "read": {"beta": 0.15, "D_C": 2.5}}
"""Recipes of :func:`crossed` and how their law differs from ``P2_CONSTANTS``."""


def crossed(methods: int = len(METHODS), seed: int = 0) -> pd.DataFrame:
    """A loss table of two families, two recipes, two seeds and up to eleven methods.

    Families have three sizes each, of the same N0, and two rates a method, which differ from method
    to method by a thousandth. The first ``FULL`` methods were tried in both families on all sizes,
    the others in the first family on its smallest and largest model.
    """
    parts = []
    budgets = [16384.0 * 2**k for k in range(4)]
    for k, method in enumerate(METHODS[:methods]):
        clean = grid([220e3, 450e3, 1020e3], [0.2 + 0.001 * k, 0.4 + 0.001 * k], budgets, method)
        if method not in METHODS[:FULL]:
            clean = clean[clean["model"] != "m1"]
        strength = 1.0 - 0.06 * k
        law = {n: v * (strength if n in ("N_C", "D_C", "E") else 1)
               for n, v in P2_CONSTANTS.items()}  # fmt: skip
        start = forms.predict(registry.get("p2"), law, clean.assign(D=800.0))
        clean["Lp"] = start + 0.3 * (start - clean["L0"])
        for j, (recipe, again) in enumerate(product(RECIPES, (0, 1))):
            changed = {n: v * (strength if n == "D_C" else 1) for n, v in RECIPES[recipe].items()}
            run = clean["run"].str.rsplit("/", n=1).str[0] + f"/{recipe}-{again}"
            frame = clean.assign(recipe=recipe, seed=again, run=run)
            draw = 1000 * seed + 10 * k + j
            parts.append(losses(frame, "p2", law | changed, noise=0.002, shared=0.5, seed=draw))
    table = pd.concat(parts, ignore_index=True)
    table["variant"] = table["method"] + table["rate"].map("-{:g}".format)
    table["tokens_trained"] = np.where(
        table["recipe"] == "wsd", table.groupby("run")["D"].cumsum(), table["D"]
    )
    return pd.concat([_family(table, name) for name in SCALE], ignore_index=True)


def _family(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table as a family of that name has it."""
    if name != next(iter(SCALE)):
        table = table[table["method"].isin(METHODS[:FULL])]
    scaled = {column: table[column] * SCALE[name] for column in ("L0", "Lp", "loss")}
    named = {column: name + "-" + table[column] for column in ("model", "run")}
    return table.assign(family=name, tokenizer=f"of {name}", **named, **scaled)


def pruned_models(table: pd.DataFrame) -> pd.DataFrame:
    """The variants behind a loss table, as the tables stage writes them."""
    first = table.groupby(["family", "model", "method", "rho"], as_index=False, sort=False).first()
    kinds = {"depth": "depth", "width": "width"}
    kinds |= dict(zip(METHODS, ["depth"] * 3 + ["width"] * 3, strict=False))
    kind = first["method"].map(kinds).fillna("weights")
    return first.assign(
        prune=kind, settings=first["method"], rate=first["rho"], damage=first["Lp"] - first["L0"],
        damage_se=0.01, L0_se=0.01, evaluation_tokens=49152, perplexity=np.exp(first["Lp"]),
    )  # fmt: skip
