"""The fused token loss against torch's cross entropy and finite sums."""

import pytest
import torch
from torch.nn import functional

from p2law import training
from p2law.checkpoints import io
from p2law.training import losses, recipe


def draw(n=12, vocabulary=50):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(n, vocabulary, generator=generator)
    targets = torch.randint(vocabulary, (n,), generator=generator)
    return logits, targets, torch.randn(n, vocabulary, generator=generator)


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_is_cross_entropy_with_its_gradient(scale):
    logits, targets, _ = draw()
    one, other = (logits.clone().requires_grad_() for _ in range(2))
    loss = losses.token_loss(one, targets)
    expected = functional.cross_entropy(other, targets, reduction="sum")
    (scale * loss).backward()
    (scale * expected).backward()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-7)  # fp32 rounding


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_a_teacher_is_a_soft_target(temperature):
    """Against torch's cross entropy with soft targets and its KL divergence."""
    logits, targets, teacher = draw()
    one, other = (logits.clone().requires_grad_() for _ in range(2))
    how = recipe.Distil(weight=0.3, temperature=temperature)
    loss = losses.taught_loss(one, targets, teacher, how)
    hard = functional.cross_entropy(other, targets, reduction="sum")
    taught = (teacher / temperature).softmax(-1)
    logs = (other / temperature).log_softmax(-1)
    entropy = -(taught * taught.log()).sum()
    soft = functional.kl_div(logs, taught, reduction="sum") + entropy
    expected = 0.7 * hard + 0.3 * temperature**2 * soft
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-7)


def test_a_hopeless_token_counts_and_stays_finite():
    """A target 200 nats below the rest: its probability is no fp32 number above zero."""
    logits = torch.tensor([[0.0, 200.0]], requires_grad=True)
    loss = losses.token_loss(logits, torch.tensor([0]))
    loss.backward()
    assert 80 < loss.item() < 200
    torch.testing.assert_close(logits.grad, torch.tensor([[-1.0, 1.0]]))


def test_golden_value():
    """Logits (0, ln 3) and target 0: -ln(1/4)."""
    logits = torch.tensor([[0.0, 3.0]]).log1p()
    logits[0, 1] = torch.tensor(3.0).log()
    found = losses.token_loss(logits, torch.tensor([0]))
    assert found.item() == pytest.approx(1.3862944, abs=1e-6)


def test_the_chunked_head_is_the_plain_one(config, monkeypatch):
    rows = torch.randint(64, (4, 17), generator=torch.Generator().manual_seed(1))
    found = []
    for limit in (10, 1000):
        monkeypatch.setattr(training, "CHUNKED", limit)
        objective = losses.Objective(io.fresh(config, seed=0).train())
        assert objective.chunked == (limit == 10)
        loss = objective(rows)
        loss.backward()
        weight = objective.model.get_output_embeddings().weight
        found.append((loss.detach(), weight.grad))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-6, atol=0)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-5)
