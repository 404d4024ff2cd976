"""CONTRIBUTING.md to the letter: each block goes where it says, in a copy of the checkout."""

import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
BLOCKS = dict(re.findall(r"```(?:yaml|python)\n# (.*?)\n(.*?)```", TEXT, re.S))
STUDY = "studies/tiny.yaml"


@pytest.fixture(scope="module")
def tracked():
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture
def checkout(tracked, tmp_path):
    for name in tracked:
        target = tmp_path / "checkout" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    return tmp_path / "checkout"


def run(checkout: Path, *command: object) -> str:
    """What a command of the checkout prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=checkout, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def put_below(file: Path, key: str, block: str) -> None:
    """Put lines at the end of the mapping that stands below ``key:``."""
    lines = file.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.strip().split(" #")[0] == f"{key}:")
    indent = len(lines[at]) - len(lines[at].lstrip())
    end = at + 1
    while end < len(lines) and (
        not lines[end].strip() or lines[end].startswith(" " * (indent + 1))
    ):
        end += 1
    while not lines[end - 1].strip():
        end -= 1
    lines[end:end] = block.rstrip().splitlines()
    file.write_text("\n".join(lines) + "\n")


def plan(checkout: Path) -> str:
    """What the study would run, which is checked first."""
    return run(checkout, "-m", "snakemake", "-n", "--cores", "1", "--configfile", STUDY)


def test_every_block_says_where_it_goes():
    assert len(BLOCKS) == TEXT.count("```") // 2 == 5


@pytest.mark.parametrize(
    ("where", "key", "jobs"),
    [
        ("study, below the family's models", "models", "posttrained/tiny-20/depth-0.15/"),
        ("study, below methods", "methods", "posttrained/tiny-16/late-0.15/"),
        ("study, below posttrain.recipes", "recipes", "posttrained/tiny-16/depth-0.15-cosine/"),
    ],
)
def test_what_a_study_gets_as_an_entry(where, key, jobs, checkout):
    put_below(checkout / STUDY, key, BLOCKS[where])
    assert jobs in plan(checkout)


def test_a_kind_of_pruning_is_one_file(checkout):
    where = next(where for where in BLOCKS if "pruning/methods/" in where)
    (checkout / where).write_text(BLOCKS[where])
    run(checkout, "workflow/scripts/config_reference.py", "--root", checkout)
    assert "at even distances" in (checkout / "docs" / "config.md").read_text()
    assert "spread" in json.dumps(json.loads((checkout / "studies" / "schema.json").read_text()))
    put_below(checkout / STUDY, "methods", "  spread: {prune: spread, rates: [0.3]}")
    assert "pruned/tiny-16/spread/" in plan(checkout)
    # A block of four goes, and the model that is left is loadable and smaller.
    code = """
        import sys; sys.path.insert(0, "workflow/scripts")
        from pathlib import Path
        from p2law.checkpoints import io
        from p2law.pruning import methods
        from p2law.pruning.blocks import Blocks
        config = {"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 16,
                  "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1,
                  "vocab_size": 64, "max_position_embeddings": 32}
        base, out = Path("base"), Path("out")
        base.mkdir(), out.mkdir()
        io.fresh(config, seed=0).save_pretrained(base)
        method = methods.read({"prune": "spread", "tolerance": 0.2, "rates": [0.25]})
        blocks = Blocks(base, "cpu")
        variant, told = method.apply(blocks, None, None, out, method.solve(blocks.config, 0.2))
        variant.close()
        print(told, len(io.load(out).model.layers))
    """
    assert "{'layers_removed': [2]} 3" in run(checkout, "-c", textwrap.dedent(code))


def test_a_law_is_one_declaration(checkout):
    where = next(where for where in BLOCKS if where.endswith("in _ALL"))
    file = checkout / where.split(",")[0]
    before, opening, after = file.read_text().partition("\n_ALL = [\n")
    assert opening
    file.write_text(before + opening + BLOCKS[where] + after)

    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        [(n, r, d) for n in (1e6, 4e6) for r in (0.1, 0.2, 0.3) for d in (1e6, 4e6, 1.6e7)],
        columns=["N0", "rho", "D"],
    )
    table["L0"] = np.where(table["N0"] > 2e6, 2.5, 3.0)
    exact = table["L0"] + 90 * table["rho"] ** 1.5 * table["D"] ** -0.3
    table["loss"] = exact * np.exp(rng.normal(0, 1e-5, len(table)))
    table["run"] = [f"{n:g}-{r:g}" for n, r in zip(table["N0"], table["rho"], strict=True)]
    table.to_csv(checkout / "LOSSES.csv", index=False)
    command = next(line for line in TEXT.splitlines() if "--form rate_times_data" in line).split()
    run(checkout, *command[2:])
    found = json.dumps(json.loads((checkout / "fit.json").read_text()))
    beta = float(re.search(r'"beta": (?:{"value": |{"estimate": )?([\d.]+)', found)[1])
    gamma = float(re.search(r'"gamma": (?:{"value": |{"estimate": )?(-?[\d.]+)', found)[1])
    assert (beta, gamma) == pytest.approx((0.3, -1.5), rel=0.02)
