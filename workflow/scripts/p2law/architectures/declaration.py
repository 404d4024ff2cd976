"""What is told of an architecture: one :class:`Architecture` a ``model_type``, nothing elsewhere.

Every tensor is declared once with the symbolic name of each of its axes: ``hidden`` (residual
stream), ``ffn`` (FFN neurons), ``q`` (query heads x head_dim), ``kv`` (key-value heads x head_dim),
``head`` (head_dim), ``vocab``, and an architecture's own. Counting, slicing, pruning, training,
reading configs and GGUF headers follow from it. Imports no torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Axes = tuple[str, ...]
Config = Mapping[str, Any]
"""A Hugging Face config's keys."""


@dataclass(frozen=True)
class Settings:
    """Keys that a study may write into the config of a model that it trains itself.

    sizes     whole numbers of at least 1 (those in ``nullable`` may be null, as in transformers)
    flags     true or false
    others    what transformers alone checks
    required  what a study must say: transformers' defaults are those of billions of weights
    """

    sizes: frozenset[str]
    flags: frozenset[str]
    others: frozenset[str]
    required: tuple[str, ...]
    nullable: frozenset[str] = frozenset({"head_dim", "num_key_value_heads"})

    @property
    def known(self) -> frozenset[str]:
        """Every key, ``model_type`` apart."""
        return self.sizes | self.flags | self.others


@dataclass(frozen=True)
class Gguf:
    """How GGUF headers name an architecture, and keys that only its headers are asked for."""

    name: str
    keys: Mapping[str, str] = field(default_factory=dict)
    """GGUF key behind the name -> config key, used where the header has it."""


@dataclass(frozen=True)
class Architecture:
    """One ``model_type``.

    model_class  transformers' class, as ``config.json`` names it
    embedding, blocks, final_norm, head
                 where they sit in the model; ``blocks`` is the list of decoder layers
    block        names within one block -> axes
    sizes_of     lengths of the symbolic axes for a config that ``defaults`` have completed
    activations  numbers of a token that a block in training keeps until the backward pass, by the
                 axes' lengths
    inputs       the block's prunable linear layers, grouped by the input they share
    fed_by       a layer that transformers never calls (it multiplies by its weight) -> the layer
                 whose first outputs are its input
    settings     config keys that a study may write
    optional     further tensors of a block -> (axes, the config flag that switches them on)
    parts        what the counts call a block's modules; all others are its norms
    defaults     the config class's values where a config leaves a key out
    context      the config key that holds the longest sequence; None where there is none
    undecayed    weights of a block that weight decay leaves alone although they are matrices
    chunked_head the logits are the last hidden state times the head and nothing else, so that
                 training may compute them in chunks
    gguf         how GGUF files name it; None where they are not read
    uneven       the ``model_type`` of the same tensors that takes a hidden size which the heads do
                 not divide; None where this one does
    """

    model_type: str
    model_class: str
    embedding: str
    blocks: str
    final_norm: str
    block: Mapping[str, Axes]
    sizes_of: Callable[[Config], dict[str, int]]
    activations: Callable[[Mapping[str, int]], float]
    inputs: tuple[tuple[str, ...], ...]
    settings: Settings
    fed_by: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, tuple[Axes, str]] = field(default_factory=dict)
    parts: Mapping[str, str] = field(
        default_factory=lambda: {"self_attn": "attention", "mlp": "ffn", "mixer": "mixer"}
    )
    defaults: Mapping[str, Any] = field(default_factory=dict)
    head: str = "lm_head"
    context: str | None = None
    undecayed: tuple[str, ...] = ()
    chunked_head: bool = False
    gguf: Gguf | None = None
    uneven: str | None = None

    @property
    def structured(self) -> bool:
        """Whether width pruning knows its dimensions: FFN neurons and attention heads."""
        return {"ffn", "q", "kv"} <= {axis for axes in self.block.values() for axis in axes}

    def sizes(self, config: Config) -> dict[str, int]:
        """Length of every symbolic axis for a config."""
        return self.sizes_of({**self.defaults, **config})

    def block_tensors(self, config: Config) -> dict[str, Axes]:
        """Axes of every tensor of one block, optional ones that the config switches on included."""
        switched = {
            name: axes
            for name, (axes, flag) in self.optional.items()
            if config.get(flag, self.defaults.get(flag, False))
        }
        return {**self.block, **switched}

    def outer_tensors(self, config: Config) -> dict[str, Axes]:
        """Axes of the tensors outside the blocks; an untied head is listed, a tied one is not."""
        tensors: dict[str, Axes] = {
            f"{self.embedding}.weight": ("vocab", "hidden"),
            f"{self.final_norm}.weight": ("hidden",),
        }
        if not self.tied(config):
            tensors[f"{self.head}.weight"] = ("vocab", "hidden")
        return tensors

    def tied(self, config: Config) -> bool:
        """Whether the head is the embedding's own matrix."""
        return bool(config.get("tie_word_embeddings", self.defaults["tie_word_embeddings"]))

    def linear_weights(self) -> list[str]:
        """Names within a block of the weights that one-shot weight pruning may zero."""
        return [f"{name}.weight" for group in self.inputs for name in group]

    def divisible(self, config: Config, m: int) -> tuple[tuple[str, ...], ...]:
        """Of ``inputs`` the groups of layers whose inputs fall into whole groups of ``m``."""
        sizes, block = self.sizes(config), self.block_tensors(config)
        return tuple(g for g in self.inputs if sizes[block[f"{g[0]}.weight"][1]] % m == 0)

    def fresh(self, vocabulary: int, rows: int) -> dict[str, int]:
        """Config keys that follow from a corpus: its vocabulary and, where there is one, context.

        ``rows`` is the length of its packed rows, tokens.
        """
        return {"vocab_size": vocabulary, **({self.context: rows} if self.context else {})}

    def decays(self, name: str, dimensions: int) -> bool:
        """Whether weight decay acts on a parameter of this name with so many axes.

        Matrices decay, embeddings and a tied head among them; vectors (norms, biases) and what the
        architecture exempts do not.
        """
        return dimensions >= 2 and not name.endswith(tuple(f".{own}" for own in self.undecayed))
