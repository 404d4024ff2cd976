"""Recipes of post-training through real Snakemake: teachers, layers, schedules, downstream."""

import json

import pandas as pd
import pytest

TEXT = "    text: # the law's\n"
LAST = "      warmup_tokens: 512\n"
MORE = "    cosine: {schedule: cosine}\n    trajectory: {schedule: trajectory}\n"
POINT = "results/tiny/posttrained/tiny-16/depth-0.15/D2048/manifest.json"


def test_a_taught_run_of_the_last_layers(finished):
    """One point of a changed recipe: its run alone is trained again, with the base as teacher."""
    finished.study(
        TEXT, TEXT + "      distil: {weight: 0.5, temperature: 2.0}\n      layers: {last: 1}\n"
    )
    finished.run("--allowed-rules", "posttrain", "--", POINT)
    found = json.loads((finished.folder / POINT).read_text())
    assert found["inputs"]["teacher"]["path"] == "results/tiny/base/tiny-16/manifest.json"
    assert found["spec"]["train"]["distil"] == {"weight": 0.5, "temperature": 2.0}
    assert found["spec"]["train"]["layers"] == {"last": 1, "head": True}


def test_more_recipes_train_only_the_new_ones(finished):
    finished.study(LAST, LAST + MORE)
    planned = finished.planned()
    assert len(planned["posttrain"]) == 12
    assert all(name.endswith(("-cosine", "-trajectory")) for name in planned["posttrain"])
    assert "prune" not in planned


@pytest.mark.slow
def test_a_study_of_three_recipes_compares_them(finished):
    finished.study(LAST, LAST + MORE)
    finished.run()
    table = pd.read_csv(finished.results / "law" / "recipes.csv")
    assert set(table["recipe"]) == {"text", "cosine", "trajectory"}
    # Budgets 1:2:4 in steps of 4, 8 and 16 with decays of 1, 2 and 3.
    shares = table.groupby("recipe")["share_of_separate_runs"].first()
    assert shares.to_dict() == pytest.approx(
        {"text": (13 + 1 + 2 + 3) / 28, "cosine": 1.0, "trajectory": 16 / 28}
    )
    assert (finished.results / "figures" / "recipes.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("", "studies/tiny.yaml: downstream: missing; it says which tasks to run"),
        ("downstream: {add_bos_token: false}\n", "pip install -r envs/downstream.txt"),
    ],
)
def test_downstream_says_what_it_lacks(clean, section, words):
    # As if another lm-eval were installed, whether one is or not.
    clean.edit("workflow/scripts/p2law/evaluation/downstream.py", '"0.4.13"', '"0"')
    clean.study("law:\n", section + "law:\n")
    done = clean.snakemake("-n", "downstream")
    assert done.returncode != 0
    assert words in done.stdout


def test_a_control_is_trained_evaluated_and_stands_beside_the_points(finished):
    finished.study("posttrain:\n", "posttrain:\n  control: true\n")
    planned = finished.planned()
    assert planned["posttrain"] == {f"{model} control-0" for model in ("tiny-16", "tiny-24")}
    assert planned["evaluate"] == {f"{model} control" for model in ("tiny-16", "tiny-24")}
    finished.run("--", "tables")
    points, controls = (
        pd.read_parquet(finished.results / f"tables/{name}.parquet")
        for name in ("losses", "controls")
    )
    assert set(controls["run"]) == {"tiny-16/control-0", "tiny-24/control-0"}
    assert (controls["rate"] == 0).all() and (controls["N"] == controls["N0"]).all()
    assert (controls["Lp"] == controls["L0"]).all()
    both = points.merge(controls, on=["model", "D", "recipe", "seed"], suffixes=("", "_control"))
    assert len(both) == len(points) == 18
    assert (both["Lc"] == both["loss_control"]).all()
