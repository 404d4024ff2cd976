"""Checkpoint folders in and out: verified on load, the same bytes for the same model on save.

safetensors and JSON only, no code from a checkpoint is ever run.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch

from p2law.checkpoints import files
from p2law.errors import UserError, writing
from p2law.results import manifest

MASKS = "masks.safetensors"


def load(
    folder: Path, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> torch.nn.Module:
    """Load a causal language model in eval mode, without a key-value cache.

    A folder with a manifest is checked against it first, byte by byte. Raises
    :class:`UserError`, naming the file, when one is missing, cut, changed or unreadable, and
    naming the weights when some are missing or of another shape (transformers alone would
    initialise them at random).
    """
    from transformers import AutoModelForCausalLM

    folder = Path(folder)
    if (folder / manifest.NAME).exists():
        manifest.verify_files(folder / manifest.NAME)
    files.check_folder(folder)
    quiet()
    try:
        # sdpa is transformers' default wherever the architecture has it; asking for it by name
        # would refuse the others (Mamba).
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (ValueError, OSError, KeyError) as error:
        raise UserError(f"{folder}: transformers cannot load this checkpoint: {error}") from error
    for fault in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        if report[fault]:
            names = ", ".join(sorted(str(name) for name in report[fault])[:4])
            raise UserError(
                f"{folder}: {len(report[fault])} weights are {fault.removesuffix('_keys')}"
                f" for the shape in config.json: {names}"
            )
    model.config.use_cache = False
    return model.to(device).eval()


def save(model: torch.nn.Module, folder: Path, shard: str = "5GB") -> list[str]:
    """Write ``config.json`` and ``model.safetensors`` (in shards above that size).

    Tied weights are stored once; equal models give equal bytes. Overwrites. Returns the names
    written, for the manifest, which the caller writes last.
    """
    folder = Path(folder)
    quiet()
    asked = model.config.use_cache
    model.config.use_cache = True  # for whoever generates with it; load() turns it off
    try:
        with writing(folder / "model.safetensors"):
            folder.mkdir(parents=True, exist_ok=True)
            model.save_pretrained(folder, max_shard_size=shard)
    finally:
        model.config.use_cache = asked
    names = files.checkpoint_files(folder)
    for name in names:
        files.follow_umask(folder / name)
        with writing(folder / name), (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    return names


def fresh(config: dict[str, Any], seed: int) -> torch.nn.Module:
    """An initialised fp32 model of a Hugging Face config (a dict with its ``model_type``).

    The same weights for the same seed, torch and transformers on every x86 machine with AVX2
    (torch's normal distribution is rounded differently without it). torch's global generator is
    left as it was. Raises :class:`UserError` when transformers refuses the shape.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModelForCausalLM

    refusals = (
        StrictDataclassError,
        ValueError,
        TypeError,
        KeyError,
        RuntimeError,
        ArithmeticError,
    )
    shape = dict(config)
    if "model_type" not in shape:
        raise UserError(f"config {json.dumps(config)}: model_type is missing, e.g. llama")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            made = AutoConfig.for_model(shape.pop("model_type"), **shape)
            _refuse_unknown(shape, made)
            model = AutoModelForCausalLM.from_config(made, dtype=torch.float32)
        except refusals as error:
            raise UserError(
                f"config {json.dumps(config)}: not a shape that transformers can build: {error}"
            ) from error
    model.config.use_cache = False
    return model.eval()


def load_masks(folder: Path) -> dict[str, torch.Tensor]:
    """Masks of a sparse variant, uint8 (1 = kept) by state-dict name; empty for a dense one."""
    file = Path(folder) / MASKS
    if not file.exists():
        return {}
    from safetensors.torch import load_file

    files.check_safetensors(file)
    return load_file(file)


def _refuse_unknown(shape: dict[str, Any], made: Any) -> None:
    """Refuse keys that the architecture does not read and head counts that cannot share keys."""
    known = {*type(made).__dataclass_fields__, *made.attribute_map, "rope_theta", "rope_scaling"}
    if unknown := sorted(set(shape) - known):
        raise UserError(f"{made.model_type} has no setting {', '.join(unknown)}")
    heads = getattr(made, "num_attention_heads", 1)
    groups = getattr(made, "num_key_value_heads", None) or heads
    if heads % groups:
        raise UserError(
            f"num_attention_heads {heads} is no multiple of num_key_value_heads {groups}"
        )


def quiet() -> None:
    """Progress bars of transformers would fill the stages' log files."""
    from transformers.utils import logging

    logging.disable_progress_bar()
