"""Linear layers by oneDNN against torch's own products, and where they stay out of the way."""

import pytest
import torch
from torch import nn

from p2law.checkpoints import io, products

CONFIG = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "tie_word_embeddings": True,
}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("n", "k"), [(24, 40), (40, 24), (32, 32)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_and_its_gradients(n, k, bias):
    """Against float64; fp32 sums of up to 60 terms."""
    layer = nn.Linear(k, n, bias=bias)
    exact = nn.Linear(k, n, bias=bias).double()
    exact.load_state_dict({name: w.double() for name, w in layer.state_dict().items()})
    x, upstream = draw(3, 20, k), draw(3, 20, n, seed=1)
    found, expected = x.clone().requires_grad_(), x.double().requires_grad_()
    products.by_onednn(layer)(found).backward(upstream)
    exact(expected).backward(upstream.double())
    close = {"rtol": 1e-5, "atol": 1e-5, "check_dtype": False}
    torch.testing.assert_close(layer(x), exact(x.double()), **close)
    torch.testing.assert_close(found.grad, expected.grad, **close)
    for one, other in zip(layer.parameters(), exact.parameters(), strict=True):
        assert one.grad.is_contiguous()
        torch.testing.assert_close(one.grad, other.grad, **close)


def test_takes_transposed_views_as_they_lie():
    one, other = draw(12, 30), draw(12, 20, seed=1)
    found = products.product(one.t(), other.t())
    torch.testing.assert_close(found, one.t() @ other, rtol=1e-5, atol=1e-5)


def test_parts_of_wider_rows_are_copied():
    """Also where a gradient comes as one number spread over a matrix: strides 0."""
    one, other, spread = draw(12, 30), draw(20, 40, seed=1)[:, 5:35], torch.ones(1).expand(20, 30)
    for each in (other, spread):
        found = products.product(one, each)
        torch.testing.assert_close(found, one @ each.T, rtol=1e-5, atol=1e-5)


def test_a_whole_model_gives_its_logits_always_the_same():
    rows = torch.arange(48).view(2, 24) % 64
    plain, model = io.fresh(CONFIG, seed=0), products.by_onednn(io.fresh(CONFIG, seed=0))
    first = model(input_ids=rows).logits
    assert torch.equal(first, model(input_ids=rows).logits)
    torch.testing.assert_close(first, plain(input_ids=rows).logits, rtol=1e-4, atol=1e-6)


def test_a_frozen_layer_gets_no_gradient():
    layer = products.by_onednn(nn.Linear(8, 8, bias=False)).requires_grad_(False)
    x = draw(4, 8).requires_grad_()
    layer(x).sum().backward()
    assert layer.weight.grad is None
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(4, 8), rtol=1e-5, atol=1e-6)


def test_other_types_are_left_to_torch():
    wide = products.by_onednn(nn.Linear(4, 4).double())
    assert "forward" not in vars(wide)
    layer = products.by_onednn(nn.Linear(4, 4))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(draw(2, 4)).dtype == torch.bfloat16


def test_solvers_products_are_fp32_and_the_setting_is_put_back():
    before = torch.get_float32_matmul_precision()
    with products.fast(), products.exact(torch.device("cuda")):
        assert torch.get_float32_matmul_precision() == "highest"
    a = torch.randn(300, 300, generator=torch.Generator().manual_seed(0))
    with products.exact(a.device):
        product = a @ a
    exact = a.double() @ a.double()
    assert (product - exact).norm() < 1e-6 * exact.norm()  # bf16 or TF32 inputs give 1e-3
    assert torch.get_float32_matmul_precision() == before
