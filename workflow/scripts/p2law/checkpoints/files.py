"""What a checkpoint folder holds, checked without torch: names, safetensors headers, config."""

import json
import os
import struct
from pathlib import Path
from typing import Any

from p2law.errors import UserError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors format


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises :class:`UserError` naming the file if it is not one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds a JSON {type(value).__name__}, not an object")
    return value


def read_header(path: Path) -> dict[str, dict[str, Any]]:
    """Tensors of a safetensors file: ``{name: {dtype, shape, data_offsets}}``, no data read.

    Raises :class:`UserError` naming the file when its header is unreadable or its data is cut.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else MAX_HEADER + 1
        if length > min(MAX_HEADER, size - 8):
            raise UserError(f"{path}: corrupt safetensors file (its header is cut or damaged)")
        text = file.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise UserError(f"{path}: corrupt safetensors file (header: {error})") from None
    if size != 8 + length + end:
        raise UserError(
            f"{path}: corrupt safetensors file ({size} bytes where its header needs"
            f" {8 + length + end})"
        )
    return header


def check_safetensors(path: Path) -> None:
    """Raise :class:`UserError` naming the file when it is cut or its header is damaged."""
    read_header(Path(path))


def shards(folder: Path) -> list[str]:
    """The weight files of a checkpoint folder: one, or those that its index names."""
    if (folder / INDEX).exists():
        try:
            return sorted(set(read_json(folder / INDEX)["weight_map"].values()))
        except (KeyError, AttributeError):
            raise UserError(f"{folder / INDEX}: no weight_map") from None
    return [WEIGHTS]


def follow_umask(path: Path) -> None:
    """Give a file the mode that the user's umask grants new files.

    safetensors writes 0600 whatever the umask, which no colleague on a shared cluster can read:
    every file that it (or transformers through it) wrote goes through here.
    """
    umask = os.umask(0)
    os.umask(umask)
    Path(path).chmod(0o666 & ~umask)


def checkpoint_files(folder: Path) -> list[str]:
    """Names of config, index and weight files of a checkpoint folder, sorted."""
    named = [CONFIG, "generation_config.json", INDEX, *shards(folder)]
    return sorted(name for name in named if (folder / name).exists())


def check_folder(folder: Path) -> None:
    """Raise :class:`UserError` naming what keeps a folder from being a loadable checkpoint.

    Refused: no folder, no readable ``config.json`` with a ``model_type``, weights only as
    pickle, a missing shard, a cut or damaged safetensors file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a checkpoint")
    if "model_type" not in read_json(folder / CONFIG):
        raise UserError(f"{folder / CONFIG}: no model_type; not a Hugging Face model config")
    for name in shards(folder):
        if not (folder / name).exists():
            pickles = sorted(f.name for f in folder.iterdir() if f.suffix in PICKLES)
            if pickles:
                raise UserError(
                    f"{folder}: weights only as pickle ({pickles[0]}), which could run code;"
                    " convert them to safetensors first"
                )
            raise UserError(f"{folder / name}: no such file; the checkpoint is not whole")
        check_safetensors(folder / name)
