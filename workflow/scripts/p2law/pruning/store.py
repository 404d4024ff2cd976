"""Weights in and out, shard by shard: never more than a block and one shard in memory."""

import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open

from p2law.checkpoints import files
from p2law.errors import UserError

SHARD_BYTES = 2**30
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "U8": torch.uint8,
}
Plan = Mapping[str, tuple[str, tuple[int, ...]]]
SKIPPED = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached")


def finite(tensor: torch.Tensor) -> bool:
    """Whether no value is NaN or infinite; 30 times faster than ``isfinite().all()``."""
    low, high = tensor.aminmax()  # both are NaN where any value is
    return bool(low.isfinite() & high.isfinite())


def stored_as(weights: torch.Tensor, dtype: str, where: str) -> torch.Tensor:
    """New weights in the dtype of a checkpoint, such as "F16".

    Raises :class:`UserError` naming the layer ``where`` if they have left the range of that dtype,
    or are not finite at all.
    """
    cast = weights.to(DTYPES[dtype])
    if finite(cast):
        return cast
    if not finite(weights):
        raise UserError(f"{where}: its new weights are NaN or infinite (base and text are finite)")
    raise UserError(
        f"{where}: its new weights reach {float(weights.abs().max()):,.0f}, above"
        f" {torch.finfo(cast.dtype).max:,.0f}, the largest number of {dtype}, in which the base is"
        " stored; use a base in bfloat16 or float32, or keep the kept weights as they are"
    )


class Reader:
    """The tensors of a checkpoint folder by state-dict name.

    ``names`` lists them in file order; derived buffers that old checkpoints carry are left out.
    Raises :class:`UserError` naming the file when one is missing, cut or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        files.check_folder(self.folder)
        self.config = files.read_json(self.folder / files.CONFIG)
        self._file: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        for shard in files.shards(self.folder):
            for name, tensor in files.read_header(self.folder / shard).items():
                if not name.endswith(SKIPPED):
                    self._file[name] = shard
                    self.shapes[name] = tuple(tensor["shape"])
                    self.dtypes[name] = tensor["dtype"]
                    if tensor["dtype"] not in ("F64", "F32", "F16", "BF16"):
                        raise UserError(
                            f"{self.folder / shard}: {name} is stored as {tensor['dtype']};"
                            " quantised weights cannot be pruned, only F64, F32, F16, BF16"
                        )

    @property
    def names(self) -> list[str]:
        """Every tensor's name."""
        return list(self._file)

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """Tensors as stored, on the CPU.

        Raises :class:`UserError` naming the tensor when it holds NaN or infinite values.
        """
        by_shard: dict[str, list[str]] = {}
        for name in names:
            by_shard.setdefault(self._file[name], []).append(name)
        tensors: dict[str, torch.Tensor] = {}
        for shard, wanted in by_shard.items():
            path = self.folder / shard
            try:
                with safe_open(path, framework="pt") as file:
                    tensors |= {name: file.get_tensor(name) for name in wanted}
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path}: cannot be read ({error})") from error
        for name, tensor in tensors.items():
            if not finite(tensor):
                raise UserError(f"{self.folder}: {name} holds NaN or infinite weights")
        return tensors


class Writer:
    """Write safetensors in a planned order, straight to disk: nothing is held back.

    ``plan`` maps each name to (safetensors dtype, shape), in the order in which :meth:`add` is
    called. A shard ends before it would pass ``shard_bytes``; one shard is ``<stem>.safetensors``,
    several are numbered and get an index. Raises :class:`UserError` when the disk refuses.
    """

    def __init__(
        self, folder: Path, plan: Plan, stem: str = "model", shard_bytes: float = SHARD_BYTES
    ) -> None:
        self.folder, self.plan, self._stem = Path(folder), plan, stem
        self._shards: list[list[str]] = [[]]
        held = 0
        for name in plan:
            size = _bytes(plan[name])
            if held and held + size > shard_bytes:
                self._shards.append([])
                held = 0
            self._shards[-1].append(name)
            held += size
        self.files = [self._file_name(i) for i in range(len(self._shards))]
        self._waiting = [(i, name) for i, names in enumerate(self._shards) for name in names]
        self._waiting.reverse()
        self._open: BinaryIO | None = None
        self._at = -1

    @property
    def parameters(self) -> int:
        """Elements in all planned tensors."""
        return sum(math.prod(shape) for _, shape in self.plan.values())

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Append the next planned tensor."""
        shard, planned = self._waiting.pop()
        dtype, shape = self.plan[name]
        if name != planned or tuple(tensor.shape) != shape or tensor.dtype != DTYPES[dtype]:
            raise AssertionError(f"planned {planned} {self.plan[planned]}, was given {name}")
        data = tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data
        with _disk(self.folder / self.files[shard]):
            if shard != self._at:
                self._next(shard)
            assert self._open is not None
            self._open.write(data)

    def close(self) -> list[str]:
        """End the last shard and return the names of the files written."""
        assert not self._waiting, f"never added: {self._waiting[-1][1]}"
        with _disk(self.folder / self.files[-1]):
            if self._open is not None:
                self._open.close()
        if len(self.files) == 1:
            return list(self.files)
        weight_map = {n: self.files[i] for i, names in enumerate(self._shards) for n in names}
        total = sum(_bytes(entry) for entry in self.plan.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        name = f"{self._stem}.safetensors.index.json"
        write_json(self.folder / name, index)
        return [name, *self.files]

    def _file_name(self, i: int) -> str:
        n = len(self._shards)
        numbered = f"{self._stem}-{i + 1:05d}-of-{n:05d}.safetensors"
        return numbered if n > 1 else f"{self._stem}.safetensors"

    def _next(self, shard: int) -> None:
        if self._open is not None:
            self._open.close()
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        begin = 0
        for name in self._shards[shard]:
            dtype, shape = self.plan[name]
            end = begin + _bytes(self.plan[name])
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
            begin = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        # Open until close(): one shard after another, never two at once.
        self._open = (self.folder / self.files[shard]).open("wb")
        self._open.write(struct.pack("<Q", len(text)) + text)
        self._at = shard


def _bytes(entry: tuple[str, tuple[int, ...]]) -> int:
    return DTYPES[entry[0]].itemsize * math.prod(entry[1])


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error}); is the disk full?") from error


def write_json(path: Path, value: dict[str, Any]) -> None:
    """One JSON file of a checkpoint. Raises :class:`UserError` when the disk refuses."""
    with _disk(path):
        path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
