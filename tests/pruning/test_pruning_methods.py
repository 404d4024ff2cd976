"""A method is one object in one file: what it says of itself, and one more of them."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from p2law.errors import UserError
from p2law.pruning import layer, methods
from p2law.pruning.blocks import Blocks
from p2law.pruning.methods.weights import MASKS, WEIGHTS
from p2law.pruning.stage import Stage
from p2law.results import manifest
from p2law.study import schema
from p2law.study.grid import Study

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"

RANDOM_DEPTH = '''"""Blocks at random: what a criterion must beat."""

import random
from typing import ClassVar, Literal

from pydantic import Field

from p2law.architectures import configs
from p2law.pruning import shapes
from p2law.pruning.methods.method import Method
from p2law.settings.section import Real, Whole


class RandomDepth(Method):
    """Whole blocks go, whichever the dice say."""

    prune: Literal["random_depth"] = Field(description="blocks at random")
    dice: Whole = Field(0, description="the dice's seed")
    tolerance: Real = Field(0.05, ge=0, le=1, description="how far a rate may be missed")

    EXAMPLE: ClassVar[str] = "dice: {prune: random_depth, dice: 3, rates: [0.2]}"

    def passes(self, layers):
        return 0.0

    def described(self):
        return f"blocks by dice {self.dice}"

    def shape(self, config, rate, before):
        return shapes.fewer_layers(config, rate, before, self.tolerance)

    def apply(self, blocks, source, measured, folder, solved):
        from p2law.pruning.variant import Variant

        n = solved["removed"]["layers"]
        gone = sorted(random.Random(self.dice).sample(range(len(blocks)), n))
        kept = [i for i in range(len(blocks)) if i not in gone]
        variant = Variant(blocks, folder, configs.with_layers(blocks.config, kept), kept)
        return variant.write(), {"layers_removed": gone}
'''

ASKED = """if True:
    import json, sys
    import yaml
    from p2law.cluster.costs import Costs
    from p2law.errors import UserError
    from p2law.study.grid import Study
    from p2law.study.reference import markdown, schema
    from p2law.study.stages import Stages
    tiny = json.loads(sys.stdin.read())
    example = "dice: {prune: random_depth, dice: 3, rates: [0.15, 0.3]}"
    study = Study({**tiny, "methods": yaml.safe_load(example)}, "study.yaml")
    assert "torch" not in sys.modules
    told = {}
    for fault in ({"dise": 3}, {"dice": -1}, {"rates": [0.3000001]}, {"prune": "random_deth"}):
        method = {"prune": "random_depth", "rates": [0.15], **fault}
        try:
            Study({**tiny, "methods": {"dice": method}}, "study.yaml")
        except UserError as error:
            told[next(iter(fault))] = str(error)
    removed = [v.shape["removed"] for v in study.variants.values() if v.model == "tiny-16"]
    stages = Stages(study)
    costs = Costs(stages).job_flops("prune", "tiny-16", "dice")
    spec = stages["prune"].spec("tiny-16", "dice")
    described = study.settings.methods["dice"].described()
    kinds = schema()["properties"]["methods"]["patternProperties"].popitem()[1]["discriminator"]
    answer = {"told": told, "removed": removed, "costs": costs, "spec": spec}
    answer |= {"described": described, "page": markdown(), "kinds": kinds["mapping"]}
    print(json.dumps(answer))
"""


def test_one_more_method_is_one_file(tiny, make_base, corpus, tmp_path):
    """In a scratch copy: checked, solved, priced, described, in the reference, and applied."""
    scripts = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "p2law" / "pruning" / "methods" / "random_depth.py").write_text(RANDOM_DEPTH)
    ask = [sys.executable, "-c", ASKED]
    done = subprocess.run(
        ask, cwd=scripts, input=json.dumps(tiny), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    where = "study.yaml: methods.dice"
    assert f"{where}.dise: unknown key; must be one of prune, rates, dice" in answer["told"]["dise"]
    assert f"{where}.dice = -1: should be greater than or equal to 0" in answer["told"]["dice"]
    assert "more than six digits" in answer["told"]["rates"]
    assert "did you mean 'random_depth'?" in answer["told"]["prune"]
    assert answer["removed"] == [{"layers": 1}, {"layers": 2}]
    assert answer["costs"] == 0
    assert answer["described"] == "blocks by dice 3"
    assert "random_depth" in answer["kinds"]
    assert "## methods.NAME (prune: random_depth)" in answer["page"]
    assert "dice: {prune: random_depth, dice: 3, rates: [0.2]}" in answer["page"]
    assert "| `dice` | whole number from 0 | `0` | the dice's seed |" in answer["page"]
    spec = {
        **answer["spec"],
        "calibration": {"windows": 8},
        "variants": {"0.2": {"key": "k", "rate": 0.2}},
    }
    assert spec["prune"] == {"prune": "random_depth", "dice": 3, "tolerance": 0.05}
    command = [sys.executable, scripts / "prune.py", "--spec", json.dumps(spec)]
    command += ["--base", make_base(), "--corpus", corpus, "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = manifest.verify_files(tmp_path / "out" / "0.2" / manifest.NAME)
    assert len(record["results"]["layers_removed"]) == 1
    assert record["results"]["calibration_sha256"] is None


ASKED_OF_ALL = [
    *({"prune": "depth", "criterion": c} for c in ("block_influence", "angular", "perplexity")),
    {"prune": "depth", "criterion": "last"},
    {"prune": "width", "multiple": 4},
    {"prune": "width", "multiple": 4, "criterion": "flap"},
    {"prune": "width", "multiple": 4, "weights": "mrp"},
    {"prune": "weights", "mask": "magnitude"},
    {"prune": "weights", "mask": "wanda"},
    {"prune": "weights", "mask": "sparsegpt", "weights": "mrp-cg"},
    {"prune": "weights", "pattern": "unstructured", "layer_rates": "owl"},
]


@pytest.mark.parametrize("settings", ASKED_OF_ALL, ids=str)
def test_the_passes_that_costs_count_are_those_that_run(
    settings, make_base, corpus, spec, tmp_path, monkeypatch
):
    """Blocks run, over the model's blocks and the batches of windows, for two rates."""
    ran, real = [0], Blocks.run

    def run(self, block, i, hidden):
        ran[0] += 1
        return real(self, block, i, hidden)

    monkeypatch.setattr(Blocks, "run", run)
    rates = (0.5,) if settings.get("pattern", "2:4") == "2:4" and "mask" in settings else (0.2, 0.4)
    method = methods.read({**settings, "rates": list(rates)})
    Stage(spec(settings, *rates), make_base(), corpus, tmp_path).run()
    assert ran[0] / 4 == method.passes(4)  # 4 blocks, 8 windows in one batch


def test_gradients_cost_four_forwards(make_base, corpus, spec, tmp_path, monkeypatch):
    """Every block runs twice, and its backward pass is two more."""
    for settings in ({"prune": "depth"}, {"prune": "width", "multiple": 4}):
        method = methods.read({**settings, "criterion": "taylor"})
        assert method.needs().gradients
        assert method.passes(12) == 4


def test_what_weights_need_is_what_layers_ask_for():
    for mask, weights in itertools.product(MASKS, WEIGHTS):
        settings = {"prune": "weights", "mask": mask, "weights": weights}
        method = methods.read(settings)
        assert method.needs().curvature == layer.needs_curvature(method.settings())


def test_settings_come_whole_and_in_a_fixed_order():
    """What specs and so keys hold."""
    whole = {
        "depth": ["criterion", "guard_first", "guard_last", "tolerance"],
        "width": ["dimensions", "criterion", "multiple", "split", "tolerance", "weights", "bias"],
        "weights": ["pattern", "scope", "mask", "weights", "layer_rates", "refine", "damp"],
    }
    whole["width"].append("damp")
    for kind, keys in whole.items():
        settings = methods.read({"prune": kind}).settings()
        assert list(settings) == ["prune", *keys]
        assert methods.read(dict(reversed(settings.items()))).settings() == settings


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ({"prune": "depth", "rates": [0.3000001, 0.3000002]}, ["0.3000001 and 0.3000002", "0.3;"]),
        ({"prune": "depth", "rates": [0.1234567]}, ["0.1234567 has more than six", "0.123457"]),
        ({"prune": "depth", "rates": []}, ["methods.m.rates = []"]),
        ({"prune": "depth", "rates": [float("nan")]}, ["methods.m.rates.0 = nan", "between 0 and"]),
        ({"prune": "depth"}, ["methods.m.rates: missing"]),
        ({"prune": ["depth"]}, ["methods.m.prune = ['depth']: must be one of depth"]),
        ({"prune": "weights", "rates": [0.5]}, ["m.rates = [0.5]: fixed at 0.5", "leave out"]),
        ({"prune": "weights", "pattern": "{x}"}, ["pattern = '{x}'", "n < m"]),
        ({"prune": "{x}"}, ["prune = '{x}': must be one of"]),
        (
            {"prune": "depth", "rates": [0.15], "x": 1, "guard_last": -1},
            ["m.x: unknown", "d_last = "],
        ),
        ({"rates": [0.15]}, ["methods.m.prune: missing"]),
        (None, ["methods.m"]),
    ],
)
def test_a_methods_faults_are_named_in_a_study(tiny, method, words):
    with pytest.raises(UserError) as error:
        schema.read({**tiny, "methods": {"m": method}}, "study.yaml")
    for word in ["study.yaml: methods.m", *words]:
        assert word in str(error.value)


def test_the_fixed_rate_of_a_pattern_is_one_that_its_job_accepts(tiny):
    """(m - n) / m of 1:3 has no end; the spec holds six digits of it."""
    shape = {"hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 2}
    tiny["families"]["tiny"]["models"] = {
        "t": {"source": "pretrain", "tokens": 65_536, "config": shape}
    }
    tiny["methods"] = {"one3": {"prune": "weights", "pattern": "1:3"}}
    study = Study(tiny, "study.yaml")
    (variant,) = study.variants.values()
    assert variant.asked == "0.666667"
    method = methods.read(study.settings.methods["one3"].settings())
    solved = method.solve(study.models["t"].config, float(variant.asked))
    assert solved["removed"]["share_of_linear"] == 2 / 3
    assert solved == variant.shape


def test_a_dimension_that_is_asked_for_gets_narrower():
    """Where the nearest shape would leave one whole, each loses a step, or the rate is refused."""
    config = {"model_type": "llama", "hidden_size": 48, "intermediate_size": 64}
    config |= {"num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 3}
    config |= {"vocab_size": 96}
    asked = {"prune": "width", "dimensions": ["ffn", "groups"]}
    found = {}
    for rate in (0.01, 0.1, 0.2, 0.3, 0.4):
        for tolerance in (0.02, 0.2):
            try:
                solved = methods.read({**asked, "tolerance": tolerance}).solve(config, rate)
            except UserError as error:
                assert "farther than tolerance" in str(error)
                continue
            assert all(width["to"] < width["from"] for width in solved["removed"].values())
            assert abs(solved["rate"] - rate) <= tolerance
            found[rate, tolerance] = solved["removed"]
    assert found[0.1, 0.2] == {"ffn": {"from": 64, "to": 56}, "groups": {"from": 3, "to": 2}}
    assert len(found) >= 6
    with pytest.raises(UserError, match="nearest width .ffn 56, groups 2."):
        methods.read({**asked, "tolerance": 0.02}).solve(config, 0.01)
