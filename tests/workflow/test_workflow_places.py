"""Checkouts in odd places, shells of other minds: rules run what snakemake runs."""

import shutil

import pytest

BASE = "results/tiny/base/tiny-16/manifest.json"


def test_a_space_in_the_checkouts_path(clean, tmp_path):
    made = type(clean)(tmp_path / "sp ace" / "p2 law")
    shutil.copytree(clean.folder, made.folder)
    assert "nothing wrong was found" in made.run("--", "check")
    made.run("--", BASE)
    assert (made.folder / BASE).exists()


def test_a_shell_that_finds_no_python(clean, tmp_path):
    (tmp_path / "env.sh").write_text("export PATH=/usr/bin:/bin\n")
    done = clean.snakemake("--", "check", BASE, BASH_ENV=str(tmp_path / "env.sh"))
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("text", ["[]", "null", "{"])
def test_a_file_that_is_no_manifest_is_named(finished, text):
    (finished.folder / BASE).write_text(text)
    done = finished.snakemake("-n")
    assert done.returncode != 0
    assert BASE in done.stdout and "delete it" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_key_given_twice_is_refused_with_its_lines(clean):
    clean.study("methods:\n", "methods:\n  depth: {prune: depth, rates: [0.15]}\n")
    done = clean.snakemake("-n")
    assert done.returncode != 0
    assert "studies/tiny.yaml: methods.depth stands twice, in lines" in done.stdout


def test_the_reports_study_is_this_one_whatever_the_command_line_says(finished):
    """The page of --config study=other holds other's results and lies in other's folder."""
    shutil.copytree(finished.results, finished.folder / "results" / "other")
    shutil.rmtree(finished.folder / "results" / "other" / "report")
    before = (finished.results / "report.html").read_bytes()
    (finished.folder / "results/other/report.html").unlink()
    finished.run("--config", "study=other")
    page = (finished.folder / "results/other/report.html").read_text()
    assert "results/other/figures" in page and "results/tiny/" not in page
    assert (finished.results / "report.html").read_bytes() == before
