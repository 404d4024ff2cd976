"""Every declaration against transformers' own classes: tensors, layers, config keys, heads."""

from dataclasses import replace

import pytest
import torch

from p2law.architectures import configs, counts, decoders
from p2law.architectures.architecture import ARCHITECTURES, architecture_of
from p2law.architectures.model_config import check_config
from p2law.checkpoints import gguf, io
from p2law.errors import UserError
from p2law.training import layers

SMALL = {
    **{"hidden_size": 24, "num_hidden_layers": 3, "vocab_size": 40, "intermediate_size": 36},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 16},
    **{"head_dim": 6, "state_size": 5, "conv_kernel": 3, "expand": 2, "time_step_rank": 7},
}
NAMES = sorted(ARCHITECTURES)


def small(name: str, **changes) -> dict:
    """A tiny config of an architecture: the sizes that it may be told."""
    known = ARCHITECTURES[name].settings.known
    return {"model_type": name, **{k: v for k, v in SMALL.items() if k in known}, **changes}


@pytest.fixture(scope="module")
def models():
    return {name: io.fresh(small(name), seed=0) for name in NAMES}


def switches(name: str) -> list[dict]:
    """Configs with no, each and every optional tensor, tied and not."""
    flags = sorted({flag for _, flag in ARCHITECTURES[name].optional.values()})
    found = [{}, *({flag: True} for flag in flags), dict.fromkeys(flags, True)]
    found += [dict.fromkeys(flags, False)]
    return [{**flags, "tie_word_embeddings": tied} for flags in found for tied in (True, False)]


@pytest.mark.parametrize("name", NAMES)
def test_tensors_and_sizes_are_those_of_the_model(name):
    for flags in switches(name):
        config = small(name, **flags)
        arch, model = architecture_of(config), io.fresh(config, seed=0)
        sizes, expected = arch.sizes(config), {}
        for i in range(config["num_hidden_layers"]):
            for tensor, axes in arch.block_tensors(config).items():
                expected[f"{arch.blocks}.{i}.{tensor}"] = tuple(sizes[axis] for axis in axes)
        for tensor, axes in arch.outer_tensors(config).items():
            expected[tensor] = tuple(sizes[axis] for axis in axes)
        named = {key: tuple(weight.shape) for key, weight in model.named_parameters()}
        assert named == expected
        assert counts.parameters(config)["total"] == sum(p.numel() for p in model.parameters())
        assert type(model).__name__ == arch.model_class


@pytest.mark.parametrize("name", NAMES)
def test_what_a_config_leaves_out_is_the_config_classs_value(name):
    from transformers import AutoConfig

    made = AutoConfig.for_model(name)
    for key, value in ARCHITECTURES[name].defaults.items():
        if key == "time_step_rank":  # "auto", and transformers gives what it comes to
            assert made.time_step_rank == -(-made.hidden_size // 16)
        else:
            assert getattr(made, key) == value


@pytest.mark.parametrize("name", NAMES)
def test_config_keys_are_those_of_transformers(name):
    from transformers import AutoConfig, PreTrainedConfig

    fields = set(type(AutoConfig.for_model(name)).__dataclass_fields__)
    settings = ARCHITECTURES[name].settings
    # intermediate_size of a Mamba follows from expand.
    assert settings.known == fields - set(PreTrainedConfig.__dataclass_fields__)
    assert set(settings.required) <= settings.sizes
    assert not settings.sizes & settings.flags and not settings.others & settings.flags


@pytest.mark.parametrize("name", NAMES)
def test_a_study_must_say_what_no_default_should(name):
    config = small(name)
    check_config(config)
    for key in ARCHITECTURES[name].settings.required:
        with pytest.raises(UserError, match=f"{key}: missing"):
            check_config({k: v for k, v in config.items() if k != key})
    with pytest.raises(UserError, match="has no setting 'model_typ'; did you mean 'model_type'"):
        check_config({**config, "model_typ": name})
    with pytest.raises(UserError, match="vocab_size = None"):
        check_config({**config, "vocab_size": None})


@pytest.mark.parametrize("name", NAMES)
def test_a_corpus_gives_only_keys_that_the_architecture_has(name):
    config = small(name)
    config |= ARCHITECTURES[name].fresh(48, 32)
    check_config(config)
    model = io.fresh(config, seed=0)
    assert model.get_input_embeddings().weight.shape[0] == 48
    assert getattr(model.config, "max_position_embeddings", 32) == 32


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_the_decoder_layers(name, models):
    """As many as the config says, none inside another, each with the block's tensors."""
    found = layers.of(models[name])
    assert len(found) == SMALL["num_hidden_layers"]
    tensors = set(ARCHITECTURES[name].block_tensors(small(name)))
    assert all({key for key, _ in layer.named_parameters()} == tensors for layer in found)


@pytest.mark.parametrize("name", NAMES)
def test_exempt_from_decay_are_vectors_and_what_the_models_authors_mark(name, models):
    """Mamba's authors mark A_log and D ``_no_weight_decay``; transformers does not."""
    arch = ARCHITECTURES[name]
    for key, weight in models[name].named_parameters():
        marked = key.endswith((".A_log", ".D"))
        assert arch.decays(key, weight.ndim) == (weight.ndim >= 2 and not marked), key
    assert arch.decays(f"{arch.embedding}.weight", 2)  # tied or not, as docs/training.md says


@pytest.mark.parametrize("name", [n for n in NAMES if ARCHITECTURES[n].chunked_head])
def test_a_head_that_may_be_chunked_is_a_product_of_the_last_state(name, models):
    model, tokens = models[name], torch.arange(12)[None]
    with torch.no_grad():
        hidden = model.base_model(input_ids=tokens).last_hidden_state
        logits = model(input_ids=tokens).logits
    expected = hidden @ model.get_output_embeddings().weight.T
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)


def kept(config: dict, tokens: int) -> float:
    """Numbers a token that autograd holds for one more block, counted by its own hooks."""
    held = []
    for count in (2, 4):
        model = io.fresh({**config, "num_hidden_layers": count}, seed=0).train()
        weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        seen: dict[int, torch.Tensor] = {}

        def pack(tensor, seen=seen):
            return seen.setdefault(tensor.untyped_storage().data_ptr(), tensor)

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            logits = model(input_ids=torch.arange(tokens)[None] % 40).logits
        sizes = (t.untyped_storage().nbytes() for at, t in seen.items() if at not in weights)
        held.append(sum(sizes) / 4 / tokens)
        del logits
    return (held[1] - held[0]) / 2


@pytest.mark.parametrize("name", NAMES)
def test_what_a_token_leaves_in_a_block_is_what_autograd_holds(name):
    """Within a fifth: norms of queries and keys, which OLMo 2 and Qwen3 add, are not told apart."""
    full = {"num_key_value_heads": 4, "hidden_size": 64, "intermediate_size": 128}
    full |= {"head_dim": 16, "state_size": 8, "max_position_embeddings": 64}
    known = ARCHITECTURES[name].settings.known
    config = small(name, **{k: v for k, v in full.items() if k in known})
    arch = ARCHITECTURES[name]
    assert arch.activations(arch.sizes(config)) == pytest.approx(kept(config, 64), rel=0.2)


def test_ggufs_are_read_where_transformers_reads_them():
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    assert set(gguf.READ) <= set(GGUF_SUPPORTED_ARCHITECTURES)
    assert {name: arch.model_type for name, arch in gguf.READ.items()} == {
        "llama": "llama", "mistral": "mistral", "qwen2": "qwen2", "qwen3": "qwen3",
    }  # fmt: skip


def test_an_uneven_llama_keeps_its_heads_as_a_mistral():
    """A Llama without num_key_value_heads has as many as heads; a Mistral would take eight."""
    config = {**small("llama"), "hidden_size": 200, "num_attention_heads": 16, "head_dim": 12}
    del config["num_key_value_heads"]
    made = configs.loadable(config | {"pretraining_tp": 1})
    assert made["model_type"] == "mistral" and "pretraining_tp" not in made
    assert counts.parameters(made)["total"] == counts.parameters(config)["total"]
    model = io.fresh(made | {"architectures": None}, seed=0)
    assert sum(p.numel() for p in model.parameters()) == counts.parameters(config)["total"]
    with pytest.raises(UserError, match="has no attention_bias"):
        configs.loadable({**config, "attention_bias": True})


def test_a_declaration_is_all_it_takes(monkeypatch):
    """A new model_type, declared and listed: counted, checked, loadable."""
    new = replace(decoders.LLAMA, model_type="gemma9", gguf=None, uneven=None, chunked_head=False)
    monkeypatch.setitem(ARCHITECTURES, "gemma9", new)
    config = {**small("llama"), "model_type": "gemma9"}
    check_config(config)
    assert counts.parameters(config) == counts.parameters({**config, "model_type": "llama"})
    assert configs.loadable(config) == config
    assert [a.model_type for a in ARCHITECTURES.values() if not a.structured] == ["mamba"]
