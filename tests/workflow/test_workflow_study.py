"""The whole path: what a finished study holds, that it is reproducible, how it fails."""

import hashlib
import json

import pandas as pd
import pytest


@pytest.fixture
def table(first) -> pd.DataFrame:
    return pd.read_parquet(first.results / "tables/losses.parquet")


def test_every_point_is_in_the_table_once(table):
    assert len(table) == 18
    assert not table.duplicated(["run", "D"]).any()
    assert table.drop(columns="Lc").notna().all().all()
    assert table["Lc"].isna().all()  # this study has no controls
    assert (table["rate"] > 0).all() and (table["rate"] < 1).all()
    assert (table["N"] == (table["N0"] * (1 - table["rate"])).round()).all()


def test_csv_and_parquet_hold_the_same(first, table):
    pd.testing.assert_frame_equal(table, pd.read_csv(first.results / "tables/losses.csv"))


def test_every_manifest_names_inputs_that_are_there(first):
    manifests = [p for p in first.results.rglob("manifest.json") if "state" not in p.parts]
    assert len(manifests) > 30
    for path in manifests:
        manifest = json.loads(path.read_text())
        for upstream in manifest["inputs"].values():
            file = first.folder / upstream["path"]
            assert hashlib.sha256(file.read_bytes()).hexdigest() == upstream["sha256"], path


def test_two_clean_runs_give_the_same_loss_table(first, clean):
    clean.run("--", "tables")
    for name in ("losses.csv", "losses.parquet", "oneshot.csv", "oneshot.parquet"):
        one, two = ((c.results / "tables" / name).read_bytes() for c in (first, clean))
        assert hashlib.sha256(one).hexdigest() == hashlib.sha256(two).hexdigest()


def test_coverage_of_partial_results_is_told(finished):
    run = finished.results / "posttrained/tiny-24/depth-0.3/D8192/manifest.json"
    run.unlink()
    told = finished.run("--config", "partial=true", "--", "law", "figures")
    assert "posttrain:" not in told
    coverage = pd.read_csv(finished.results / "tables/coverage.csv")
    missing = coverage[coverage["state"] == "missing"]
    assert list(zip(missing["run"], missing["D"], strict=True)) == [("tiny-24/depth-0.3", 8192)]
    assert len(pd.read_parquet(finished.results / "tables/losses.parquet")) == 17


def test_cost_and_check_start_nothing(clean):
    told = clean.run("--", "check", "cost")
    assert "18 points" in told
    assert "posttrain" in told
    made = [p for p in (clean.folder / "results").rglob("*") if p.is_file()]
    assert {p.parent.name for p in made} == {"logs"}


def test_cost_compares_with_what_was_spent(first):
    line = next(x for x in first.run("--", "cost").splitlines() if x.split()[:1] == ["posttrain"])
    assert len(line.split()) == 10


def test_a_misspelt_key_stops_before_any_job(finished):
    before = {p: p.stat().st_mtime_ns for p in finished.results.rglob("*") if p.is_file()}
    finished.study("      warmup_tokens: 512", "      warm_up_tokens: 512")
    done = finished.snakemake()
    assert done.returncode != 0
    assert "studies/tiny.yaml: posttrain" in done.stdout
    assert "did you mean 'warmup_tokens'" in done.stdout
    assert "Traceback" not in done.stdout
    after = {p: p.stat().st_mtime_ns for p in finished.results.rglob("*") if p.is_file()}
    assert before == after


def test_a_corpus_too_small_is_refused_with_its_size(clean):
    clean.study("budgets: [2048, 4096, 8192]", "budgets: [2048, 4096, 819200]")
    done = clean.snakemake("--", "results/tiny/corpus/tiny/manifest.json")
    assert done.returncode != 0
    log = (clean.results / "logs/corpus/tiny.log").read_text()
    assert "819,200" in log
    assert not (clean.results / "corpus/tiny/manifest.json").exists()
