"""Mamba (Gu and Dao 2023, arXiv 2312.00752): blocks of one mixer, no attention and no context."""

from collections.abc import Mapping

from p2law.architectures.declaration import Architecture, Config, Settings
from p2law.architectures.decoders import FLAGS, TOKENS


def sizes(config: Config) -> dict[str, int]:
    """Lengths of a Mamba's axes; ``rank_state2`` is what the state's parameters are read from."""
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


def activations(sizes: Mapping[str, int]) -> float:
    """Measured on transformers' scan in PyTorch, which keeps the state's terms of every token."""
    inner = sizes["inner"]
    return 4.0 * sizes["hidden"] + 9.6 * inner + 3.1 * inner * sizes["state"]


MAMBA = Architecture(
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
    sizes_of=sizes,
    activations=activations,
    inputs=(("mixer.in_proj",), ("mixer.x_proj",), ("mixer.dt_proj",), ("mixer.out_proj",)),
    fed_by={"mixer.dt_proj": "mixer.x_proj"},
    settings=Settings(
        sizes=frozenset({"hidden_size", "num_hidden_layers", "vocab_size"})
        | {"conv_kernel", "expand", "state_size"},
        flags=FLAGS
        | {"rescale_prenorm_residual", "residual_in_fp32", "use_associative_scan"}
        | {"use_bias", "use_conv_bias", "use_mambapy"},
        others=TOKENS
        | {"hidden_act", "initializer_range", "layer_norm_epsilon"}
        | {"time_step_floor", "time_step_init_scheme", "time_step_max", "time_step_min"}
        | {"time_step_rank", "time_step_scale"},
        required=("hidden_size", "num_hidden_layers"),
    ),
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
    # The logarithm of the state's rates and the skip: a decay would pull the rates towards 1. Its
    # authors exempt them (state-spaces/mamba, `_no_weight_decay`).
    undecayed=("mixer.A_log", "mixer.D"),
)
