"""A model brought in one block at a time: embed, run a block, read the loss off the last state.

transformers' own modules are built without memory (on the meta device) and given their weights
only while they are used. The arguments a model hands its blocks (attention mask, rotary
embeddings) are recorded from its own forward pass, so no architecture is copied here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from p2law.architectures.architecture import Architecture, Axes, architecture_of
from p2law.errors import UserError
from p2law.pruning.store import Reader


class _Recorder(nn.Module):
    """Stands in for a block: passes the state on and keeps the arguments it came with."""

    def __init__(self) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {}

    def forward(self, hidden: torch.Tensor, **arguments: Any) -> torch.Tensor:
        self.arguments = arguments
        return hidden


class Blocks:
    """A checkpoint folder whose blocks are loaded, used and dropped one by one.

    ``len()`` is the number of blocks, ``arch`` the description, ``config`` the folder's config
    dict, ``prefix(i)`` what block i's tensors are called. Computes in fp32 on ``device``. Raises
    :class:`UserError` for an unknown architecture or tensors other than its config asks for.
    """

    def __init__(self, folder: Path, device: str | torch.device = "cpu") -> None:
        self.reader = Reader(folder)
        self.config = self.reader.config
        self.arch: Architecture = architecture_of(self.config)
        self.device = torch.device(device)
        self._check_tensors()
        self._model: nn.Module | None = None
        self._arguments: dict[int, list[dict[str, Any]]] = {}

    def __len__(self) -> int:
        return self.config["num_hidden_layers"]

    def prefix(self, i: int) -> str:
        """Start of the names of block i's tensors, dot included."""
        return f"{self.arch.blocks}.{i}."

    def names(self, i: int) -> list[str]:
        """State-dict names of block i's tensors, in the order of its description."""
        return [self.prefix(i) + name for name in self.arch.block_tensors(self.config)]

    def outer_names(self) -> list[str]:
        """State-dict names of the tensors outside the blocks; a tied head is not among them."""
        return list(self.arch.outer_tensors(self.config))

    def _check_tensors(self) -> None:
        sizes = self.arch.sizes(self.config)
        expected: dict[str, Axes] = {}
        block = self.arch.block_tensors(self.config)
        for i in range(len(self)):
            expected |= {self.prefix(i) + name: axes for name, axes in block.items()}
        expected |= self.arch.outer_tensors(self.config)
        allowed = {f"{self.arch.head}.weight"} if self.arch.tied(self.config) else set()
        found = self.reader.shapes
        if stray := sorted((set(expected) ^ set(found)) - allowed):
            state = "missing" if stray[0] in expected else "unexpected"
            raise UserError(
                f"{self.reader.folder}: tensor {stray[0]} is {state} for a"
                f" {self.arch.model_type} of this config.json"
            )
        for name, axes in expected.items():
            shape = tuple(sizes[axis] for axis in axes)
            if found[name] != shape:
                raise UserError(
                    f"{self.reader.folder}: {name} has shape {list(found[name])} where"
                    f" config.json asks for {list(shape)}"
                )

    @property
    def model(self) -> nn.Module:
        """The causal language model's modules, without memory; built at first use."""
        if self._model is None:
            from transformers import AutoConfig, AutoModelForCausalLM

            config = AutoConfig.for_model(**self.config)
            config.use_cache = False
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            self._model = model.eval().requires_grad_(False)
            rotary = getattr(model.base_model, "rotary_emb", None)
            if rotary is not None:
                model.base_model.rotary_emb = type(rotary)(config=config).to(self.device)
            self._blocks = model.base_model.layers
        return self._model

    def _fill(self, module: nn.Module, prefix: str, names: list[str]) -> None:
        weights = self.reader.read(names)
        state = {
            name.removeprefix(prefix): tensor.to(self.device, torch.float32)
            for name, tensor in weights.items()
        }
        module.load_state_dict(state, assign=True)
        module.requires_grad_(False)

    @contextmanager
    def block(self, i: int) -> Iterator[nn.Module]:
        """Block i with its weights in fp32; they are dropped on leaving."""
        _ = self.model
        block = self._blocks[i]
        self._fill(block, self.prefix(i), self.names(i))
        try:
            yield block
        finally:
            block.to("meta")

    @contextmanager
    def _outer(self, module_name: str, stored: str | None = None) -> Iterator[nn.Module]:
        module = self.model.get_submodule(module_name)
        self._fill(module, f"{stored or module_name}.", [f"{stored or module_name}.weight"])
        try:
            yield module
        finally:
            module.to("meta")

    @torch.no_grad()
    def embed(self, batches: list[torch.Tensor]) -> Iterator[torch.Tensor]:
        """First hidden states fp32 ``[b, T, hidden]`` of each batch of token ids ``[b, T]``."""
        base: Any = self.model.base_model
        recorders = [_Recorder() for _ in range(len(self))]
        norm_name = self.arch.final_norm.rsplit(".", 1)[-1]
        norm = getattr(base, norm_name)
        with self._outer(self.arch.embedding):
            base.layers = nn.ModuleList(recorders)
            setattr(base, norm_name, nn.Identity())
            try:
                for tokens in batches:
                    hidden = base(input_ids=tokens.to(self.device), use_cache=False)
                    self._arguments[len(tokens)] = [recorder.arguments for recorder in recorders]
                    yield hidden.last_hidden_state
            finally:
                base.layers = self._blocks
                setattr(base, norm_name, norm)

    def run(self, block: nn.Module, i: int, hidden: torch.Tensor) -> torch.Tensor:
        """Output ``[b, T, hidden]`` of block i for its input, with the recorded arguments."""
        output = block(hidden, **self._arguments[len(hidden)][i])
        return output[0] if isinstance(output, tuple) else output

    @contextmanager
    def tail(self) -> Iterator[nn.Sequential]:
        """Final norm and head as one module from last hidden state to logits."""
        stored = self.arch.embedding if self.arch.tied(self.config) else None
        with self._outer(self.arch.final_norm) as norm, self._outer(self.arch.head, stored) as head:
            yield nn.Sequential(norm, head)
