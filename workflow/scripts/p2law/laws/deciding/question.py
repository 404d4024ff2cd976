"""What a user asks of a plan, and the candidates that answer it: the study's own, one moved to
another rate or damage, or a model that the study lacks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from p2law.errors import UserError
from p2law.laws.deciding.buy import small_enough
from p2law.laws.deciding.candidates import Candidate, one_family

SAME_RATE = 0.02
"""Achieved rates this near to the one asked for are it: rates are made of whole layers."""
ALL = "all"


@dataclass(frozen=True)
class Question:
    """The rules with their levels, and of what they are asked; fields are plan.py's options.

    ``target`` and ``residual`` in nats per token, ``marginal`` in nats per 1e6 tokens, ``flops``
    for post-training, ``parameters`` the most that may be kept. Raises :class:`UserError` for what
    no law could answer, naming the option.
    """

    family: str | None = None
    model: str = ALL
    method: str = ALL
    rate: str = ALL
    L0: float | None = None
    Lp: float | None = None
    N0: float | None = None
    target: float | None = None
    marginal: float | None = None
    residual: float | None = None
    flops: float | None = None
    parameters: float | None = None

    def __post_init__(self) -> None:
        if not self.rules and self.flops is None:
            raise UserError("nothing asked: give --target, --marginal, --residual or --flops")
        for name in ("target", "marginal", "residual", "flops", "parameters", "N0", "L0", "Lp"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"--{name} {value}: must be above 0")
        if self.Lp is not None and self.L0 is not None and self.Lp <= self.L0:
            raise UserError(
                f"--Lp {self.Lp}: at or below --L0 {self.L0}: pruning that did no damage"
                " leaves nothing to heal"
            )
        if self.N0 is not None and (self.L0 is None or (self.rho is None and self.Lp is None)):
            raise UserError("--N0 describes a model of your own: give --L0, and --rate or --Lp")
        if self.N0 is not None and self.model != ALL:
            raise UserError(f"--model {self.model}: --N0 describes a model of your own; give one")
        if self.N0 is None and self.Lp is None and self.L0 is not None:
            raise UserError(f"--L0 {self.L0}: the study's models have theirs; give it with --N0")

    @property
    def rules(self) -> dict[str, float]:
        """The rules asked for with their levels."""
        named = {name: getattr(self, name) for name in ("target", "marginal", "residual")}
        return {name: level for name, level in named.items() if level is not None}

    @property
    def rho(self) -> float | None:
        """The rate asked for, None for all."""
        if self.rate == ALL:
            return None
        try:
            rho = float(self.rate)
        except ValueError:
            raise UserError(f"--rate {self.rate}: a number in (0, 1), or all") from None
        if not 0 < rho < 1:
            raise UserError(f"--rate {self.rate}: must lie in (0, 1), or be all")
        return rho

    def candidates(self, known: Sequence[Candidate]) -> list[Candidate]:
        """Those asked about, of a study's ``known`` ones, as small as they must be."""
        families = {c.family for c in known}
        if self.N0 is not None:
            why = f"--N0 {self.N0:g}: the study has laws of several families, whose losses differ"
            family = one_family(families, self.family, why)
            found = [self._own_model([c for c in known if c.family == family])]
        else:
            if self.family is not None:
                family = one_family(families, self.family, "")
                known = [c for c in known if c.family == family]
            found = self._of_study(known)
        found = small_enough(found, self.parameters)
        if not found:
            raise UserError(f"--parameters {self.parameters:g}: no variant asked for is so small")
        return found

    def _of_study(self, known: Sequence[Candidate]) -> list[Candidate]:
        """The study's own, moved to another rate or damage where these are given."""
        models = {c.model for c in known}
        if self.model not in {ALL, *models}:
            raise UserError(f"--model {self.model}: the study has {', '.join(sorted(models))}")
        chosen = [c for c in known if self.model in (ALL, c.model)]
        methods = {c.method for c in chosen}
        trained = self.method in {ALL, *methods}
        if not trained and self.Lp is None:
            raise UserError(
                f"--method {self.method}: the study has {', '.join(sorted(methods))}; for a method"
                " never post-trained give --Lp, its loss right after pruning"
            )
        if self.method in methods:
            chosen = [c for c in chosen if c.method == self.method]
        if self.Lp is not None and len({(c.family, c.model) for c in chosen}) > 1:
            raise UserError(f"--Lp {self.Lp}: belongs to one model; name it with --model")
        if self.Lp is not None:
            return self._moved(chosen, trained)
        if self.rho is None:
            return chosen
        return [c for group in _grouped(chosen) for c in _nearest(group, self.rho)]

    def _own_model(self, known: Sequence[Candidate]) -> Candidate:
        """A model that the study lacks, of the family that ``known`` are of."""
        assert self.N0 is not None and self.L0 is not None  # refused before
        kept = self.N0 * (1 - (self.rho or 0.0))
        masked = any(c.method == self.method and c.masked for c in known)
        return Candidate(
            family=known[0].family, method=self.method, model="asked", N0=self.N0, N=kept,
            trained=self.N0 if masked else kept, L0=self.L0, rho=self.rho, Lp=self.Lp,
        )  # fmt: skip

    def _moved(self, chosen: Sequence[Candidate], trained: bool) -> list[Candidate]:
        """One model's candidates with only the damage that the user measured, one a method.

        Of a rate that is not given nothing is known but the damage: P² then has no answer, and
        parameters count as before pruning.
        """
        found = {}
        for c in chosen:
            method = c.method if trained else self.method
            kept = c.N0 * (1 - (self.rho or 0.0))
            found[method] = Candidate(
                family=c.family, method=method, model=c.model, N0=c.N0, N=kept,
                trained=c.N0 if trained and c.masked else kept,
                L0=c.L0 if self.L0 is None else self.L0, rho=self.rho, Lp=self.Lp,
            )  # fmt: skip
        return list(found.values())


def _grouped(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Candidates of one family, model and method together."""
    found: dict[tuple[str, str, str], list[Candidate]] = {}
    for c in candidates:
        found.setdefault((c.family, c.model, c.method), []).append(c)
    return list(found.values())


def _nearest(group: Sequence[Candidate], rho: float) -> list[Candidate]:
    """The measured ones of that rate, or one moved to it."""
    near = [c for c in group if c.rho is not None and abs(c.rho - rho) <= SAME_RATE]
    return near or [group[0].at_rate(rho, group)]
