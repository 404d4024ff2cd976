"""The cost model against counts by hand and against torch's own FLOP counter."""

import subprocess
import sys

import pytest

from p2law.architectures import counts
from p2law.cluster.costs import Costs, forward_flops, train_bytes, trained_tokens
from p2law.errors import UserError
from p2law.study.grid import Study
from p2law.study.stages import Stages

CONFIG = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "tie_word_embeddings": True,
}


def test_forward_flops_agree_with_torch_flop_counter():
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForCausalLM, LlamaConfig

    rows = 32
    config = LlamaConfig(**CONFIG, attn_implementation="eager")
    model = AutoModelForCausalLM.from_config(config)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, rows, dtype=torch.long), use_cache=False)
    counted = counter.get_total_flops() / (2 * rows)
    ours = forward_flops(CONFIG, counts.parameters(CONFIG), rows)
    # torch counts the whole attention square (4 L T h), we the causal half (2 L T h), and we count
    # the norms' few weights as matrix products.
    square = 2 * 3 * rows * 16
    norms = 2 * (2 * 3 + 1) * 16
    assert ours + square - norms == pytest.approx(counted, rel=1e-12)


@pytest.mark.parametrize(
    ("schedule", "tokens"), [("wsd", 0.8 * 16 + 0.2 * 31), ("cosine", 31), ("trajectory", 16)]
)
def test_trained_tokens(schedule, tokens):
    assert trained_tokens(schedule, [1, 2, 4, 8, 16], 0.2) == pytest.approx(tokens)


def test_wsd_costs_at_most_62_percent_of_one_run_a_budget():
    assert trained_tokens("wsd", [1, 2, 4, 8, 16], 0.2) / 31 < 0.62


def test_stages_add_up(tiny):
    costs = Costs(Stages(Study(tiny, "x")))
    stages = {cost.stage: cost for cost in costs.total()}
    assert stages["base"].tokens == 2 * 65_536
    assert stages["posttrain"].jobs == 6
    assert stages["posttrain"].tokens == pytest.approx(6 * (0.8 * 8192 + 0.2 * 14336))
    assert stages["evaluate"].tokens == 8192 * (2 + 6 * 4)


def test_every_schedule_has_its_tokens(tiny):
    for schedule in ("cosine", "trajectory"):
        tiny["posttrain"]["recipes"][schedule] = {"schedule": schedule}
    costs = Costs(Stages(Study(tiny, "x")))
    each = [0.8 * 8192 + 0.2 * 14336, 14336, 8192]
    stages = {cost.stage: cost for cost in costs.total()}
    assert stages["posttrain"].jobs == 18
    assert stages["posttrain"].tokens == pytest.approx(6 * sum(each))


def with_recipe(tiny: dict, budgets=(2048, 4096, 8192), **changes) -> Study:
    recipe = tiny["posttrain"]["recipes"]["text"] | changes
    section = {"budgets": list(budgets), "recipes": {"text": recipe}}
    return Study(tiny | {"posttrain": section}, "x")


def test_what_a_recipe_adds_and_leaves_out(tiny):
    """A teacher adds its forward; frozen layers take no weight gradients."""

    def flops(**changes):
        study = with_recipe(tiny, **changes)
        costs = Costs(Stages(study))
        return costs.run_flops(study.runs["tiny-16", "sparse24-0.5"]), costs.model_flops("tiny-16")

    whole, forward = flops()
    assert whole == pytest.approx(3 * forward)  # a masked variant is as large as its base
    assert flops(distil={"weight": 0.5})[0] == pytest.approx(4 * forward)
    head = 2 * 512 * 16
    half = (forward - head) / 2
    # Tied embeddings take the gradient through all layers; without the head it ends half way.
    tied = flops(layers={"last": 2})[0]
    assert tied == pytest.approx(2 * forward + half + head)
    free = flops(layers={"last": 2, "head": False})[0]
    assert free == pytest.approx(forward + head + 2 * half)


def test_memory_of_a_training_run(tiny):
    """By hand for tiny-24 (hidden 24, FFN 64, 4 layers, 512 tokens); sizes: benchmarks/."""

    def memory(**changes):
        study = with_recipe(tiny, **changes)
        costs = Costs(Stages(study))
        return costs.train_memory("tiny-24"), study.models["tiny-24"].parameters["total"]

    kept = 4 * (6.5 * (10 * 24 + 4 * 64) + 2.7 * 512)
    base, size = memory()  # the base's batch of 1,024 tokens is the larger
    assert base == pytest.approx(420e6 + 16 * size + 1024 * kept)
    large = {"batch_tokens": 2048, "warmup_tokens": 2048, "budgets": [4096, 8192]}
    larger, _ = memory(**large)
    assert larger == pytest.approx(420e6 + (16 + 4) * size + 2048 * kept)  # the masks of 2:4
    rewinding, _ = memory(**large, schedule="cosine")
    assert rewinding - larger == pytest.approx(4 * size)
    taught, _ = memory(**large, distil={"weight": 1})
    assert taught - larger == pytest.approx(4 * size + 2048 * 4 * 8 * 512)


def test_a_large_vocabulary_is_never_held_as_logits():
    chunked, plain = (CONFIG | {"vocab_size": n} for n in (40_000, 30_000))
    kept = train_bytes(chunked, {"total": 0}, 64) - train_bytes(chunked, {"total": 0}, 0)
    assert kept == pytest.approx(64 * 4 * 5.5 * (160 + 160))
    kept = train_bytes(plain, {"total": 0}, 64) - train_bytes(plain, {"total": 0}, 0)
    assert kept == pytest.approx(64 * 4 * (5.5 * (160 + 160) + 2.7 * 30_000))


def test_unknown_gpu_is_refused(tiny):
    tiny["hardware"] = {"device": "cuda", "gpu": "Voodoo2"}
    with pytest.raises(UserError, match="hardware.gpu = 'Voodoo2'.*H100"):
        Costs(Stages(Study(tiny, "x")))


def test_study_and_costs_import_nothing_heavy():
    code = (
        "import sys; import p2law.cluster.costs, p2law.study.stages, p2law.results.stale;"
        "import p2law.study.checks;"
        "heavy = {'torch', 'transformers', 'pandas', 'numpy', 'scipy', 'matplotlib'};"
        "bad = heavy & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": "workflow/scripts", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
