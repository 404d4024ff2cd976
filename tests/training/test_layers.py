"""Layers-only recipes, distillation, recomputed activations: what moves and what does not."""

import pytest
import torch

from p2law.checkpoints import io
from p2law.corpus.packed import Packed
from p2law.errors import UserError
from p2law.training import loop, recipe

BATCH = 128


def make(corpus, config, train, steps=4, **options):
    teacher = options.pop("teacher", None)
    means = options.pop("means", loop.Means())
    model = io.fresh({**config, "tie_word_embeddings": False}, seed=3)
    asked = recipe.parse({**train, **options})
    return loop.Loop(
        model, Packed(corpus.parent), asked, seed=1, steps=steps, teacher=teacher, means=means
    )


def trained(made, steps=4):
    made.advance(steps, lambda _: 1e-2, lambda _: None)
    return {name: weight.detach().clone() for name, weight in made.model.named_parameters()}


def test_only_head_and_last_layers_move(corpus, config, train):
    made = make(corpus, config, train, layers={"last": 1})
    before = {name: weight.detach().clone() for name, weight in made.model.named_parameters()}
    after = trained(made)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    expected = {n for n in before if n.startswith("model.layers.1.")} | {"lm_head.weight"}
    assert moved == expected
    assert {name.partition("/")[2] for name in made.tensors()} == expected
    with pytest.raises(UserError, match="the model has 2 layers"):
        make(corpus, config, train, layers={"last": 3})


def test_the_head_stays_where_asked(corpus, config, train):
    made = make(corpus, config, train, layers={"last": 1, "head": False})
    before = made.model.lm_head.weight.detach().clone()
    assert torch.equal(trained(made)["lm_head.weight"], before)
    assert all(name.startswith("model.layers.1.") for name in made.weights)


def test_recomputed_activations_change_no_bit(corpus, config, train):
    plain = trained(make(corpus, config, train))
    again = trained(make(corpus, config, train, means=loop.Means(recompute=True)))
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_a_pure_teacher_pulls_to_itself(corpus, config, train):
    """With the model itself as teacher of everything there is nothing to learn."""
    teacher = io.fresh({**config, "tie_word_embeddings": False}, seed=3)
    made = make(corpus, config, train, distil={"weight": 1.0}, weight_decay=0.0, teacher=teacher)
    before = {name: weight.detach().clone() for name, weight in made.model.named_parameters()}
    made.advance(1, lambda _: 1e-3, lambda _: None)
    gradient = made.optimizer.state[made.weights["lm_head.weight"]]["exp_avg"]
    # softmax - softmax is fp32 rounding of the gathered and the dot form, 1e-7 a logit.
    assert gradient.abs().max() < 1e-7
    assert set(before) == set(dict(made.model.named_parameters()))


def test_several_means_share_the_losses(corpus, config, train):
    """bf16 compute stays near fp32: 8 bits of mantissa on losses of about 4 nats."""
    losses = []
    for precision in ("fp32", "bf16"):
        made = make(corpus, config, train, precision=precision)
        trained(made)
        losses.append(list(made.losses))
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    assert losses[0] != losses[1]
