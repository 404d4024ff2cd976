"""Recipes of post-training through real Snakemake: teachers, layers, schedules, downstream."""

import json

import pandas as pd
import pytest

POINT = "results/tiny/posttrained/tiny-16/depth-0.15/D2048/manifest.json"


def test_a_taught_run_of_the_last_layers(finished):
    """One point of a changed recipe: its run alone is trained again, with the base as teacher."""
    finished.study(
        "posttrain:\n",
        "posttrain:\n  distil: {weight: 0.5, temperature: 2.0}\n  layers: {last: 1}\n",
    )
    finished.run("--allowed-rules", "posttrain", "--", POINT)
    found = json.loads((finished.folder / POINT).read_text())
    assert found["inputs"]["teacher"]["path"] == "results/tiny/base/tiny-16/manifest.json"
    assert found["spec"]["train"]["distil"] == {"weight": 0.5, "temperature": 2.0}
    assert found["spec"]["train"]["layers"] == {"last": 1, "head": True}


def test_more_schedules_train_only_the_new_ones(finished):
    finished.study("posttrain:\n", "posttrain:\n  schedule: [wsd, cosine, trajectory]\n")
    planned = finished.planned()
    assert len(planned["posttrain"]) == 12
    assert all(name.endswith(("-cosine", "-trajectory")) for name in planned["posttrain"])
    assert "prune" not in planned


@pytest.mark.slow
def test_a_study_of_three_schedules_compares_them(finished):
    finished.study("posttrain:\n", "posttrain:\n  schedule: [wsd, cosine, trajectory]\n")
    finished.run()
    table = pd.read_csv(finished.results / "law" / "schedules.csv")
    assert set(table["schedule"]) == {"wsd", "cosine", "trajectory"}
    # Budgets 1:2:4 in steps of 4, 8 and 16 with decays of 1, 2 and 3.
    shares = table.groupby("schedule")["share_of_separate_runs"].first()
    assert shares.to_dict() == pytest.approx(
        {"wsd": (13 + 1 + 2 + 3) / 28, "cosine": 1.0, "trajectory": 16 / 28}
    )
    assert (finished.results / "figures" / "schedules.png").stat().st_size > 10_000


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
