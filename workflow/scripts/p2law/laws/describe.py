"""From a fit of the engine to its record: constants with units and intervals, errors, notes."""

import math

import numpy as np
import pandas as pd

from p2law.laws.fitting.fit import Fit
from p2law.laws.fitting.health import Status
from p2law.laws.forms.form import Form, parse_power
from p2law.laws.judging import metrics
from p2law.laws.judging.uncertainty import FEW_RUNS, Bootstrap
from p2law.laws.records import Constant, FittedLaw
from p2law.laws.rows import Group


def described(result: Fit, rows: pd.DataFrame, draws: Bootstrap | None, label: Group) -> FittedLaw:
    """A fit as a record: constants by the source's names with units and intervals, its health."""
    runs = int(rows["run"].nunique())
    few = draws is not None and runs < FEW_RUNS
    return FittedLaw(
        *label,
        form=result.form.name,
        formula=result.form.formula,
        status=result.status,
        constants=constants_of(result, draws),
        constants_fitted=len(result.phi),
        rank=result.rank,
        objective=result.objective,
        errors=metrics.errors(rows, result.predicted),
        aicc=metrics.aicc(log_errors(rows, result.predicted), len(result.phi)),
        notes=[
            *result.notes,
            *warning(result.status),
            *([f"{runs} runs are few for run-level intervals"] if few else []),
        ],
        objective_kind=result.kind,
        delta=None if np.isinf(result.delta) else result.delta,
        signs=result.signs,
        gain=result.gain,
        gradient=result.gradient,
        condition=result.condition,
        starts_at_optimum=result.starts_at_optimum,
        starts_unfinished=result.starts_unfinished,
        objectives_over_starts=result.starts.tolist(),
        centred=dict(zip(result.form.constants, result.phi.tolist(), strict=True)),
        centres={k: math.exp(v) for k, v in result.problem.means.items()},
        replicates=0 if draws is None else len(draws.phi),
    )


def constants_of(result: Fit, draws: Bootstrap | None) -> dict[str, Constant]:
    """The source's constants, each with its unit, run-level interval, and what limits it."""
    intervals = draws.intervals() if draws is not None else {}
    found = {}
    for name, value in result.constants.items():
        low, high = intervals.get(name, (None, None))
        found[name] = Constant(
            value, low, high, unit(result.form, name),
            name not in result.undetermined, result.at_fences.get(name, ""),
        )  # fmt: skip
    return found


def unit(form: Form, name: str) -> str:
    """Unit of a constant: N0 and N in parameters, D in tokens, losses in nats per token."""
    if form.broken and name == form.broken.t0:
        return "tokens x " + " ".join(f"{q}^-{e}" for q, e in form.broken.by.items())
    if name not in form.terms:
        return "1"
    measured = {"N0": "parameters", "N": "parameters", "D": "tokens", "damage": "nats"}
    parts = ["nats"]
    for quantity, power in form.terms[name].items():
        if quantity in measured:
            flipped = "".join(
                f"{'-' if sign > 0 else '+'}{e}" for e, sign in parse_power(power).items()
            )
            parts.append(f"{measured[quantity]}^({flipped.lstrip('+')})")
    return " ".join(parts)


def warning(status: Status) -> list[str]:
    """What must be said of a fit before anything else."""
    lost = status is Status.NOT_CONVERGED
    return ["NOT CONVERGED: do not use these constants"] if lost else []


def log_errors(rows: pd.DataFrame, predicted: np.ndarray) -> np.ndarray:
    """Log of predicted over measured losses [n]."""
    return np.log(np.maximum(predicted, 1e-12)) - np.log(rows["loss"].to_numpy(dtype=float))
