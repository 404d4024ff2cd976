"""What may go: nothing that a stage still has to read, nothing of a run that somebody trains."""

import json

import pytest

from p2law.errors import UserError
from p2law.results.cleaned import demand, lacks_weights
from p2law.results.demand import demanded
from p2law.results.keep import Keep
from p2law.results.manifest import verify_files, write_manifest
from p2law.results.stale import stale
from p2law.study.grid import Study
from p2law.study.specs import BASE, Specs


def made(path, stage: str, spec: dict, files=()) -> None:
    """A finished stage's folder: manifest and files of ten bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in files:
        (path.parent / name).write_bytes(b"0123456789")
    write_manifest(
        path.parent, stage=stage, spec=spec, inputs={}, files=files, results={}, started=0.0
    )


@pytest.fixture
def study(tiny, tmp_path) -> Study:
    """The tiny study as a finished run leaves it, its weights ten bytes each."""
    study = Study(tiny, "x", tmp_path)
    specs = Specs(study)
    weights = ("model.safetensors", "config.json")
    for output, path, spec in specs.expected():
        is_checkpoint = any(part in path.parts for part in ("base", "pruned", "posttrained"))
        bare = "evaluated" in path.parts or output != path or not is_checkpoint
        made(path, "x", spec, () if bare and output == path else weights)
    for method in study.settings.methods:
        for model in study.models:
            made(study.pruned_manifest(model, method), "x", specs.prune(model, method))
    for run in study.runs.values():
        state = study.point_manifest(run, 2048).parents[1] / "state"
        own = state / specs.posttrain(run)["key"][:16]
        for folder in (own / "forks/step-000000001", own / "forks/step-000000002", own / "trunk"):
            folder.mkdir(parents=True)
            (folder / "state.safetensors").write_bytes(b"0123456789")
        (state / "points").mkdir()
    assert stale(specs.expected()) == {}
    return study


def gone(study: Study, policy: str, snapshots: int = 1) -> dict[str, int]:
    """How many of what a clean-up would take."""
    counts: dict[str, int] = {}
    for item in Keep(study, policy, snapshots).items():
        counts[item.what] = counts.get(item.what, 0) + 1
    return counts


def test_policies(study):
    states = {"trunk snapshot": 6, "rolling state": 6}
    assert gone(study, "all") == states
    assert gone(study, "all", 0) == {"trunk snapshot": 12, "rolling state": 6}
    assert gone(study, "all", 2) == {"rolling state": 6}
    assert gone(study, "annealed") == {**states, "weights": 6}
    assert gone(study, "none") == {**states, "weights": 6 + 18}


def test_a_run_that_is_trained_right_now_keeps_everything(study):
    run = study.runs["tiny-16", "depth-0.3"]
    state = study.point_manifest(run, 2048).parents[1] / "state"
    held = {"node": "elsewhere", "machine": "another"}
    (next(p for p in state.iterdir() if p.name != "points") / "lease.json").write_text(
        json.dumps(held)
    )
    assert gone(study, "none") == {"trunk snapshot": 5, "rolling state": 5, "weights": 5 + 15}


def test_weights_without_their_losses_stay(study):
    study.evaluated_manifest("tiny-16", "depth").unlink()
    # Two runs' points and their variants; their states may go.
    assert gone(study, "none")["weights"] == 24 - 6 - 2
    assert gone(study, "none")["rolling state"] == 6


def test_nothing_is_left_to_make_until_somebody_reads_the_weights(study, tiny, tmp_path):
    for item in list(Keep(study, "none", 1).items()):
        item.delete()
    specs = Specs(study)
    assert stale(specs.expected()) == {} and demanded(specs, {}) == {}
    assert gone(study, "none") == {}
    path = study.point_manifest(study.runs["tiny-16", "depth-0.3"], 8192)
    assert lacks_weights(path)
    with pytest.raises(UserError, match="cleaned away on purpose; delete .*cleaned.json"):
        verify_files(path)
    demand(path)  # as the Snakefile does once a stage needs them: now they are missing
    assert list(stale(specs.expected())) == [str(path)]


def test_another_evaluation_set_demands_all_weights(study, tiny, tmp_path):
    for item in list(Keep(study, "none", 1).items()):
        item.delete()
    tiny["evaluate"]["tokens"] = 4096
    other = Specs(Study(tiny, "x", tmp_path))
    found = demanded(other, stale(other.expected()))
    points = {str(study.point_manifest(r, D)) for r in study.runs.values() for D in study.budgets}
    pruned = {str(study.pruned_manifest(m, g)) for m, g in other.groups() if g != BASE}
    assert found.keys() == points | pruned


def test_one_more_seed_demands_the_variants_only(study, tiny, tmp_path):
    for item in list(Keep(study, "none", 1).items()):
        item.delete()
    tiny["posttrain"]["seeds"] = [0, 1]
    other = Specs(Study(tiny, "x", tmp_path))
    found = demanded(other, stale(other.expected()))
    assert found.keys() == {
        str(study.pruned_manifest(m, g)) for m, g in other.groups() if g != BASE
    }
