"""What every test runs under: one thread a process, no hub; and what is skipped, counted aloud."""

import collections
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"

SLURM_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
# Other people's measurements, not part of the repository: beside the checkout, or fetched into it.
PUBLIC_TABLES = (ROOT.parent / "shared" / "data", ROOT / ".tables")
FETCH = "envs/run python benchmarks/public_tables.py"


def pytest_collection_modifyitems(items):
    missing = {"slurm": _without_slurm(), "tables": _without_tables()}
    for item in items:
        for marker, reason in missing.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def _without_slurm() -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = [name for name in SLURM_PROGRAMS if not shutil.which(name, path=path)]
    install = "apt-get install --no-install-recommends slurm-wlm munge"
    return f"no {', '.join(missing)} here: {install}" if missing else ""


def _without_tables() -> str:
    return (
        ""
        if any(path.is_dir() for path in PUBLIC_TABLES)
        else f"no public tables; fetch with: {FETCH}"
    )


def pytest_terminal_summary(terminalreporter):
    """What was skipped is counted aloud, by reason: a run that tested less must not look whole."""
    reasons = collections.Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    )
    for reason, count in reasons.most_common():
        terminalreporter.write_line(
            f"{count} test{'s' * (count > 1)} skipped: {reason}", yellow=True
        )


@pytest.fixture(scope="session")
def public_tables() -> Path:
    """The folder of public tables, for tests marked ``tables``."""
    return next(path for path in PUBLIC_TABLES if path.is_dir())


@pytest.fixture
def tiny() -> dict:
    """The tiny study's mapping, for tests that change a value of it."""
    return yaml.safe_load((ROOT / "studies" / "tiny.yaml").read_text())


@pytest.fixture
def default() -> dict:
    """The default study's mapping."""
    return yaml.safe_load((ROOT / "config.yaml").read_text())


@pytest.fixture(scope="session")
def study_law():
    """A simulated study of two methods and what the law stage makes of it: (table, law)."""
    import law_simulate as simulate
    from p2law.laws.forms import registry
    from p2law.laws.study import fit_study

    table = simulate.study()
    table = table[table["method"] != "width"].reset_index(drop=True)
    spec = {"forms": ["p2", registry.DAMAGE, "chinchilla"], "bootstrap": 20}
    return table, fit_study(table, spec)


@pytest.fixture(scope="session")
def run_script():
    """Callable: the output of one of the library's scripts, which must succeed."""

    def run(name: str, *options: object) -> str:
        done = subprocess.run(
            [sys.executable, name, *map(str, options)], cwd=ROOT / "workflow" / "scripts",
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def write_study(run_script):
    """Callable: write tables/ and law/ of a study from its loss table, as the rules do."""
    import law_simulate as simulate
    from p2law.results import manifest

    def write(folder: Path, rows, forms: list[str], grid: dict | None = None) -> Path:
        tables = folder / "tables"
        tables.mkdir()
        rows.drop(columns=["rho", "run_given"]).to_parquet(tables / "losses.parquet")
        simulate.pruned_models(rows).to_parquet(tables / "oneshot.parquet")
        manifest.write_manifest(
            tables, stage="tables", spec={"key": "t", "study": grid or {}}, inputs={},
            files=["losses.parquet", "oneshot.parquet"], results={}, started=time.time(),
        )  # fmt: skip
        spec = {"key": "l", "forms": forms, "bootstrap": 20}
        if "recipe" in rows:
            spec["recipe"] = rows["recipe"].iloc[0]
        table, law = tables / "losses.parquet", folder / "law"
        run_script("fit.py", table, "--spec", json.dumps(spec), "--out", law, "--processes", 2)
        return folder

    return write


CROSSED_GRID = {
    "posttrain": {
        "recipes": {
            "wsd": {"schedule": "cosine", "decay": 0.2},
            "read": {"schedule": "trajectory"},
        }
    },
    "families": {
        "first": {"models": {"first-m0": {"source": "pretrain", "tokens": 3e6}}},
        "second": {"models": {"second-m0": {"source": "pretrain", "tokens": 5e6}}},
    },
    "methods": {"blocks": {"prune": "depth"}, "angular": {"prune": "weights"}},
}
"""What the tables' manifest says of the crossed study's grid, as far as plans read it."""


@pytest.fixture(scope="session")
def crossed_study(tmp_path_factory, write_study) -> Path:
    """A results folder of two families, two recipes, two seeds and eleven methods, fitted once.

    The second family is the first with all losses times 1.3 (:func:`law_simulate.crossed`).
    """
    import law_simulate as simulate
    from p2law.laws.forms.registry import HEADLINE

    folder = tmp_path_factory.mktemp("crossed")
    return write_study(folder, simulate.crossed(), list(HEADLINE), CROSSED_GRID)


@pytest.fixture(scope="session")
def crossed_laws(crossed_study):
    """The crossed study's laws and the rows they rest on."""
    from p2law.laws.deciding.study_laws import Laws

    return Laws.read(crossed_study / "law", crossed_study / "tables" / "losses.parquet")


LLAMA_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@pytest.fixture(scope="session")
def write_gguf():
    """Callable: write a fp32 Llama and a byte-level BPE (tokenizer.json) as one GGUF file.

    Rows of q and k are permuted as llama.cpp's converter does: pairs of rotary channels side by
    side, where Hugging Face has the two halves of a head.
    """
    from gguf import GGUFWriter

    def write(path: Path, model, tokenizer: Path) -> None:
        config, writer = model.config, GGUFWriter(path, "llama")
        writer.add_block_count(config.num_hidden_layers)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_rope_dimension_count(config.head_dim)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_vocab_size(config.vocab_size)
        _add_tokenizer(writer, tokenizer)
        for name, tensor in model.state_dict().items():
            if name == "lm_head.weight" and config.tie_word_embeddings:
                continue
            heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
            for part, count in heads.items():
                if f"{part}.weight" in name:
                    halves = tensor.reshape(count, 2, -1, tensor.shape[1])
                    tensor = halves.swapaxes(1, 2).reshape(tensor.shape)
            writer.add_tensor(_gguf_name(name), tensor.numpy().copy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    return write


def _add_tokenizer(writer, file: Path) -> None:
    model = json.loads(file.read_text())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token == "<|endoftext|>" else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_eos_token_id(tokens.index("<|endoftext|>"))


def _gguf_name(name: str) -> str:
    outer = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
    }
    outer["lm_head.weight"] = "output.weight"
    if name in outer:
        return outer[name]
    _, _, block, rest = name.split(".", 3)
    return f"blk.{block}.{LLAMA_NAMES[rest.removesuffix('.weight')]}.weight"
