"""Cleaned weights that must be made again, since a stage that will run reads them.

A point's weights are read by an evaluation that has no losses of them; a variant's by that too, and
by the trainings of its runs. What was evaluated before, on the same rows, is not read again.
"""

from collections.abc import Mapping
from pathlib import Path

from p2law.results.cleaned import lacks_weights, read
from p2law.study.grid import Run, Study
from p2law.study.specs import BASE, Specs


def demanded(specs: Specs, reasons: Mapping[str, str]) -> dict[str, str]:
    """Outputs to make again for their weights' sake, with the reason.

    ``reasons`` are the outputs that are stale by themselves (:func:`p2law.results.stale.stale`).
    """
    study, found = specs.study, {}
    for model, group in specs.groups():
        if group != BASE:
            found |= _group(specs, study, model, group, {**reasons, **found})
    return found


def _group(
    specs: Specs, study: Study, model: str, method: str, reasons: Mapping[str, str]
) -> dict[str, str]:
    """Of one model and method: points first, since their making again needs the variants."""
    named = specs.checkpoints(model, method)
    gone = {name: path for name, (path, _) in named.items() if lacks_weights(path)}
    if not gone:
        return {}
    known = specs.evaluation(model)
    evaluated = study.evaluated_manifest(model, method)
    found = {}
    for name in (name for name, path in gone.items() if read(path)["evaluation"] != known):
        path = study.pruned_manifest(model, method) if name.endswith("/pruned") else gone[name]
        found[str(path)] = f"{evaluated} needs its weights, which were cleaned away"
    for run in study.group_runs(model, method):
        paths = [study.point_manifest(run, budget) for budget in study.budgets]
        trains = any(not p.exists() or str(p) in reasons or str(p) in found for p in paths)
        if trains and f"{run.variant.asked}/pruned" in gone:
            pruned = study.pruned_manifest(model, method)
            found[str(pruned)] = f"{_folder(run, paths)} needs its weights, which were cleaned away"
    return found


def _folder(run: Run, paths: list[Path]) -> str:
    return str(paths[0].parents[1])
