"""The fused token loss against torch's cross entropy and finite sums."""

import pytest
import torch
from torch.nn import functional

from p2law.checkpoints import io
from p2law.training import losses


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


def test_a_teacher_is_a_soft_target():
    logits, targets, teacher = draw()
    one, other = (logits.clone().requires_grad_() for _ in range(2))
    loss = losses.token_loss(one, targets, teacher, share=0.3)
    hard = functional.cross_entropy(other, targets, reduction="sum")
    soft = functional.cross_entropy(other, teacher.softmax(-1), reduction="sum")
    expected = 0.7 * hard + 0.3 * soft
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-7)


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
        monkeypatch.setattr(losses, "CHUNKED", limit)
        objective = losses.Objective(io.fresh(config, seed=0).train())
        assert objective.chunked == (limit == 10)
        loss = objective(rows)
        loss.backward()
        weight = objective.model.get_output_embeddings().weight
        found.append((loss.detach(), weight.grad))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-6, atol=0)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-5)
