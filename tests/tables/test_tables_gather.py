"""The loss table from manifests alone: a results tree written by hand, no model in it."""

from pathlib import Path

import pytest
import yaml

from p2law.canonical import write_json
from p2law.errors import UserError
from p2law.study.grid import Study
from p2law.study.stages import Stages
from p2law.study.stages.measured import BASE
from p2law.study.stages.models import start
from p2law.tables.gather import COLUMNS, gather

TINY = Path(__file__).parents[2] / "studies" / "tiny.yaml"


def loss_of(name: str) -> dict:
    """A loss that tells its place: base 1, pruned 9, D tokens 9 - D / 10,000."""
    if name == BASE:
        value = 1.0
    elif name.endswith("/pruned"):
        value = 9.0
    else:
        value = 9.0 - int(name.rpartition("D")[2]) / 10_000
    return {"loss": value, "loss_se": 0.01, "bits_per_byte": value / 2}


@pytest.fixture
def results(tmp_path) -> Stages:
    """A finished tiny study of manifests without files."""
    study = Study(yaml.safe_load(TINY.read_text()), "tiny", root=tmp_path)
    stages = Stages(study)
    for family in study.settings.families:
        files = {"tokenizer.json": {"sha256": "f" * 64, "bytes": 1}}
        write_json(stages["corpus"].path(family), {"files": files})
    for variant in study.variants.values():
        counts = {k: variant.shape[k] for k in ("rate", "N0", "N")}
        counts |= {k: variant.shape[k] for k in ("N0_nonembedding", "N_nonembedding")}
        write_json(stages.path(start(variant)), {"results": counts})
    for model, group in stages["evaluate"].results():
        losses = {name: loss_of(name) for name in stages["evaluate"].checkpoints(model, group)}
        found = {"evaluation": "rows", "evaluation_tokens": 8192, "checkpoints": losses}
        write_json(stages["evaluate"].path(model, group), {"results": found, "key": "k"})
    return stages


def test_one_row_a_point_with_every_column(results):
    rows, _, coverage = gather(results)
    assert len(rows) == len(coverage) == 18
    assert all(set(row) == set(COLUMNS) for row in rows)
    assert {point["state"] for point in coverage} == {"present"}
    for row in rows:
        assert (row["L0"], row["Lp"], row["loss"]) == (1.0, 9.0, 9.0 - row["D"] / 10_000)
        assert row["step"] * row["batch_tokens"] == row["D"]


def test_a_group_that_is_absent_is_missing_not_invented(results):
    results["evaluate"].path("tiny-16", "depth").unlink()
    rows, _, coverage = gather(results)
    missing = {point["run"] for point in coverage if point["state"] == "missing"}
    assert missing == {"tiny-16/depth-0.15", "tiny-16/depth-0.3"}
    assert len(rows) == 12


def test_without_its_base_a_model_has_no_rows(results):
    results["evaluate"].path("tiny-16", BASE).unlink()
    assert {row["model"] for row in gather(results)[0]} == {"tiny-24"}


def test_losses_on_other_rows_than_the_base_are_refused(results):
    path = results["evaluate"].path("tiny-24", "depth")
    path.write_text(path.read_text().replace('"rows"', '"others"'))
    with pytest.raises(UserError, match="other rows .others. than the base"):
        gather(results)
