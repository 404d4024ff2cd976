"""Calibration: which windows are read, their hash, and the hidden states they leave behind."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from p2law.corpus.packed import Packed, order
from p2law.errors import UserError
from p2law.pruning.blocks import Blocks
from p2law.pruning.store import finite

BATCH_TOKENS = 4096
DEFAULT_GIB = 8.0


@dataclass(frozen=True)
class Calibration:
    """Token windows and their targets, both int64 ``[windows, T]``, and the inputs' sha256."""

    tokens: torch.Tensor
    targets: torch.Tensor
    sha256: str

    def batches(self) -> list[slice]:
        """Windows per forward pass, about ``BATCH_TOKENS`` tokens each; never a setting."""
        size = max(1, BATCH_TOKENS // self.tokens.shape[1])
        return [slice(i, i + size) for i in range(0, len(self.tokens), size)]


def read_windows(corpus: Path, windows: int, seed: int, vocabulary: int) -> Calibration:
    """The first ``windows`` calibration rows of a corpus in the order of ``seed``.

    Raises :class:`UserError` when there are fewer rows, or a token the model does not know.
    """
    packed = Packed(corpus)
    rows = packed.rows("calibration")
    if rows < windows:
        raise UserError(
            f"calibration windows: {windows} asked, but {corpus} holds {rows} calibration rows of"
            f" {packed.sequence_length} tokens"
        )
    read = packed.read("calibration", order(rows, seed)[:windows])
    if read.max() >= vocabulary:
        raise UserError(
            f"{corpus}: calibration token {read.max()} is outside the model's vocabulary of"
            f" {vocabulary}; the corpus has another tokenizer"
        )
    inputs = np.ascontiguousarray(read[:, :-1])
    digest = hashlib.sha256(inputs.astype("<i8").tobytes()).hexdigest()
    return Calibration(torch.from_numpy(inputs), torch.from_numpy(read[:, 1:].copy()), digest)


class States:
    """Hidden states ``[b, T, hidden]`` of every batch: fp32 in memory, or bf16 in a file.

    They spill to an unnamed file in ``folder`` when ``copies`` sets of them in fp32 would exceed
    ``memory_gib``. Where they lie is a function of the spec alone, since bf16 rounds.
    """

    def __init__(
        self, calibration: Calibration, hidden: int, folder: Path, memory_gib: float, copies: int
    ) -> None:
        self._batches = calibration.batches()
        windows, length = calibration.tokens.shape
        self._row = length * hidden
        self._shapes = [(min(b.stop, windows) - b.start, length, hidden) for b in self._batches]
        spill = copies * windows * self._row * 4 > memory_gib * 2**30
        self._file = tempfile.TemporaryFile(dir=folder) if spill else None  # noqa: SIM115 - ours
        self._held: list[torch.Tensor | None] = [None] * len(self._batches)

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, i: int) -> torch.Tensor:
        """States of batch i on the CPU, fp32."""
        if self._file is None:
            held = self._held[i]
            assert held is not None
            return held
        shape = self._shapes[i]
        raw = bytearray(2 * shape[0] * self._row)
        self._file.seek(2 * self._batches[i].start * self._row)
        self._file.readinto(raw)
        return torch.frombuffer(raw, dtype=torch.bfloat16).reshape(shape).float()

    def __setitem__(self, i: int, states: torch.Tensor) -> None:
        if self._file is None:
            self._held[i] = states.cpu()
            return
        self._file.seek(2 * self._batches[i].start * self._row)
        try:
            self._file.write(states.cpu().bfloat16().contiguous().view(torch.uint8).numpy().data)
            self._file.flush()
        except OSError as error:
            raise UserError(f"calibration states cannot be spilled to disk ({error})") from error


@dataclass(frozen=True)
class Source:
    """What every method measures on: a model in blocks, windows, and where states may spill."""

    blocks: Blocks
    calibration: Calibration
    scratch: Path
    memory_gib: float = DEFAULT_GIB

    def states(self, copies: int = 1) -> States:
        """Room for the hidden states of all windows at one place in the model."""
        hidden = self.blocks.config["hidden_size"]
        return States(self.calibration, hidden, self.scratch, self.memory_gib, copies)

    def targets(self, batch: int) -> torch.Tensor:
        """Target tokens ``[b, T]`` of a batch, on the model's device."""
        wanted = self.calibration.targets[self.calibration.batches()[batch]]
        return wanted.to(self.blocks.device)

    def embedded(self, copies: int = 1) -> States:
        """The windows' first hidden states."""
        states = self.states(copies)
        slices = self.calibration.batches()
        batches = [self.calibration.tokens[s] for s in slices]
        for i, hidden in enumerate(self.blocks.embed(batches)):
            states[i] = hidden
        return states

    @torch.no_grad()
    def through(
        self,
        block: torch.nn.Module,
        i: int,
        states: States,
        out: States | None,
        see: Callable[[int, torch.Tensor, torch.Tensor], None] | None = None,
    ) -> None:
        """Run all batches through block i; keep outputs in ``out``, show both to ``see``.

        Raises :class:`UserError` naming the block when an output is NaN or infinite.
        """
        for b in range(len(states)):
            hidden = states[b].to(self.blocks.device)
            output = self.blocks.run(block, i, hidden)
            if not finite(output):
                raise UserError(
                    f"{self.blocks.reader.folder}: block {i} gives NaN or infinite activations on"
                    " the calibration windows"
                )
            if see is not None:
                see(b, hidden, output)
            if out is not None:
                out[b] = output

    def walk(
        self, see: Callable[[int, int, torch.Tensor, torch.Tensor], None]
    ) -> Iterator[torch.nn.Module]:
        """Run the unpruned model once; yields each block, loaded, before it runs.

        ``see(block, batch, input, output)`` is shown every state.
        """
        states = self.embedded()
        for i in range(len(self.blocks)):
            with self.blocks.block(i) as block:
                yield block
                self.through(block, i, states, states, partial(see, i))
