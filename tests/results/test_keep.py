"""What may go: nothing that a stage still has to read, nothing of a run that somebody trains."""

import json

import pytest

from p2law.errors import UserError
from p2law.results.cleaned import demand, lacks_weights
from p2law.results.keep import Keep
from p2law.results.manifest import verify_files, write_manifest
from p2law.results.stale import Standing
from p2law.study.grid import Study
from p2law.study.stages import Stages
from p2law.study.stages.measured import BASE

WEIGHTS = ("model.safetensors", "config.json")
BARE = {("evaluate", 2), ("prune", 2)}
"""(stage, number of names) of results beside which no checkpoint lies."""


def make(path, stage: str, spec: dict, files=()) -> None:
    """A finished stage's folder: manifest and files of ten bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in files:
        (path.parent / name).write_bytes(b"0123456789")
    write_manifest(
        path.parent, stage=stage, spec=spec, inputs={}, files=files, results={}, started=0.0
    )


@pytest.fixture
def stages(tiny, tmp_path) -> Stages:
    """The tiny study as a finished run leaves it, its weights ten bytes each."""
    stages = Stages(Study(tiny, "x", tmp_path))
    for ref in stages.results():
        stage = stages[ref.stage]
        bare = (ref.stage, len(ref.names)) in BARE or not ref.names
        make(stages.path(ref), ref.stage, stage.spec(*ref.names), () if bare else WEIGHTS)
    for job in stages["posttrain"].jobs():
        state = run_folder(stages, *job) / "state"
        own = state / stages["posttrain"].spec(*job)["key"][:16]
        for folder in (own / "forks/step-000000001", own / "forks/step-000000002", own / "trunk"):
            folder.mkdir(parents=True)
            (folder / "state.safetensors").write_bytes(b"0123456789")
        (state / "points").mkdir()
    assert Standing(stages).reasons == {}
    return stages


def run_folder(stages: Stages, model: str, run: str):
    return stages["posttrain"].path(model, run, "D2048").parents[1]


def gone(stages: Stages, policy: str, snapshots: int = 1) -> dict[str, int]:
    """How many of what a clean-up would take."""
    counts: dict[str, int] = {}
    for item in Keep(stages, policy, snapshots).items():
        counts[item.what] = counts.get(item.what, 0) + 1
    return counts


def clean(stages: Stages) -> None:
    for item in list(Keep(stages, "none", 1).items()):
        item.delete()


def methods(stages: Stages) -> set[str]:
    return {str(stages["prune"].path(*job)) for job in stages["prune"].jobs()}


def points(stages: Stages) -> set[str]:
    return {str(stages["posttrain"].path(*names)) for names in stages["posttrain"].results()}


def test_policies(stages):
    states = {"trunk snapshot": 6, "rolling state": 6}
    assert gone(stages, "all") == states
    assert gone(stages, "all", 0) == {"trunk snapshot": 12, "rolling state": 6}
    assert gone(stages, "all", 2) == {"rolling state": 6}
    assert gone(stages, "annealed") == {**states, "weights": 6}
    assert gone(stages, "none") == {**states, "weights": 6 + 18}


def test_a_run_that_is_trained_right_now_keeps_everything(stages):
    state = run_folder(stages, "tiny-16", "depth-0.3") / "state"
    held = {"node": "elsewhere", "machine": "another"}
    own = next(path for path in state.iterdir() if path.name != "points")
    (own / "lease.json").write_text(json.dumps(held))
    assert gone(stages, "none") == {"trunk snapshot": 5, "rolling state": 5, "weights": 5 + 15}


def test_weights_without_their_losses_stay(stages):
    stages["evaluate"].path("tiny-16", "depth").unlink()
    # Two runs' points and their variants; their states may go.
    assert gone(stages, "none")["weights"] == 24 - 6 - 2
    assert gone(stages, "none")["rolling state"] == 6


def test_nothing_is_left_to_make_until_somebody_reads_the_weights(stages):
    clean(stages)
    standing = Standing(stages)
    assert standing.reasons == {} and not standing.demanded
    assert gone(stages, "none") == {}
    path = stages["posttrain"].path("tiny-16", "depth-0.3", "D8192")
    assert lacks_weights(path)
    with pytest.raises(UserError, match="cleaned away on purpose; delete .*cleaned.json"):
        verify_files(path)
    demand(path)  # as the Snakefile does once a stage needs them: now they are missing
    # Its variant's weights, to train it from, and its own.
    assert Standing(stages).reasons.keys() == {
        str(path),
        str(stages["prune"].path("tiny-16", "depth")),
    }


def test_another_evaluation_set_demands_all_weights(stages, tiny, tmp_path):
    clean(stages)
    tiny["evaluate"]["tokens"] = 4096
    other = Standing(Stages(Study(tiny, "x", tmp_path)))
    assert other.demanded.keys() == points(stages) | methods(stages)
    wanted = {str(path) for paths in other.demanded.values() for path in paths}
    variants = [n for n in stages["prune"].results() if len(n) == 3]
    assert wanted == points(stages) | {str(stages["prune"].path(*n)) for n in variants}


def test_one_more_seed_demands_the_variants_only(stages, tiny, tmp_path):
    clean(stages)
    tiny["posttrain"]["seeds"] = [0, 1]
    assert Standing(Stages(Study(tiny, "x", tmp_path))).demanded.keys() == methods(stages)


def test_one_more_rate_demands_nothing_that_was_evaluated(stages, tiny, tmp_path):
    clean(stages)
    tiny["methods"]["depth"]["rates"].append(0.48)
    standing = Standing(Stages(Study(tiny, "x", tmp_path)))
    assert not standing.demanded
    assert str(stages["prune"].path("tiny-16", "depth")) in standing.reasons


def test_bases_are_never_taken(stages):
    clean(stages)
    for model in stages.study.models:
        verify_files(stages["base"].path(model))
        assert stages["evaluate"].path(model, BASE).exists()
