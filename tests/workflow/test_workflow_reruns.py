"""What runs again after a change, asked of real Snakemake on the finished tiny study."""

import hashlib
import json
import re

import pytest

AFTER_EVALUATION = {"evaluate", "tables", "law", "figures", "summary", "report"}
MODELS = {"tiny-16", "tiny-24"}
GROUPS = {f"{model} {method}" for model in MODELS for method in ("depth", "sparse24")}
RUNS = {f"{m} {v}" for m in MODELS for v in ("depth-0.15", "depth-0.3", "sparse24-0.5")}
BUDGETS = "budgets: [2048, 4096, 8192]"
LAW = {"law", "figures", "summary", "report"}
SHOWN = {"figures", "summary", "report"}


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_finished_study_has_nothing_to_do(finished):
    assert finished.planned() == {}


def test_another_number_of_cores_reruns_nothing(finished):
    assert finished.planned(cores=1) == {}
    assert finished.planned(cores=16) == {}


def test_compiling_the_layers_trains_nothing_anew(finished):
    file = finished.folder / "studies/tiny.yaml"
    file.write_text(file.read_text() + "\nhardware: {compile: true}\n")
    assert finished.planned("--", "figures") == {}  # the report's costs tell of the hardware
    told = finished.run("-n", "-p", "--forcerun", "posttrain", "--", "tables")
    commands = [line for line in told.splitlines() if "posttrain.py" in line]
    assert len(commands) == len(RUNS)
    assert all("--compile" in command for command in commands)


def test_touching_every_script_reruns_nothing(finished):
    for script in (finished.folder / "workflow").rglob("*"):
        script.touch()
    assert finished.planned() == {}


def test_a_changed_comment_reruns_nothing(finished):
    for path in ("training/loop.py", "pruning/depth.py", "figures/style.py"):
        file = finished.folder / "workflow/scripts/p2law" / path
        file.write_text(file.read_text() + "\n# A remark.\n")
    assert finished.planned() == {}


def test_a_fresh_clone_beside_copied_results_reruns_nothing(fresh):
    assert fresh.planned() == {}


def test_a_changed_parameter_is_seen_without_snakemakes_records(fresh):
    fresh.study("learning_rate: 2.0e-3", "learning_rate: 3.0e-3")
    planned = fresh.planned()
    assert planned["posttrain"] == RUNS
    assert planned.keys() == {"posttrain", *AFTER_EVALUATION}
    assert planned["evaluate"] == GROUPS
    told = fresh.run("-n")
    assert "posttrain: train.learning_rate: 0.002 -> 0.003" in told


def test_a_changed_base_reruns_all_that_follows(finished):
    finished.study("learning_rate: 1.0e-2", "learning_rate: 2.0e-2")
    planned = finished.planned()
    assert planned.keys() == {"base", "prune", "posttrain", *AFTER_EVALUATION}
    assert planned["posttrain"] == RUNS


@pytest.mark.parametrize("budgets", ["[2048, 4096, 8192, 16384]", "[2048, 4096, 6144, 8192]"])
def test_one_more_budget_reruns_no_base_and_no_pruning(finished, budgets):
    finished.study(BUDGETS, f"budgets: {budgets}")
    planned = finished.planned()
    assert planned.keys() == {"posttrain", *AFTER_EVALUATION}
    assert planned["evaluate"] == GROUPS


def test_one_more_budget_trains_only_the_new_tokens(finished):
    run = finished.results / "posttrained/tiny-16/depth-0.15"
    before = {D: sha256(run / f"D{D}/model.safetensors") for D in (2048, 4096, 8192)}
    finished.study(BUDGETS, "budgets: [2048, 4096, 8192, 16384]")
    finished.run("--", "results/tiny/posttrained/tiny-16/depth-0.15/D16384/manifest.json")
    assert {D: sha256(run / f"D{D}/model.safetensors") for D in before} == before
    point = json.loads((run / "D16384/manifest.json").read_text())["results"]
    # Whole steps of 512 tokens: forks of 8192 and 16384 at steps 12 or 13 and 25 or 26.
    new = point["trunk_tokens"] + point["branch_tokens"]
    assert point["tokens"] == 16384
    assert 16384 - 8192 <= new <= 16384 - 0.8 * 8192 + 512


def test_one_more_rate_runs_only_that_rate(finished):
    kept = finished.results / "pruned/tiny-16/depth/0.15/model.safetensors"
    age, bits = kept.stat().st_mtime_ns, sha256(kept)
    finished.study("rates: [0.15, 0.3]", "rates: [0.15, 0.3, 0.48]")
    planned = finished.planned()
    assert planned["prune"] == {f"{model} by depth" for model in MODELS}
    assert planned["posttrain"] == {f"{model} depth-0.48" for model in MODELS}
    assert planned["evaluate"] == {f"{model} depth" for model in MODELS}
    assert planned.keys() == {"prune", "posttrain", *AFTER_EVALUATION}
    finished.run("--", "results/tiny/pruned/tiny-16/depth/manifest.json")
    assert (kept.stat().st_mtime_ns, sha256(kept)) == (age, bits)
    assert finished.planned()["posttrain"] == {f"{model} depth-0.48" for model in MODELS}


def test_one_more_size_runs_only_that_size(finished):
    block = "      tiny-24:\n"
    size = (
        "      tiny-20:\n        source: pretrain\n        tokens: 65_536\n        config:"
        " {hidden_size: 20, intermediate_size: 56, num_attention_heads: 2,"
        " num_key_value_heads: 1}\n"
    )
    finished.study(block, size + block)
    planned = finished.planned()
    assert planned["base"] == {"train tiny-20"}
    assert all(
        "tiny-20" in job for stage in ("prune", "posttrain", "evaluate") for job in planned[stage]
    )
    assert "corpus" not in planned


def test_another_seed_runs_only_that_seed(finished):
    finished.study(BUDGETS, BUDGETS + "\n  seeds: [0, 1]")
    planned = finished.planned()
    assert planned["posttrain"] == {f"{run}-seed1" for run in RUNS}
    assert planned.keys() == {"posttrain", *AFTER_EVALUATION}


def test_another_evaluation_set_retrains_nothing(finished):
    finished.study("evaluate:\n  tokens: 8192", "evaluate:\n  tokens: 4096")
    planned = finished.planned()
    assert planned.keys() == AFTER_EVALUATION
    assert planned["evaluate"] == GROUPS | {f"{model} base" for model in MODELS}


def test_a_changed_plotting_function_redraws_figures_only(finished):
    style = finished.folder / "workflow/scripts/p2law/figures/style.py"
    style.write_text(style.read_text() + "\n\nCHANGED = True\n")
    assert finished.planned().keys() == {"figures", "report"}


@pytest.mark.parametrize(
    ("path", "old", "new", "stages"),
    [
        ("laws/forms/form.py", "def predict(", "CHANGED = True\n\n\ndef predict(", LAW),
        ("laws/deciding/curves.py", "def for_marginal(", "X = 1\n\n\ndef for_marginal(", SHOWN),
        ("laws/judging/uncertainty.py", "def small_sample(", "X = 1\n\n\ndef small_sample(", SHOWN),
        ("tables/matching.py", "MATCHED = 0.01", "MATCHED = 0.02", SHOWN),
    ],
)
def test_a_changed_function_behind_figures_and_plan_redraws_both(finished, path, old, new, stages):
    finished.edit(f"workflow/scripts/p2law/{path}", old, new)
    assert finished.planned().keys() == stages


def test_another_name_on_the_command_line_is_another_study(finished):
    planned = finished.planned("--config", "study=other")
    assert planned["base"] == {f"train {model}" for model in MODELS}
    assert planned["posttrain"] == RUNS
    assert finished.planned() == {}


def test_two_studies_of_one_name_are_refused_naming_both(finished):
    other = finished.folder / "studies/copy.yaml"
    other.write_text((finished.folder / "studies/tiny.yaml").read_text())
    done = finished.snakemake("-n", study="studies/copy.yaml")
    assert done.returncode != 0
    assert "studies/tiny.yaml" in done.stdout and "studies/copy.yaml" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_room_that_changed_is_told_and_reruns_nothing(finished):
    path = finished.folder / "workflow/scripts/p2law/training/loop.py"
    path.write_text(path.read_text() + "\n\nCHANGED = True\n")
    assert finished.planned() == {}
    assert re.search(r"training/ changed since \S+ .*RECIPE is still \d", finished.run("-n"))


def test_a_dry_run_touches_nothing(finished):
    before = {p: p.stat().st_mtime_ns for p in finished.results.rglob("*")}
    finished.study("learning_rate: 2.0e-3", "learning_rate: 3.0e-3")
    (finished.results / "pruned/tiny-16/depth/0.15/model.safetensors").unlink()
    finished.run("-n")
    after = {p: p.stat().st_mtime_ns for p in finished.results.rglob("*")}
    gone = {finished.results / "pruned/tiny-16/depth/0.15/model.safetensors"}
    changed = {p for p in before if before[p] != after.get(p)} - gone
    assert {p.name for p in changed} <= {"0.15"}  # the folder that lost a file


def test_swapped_values_are_seen(finished):
    line = "      warmup_tokens: 512\n"
    finished.study(line, line + "      decay: 0.1\n      weight_decay: 0.2\n")
    assert finished.planned().keys() == {"posttrain", *AFTER_EVALUATION}


@pytest.mark.parametrize(
    ("room", "stages"),
    [
        ("evaluation", AFTER_EVALUATION),
        ("pruning", {"prune", "posttrain", *AFTER_EVALUATION}),
        ("training", {"base", "prune", "posttrain", *AFTER_EVALUATION}),
        ("laws", {"law", "figures", "summary", "report"}),
    ],
)
def test_a_raised_recipe_reruns_its_stage_and_what_follows(finished, room, stages):
    path = finished.folder / f"workflow/scripts/p2law/{room}/__init__.py"
    path.write_text(path.read_text().replace("RECIPE = ", "RECIPE = 1000 + "))
    assert finished.planned().keys() == stages


def test_two_studies_in_one_checkout_leave_each_other_alone(finished):
    other = finished.folder / "studies/other.yaml"
    other.write_text(
        (finished.folder / "studies/tiny.yaml").read_text().replace("study: tiny", "study: other")
    )
    assert "base" in finished.planned(study="studies/other.yaml")
    finished.run("--", "results/other/corpus/tiny/manifest.json", study="studies/other.yaml")
    assert finished.planned() == {}


def test_a_deleted_checkpoint_is_made_again_and_nothing_is_retrained(finished):
    weights = finished.results / "pruned/tiny-24/sparse24/0.5/model.safetensors"
    bits = sha256(weights)
    weights.unlink()
    planned = finished.planned()
    assert planned["prune"] == {"tiny-24 by sparse24"}
    assert "posttrain" not in planned
    assert "base" not in planned
    finished.run()
    assert sha256(weights) == bits
    assert finished.planned() == {}


def test_a_flipped_byte_is_refused_by_name(finished):
    weights = finished.results / "pruned/tiny-16/depth/0.15/model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-5] ^= 1
    weights.write_bytes(raw)
    finished.study(BUDGETS, BUDGETS + "\n  seeds: [0, 1]")
    target = "results/tiny/posttrained/tiny-16/depth-0.15-seed1/D2048/manifest.json"
    done = finished.snakemake("--", target)
    assert done.returncode != 0
    log = (finished.results / "logs/posttrain/tiny-16/depth-0.15-seed1.log").read_text()
    assert "pruned/tiny-16/depth/0.15/model.safetensors" in log
    assert "sha256" in log
    weights.unlink()
    finished.run("--", target)


def test_figures_alone_cannot_train(fresh):
    tables = sha256(fresh.results / "tables/losses.csv")
    for figure in (fresh.results / "figures").iterdir():
        figure.unlink()
    told = fresh.run("--allowed-rules", "figures", "--", "figures")
    assert "1 of 1 steps (100%) done" in told
    assert list((fresh.results / "figures").glob("*.pdf"))
    assert sha256(fresh.results / "tables/losses.csv") == tables
