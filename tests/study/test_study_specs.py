"""Keys: they change with what moves a number and with nothing else."""

import copy
import itertools

import pytest

from p2law import corpus, evaluation, pruning, training
from p2law.study.grid import Study
from p2law.study.specs import Specs

STAGES = (
    "corpus",
    "base",
    "pruned",
    "posttrained",
    "evaluated",
    "tables",
    "law",
    "figures",
    "summary",
)


def keys(config: dict) -> dict[str, str]:
    """Every expected manifest's path -> its key."""
    specs = Specs(Study(config, "study.yaml"))
    return {str(look): spec["key"] for _, look, spec in specs.expected()}


def stages_that_differ(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Stages with a manifest in both whose key differs."""
    shared = before.keys() & after.keys()
    return {path.split("/")[2] for path in shared if before[path] != after[path]}


def edited(config: dict, *edits) -> dict:
    config = copy.deepcopy(config)
    for *path, last, value in edits:
        section = config
        for name in path:
            section = section[name]
        section[last] = value
    return config


LATE = {"evaluated", "tables", "law", "figures", "summary"}


@pytest.mark.parametrize(
    ("edit", "differ"),
    [
        (("corpus", "validation_share", 0.1), set(STAGES)),
        (("seed", 1), set(STAGES)),
        (("pretrain", "learning_rate", 0.02), set(STAGES) - {"corpus"}),
        (("methods", "depth", "guard_first", 1), set(STAGES) - {"corpus", "base"}),
        (("posttrain", "learning_rate", 1e-3), {"posttrained", *LATE}),
        (("posttrain", "distil", {"weight": 0.5}), {"posttrained", *LATE}),
        (("posttrain", "layers", {"last": 1}), {"posttrained", *LATE}),
        (("posttrain", "schedule", "cosine"), {"posttrained", *LATE}),
        (("posttrain", "schedule", ["wsd", "cosine", "trajectory"]), LATE),
        (("posttrain", "learning_rate", {"wsd": 2e-3}), set()),
        (("posttrain", "budgets", [2048, 4096, 8192, 16384]), LATE),
        (("posttrain", "budgets", [2048, 3072, 4096, 8192]), LATE),
        (("posttrain", "seeds", [0, 1]), LATE),
        (("methods", "depth", "rates", [0.15, 0.3, 0.48]), {"pruned", *LATE}),
        (("evaluate", "tokens", 4096), LATE),
        (("evaluate", "batch_rows", 7), set()),
        (("law", "bootstrap", 5), {"law", "figures", "summary"}),
        (("law", "identify", "report"), set()),
        (("hardware", {"gflops": 1.0}), set()),
    ],
)
def test_only_what_an_edit_touches_changes(tiny, edit, differ):
    assert stages_that_differ(keys(tiny), keys(edited(tiny, edit))) == differ


def test_downstream_tasks_are_a_stage_of_their_own(tiny, tmp_path):
    """Asked for, they change no other key; their definitions count by content."""
    (tmp_path / "task.yaml").write_text("task: a")
    section = {"add_bos_token": False, "tasks": ["a"], "include": str(tmp_path)}
    with_tasks = edited(tiny, ("downstream", section))
    before, after = keys(tiny), keys(with_tasks)
    assert stages_that_differ(before, after) == set()
    added = {path for path in after if path not in before}
    assert {path.split("/")[2] for path in added} == {"downstream"}
    (tmp_path / "task.yaml").write_text("task: b")
    assert stages_that_differ(after, keys(with_tasks)) == {"downstream"}


def test_an_added_rate_keeps_the_variants_that_were_there(tiny):
    after = keys(edited(tiny, ("methods", "depth", "rates", [0.15, 0.3, 0.48])))
    before = keys(tiny)
    variants = [path for path in before if "/pruned/" in path and path.count("/") == 6]
    assert len(variants) == 6
    assert all(before[path] == after[path] for path in variants)


def test_an_added_size_keeps_the_other_models(tiny):
    models = copy.deepcopy(tiny["families"]["tiny"]["models"])
    models["tiny-32"] = edited(models["tiny-24"], ("config", "hidden_size", 32))
    after = keys(edited(tiny, ("families", "tiny", "models", models)))
    assert stages_that_differ(keys(tiny), after) == {"tables", "law", "figures", "summary"}


def test_swapped_values_are_seen(tiny):
    # Snakemake compares parameters as an unordered set; one spec text a rule is not fooled.
    swapped = edited(tiny, ("pretrain", "batch_tokens", 8192), ("pretrain", "warmup_tokens", 1024))
    with pytest.raises(Exception, match="warmup_tokens"):
        keys(swapped)
    swapped = edited(tiny, ("posttrain", "decay", 0.1), ("posttrain", "weight_decay", 0.2))
    straight = edited(tiny, ("posttrain", "decay", 0.2), ("posttrain", "weight_decay", 0.1))
    assert "posttrained" in stages_that_differ(keys(straight), keys(swapped))


@pytest.mark.parametrize(
    ("room", "differ"),
    [
        (corpus, set(STAGES)),
        (training, set(STAGES) - {"corpus"}),
        (pruning, set(STAGES) - {"corpus", "base"}),
        (evaluation, LATE),
    ],
)
def test_a_raised_recipe_reruns_its_stage_and_what_follows(tiny, monkeypatch, room, differ):
    before = keys(tiny)
    monkeypatch.setattr(room, "RECIPE", room.RECIPE + 1)
    assert stages_that_differ(before, keys(tiny)) == differ


def test_keys_are_unique(tiny):
    values = list(keys(tiny).values())
    assert len(set(values)) == len(values)


def test_keys_do_not_depend_on_the_order_of_the_file(tiny):
    turned = {name: tiny[name] for name in reversed(tiny)}
    assert keys(tiny) == keys(turned)


def test_first_schedule_and_seed_have_no_suffix(tiny):
    several = edited(
        tiny, ("posttrain", "seeds", [3, 5]), ("posttrain", "schedule", ["cosine", "wsd"])
    )
    runs = list(Study(several, "x").runs.values())
    assert [run.name for run in runs[:4]] == [
        "depth-0.15",
        "depth-0.15-seed5",
        "depth-0.15-wsd",
        "depth-0.15-wsd-seed5",
    ]
    assert [run.schedule for run in runs[:4]] == ["cosine", "cosine", "wsd", "wsd"]


def test_each_schedule_has_its_peak(tiny):
    asked = ("posttrain", "learning_rate", {"wsd": 1e-3, "cosine": 2e-3})
    study = Study(edited(tiny, asked, ("posttrain", "schedule", ["wsd", "cosine"])), "x")
    specs = Specs(study)
    peaks = {
        run.schedule: specs.posttrain(run)["train"]["learning_rate"] for run in study.runs.values()
    }
    assert peaks == {"wsd": 1e-3, "cosine": 2e-3}


def test_no_two_outputs_share_a_path(tiny):
    schedules = ("posttrain", "schedule", ["wsd", "trajectory"])
    study = Study(edited(tiny, ("posttrain", "seeds", [0, 1]), schedules), "x")
    paths = [
        study.point_manifest(run, D)
        for run, D in itertools.product(study.runs.values(), study.budgets)
    ]
    assert len(set(paths)) == len(paths) == 72
