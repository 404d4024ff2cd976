"""Keys: they change with what moves a number and with nothing else."""

import copy
import json

import pytest

from p2law import corpus, evaluation, pruning, training
from p2law.canonical import code_digest
from p2law.errors import UserError
from p2law.study.grid import Study
from p2law.study.stage import Ref
from p2law.study.stages import Stages, shown

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
    "report",
)


def keys(config: dict) -> dict[str, str]:
    """Every expected manifest's path -> its key."""
    stages = Stages(Study(config, "study.yaml"))
    return {str(stages.path(ref)): stages.key(ref) for ref in stages.results()}


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


SHOWN = {"law", "figures", "summary", "report"}
LATE = {"evaluated", "tables", *SHOWN}


RECIPE = ("posttrain", "recipes", "text")


@pytest.mark.parametrize(
    ("edit", "differ"),
    [
        (("corpus", "validation_share", 0.1), set(STAGES)),
        (("seed", 1), set(STAGES)),
        (("pretrain", "learning_rate", 0.02), set(STAGES) - {"corpus"}),
        (("methods", "depth", "guard_first", 1), set(STAGES) - {"corpus", "base"}),
        ((*RECIPE, "learning_rate", 1e-3), {"posttrained", *LATE}),
        ((*RECIPE, "learning_rate", {"tiny-16": 2e-3, "tiny-24": 2e-3}), set()),
        ((*RECIPE, "distil", {"weight": 0.5}), {"posttrained", *LATE}),
        ((*RECIPE, "layers", {"last": 1}), {"posttrained", *LATE}),
        ((*RECIPE, "schedule", "cosine"), {"posttrained", *LATE}),
        ((*RECIPE[:2], "cosine", {"schedule": "cosine"}), LATE),
        (("posttrain", "control", True), {"tables", *SHOWN}),
        (("posttrain", "budgets", [2048, 4096, 8192, 16384]), LATE),
        (("posttrain", "budgets", [2048, 3072, 4096, 8192]), LATE),
        (("posttrain", "seeds", [0, 1]), LATE),
        (("methods", "depth", "rates", [0.15, 0.3, 0.48]), {"pruned", *LATE}),
        (("evaluate", "tokens", 4096), LATE),
        (("evaluate", "batch_rows", 7), set()),
        (("law", "bootstrap", 5), SHOWN),
        (("law", "identify", "report"), set()),
        (("hardware", {"gflops": 1.0}), {"summary", "report"}),
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
    assert stages_that_differ(keys(tiny), after) == {"tables", *SHOWN}


def test_swapped_values_are_seen(tiny):
    # Snakemake compares parameters as an unordered set; one spec text a rule is not fooled.
    swapped = edited(tiny, ("pretrain", "batch_tokens", 8192), ("pretrain", "warmup_tokens", 1024))
    with pytest.raises(Exception, match="warmup_tokens"):
        keys(swapped)
    swapped = edited(tiny, (*RECIPE, "decay", 0.1), (*RECIPE, "weight_decay", 0.2))
    straight = edited(tiny, (*RECIPE, "decay", 0.2), (*RECIPE, "weight_decay", 0.1))
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


def test_first_recipe_and_seed_have_no_suffix(tiny):
    recipes = {"slow": tiny["posttrain"]["recipes"]["text"], "fast": {"schedule": "cosine"}}
    several = edited(tiny, ("posttrain", "seeds", [3, 5]), ("posttrain", "recipes", recipes))
    runs = list(Study(several, "x").runs.values())
    assert [run.name for run in runs[:4]] == [
        "depth-0.15",
        "depth-0.15-seed5",
        "depth-0.15-fast",
        "depth-0.15-fast-seed5",
    ]
    assert [run.recipe for run in runs[:4]] == ["slow", "slow", "fast", "fast"]


def test_a_later_recipe_is_the_first_but_for_what_it_says(tiny):
    tiny["posttrain"]["recipes"]["distil"] = {"distil": {"weight": 0.5}, "decay": 0.1}
    first, second = Study(tiny, "x").recipes.values()
    changed = {"distil": {"weight": 0.5, "temperature": 1.0}, "decay": 0.1}
    assert second.model_dump() == first.model_dump() | changed


def test_learning_rates_by_recipe_by_model_and_by_size(tiny):
    text = tiny["posttrain"]["recipes"]["text"]
    tiny["posttrain"]["recipes"] = {
        "text": text,
        "named": {"learning_rate": {"tiny-16": 1e-3, "tiny-24": 3e-3}},
        "sized": {"learning_rate": {"rate": 1e-3, "N0": 1e4, "exponent": -0.5}},
    }
    study = Study(tiny, "x")
    stages, peaks = Stages(study), {}
    for (model, name), run in study.runs.items():
        told = stages["posttrain"].spec(model, name)["train"]["learning_rate"]
        assert told == study.peak(run)
        peaks[model, run.recipe] = told
    sizes = {model: study.models[model].parameters["total"] for model in study.models}
    assert peaks == {
        **{(model, "text"): 2e-3 for model in sizes},
        ("tiny-16", "named"): 1e-3,
        ("tiny-24", "named"): 3e-3,
        **{(m, "sized"): pytest.approx(1e-3 * (n / 1e4) ** -0.5) for m, n in sizes.items()},
    }


def test_no_two_outputs_share_a_path(tiny):
    tiny["posttrain"] |= {"seeds": [0, 1], "control": True}
    tiny["posttrain"]["recipes"]["straight"] = {"schedule": "trajectory"}
    stages = Stages(Study(tiny, "x"))
    paths = [path for stage, job in stages.jobs() for path in stage.outputs(*job)]
    assert len(set(paths)) == len(paths)
    points = [path for path in paths if "posttrained" in path.parts]
    assert len(points) == (6 + 2) * 2 * 2 * 3  # variants and controls, recipes, seeds, budgets


def test_two_runs_of_one_name_are_refused(tiny):
    tiny["methods"]["depth-0.15"] = {**tiny["methods"]["depth"], "rates": [0.3]}
    tiny["posttrain"]["recipes"]["0.3"] = {"schedule": "cosine"}
    with pytest.raises(UserError, match="two runs of tiny-16 are called depth-0.15-0.3"):
        Study(tiny, "x")


def test_a_control_starts_from_the_base_and_reads_what_its_runs_do(tiny):
    tiny["posttrain"]["control"] = True
    stages = Stages(Study(tiny, "x"))
    reads = stages["posttrain"].reads("tiny-16", "control-0")
    assert reads == {
        "pruned": [Ref("base", ("tiny-16",))],
        "corpus": [Ref("corpus", ("tiny",))],
    }
    assert list(stages["evaluate"].checkpoints("tiny-16", "control")) == [
        "0/D2048",
        "0/D4096",
        "0/D8192",
    ]


def test_controls_are_for_bases_that_have_not_seen_the_text(tiny, tmp_path):
    assert not any(run.variant.method == "control" for run in Study(tiny, "x").runs.values())
    shape = Study(tiny, "x").models["tiny-16"].config
    (tmp_path / "config.json").write_text(json.dumps(shape))
    models = tiny["families"]["tiny"]["models"]
    models["given"] = {"source": "folder", "path": str(tmp_path)}
    study = Study(tiny, "x")
    assert {m for m, name in study.runs if name.startswith("control")} == {"given"}
    tiny["posttrain"]["control"] = False
    assert not any(name.startswith("control") for _, name in Study(tiny, "x").runs)


@pytest.mark.parametrize(
    ("room", "differ"),
    [
        ("laws/forms", SHOWN),
        ("laws/judging", {"figures", "summary", "report"}),
        ("tables", {"figures", "summary", "report"}),
        ("report", {"summary", "report"}),
        ("figures", {"figures", "report"}),
    ],
)
def test_a_changed_function_behind_what_people_see(tiny, monkeypatch, room, differ):
    before = keys(tiny)

    def changed(*rooms):
        touched = any(f"{one}/".startswith(f"{r}/") for r in rooms for one in [room])
        return code_digest(*rooms) + ("changed" if touched else "")

    monkeypatch.setattr(shown, "code_digest", changed)
    assert stages_that_differ(before, keys(tiny)) == differ
