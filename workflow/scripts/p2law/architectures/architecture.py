"""Where the parts of a model sit: one table drives counting, slicing and pruning. No torch.

Every tensor of an architecture is declared once with the symbolic name of each of its axes:
``hidden`` (residual stream), ``ffn`` (FFN neurons), ``q`` (query heads x head_dim), ``kv``
(key-value heads x head_dim), ``head`` (head_dim), ``vocab``, and Mamba's own. Adding an
architecture is one declaration; an unknown one is refused by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from p2law.errors import UserError

Axes = tuple[str, ...]


@dataclass(frozen=True)
class Architecture:
    """One ``model_type``: names of tensors, their axes, and which linear layers share an input.

    ``block`` maps the names within one block to axes; ``optional`` maps further ones to the config
    flag that switches them on. ``inputs`` groups the block's prunable linear layers by the input
    they share. ``fed_by`` maps a layer that transformers never calls (it multiplies by its weight)
    to the layer whose first outputs are its input. ``defaults`` are the config class's values where
    a config leaves a key out.
    """

    model_type: str
    model_class: str
    embedding: str
    blocks: str
    final_norm: str
    block: Mapping[str, Axes]
    inputs: tuple[tuple[str, ...], ...]
    fed_by: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, tuple[Axes, str]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    structured: bool = True
    head: str = "lm_head"

    def sizes(self, config: Mapping[str, Any]) -> dict[str, int]:
        """Length of every symbolic axis for a config."""
        config = {**self.defaults, **config}
        if not self.structured:
            return _mamba_sizes(config)
        heads = config["num_attention_heads"]
        groups = config.get("num_key_value_heads") or heads
        head = config.get("head_dim") or config["hidden_size"] // heads
        return {
            "hidden": config["hidden_size"],
            "ffn": config["intermediate_size"],
            "q": heads * head,
            "kv": groups * head,
            "head": head,
            "vocab": config["vocab_size"],
        }

    def block_tensors(self, config: Mapping[str, Any]) -> dict[str, Axes]:
        """Axes of every tensor of one block, optional ones that the config switches on included."""
        switched = {
            name: axes
            for name, (axes, flag) in self.optional.items()
            if config.get(flag, self.defaults.get(flag, False))
        }
        return {**self.block, **switched}

    def outer_tensors(self, config: Mapping[str, Any]) -> dict[str, Axes]:
        """Axes of the tensors outside the blocks; an untied head is listed, a tied one is not."""
        tensors: dict[str, Axes] = {
            f"{self.embedding}.weight": ("vocab", "hidden"),
            f"{self.final_norm}.weight": ("hidden",),
        }
        if not self.tied(config):
            tensors[f"{self.head}.weight"] = ("vocab", "hidden")
        return tensors

    def tied(self, config: Mapping[str, Any]) -> bool:
        """Whether the head is the embedding's own matrix."""
        return bool(config.get("tie_word_embeddings", self.defaults["tie_word_embeddings"]))

    def linear_weights(self) -> list[str]:
        """Names within a block of the weights that one-shot weight pruning may zero."""
        return [f"{name}.weight" for group in self.inputs for name in group]

    def divisible(self, config: Mapping[str, Any], m: int) -> tuple[tuple[str, ...], ...]:
        """Of ``inputs`` the groups of layers whose inputs fall into whole groups of ``m``."""
        sizes, block = self.sizes(config), self.block_tensors(config)
        return tuple(g for g in self.inputs if sizes[block[f"{g[0]}.weight"][1]] % m == 0)


def _mamba_sizes(config: Mapping[str, Any]) -> dict[str, int]:
    hidden, state = config["hidden_size"], config["state_size"]
    inner = int(config.get("intermediate_size") or config["expand"] * hidden)
    rank = config["time_step_rank"]
    rank = -(-hidden // 16) if rank == "auto" else int(rank)
    return {
        "hidden": hidden,
        "inner": inner,
        "inner2": 2 * inner,
        "state": state,
        "rank": rank,
        "rank_state2": rank + 2 * state,
        "kernel": config["conv_kernel"],
        "one": 1,
        "vocab": config["vocab_size"],
    }


_ATTENTION: dict[str, Axes] = {
    "self_attn.q_proj.weight": ("q", "hidden"),
    "self_attn.k_proj.weight": ("kv", "hidden"),
    "self_attn.v_proj.weight": ("kv", "hidden"),
    "self_attn.o_proj.weight": ("hidden", "q"),
}
_FFN: dict[str, Axes] = {
    "mlp.gate_proj.weight": ("ffn", "hidden"),
    "mlp.up_proj.weight": ("ffn", "hidden"),
    "mlp.down_proj.weight": ("hidden", "ffn"),
}
_PRE_NORMS: dict[str, Axes] = {
    "input_layernorm.weight": ("hidden",),
    "post_attention_layernorm.weight": ("hidden",),
}
_QKV_BIAS: dict[str, Axes] = {
    "self_attn.q_proj.bias": ("q",),
    "self_attn.k_proj.bias": ("kv",),
    "self_attn.v_proj.bias": ("kv",),
}
_ATTENTION_BIAS: dict[str, Axes] = {**_QKV_BIAS, "self_attn.o_proj.bias": ("hidden",)}
_FFN_BIAS: dict[str, Axes] = {
    "mlp.gate_proj.bias": ("ffn",),
    "mlp.up_proj.bias": ("ffn",),
    "mlp.down_proj.bias": ("hidden",),
}
_DECODER_INPUTS = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)


def _flag(tensors: Mapping[str, Axes], flag: str) -> dict[str, tuple[Axes, str]]:
    return {name: (axes, flag) for name, axes in tensors.items()}


def _decoder(
    model_type: str, model_class: str, block: Mapping[str, Axes], **changes: Any
) -> Architecture:
    """A Llama-like decoder: attention and gated FFN around ``block``'s further tensors."""
    defaults = {"tie_word_embeddings": False, **changes.pop("defaults", {})}
    return Architecture(
        model_type,
        model_class,
        embedding="model.embed_tokens",
        blocks="model.layers",
        final_norm="model.norm",
        block={**_ATTENTION, **_FFN, **block},
        inputs=_DECODER_INPUTS,
        defaults=defaults,
        **changes,
    )


ARCHITECTURES = {
    architecture.model_type: architecture
    for architecture in (
        _decoder(
            "llama",
            "LlamaForCausalLM",
            _PRE_NORMS,
            optional=_flag(_ATTENTION_BIAS, "attention_bias") | _flag(_FFN_BIAS, "mlp_bias"),
        ),
        _decoder("mistral", "MistralForCausalLM", _PRE_NORMS, defaults={"num_key_value_heads": 8}),
        _decoder("qwen2", "Qwen2ForCausalLM", {**_PRE_NORMS, **_QKV_BIAS}),
        _decoder(
            "qwen3",
            "Qwen3ForCausalLM",
            {
                **_PRE_NORMS,
                "self_attn.q_norm.weight": ("head",),
                "self_attn.k_norm.weight": ("head",),
            },
            optional=_flag(_ATTENTION_BIAS, "attention_bias"),
            defaults={"head_dim": 128},
        ),
        _decoder(
            "olmo2",
            "Olmo2ForCausalLM",
            {
                "post_attention_layernorm.weight": ("hidden",),
                "post_feedforward_layernorm.weight": ("hidden",),
                "self_attn.q_norm.weight": ("q",),
                "self_attn.k_norm.weight": ("kv",),
            },
            optional=_flag(_ATTENTION_BIAS, "attention_bias"),
        ),
        Architecture(
            "mamba",
            "MambaForCausalLM",
            embedding="backbone.embeddings",
            blocks="backbone.layers",
            final_norm="backbone.norm_f",
            block={
                "norm.weight": ("hidden",),
                "mixer.in_proj.weight": ("inner2", "hidden"),
                "mixer.conv1d.weight": ("inner", "one", "kernel"),
                "mixer.x_proj.weight": ("rank_state2", "inner"),
                "mixer.dt_proj.weight": ("inner", "rank"),
                "mixer.dt_proj.bias": ("inner",),
                "mixer.A_log": ("inner", "state"),
                "mixer.D": ("inner",),
                "mixer.out_proj.weight": ("hidden", "inner"),
            },
            inputs=(("mixer.in_proj",), ("mixer.x_proj",), ("mixer.dt_proj",), ("mixer.out_proj",)),
            fed_by={"mixer.dt_proj": "mixer.x_proj"},
            optional={
                "mixer.conv1d.bias": (("inner",), "use_conv_bias"),
                "mixer.in_proj.bias": (("inner2",), "use_bias"),
                "mixer.out_proj.bias": (("hidden",), "use_bias"),
            },
            defaults={
                "tie_word_embeddings": True,
                "use_conv_bias": True,
                "use_bias": False,
                "state_size": 16,
                "expand": 2,
                "conv_kernel": 4,
                "time_step_rank": "auto",
            },
            structured=False,
        ),
    )
}


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """The description that a config's ``model_type`` names; :class:`UserError` if there is none."""
    model_type = config.get("model_type")
    if model_type not in ARCHITECTURES:
        raise UserError(
            f"model_type {model_type!r} cannot be pruned; known: {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[model_type]
