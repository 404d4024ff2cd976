"""llm-compressor's half of prune_llmcompressor.py; run by it, with the Python of its environment.

``model``: prune a checkpoint in one shot and save it. ``layers``: prune single layers by its own
functions, from the inputs and weights of a safetensors file. Both print one JSON line.
"""

import argparse
import json
import time

import torch
from llmcompressor import oneshot
from llmcompressor.modifiers.pruning import SparseGPTModifier, WandaPruningModifier
from llmcompressor.modifiers.pruning.sparsegpt import sgpt_sparsify
from llmcompressor.modifiers.pruning.wanda import wanda_sparsify
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

MODIFIERS = {"sparsegpt": SparseGPTModifier, "wanda": WandaPruningModifier}


def prune_model(given: argparse.Namespace) -> dict:
    """Wall and CPU seconds of ``oneshot`` alone, without loading before and saving after it."""
    model = AutoModelForCausalLM.from_pretrained(given.base, dtype=getattr(torch, given.dtype))
    tokens = load_file(given.inputs)["tokens"]
    batches = torch.utils.data.DataLoader(
        [{"input_ids": row} for row in tokens], batch_size=given.batch
    )
    recipe = MODIFIERS[given.method](
        sparsity=0.5,
        mask_structure=given.pattern if ":" in given.pattern else "0:0",
        targets=["Linear"],
        ignore=["re:.*lm_head"],
    )
    started = time.perf_counter(), time.process_time()
    oneshot(
        model=model,
        tokenizer=AutoTokenizer.from_pretrained(given.base),
        dataset=batches,
        recipe=recipe,
        num_calibration_samples=len(tokens),
    )
    wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
    state = {k: v.contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    save_file(state, given.out, metadata={"format": "pt"})
    return {"wall": wall, "cpu": cpu}


def prune_layers(given: argparse.Namespace) -> dict:
    """New weights of every layer of the file, from its own inputs; CPU seconds for them all."""
    read, out = load_file(given.inputs), {}
    n, m = map(int, given.pattern.split(":")) if ":" in given.pattern else (0, 0)
    started = time.process_time()
    for name in [key.removesuffix(".W") for key in read if key.endswith(".W")]:
        module = torch.nn.Linear(*read[f"{name}.W"].shape[::-1], bias=False)
        module.weight.data = read[f"{name}.W"].clone()
        X = read[f"{name}.X"][None]
        if given.method == "sparsegpt":
            empty = sgpt_sparsify.make_empty_hessian(module)
            H, _ = sgpt_sparsify.accumulate_hessian(X, module, empty, 0)
            _, V = sgpt_sparsify.sparsify_weight(module, {module: H}, 0.5, n, m, 128, 0.01, False)
        else:
            empty = wanda_sparsify.make_empty_row_scalars(module)
            S, _ = wanda_sparsify.accumulate_row_scalars(X, module, empty, 0)
            V = wanda_sparsify.sparsify_weight(module, {module: S}, 0.5, n, m)
        out[name] = V.detach()
    cpu = time.process_time() - started
    save_file(out, given.out)
    return {"cpu": cpu}


def main() -> None:
    """Prune, print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["model", "layers"])
    parser.add_argument("--method", choices=list(MODIFIERS), required=True)
    parser.add_argument("--pattern", required=True, help="n:m or unstructured (50 %%)")
    parser.add_argument("--inputs", required=True, help="safetensors: tokens, or NAME.X and NAME.W")
    parser.add_argument("--out", required=True, help="safetensors file of the new weights")
    parser.add_argument("--base", help="checkpoint folder")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    with torch.no_grad():
        answer = prune_model(given) if given.what == "model" else prune_layers(given)
    print("\n" + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
