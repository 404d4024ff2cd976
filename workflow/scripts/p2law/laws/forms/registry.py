"""The registry of forms: P², its relatives, its rivals, and the damage laws. One entry a form.

Symbols are the sources'. N0, N, D are in the table's units (parameters and tokens in a study),
losses in nats per token. ``FORMS`` maps a form's name to its declaration; :func:`get` looks one up.
"""

from dataclasses import asdict, replace
from typing import Any

from p2law.errors import UserError
from p2law.laws.forms.form import NEAR_ZERO, ONE, BrokenPower, Exponent, Form

_P2 = "arXiv 2411.10272"
_OURS = "ours: docs/damage.md"

# Low and high are fences against runaway, not priors; starts cover what the literature reports.
GAMMA = Exponent(-12.0, 12.0, (-4.0, 0.5))  # loss rises with rho: negative in the paper's sign
DELTA = Exponent(-4.0, 4.0, (-0.3, 1.2))
ALPHA = Exponent(NEAR_ZERO, 3.0, (0.05, 1.5))
BETA = Exponent(NEAR_ZERO, 3.0, (0.05, 1.2))
POWER = Exponent(-6.0, 6.0, (0.1, 1.2))
KAPPA = Exponent(-2.0, 6.0, (0.4, 1.6))
LOG_T0 = Exponent(-30.0, 7.0, (-3.0, 3.0))  # engine's logarithm, centred on the table's mean D
# Of a smoothly broken power law with a fitted depth: as wide as its shape's own fences reach.
POWER_OF_SHAPE = Exponent(1e-6, 1e7, (0.3, 2.5))
DEPTH_OF_SHAPE = Exponent(1e-6, 1e9, (0.05, 1.0))
LOG_T0_OF_SHAPE = Exponent(-1e7, 1e7, (-3.0, 3.0))
TILT = Exponent(-6.0, 6.0, (-1.0, 1.0))
FREE = Exponent(-40.0, 40.0, (-2.0, 2.0))

_ALL = [
    Form(
        name="p2",
        title="P²",
        formula="L0 + rho^-gamma N0^-delta (N_C N0^-alpha + D_C D^-beta + E)",
        source=_P2,
        offset="L0",
        terms={
            "N_C": {"rho": "-gamma", "N0": "-delta-alpha"},
            "D_C": {"rho": "-gamma", "N0": "-delta", "D": "-beta"},
            "E": {"rho": "-gamma", "N0": "-delta"},
        },
        exponents={"alpha": ALPHA, "beta": BETA, "gamma": GAMMA, "delta": DELTA},
    ),
    Form(
        name="p2_no_delta",
        formula="L0 + rho^-gamma (N_C N0^-alpha + D_C D^-beta + E)",
        source="survey arXiv 2502.12051 eq. 17",
        offset="L0",
        terms={
            "N_C": {"rho": "-gamma", "N0": "-alpha"},
            "D_C": {"rho": "-gamma", "D": "-beta"},
            "E": {"rho": "-gamma"},
        },
        exponents={"alpha": ALPHA, "beta": BETA, "gamma": GAMMA},
    ),
    Form(
        name="p2_no_size_term",
        formula="L0 + rho^-gamma N0^-delta (D_C D^-beta + E)",
        source="ours: P² without N_C",
        offset="L0",
        terms={
            "D_C": {"rho": "-gamma", "N0": "-delta", "D": "-beta"},
            "E": {"rho": "-gamma", "N0": "-delta"},
        },
        exponents={"beta": BETA, "gamma": GAMMA, "delta": DELTA},
    ),
    Form(
        name="p2_odds",
        formula="L0 + (rho/(1-rho))^-gamma N0^-delta (N_C N0^-alpha + D_C D^-beta + E)",
        source="ours: P² in the odds of the rate",
        offset="L0",
        terms={
            "N_C": {"rho/(1-rho)": "-gamma", "N0": "-delta-alpha"},
            "D_C": {"rho/(1-rho)": "-gamma", "N0": "-delta", "D": "-beta"},
            "E": {"rho/(1-rho)": "-gamma", "N0": "-delta"},
        },
        exponents={"alpha": ALPHA, "beta": BETA, "gamma": GAMMA, "delta": DELTA},
    ),
    Form(
        name="rate_on_data",
        formula="L0 + N_C N0^-alpha + rho^-gamma D_C D^-beta + E",
        source="ours: rate on the data term only",
        offset="L0",
        terms={
            "N_C": {"N0": "-alpha"},
            "D_C": {"rho": "-gamma", "D": "-beta"},
            "E": {},
        },
        exponents={"alpha": ALPHA, "beta": BETA, "gamma": GAMMA},
    ),
    Form(
        name="separate",
        formula="L0 + N_C N0^-alpha + rho^-gamma N0^-delta D_C D^-beta + E",
        source="ours: separate exponents",
        offset="L0",
        terms={
            "N_C": {"N0": "-alpha"},
            "D_C": {"rho": "-gamma", "N0": "-delta", "D": "-beta"},
            "E": {},
        },
        exponents={"alpha": ALPHA, "beta": BETA, "gamma": GAMMA, "delta": DELTA},
    ),
    Form(
        name="multiplicative",
        formula="L0 + K rho^-gamma N0^-delta D^-beta + E",
        source="ours: multiplicative",
        offset="L0",
        terms={"K": {"rho": "-gamma", "N0": "-delta", "D": "-beta"}, "E": {}},
        exponents={"beta": BETA, "gamma": GAMMA, "delta": DELTA},
    ),
    Form(
        name="chinchilla",
        formula="E + A N^-alpha + B D^-beta",
        source="arXiv 2203.15556, approach 3; N after pruning",
        terms={"A": {"N": "-alpha"}, "B": {"D": "-beta"}, "E": {}},
        exponents={"alpha": ALPHA, "beta": BETA},
    ),
    Form(
        name="sparsity",
        formula="(a (1-S)^b + c) N^-d + e D^-f + g",
        source="arXiv 2309.08520; N non-zero parameters, S = rho",
        terms={
            "a": {"dense": "b", "N": "-d"},
            "c": {"N": "-d"},
            "e": {"D": "-f"},
            "g": {},
        },
        exponents={"b": Exponent(NEAR_ZERO, 10.0, (0.2, 4.0)), "d": ALPHA, "f": BETA},
    ),
    Form(
        name="rectified",
        formula="B / (D_t + D^beta) + E",
        source="arXiv 2402.02314; one curve, so fitted to each run",
        terms={"k": {}, "E": {}},
        exponents={"beta": Exponent(0.01, 6.0, (0.2, 2.0)), "t0": LOG_T0},
        broken=BrokenPower("k", power="beta", t0="t0"),
        per_run=True,
        published=lambda c: {
            "B": c["k"] * c["t0"] ** c["beta"],
            "D_t": c["t0"] ** c["beta"],
            "E": c["E"],
            "beta": c["beta"],
        },
    ),
    Form(
        name="compression",
        formula="L0^alpha (1+rho)^beta (1 + 1/(D+1))^gamma, D in 1e9 tokens",
        source="arXiv 2504.04342 v1; the unit of D is ours",
        terms={ONE: {"L0": "alpha", "1+rho": "beta", "1+1/(D+1)": "gamma"}},
        exponents={"alpha": FREE, "beta": FREE, "gamma": FREE},
    ),
    Form(
        name="journey",
        formula="E + A N_average^-alpha + B D^-beta",
        source="arXiv 2501.12486; N_average is the mean parameter count over training",
        terms={"A": {"N_average": "-alpha"}, "B": {"D": "-beta"}, "E": {}},
        exponents={"alpha": ALPHA, "beta": BETA},
    ),
    Form(
        name="overtraining",
        formula="E + (a M^eta + b M^-eta) C^-eta, M = D/N, C = 6ND",
        source="arXiv 2403.08540",
        terms={"a": {"M": "eta", "C": "-eta"}, "b": {"M": "-eta", "C": "-eta"}, "E": {}},
        exponents={"eta": Exponent(NEAR_ZERO, 3.0, (0.03, 0.6))},
    ),
    Form(
        name="damage_power",
        title="damage, power",
        formula="L0 + (Lp-L0)^kappa N0^-delta (D_C D^-beta + E)",
        source=_OURS,
        offset="L0",
        terms={
            "D_C": {"damage": "kappa", "N0": "-delta", "D": "-beta"},
            "E": {"damage": "kappa", "N0": "-delta"},
        },
        exponents={"beta": BETA, "kappa": KAPPA, "delta": DELTA},
    ),
    Form(
        name="damage_rectified",
        title="damage, by size",
        formula="L0 + (Lp-L0) (1 + (D/tau)^epsilon)^-b, tau = t0 (Lp-L0)^a N0^c",
        source=_OURS,
        offset="L0",
        terms={ONE: {"damage": ONE}},
        exponents={
            "epsilon": POWER_OF_SHAPE,
            "b": DEPTH_OF_SHAPE,
            "t0": LOG_T0_OF_SHAPE,
            "a": TILT,
            "c": TILT,
        },
        broken=BrokenPower(ONE, power="epsilon", t0="t0", depth="b", by={"damage": "a", "N0": "c"}),
    ),
]
_BROKEN = _ALL[-1]
_ALL.append(
    replace(
        _BROKEN,
        name="damage_rectified_l0",
        title="damage",
        formula=_BROKEN.formula.replace("N0^c", "L0^c"),
        source="ours: chosen in docs/damage.md; the base's loss stands for its size",
        broken=BrokenPower(ONE, power="epsilon", t0="t0", depth="b", by={"damage": "a", "L0": "c"}),
    )
)

P2 = "p2"
DAMAGE = "damage_rectified_l0"
"""The damage law that stands beside P² (chosen in docs/damage.md)."""
HEADLINE = (P2, DAMAGE)
"""The laws that figures, report and plan show and answer by, side by side; they carry full
intervals everywhere, and the other forms are compared by their errors. Choosing another is this
line, and its name there the form's ``title``."""

FORMS: dict[str, Form] = {form.name: form for form in _ALL}


def get(name: str) -> Form:
    """The form of that name. Raises UserError with the names that exist."""
    if name not in FORMS:
        raise UserError(f"form {name!r} is unknown; allowed: {', '.join(FORMS)}")
    return FORMS[name]


def declaration(name: str) -> dict[str, Any]:
    """All of a form that its numbers rest on, in plain types: what the law stage's key holds."""
    found = asdict(get(name)) | {"headline": name in HEADLINE}
    for words in ("formula", "source", "title", "published"):
        del found[words]
    return found
