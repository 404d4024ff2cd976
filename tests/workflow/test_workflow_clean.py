"""Clean-up: what goes, that nothing is retrained for it, and what comes back when it is needed."""

import json
import shutil
import subprocess
import sys

import pytest

CLEAN = "workflow/scripts/clean.py"
STUDY = "studies/tiny.yaml"
BUDGETS = "budgets: [2048, 4096, 8192]"
RUNS = {
    f"{m} {v}" for m in ("tiny-16", "tiny-24") for v in ("depth-0.15", "depth-0.3", "sparse24-0.5")
}


def clean(made, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, CLEAN, STUDY, *words], cwd=made.folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def weights(made) -> set[str]:
    return {p.relative_to(made.results).as_posix() for p in made.results.rglob("*.safetensors")}


def losses(made) -> dict[str, float]:
    """Every checkpoint's loss, by model, group and name."""
    found = {}
    for path in made.results.glob("evaluated/*/*/manifest.json"):
        checkpoints = json.loads(path.read_text())["results"]["checkpoints"]
        found |= {f"{path.parent}/{n}": c["loss"] for n, c in checkpoints.items()}
    return {name.split("evaluated/")[1]: loss for name, loss in found.items()}


def test_without_delete_nothing_is_touched(finished):
    before = weights(finished)
    told = clean(finished, "--keep", "none", "--snapshots", "0")
    assert "24 x weights" in told and "would go" in told  # 6 variants, 18 points
    assert weights(finished) == before


@pytest.mark.parametrize(
    ("policy", "gone"),
    [("all", set()), ("annealed", {"pruned"}), ("none", {"pruned", "posttrained"})],
)
def test_a_policy_takes_what_it_names_and_the_study_stays_finished(finished, policy, gone):
    before = weights(finished)
    clean(finished, "--keep", policy, "--snapshots", "1", "--delete")
    taken = before - weights(finished)
    checkpoints = {name.split("/")[0] for name in taken if "/state/" not in name}
    assert checkpoints == gone
    forks = [name for name in weights(finished) if "/forks/" in name]
    assert len(forks) == len(RUNS)  # the last of each trunk
    assert finished.planned() == {}
    assert "0.0 MB  would go" in clean(finished, "--keep", policy, "--snapshots", "1")


def test_an_unfinished_run_keeps_everything(finished):
    manifest = finished.results / "posttrained/tiny-16/depth-0.3/D8192/manifest.json"
    manifest.unlink()
    told = clean(finished, "--keep", "none", "--snapshots", "0", "--delete")
    assert "posttrained/tiny-16/depth-0.3/" not in told
    assert "pruned/tiny-16/depth/0.3/" not in told
    assert "pruned/tiny-16/depth/0.15/" in told


def test_another_evaluation_set_makes_the_weights_again_and_the_same(finished, clean_losses):
    clean(finished, "--keep", "none", "--snapshots", "0", "--delete")
    finished.study("evaluate:\n  tokens: 8192", "evaluate:\n  tokens: 4096")
    planned = finished.planned()
    assert planned["posttrain"] == RUNS
    assert planned["prune"] == {
        f"{m} by {v}" for m in ("tiny-16", "tiny-24") for v in ("depth", "sparse24")
    }
    assert "base" not in planned and "corpus" not in planned
    finished.run("--", "tables")
    assert losses(finished) == clean_losses


@pytest.fixture
def clean_losses(first, tmp_path):
    """The losses on the smaller evaluation set where no weights were ever deleted."""
    shutil.copytree(first.folder, tmp_path / "kept", symlinks=True)
    kept = type(first)(tmp_path / "kept")
    kept.study("evaluate:\n  tokens: 8192", "evaluate:\n  tokens: 4096")
    kept.run("--", "tables")
    return losses(kept)


def test_one_more_budget_needs_the_variants_and_no_other_point(finished):
    clean(finished, "--keep", "none", "--snapshots", "1", "--delete")
    finished.study(BUDGETS, "budgets: [2048, 4096, 8192, 16384]")
    planned = finished.planned()
    assert planned["posttrain"] == RUNS and len(planned["prune"]) == 4
    assert "base" not in planned
    group = "results/tiny/evaluated/tiny-16/depth/manifest.json"
    finished.run("--", group)
    run = finished.results / "posttrained/tiny-16/depth-0.3"
    point = json.loads((run / "D16384/manifest.json").read_text())["results"]
    # From the last snapshot: as in a study whose states were all kept.
    assert point["trunk_tokens"] + point["branch_tokens"] < 16384 - 0.8 * 8192 + 512
    assert not (run / "D8192/model.safetensors").exists()
    found = json.loads((finished.folder / group).read_text())["results"]
    assert found["evaluated_now"] == 2 and len(found["checkpoints"]) == 10
