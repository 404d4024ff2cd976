"""What jobs ask for, against the formula by hand, and what is refused."""

from pathlib import Path

import pytest
import yaml

from p2law.cluster.costs import Costs
from p2law.cluster.jobs import Jobs
from p2law.errors import UserError
from p2law.study.grid import Study
from p2law.study.stages import Stages

ROOT = Path(__file__).parents[2]
PUBLISHED = {
    "llama-3.2-1B": 1_235_814_400,
    "llama-3.2-3B": 3_212_749_824,
    "llama-3.1-8B": 8_030_261_248,
    "qwen2.5-0.5B": 494_032_768,
    "qwen2.5-1.5B": 1_543_714_304,
    "qwen2.5-3B": 3_085_938_688,
}
LAYERS = {  # removed of each model at 15, 25 and 35 % of all parameters
    "llama-3.2-1B": [3, 5, 7],
    "llama-3.2-3B": [5, 8, 11],
    "llama-3.1-8B": [6, 9, 13],
    "qwen2.5-0.5B": [5, 8, 12],
    "qwen2.5-1.5B": [5, 8, 12],
    "qwen2.5-3B": [6, 10, 14],
}


@pytest.fixture
def paper(monkeypatch) -> dict:
    monkeypatch.chdir(ROOT)  # shapes are named from the repository's root
    return yaml.safe_load((ROOT / "studies/paper.yaml").read_text())


def jobs(config: dict, overrides: dict | None = None, **hardware) -> Jobs:
    config["hardware"] |= hardware
    return Jobs(Costs(Stages(Study(config, "x"))), overrides)


def test_shapes_give_the_published_parameter_counts_and_layers(paper):
    study = Study(paper, "x")
    assert {name: model.parameters["total"] for name, model in study.models.items()} == PUBLISHED
    for name, layers in LAYERS.items():
        variants = study.group_variants(name, "depth")
        assert [variant.shape["removed"]["layers"] for variant in variants] == layers


def test_gpus_hold_the_model_and_end_in_time(paper):
    # 8.03e9 x 16 bytes = 119.7 GiB of 0.8 x 80 GiB: two. 3 x forward FLOPs x 1.19e9 tokens at
    # 0.35 x 989e12 FLOP/s: 46 h on one GPU, so four end within 12 h.
    assert jobs(paper, job_hours=1000).gpus("posttrain", "llama-3.1-8B") == 2
    assert jobs(paper, job_hours=12).gpus("posttrain", "llama-3.1-8B") == 4
    assert jobs(paper, job_hours=0.1).gpus("posttrain", "llama-3.1-8B") == 8  # a node's, no more
    assert jobs(paper, gpu="A40", job_hours=1000).gpus("posttrain", "llama-3.1-8B") == 4
    assert jobs(paper).gpus("evaluate", "llama-3.1-8B") == 1
    assert jobs(paper).shards("llama-3.1-8B") and not jobs(paper).shards("llama-3.2-1B")


def test_rows_at_once_are_what_the_weights_leave(paper):
    # A row of Llama-3.2-1B keeps 2048 x 4 x (16 + 2.5) x (10 x 2048 + 4 x 8192) = 8.07 GB (its head
    # works in chunks); 0.9 x 80 GiB less 16 bytes a parameter leave 57.5 GB: seven rows.
    study = jobs(paper)
    assert study.micro_rows("posttrain", "llama-3.2-1B", "depth-0.15") == 7
    assert jobs(paper, gpu="A40").micro_rows("posttrain", "llama-3.2-1B", "depth-0.15") == 2
    paper["posttrain"]["recipes"]["text"] |= {"batch_tokens": 4096, "warmup_tokens": 4096}
    paper["posttrain"]["budgets"] = [8192, 16384, 32768]
    few = jobs(paper, gpu="H100")
    assert few.micro_rows("posttrain", "qwen2.5-0.5B", "depth-0.15") == 2  # all there are


def test_a_larger_job_takes_whole_nodes_and_its_cores_and_time_follow(paper):
    wide = jobs(paper, {"posttrain": {"gpu": 16}})
    assert wide.nodes("posttrain", "llama-3.1-8B") == 2
    assert wide.processes("posttrain", "llama-3.1-8B") == 8
    assert wide.threads("posttrain", "llama-3.1-8B") == 64
    narrow = jobs(paper, {"posttrain": {"gpu": 8}})
    flops = 1e20
    ratio = narrow.minutes("posttrain", "llama-3.1-8B", flops, 1) / wide.minutes(
        "posttrain", "llama-3.1-8B", flops, 1
    )
    assert ratio == pytest.approx(2, rel=0.01)
    assert wide.largest() == 16


def test_retries_ask_for_more(paper):
    asked = jobs(paper, jobs={"posttrain": {"runtime": 100, "mem_mb": 1000}})
    assert [asked.minutes("posttrain", "qwen2.5-3B", 1e20, n) for n in (1, 2, 3)] == [100, 200, 400]
    assert [asked.memory("posttrain", "qwen2.5-3B", n) for n in (1, 2, 3)] == [1000, 2000, 3000]


def test_cpu_studies_ask_for_no_gpu(tiny):
    tiny["hardware"] = {"jobs": {"posttrain": {"gpu": 4}}}
    study = jobs(tiny)
    assert study.largest() == 0
    assert study.threads("posttrain", "tiny-16") == 1


@pytest.mark.parametrize(
    ("overrides", "hardware", "words"),
    [
        ({"posttrain": {"gpu": 12}}, {}, "gpu = 12.*gpus_per_node = 8.*whole nodes"),
        ({}, {"jobs": {"posttrain": {"gpu": 6}}}, "batch of 256 rows does not divide"),
        ({"posttrain": {"gpu": "4 * attempt"}}, {}, r"gpu = '4 \* attempt': must be a number"),
        ({}, {"gpu": "A40"}, "evaluate of llama-3.1-8B needs .* GiB .* A40 has 45"),
    ],
)
def test_what_cannot_work_is_refused(paper, overrides, hardware, words):
    paper["evaluate"]["batch_rows"] = 16
    with pytest.raises(UserError, match=words):
        jobs(paper, overrides, **hardware).largest()
