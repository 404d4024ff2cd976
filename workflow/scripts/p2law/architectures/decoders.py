"""Llama-like decoders: attention and a gated FFN between norms, each a change of one template."""

from collections.abc import Iterable, Mapping
from typing import Any

from p2law.architectures.declaration import Architecture, Axes, Config, Gguf, Settings

ATTENTION: dict[str, Axes] = {
    "self_attn.q_proj.weight": ("q", "hidden"),
    "self_attn.k_proj.weight": ("kv", "hidden"),
    "self_attn.v_proj.weight": ("kv", "hidden"),
    "self_attn.o_proj.weight": ("hidden", "q"),
}
FFN: dict[str, Axes] = {
    "mlp.gate_proj.weight": ("ffn", "hidden"),
    "mlp.up_proj.weight": ("ffn", "hidden"),
    "mlp.down_proj.weight": ("hidden", "ffn"),
}
PRE_NORMS: dict[str, Axes] = {
    "input_layernorm.weight": ("hidden",),
    "post_attention_layernorm.weight": ("hidden",),
}
QKV_BIAS: dict[str, Axes] = {
    "self_attn.q_proj.bias": ("q",),
    "self_attn.k_proj.bias": ("kv",),
    "self_attn.v_proj.bias": ("kv",),
}
ATTENTION_BIAS: dict[str, Axes] = {**QKV_BIAS, "self_attn.o_proj.bias": ("hidden",)}
FFN_BIAS: dict[str, Axes] = {
    "mlp.gate_proj.bias": ("ffn",),
    "mlp.up_proj.bias": ("ffn",),
    "mlp.down_proj.bias": ("hidden",),
}
INPUTS = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)

CONTEXT = "max_position_embeddings"
REQUIRED = ("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads")
SIZES = frozenset({*REQUIRED, "vocab_size", "num_key_value_heads", CONTEXT})
FLAGS = frozenset({"tie_word_embeddings", "use_cache"})
TOKENS = frozenset({"bos_token_id", "eos_token_id", "pad_token_id"})
OTHERS = TOKENS | {
    *("attention_dropout", "hidden_act", "initializer_range", "rms_norm_eps", "rope_parameters"),
}
QWEN = ("layer_types", "max_window_layers", "sliding_window")
WHOLE_HEAD = {"rope.dimension_count": "head_dim"}
"""GGUF: the rotary channels are the whole head; elsewhere its width is the config's default."""


def sizes(config: Config) -> dict[str, int]:
    """Lengths of a decoder's axes; heads without a width of their own divide the hidden size."""
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


def activations(sizes: Mapping[str, int]) -> float:
    """What products, norms, SwiGLU and attention read again: ten hidden sizes, four FFNs."""
    return 10.0 * sizes["hidden"] + 4.0 * sizes["ffn"]


def switched(tensors: Mapping[str, Axes], flag: str) -> dict[str, tuple[Axes, str]]:
    """Optional tensors that one config flag switches on."""
    return {name: (axes, flag) for name, axes in tensors.items()}


def decoder(
    model_type: str,
    model_class: str,
    block: Mapping[str, Axes],
    *,
    sized: Iterable[str] = (),
    flags: Iterable[str] = (),
    others: Iterable[str] = (),
    defaults: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Architecture:
    """A decoder with ``block``'s tensors beside attention and FFN, and further config keys."""
    return Architecture(
        model_type,
        model_class,
        embedding="model.embed_tokens",
        blocks="model.layers",
        final_norm="model.norm",
        block={**ATTENTION, **FFN, **block},
        sizes_of=sizes,
        activations=activations,
        inputs=INPUTS,
        settings=Settings(SIZES.union(sized), FLAGS.union(flags), OTHERS.union(others), REQUIRED),
        defaults={"tie_word_embeddings": False, **(defaults or {})},
        context=CONTEXT,
        **changes,
    )


LLAMA = decoder(
    "llama",
    "LlamaForCausalLM",
    PRE_NORMS,
    optional=switched(ATTENTION_BIAS, "attention_bias") | switched(FFN_BIAS, "mlp_bias"),
    sized=("head_dim",),
    flags=("attention_bias", "mlp_bias"),
    others=("pretraining_tp",),
    chunked_head=True,
    gguf=Gguf("llama", WHOLE_HEAD),
    uneven="mistral",
)
MISTRAL = decoder(
    "mistral",
    "MistralForCausalLM",
    PRE_NORMS,
    sized=("head_dim",),
    others=("sliding_window",),
    defaults={"num_key_value_heads": 8},
    chunked_head=True,
    gguf=Gguf("mistral", WHOLE_HEAD),
)
QWEN2 = decoder(
    "qwen2",
    "Qwen2ForCausalLM",
    {**PRE_NORMS, **QKV_BIAS},
    flags=("use_sliding_window",),
    others=QWEN,
    chunked_head=True,
    gguf=Gguf("qwen2"),
)
QWEN3 = decoder(
    "qwen3",
    "Qwen3ForCausalLM",
    {
        **PRE_NORMS,
        "self_attn.q_norm.weight": ("head",),
        "self_attn.k_norm.weight": ("head",),
    },
    optional=switched(ATTENTION_BIAS, "attention_bias"),
    sized=("head_dim",),
    flags=("attention_bias", "use_sliding_window"),
    others=QWEN,
    defaults={"head_dim": 128},
    chunked_head=True,
    gguf=Gguf("qwen3"),
)
OLMO2 = decoder(
    "olmo2",
    "Olmo2ForCausalLM",
    {
        "post_attention_layernorm.weight": ("hidden",),
        "post_feedforward_layernorm.weight": ("hidden",),
        "self_attn.q_norm.weight": ("q",),
        "self_attn.k_norm.weight": ("kv",),
    },
    optional=switched(ATTENTION_BIAS, "attention_bias"),
    flags=("attention_bias",),
)
