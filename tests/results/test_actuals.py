"""What jobs took, read back from what they leave behind."""

import json

import pytest

from p2law.cluster.costs import Costs
from p2law.results.actuals import by_model, jobs
from p2law.study.grid import Study
from p2law.study.stages import Stages


def leave(study: Study, path, benchmark: str, seconds: float, **provenance) -> None:
    """A manifest and a benchmark file as a finished job writes them."""
    found = {"node": "n1", "peak_memory_bytes": 5 * 10**8, "processes": 1, "slurm": None}
    found |= {"hardware": {"gpus": []}, **provenance}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"provenance": found}))
    bench = study.root / "benchmarks" / benchmark
    bench.parent.mkdir(parents=True, exist_ok=True)
    bench.write_text(f"s\th:m:s\n{seconds}\t0:00:00\n")


def test_finished_jobs_beside_their_estimates(tiny, tmp_path):
    stages = Stages(Study(tiny, "x", tmp_path))
    study, costs = stages.study, Costs(stages)
    assert list(jobs(costs)) == []
    leave(study, stages["base"].path("tiny-16"), "base/tiny-16.tsv", 7.2)
    run = study.runs["tiny-16", "depth-0.3"]
    slurm = {"job": "42", "nodes": "n[1-2]", "energy_joules": 1_500_000}
    for budget in study.budgets:
        assert len(list(jobs(costs))) == 1  # a job counts once all its points are there
        leave(
            study,
            stages["posttrain"].path("tiny-16", "depth-0.3", f"D{budget}"),
            "posttrain/tiny-16/depth-0.3.tsv",
            3600.0,
            hardware={"gpus": ["H100"] * 4},
            processes=8,
            slurm=slurm,
        )
    base, trained = jobs(costs)
    assert (base.stage, base.hours, base.gpu, base.slurm) == ("base", 0.002, None, None)
    assert (trained.slurm, trained.nodes, trained.gpu) == ("42", "n[1-2]", "H100")
    assert trained.hours == 8.0  # GPU-hours: two nodes of four, an hour
    flops = costs.run_flops(run) * costs.run_tokens(run)
    assert trained.estimated_hours == pytest.approx((5 + flops / 40e9) / 3600)
    rows = {row["stage"]: row for row in by_model(jobs(costs))}
    assert rows["posttrain"]["energy (MJ)"] == 1.5 and rows["base"]["energy (MJ)"] is None
    assert rows["posttrain"]["hours / estimate"] == pytest.approx(8 / trained.estimated_hours)
