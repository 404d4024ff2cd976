"""Records of the law stage: a fit, a hold-out, what was skipped, what to run next.

:class:`p2law.laws.results.LawResults` gathers, writes and reads them. Losses are in nats per token,
errors relative (fractions), costs in FLOPs. A number that is not finite is None.
"""

from dataclasses import dataclass, field

from p2law.laws.fitting.health import Status
from p2law.laws.judging.metrics import Errors
from p2law.laws.rows import POOLED


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % run-level interval; None where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Constant(Estimate):
    """A fitted constant in the source's units; ``at_fence`` is "low", "high" or empty."""

    unit: str = "1"
    determined: bool = True
    at_fence: str = ""


@dataclass(frozen=True)
class ExponentProfile:
    """Objective [m] along one exponent's values [m], others refitted, and where it is too high.

    ``low`` and ``high`` are where the profile crosses ``threshold``; None where it never does.
    """

    name: str
    values: list[float]
    objective: list[float | None]
    threshold: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class KindOfError:
    """The law's own error at one kind of question (:mod:`p2law.laws.judging.intervals`).

    ``half_width`` in log loss; ``rms`` of its own hold-outs' log errors and their number.
    """

    half_width: float
    rms: float | None
    groups: int


@dataclass(frozen=True)
class FittedLaw:
    """One form fitted to one family and method ("all": pooled), and all that it says of itself.

    ``rank`` of ``constants_fitted`` constants are determined. ``centred`` are the engine's
    constants, ``centres`` the geometric means that its quantities are divided by;
    ``objectives_over_starts`` is where the restarts ended. ``errors`` are of the fitted points,
    ``aicc`` of their log residuals. ``per_run`` holds each run's constants of a law of one curve.
    """

    family: str
    method: str
    form: str
    formula: str
    status: Status
    constants: dict[str, Constant]
    constants_fitted: int
    rank: int
    objective: float
    errors: Errors
    aicc: float | None
    notes: list[str]
    objective_kind: str = "huber"
    delta: float | None = None
    signs: str = "nonnegative"
    gain: float | None = None
    gradient: float | None = None
    condition: float | None = None
    starts_at_optimum: float | None = None
    starts_unfinished: float | None = None
    objectives_over_starts: list[float | None] = field(default_factory=list)
    centred: dict[str, float] = field(default_factory=dict)
    centres: dict[str, float] = field(default_factory=dict)
    replicates: int = 0
    sandwich: dict[str, tuple[float, float]] = field(default_factory=dict)
    profiles: list[ExponentProfile] = field(default_factory=list)
    model_error: dict[str, KindOfError] = field(default_factory=dict)
    per_run: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def converged(self) -> bool:
        """Whether its constants may be used."""
        return self.status is not Status.NOT_CONVERGED

    @property
    def pooled(self) -> bool:
        """Whether it is one law over all methods."""
        return self.method == POOLED

    @property
    def values(self) -> dict[str, float]:
        """Constants by name, without those that have no finite value."""
        return {name: c.value for name, c in self.constants.items() if c.value is not None}

    @property
    def undetermined(self) -> list[str]:
        """Names of the constants that the table does not determine."""
        return [name for name, constant in self.constants.items() if not constant.determined]


@dataclass(frozen=True)
class Holdout:
    """One form, or a prediction that needs no law, asked for points that it was not fitted to.

    ``held`` says what was held out; ``covered`` is the share of losses inside their interval and
    ``interval_width`` its mean relative width, None without intervals.
    """

    family: str
    method: str
    form: str
    split: str
    held: str
    errors: Errors
    covered: float | None
    interval_width: float | None
    determined: bool | None
    fitted_points: int


@dataclass(frozen=True)
class Skipped:
    """A form that could not be fitted, or a split that it cannot answer, with the reason."""

    family: str
    method: str
    form: str
    reason: str
    split: str = ""


@dataclass(frozen=True)
class NextRun:
    """A further run, its cost in FLOPs, and what it would teach.

    Half widths are of 95 % intervals at the default targets in log loss; ``score`` is the variance
    that the run takes away per unit of cost; ``determines`` names constants left open without it.
    """

    run: str
    N0: float
    rho: float
    D: float
    cost: float
    half_width_before: float
    half_width_after: float
    determines: list[str]
    score: float


@dataclass(frozen=True)
class NextRuns:
    """What a headline form leaves open in a table, and the runs that would cure it."""

    family: str
    method: str
    form: str
    open: list[str]
    runs: list[NextRun]


@dataclass(frozen=True)
class Coverage:
    """Sizes, rates, budgets, runs and points of one family and method."""

    family: str
    method: str
    sizes: int
    rates: int
    budgets: int
    runs: int
    points: int


@dataclass(frozen=True)
class Rise:
    """A place where a run's loss does not fall from one budget to the next, in nats."""

    run: str
    from_D: float
    to_D: float
    rise: float


@dataclass(frozen=True)
class BelowBase:
    """A point whose loss is below its base's L0, by ``below`` nats."""

    run: str
    D: float
    loss: float
    L0: float
    below: float


@dataclass(frozen=True)
class RecipeLaw:
    """P² fitted to one recipe's points of one family and method.

    ``middle`` is the loss that it gives at the middle budget, the mean over the first recipe's
    variants; ``difference`` the measured mean log ratio to the first recipe's losses at equal
    points, ``difference_sd`` its standard deviation; tokens are None where the table has none.
    """

    family: str
    method: str
    recipe: str
    runs: int
    points: int
    status: Status
    determined: bool
    constants: dict[str, Constant]
    middle: Estimate
    mean_abs_rel_error: float
    difference: float | None
    difference_sd: float | None
    difference_by_budget: dict[str, float]
    tokens_trained: float | None = None
    share_of_separate_runs: float | None = None
