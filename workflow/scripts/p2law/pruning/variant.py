"""Writing a variant: the base's tensors in a new shape, streamed from one checkpoint to another."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import torch

from p2law.architectures.architecture import Axes
from p2law.checkpoints.files import CONFIG
from p2law.pruning.blocks import Blocks
from p2law.pruning.store import DTYPES, Writer, write_json

Index = Mapping[str, torch.Tensor]


class Variant:
    """A new checkpoint folder built in order: embedding, blocks, final norm and head.

    ``config`` is the new config dict, ``kept`` the base's blocks that stay. Tensors keep the
    base's dtypes. A config equal to the base's is copied as it is.
    """

    def __init__(
        self, base: Blocks, folder: Path, config: Mapping[str, Any], kept: Sequence[int]
    ) -> None:
        self.base, self.folder, self.config, self.kept = base, Path(folder), config, list(kept)
        sizes = base.arch.sizes(config)
        dtypes, block = base.reader.dtypes, base.arch.block_tensors(base.config)
        outer = base.arch.outer_tensors(base.config)
        first, *last = outer.items()
        named: list[tuple[str, str, Axes]] = [(first[0], first[0], first[1])]
        for new, old in enumerate(self.kept):
            named += [(base.prefix(new) + n, base.prefix(old) + n, a) for n, a in block.items()]
        named += [(name, name, axes) for name, axes in last]
        plan = {new: (dtypes[old], tuple(sizes[axis] for axis in axes)) for new, old, axes in named}
        self.writer = Writer(self.folder, plan)
        self._first, self._last = first[0], [name for name, _ in last]

    def outer_first(self, index: Index | None = None) -> None:
        """Write the embedding, sliced by ``index`` (axis name -> kept indices)."""
        self._outer([self._first], index)

    def outer_last(self, index: Index | None = None) -> None:
        """Write the final norm and an untied head, sliced."""
        self._outer(self._last, index)

    def _outer(self, names: list[str], index: Index | None) -> None:
        axes = self.base.arch.outer_tensors(self.base.config)
        for name in names:
            tensor = self.base.reader.read([name])[name]
            self.writer.add(name, sliced(tensor, axes[name], index or {}))

    def block(self, new: int, index: Index | None = None, weights: Index | None = None) -> None:
        """Write the base's block ``kept[new]``: sliced, with ``weights`` (by name in the block)
        in place of the stored ones, cast to the stored dtype."""
        old, weights, reader = self.base.prefix(self.kept[new]), weights or {}, self.base.reader
        named = self.base.arch.block_tensors(self.base.config)
        stored = reader.read(old + name for name in named if name not in weights)
        for name, axes in named.items():
            if name in weights:
                tensor = weights[name].to(DTYPES[reader.dtypes[old + name]])
            else:
                tensor = stored[old + name]
            self.writer.add(self.base.prefix(new) + name, sliced(tensor, axes, index or {}))

    def write(
        self,
        outside: Index | None = None,
        inside: Sequence[Index] | None = None,
        weights: Iterable[Index] | None = None,
    ) -> "Variant":
        """Write everything in order; of each kept block what stays along each axis, ``inside``,
        and the tensors that change, ``weights``. Returns itself."""
        self.outer_first(outside)
        indices = repeat(outside) if inside is None else inside
        changes: Iterable[Index] = repeat({}) if weights is None else weights
        for new, index, changed in zip(range(len(self.kept)), indices, changes, strict=False):
            self.block(new, index, changed)
        self.outer_last(outside)
        return self

    def close(self) -> list[str]:
        """Write config.json; return the names of all files written."""
        files = self.writer.close()
        write_json(self.folder / CONFIG, dict(self.config))
        return [CONFIG, *files]


def sliced(tensor: torch.Tensor, axes: Axes, index: Index) -> torch.Tensor:
    """The tensor with only the entries that ``index`` keeps along each axis it names."""
    for dim, axis in enumerate(axes):
        if axis in index:
            tensor = tensor.index_select(dim, index[axis])
    return tensor
