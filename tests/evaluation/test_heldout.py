"""The held-out loss against a naive loop over the text, and what its stage keeps and refuses."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from p2law.checkpoints import io
from p2law.corpus.packed import Packed, order
from p2law.errors import UserError
from p2law.evaluation import evaluate, heldout
from p2law.results import manifest

T = 16
SCRIPT = Path(evaluate.__file__).parents[2] / "evaluate.py"


def naive(model, text: np.ndarray, row: int) -> float:
    """Summed nats of a row's targets, one prefix at a time, from the flat text."""
    total = 0.0
    for position in range(row * T, row * T + T):
        prefix = torch.from_numpy(text[row * T : position + 1].astype(np.int64))[None]
        logits = model(input_ids=prefix).logits[0, -1].double()
        total -= torch.log_softmax(logits, -1)[int(text[position + 1])].item()
    return total


def test_equals_a_naive_loop_over_the_text(corpus, checkpoints):
    packed, model = Packed(corpus.parent), io.load(checkpoints["a"].parent)
    rows = heldout.choose(packed, 10 * T)
    sums = heldout.row_losses(model, rows, batch_rows=4)
    text = np.fromfile(corpus.parent / "validation.bin", "<u2")
    with torch.inference_mode():
        expected = [naive(model, text, row) for row in sorted(order(40, 0)[:10])]
    # fp32 forward passes of other shapes, 16 terms of about 4 nats.
    np.testing.assert_allclose(sums, expected, rtol=2e-6)


def test_every_target_counts_once(corpus):
    """All rows together are the split's text after its first token."""
    packed = Packed(corpus.parent)
    rows = heldout.choose(packed, 40 * T)
    text = np.fromfile(corpus.parent / "validation.bin", "<u2")
    np.testing.assert_array_equal(rows.tokens[:, 1:].ravel(), text[1:])
    assert rows.targets == 40 * T


@pytest.mark.parametrize("batch_rows", [1, 7, 64])
def test_does_not_depend_on_the_batch_size(corpus, checkpoints, batch_rows):
    packed, model = Packed(corpus.parent), io.load(checkpoints["a"].parent)
    rows = heldout.choose(packed, 40 * T)
    one, other = (heldout.row_losses(model, rows, n) for n in (8, batch_rows))
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_summary_is_mean_error_and_bits():
    rows = heldout.Rows(np.zeros((3, 5), np.int64), 48, "")
    found = heldout.summary(np.array([10.0, 14.0, 12.0]), rows)
    assert found["loss"] == 3.0
    assert found["loss_se"] == pytest.approx(0.5 / math.sqrt(3))
    assert found["bits_per_byte"] == pytest.approx(3.0 / math.log(2) / 4)
    with pytest.raises(UserError, match="held-out loss is nan"):
        heldout.summary(np.array([10.0, np.nan, 12.0]), rows)


def test_the_stage_keeps_row_sums_and_runs_only_what_is_new(
    tmp_path, corpus, checkpoints, spec, monkeypatch
):
    evaluate.evaluate(spec("a"), corpus, {"a": checkpoints["a"]}, tmp_path)
    computed = []
    original = evaluate._computed
    monkeypatch.setattr(
        evaluate,
        "_computed",
        lambda folder, *rest: computed.append(folder) or original(folder, *rest),
    )
    evaluate.evaluate(spec("ab"), corpus, checkpoints, tmp_path)
    assert computed == [checkpoints["b"].parent]
    found = manifest.verify_files(tmp_path / "manifest.json")["results"]
    sums = load_file(tmp_path / "rows.safetensors")
    for name in "ab":
        assert sums[name].dtype == np.float64
        assert found["checkpoints"][name]["loss"] == sums[name].sum() / (32 * T)
    assert found["evaluation_tokens"] == 32 * T
    evaluate.evaluate(spec("ab", tokens=16 * T), corpus, checkpoints, tmp_path)
    assert len(computed) == 3  # other rows: both again


def test_a_damaged_cache_is_computed_again(tmp_path, corpus, checkpoints, spec):
    evaluate.evaluate(spec("a"), corpus, {"a": checkpoints["a"]}, tmp_path)
    before = (tmp_path / "rows.safetensors").read_bytes()
    (kept,) = (tmp_path / "rows").iterdir()
    data = bytearray(kept.read_bytes())
    data[-1] ^= 1
    kept.write_bytes(data)
    evaluate.evaluate(spec("a"), corpus, {"a": checkpoints["a"]}, tmp_path)
    assert (tmp_path / "rows.safetensors").read_bytes() == before


def test_what_does_not_fit_is_refused(tmp_path, corpus, checkpoints, spec):
    with pytest.raises(UserError, match="allowed are 16 to 640"):
        evaluate.evaluate(spec("ab", tokens=41 * T), corpus, checkpoints, tmp_path)
    with pytest.raises(UserError, match="its key is b; the spec wants a"):
        evaluate.evaluate(spec("a"), corpus, {"a": checkpoints["b"]}, tmp_path)
    with pytest.raises(UserError, match="--checkpoint"):
        evaluate.evaluate(spec("ab"), corpus, {"a": checkpoints["a"]}, tmp_path)
    with pytest.raises(UserError, match="sequence_length: 32"):
        evaluate.evaluate({**spec(), "sequence_length": 32}, corpus, checkpoints, tmp_path)


def test_the_script_runs_by_hand(tmp_path, corpus, checkpoints, spec):
    command = [
        sys.executable,
        str(SCRIPT),
        "--spec",
        json.dumps(spec("a")),
        "--corpus",
        str(corpus),
    ]
    command += ["--checkpoint", f"a={checkpoints['a']}", "--out", str(tmp_path / "out")]
    subprocess.run(command, check=True, capture_output=True)
    assert manifest.verify_files(tmp_path / "out" / "manifest.json")["stage"] == "evaluate"
