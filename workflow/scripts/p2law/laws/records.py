"""What the law stage writes down, as JSON: a fit, its constants with units, predictions."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from p2law.laws.fitting.fit import Fit
from p2law.laws.forms.form import Form, parse_power


def fit_dict(result: Fit, draws) -> dict[str, Any]:
    """A fit as JSON: constants by the source's names with units and intervals, and its health."""
    intervals = draws.intervals() if draws is not None else {}
    # The paper's unpublished twins (rectified) have no counterpart in the engine's names.
    units = {name: unit(result.form, name) for name in result.constants}
    constants = {
        name: {
            "value": value,
            "low": intervals.get(name, (None, None))[0],
            "high": intervals.get(name, (None, None))[1],
            "unit": units[name],
            "identified": name not in result.unidentified,
            "at_bound": name in result.at_bounds,
        }
        for name, value in result.constants.items()
    }
    return {
        "constants": constants,
        "constants_fitted": len(result.phi),
        "objective": result.objective,
        "objective_kind": result.kind,
        "delta": None if np.isinf(result.delta) else result.delta,
        "signs": result.signs,
        "converged": result.converged,
        "gain": result.gain,
        "gradient": result.gradient,
        "rank": result.rank,
        "condition": result.condition,
        "unidentified": result.unidentified,
        "at_bounds": result.at_bounds,
        "starts_at_optimum": result.starts_at_optimum,
        "starts_unfinished": result.starts_unfinished,
        "objectives_over_starts": result.starts.tolist(),
        "centred": dict(zip(result.form.constants, result.phi.tolist(), strict=True)),
        "centres": {k: math.exp(v) for k, v in result.problem.means.items()},
        "replicates": 0 if draws is None else len(draws.phi),
        "notes": result.notes,
    }


def unit(form: Form, name: str) -> str:
    """Unit of a constant: N0 and N in parameters, D in tokens, losses in nats per token."""
    if form.bend and name == form.bend.t0:
        return "tokens x " + " ".join(f"{q}^-{e}" for q, e in form.bend.by.items())
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


def prediction_rows(rows, predicted, low, high, label, form, split, held) -> list[dict]:
    kept = [c for c in ("run", "model", "N0", "rho", "D", "L0", "Lp", "loss") if c in rows]
    table = rows[kept].assign(
        predicted=predicted, low=low, high=high, error=predicted / rows["loss"] - 1.0
    )
    source = rows.get("method", "")
    table = table.assign(point_method=source, form=form, split=split, held=held, **label)
    return table.to_dict("records")


def finite(obj: Any) -> Any:
    """The same object in plain Python types, numbers that are not finite as None."""
    if isinstance(obj, Mapping):
        return {str(k): finite(v) for k, v in obj.items()}
    if isinstance(obj, list | tuple | np.ndarray):
        return [finite(v) for v in obj]
    if isinstance(obj, np.bool_ | bool):
        return bool(obj)
    if isinstance(obj, np.integer | int):
        return int(obj)
    if isinstance(obj, np.floating | float):
        return float(obj) if math.isfinite(obj) else None
    return obj
