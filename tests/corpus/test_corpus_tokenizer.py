"""Tokenizers: loss-free, deterministic, loadable, and counted in bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from p2law.corpus import tokenizer as room
from p2law.corpus.documents import Spool
from p2law.errors import UserError

HARD = [
    "",
    "<|endoftext|> in a text",
    "été мир 中文 🙂🙂\u200d",
    "\x00\r\n\t  tabs\x7f",
    "a" * 5000,
]


@pytest.fixture
def spool(tmp_path, texts):
    return Spool(tmp_path / "spool", [*texts, *HARD], 0, None)


@pytest.fixture
def encoder(tmp_path, spool):
    room.train(spool, np.arange(60), 300, tmp_path)
    return room.Encoder(tmp_path)


def test_decoding_gives_the_text(tmp_path, spool, encoder):
    plain = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    every = np.arange(len(spool))[::-1]
    seen = []
    for index, tokens in encoder.encode(spool, every):
        assert encoder.end not in tokens
        assert plain.decode(tokens.tolist(), skip_special_tokens=False) == spool.text(index)
        seen.append(index)
    assert seen == every.tolist()


def test_spans_sum_to_the_text(tmp_path, spool, encoder):
    tokens = dict(encoder.encode(spool, np.arange(len(spool))))
    plain = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for index, same, added in encoder.spans(spool, np.arange(len(spool))):
        assert same.tolist() == tokens[index].tolist()
        assert added.sum() == len(spool.text(index).encode())
        if spool.text(index).isascii():  # one byte a character: each token's own length
            lengths = [len(plain.decode([t], skip_special_tokens=False)) for t in same.tolist()]
            assert added.tolist() == lengths


def test_batches_do_not_matter(spool, encoder):
    every = np.arange(len(spool))
    whole = [tokens.tolist() for _, tokens in encoder.encode(spool, every)]
    assert [tokens.tolist() for _, tokens in encoder.encode(spool, every, batch=100)] == whole
    assert list(encoder.encode(spool, every[:0])) == []


def test_auto_tokenizer_loads_it(tmp_path, spool, encoder):
    transformers = pytest.importorskip("transformers")
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.eos_token == room.END
    assert loaded.eos_token_id == encoder.end == 0
    assert len(loaded) == encoder.vocabulary == 300
    _, tokens = next(encoder.encode(spool, np.array([3])))
    assert loaded(spool.text(3))["input_ids"] == tokens.tolist()


def test_training_is_the_same_with_any_number_of_threads(tmp_path, prose):
    scripts = Path(room.__file__).parents[2]
    text = tmp_path / "text.json"
    text.write_text(json.dumps([prose(seed, 400) for seed in range(200)]))
    code = """if True:
        import json, pathlib, sys
        import numpy as np
        from p2law.corpus import tokenizer
        from p2law.corpus.documents import Spool
        out = pathlib.Path(sys.argv[1])
        out.mkdir()
        spool = Spool(out / "spool", json.load(open(sys.argv[2])), 0, None)
        tokenizer.train(spool, np.arange(len(spool)), 500, out)
    """
    made = []
    for threads in ("1", "2", "4"):
        extra = {"RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "true"}
        environment = {**os.environ, "PYTHONPATH": str(scripts), **extra}
        command = [sys.executable, "-c", code, str(tmp_path / threads), str(text)]
        subprocess.run(command, env=environment, check=True)
        made.append((tmp_path / threads / "tokenizer.json").read_bytes())
    assert made[0] == made[1] == made[2]


def test_the_sample_is_even_and_stable(tmp_path, prose):
    spool = Spool(tmp_path / "spool", [prose(s, 1200) for s in range(1500)], 0, None)
    every = np.arange(len(spool))
    chosen = room.sample(spool, every, 1024)
    size = spool.sizes()[chosen].sum()
    assert 8_000_000 <= size < 8_000_000 + spool.sizes().max()
    assert spool.hashes[chosen].min() > np.delete(spool.hashes, chosen).max()
    assert room.sample(spool, every[:30], 1024).tolist() == every[:30].tolist()


def test_vocabularies_out_of_reach_are_refused(tmp_path, spool):
    with pytest.raises(UserError, match="vocabulary 256: above 256"):
        room.train(spool, np.arange(60), 256, tmp_path)
    with pytest.raises(UserError, match="vocabulary 50000: the training text gives only"):
        room.train(spool, np.arange(60), 50_000, tmp_path)


def test_a_named_tokenizer_is_copied_and_checked(tmp_path, encoder):
    out = tmp_path / "out"
    out.mkdir()
    room.copy({"kind": "folder", "path": str(tmp_path)}, out)
    assert sorted(f.name for f in out.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    assert room.Encoder(out).vocabulary == 300
    (out / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "Ġ"}}))
    assert room.Encoder(out).end == Tokenizer.from_file(str(out / "tokenizer.json")).token_to_id(
        "Ġ"
    )
    (out / "tokenizer_config.json").unlink()
    with pytest.raises(UserError, match="names no eos_token"):
        room.Encoder(out)
    (out / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="tokenizer.json: not a tokenizer"):
        room.Encoder(out)
    with pytest.raises(UserError, match="holds no tokenizer.json"):
        room.copy({"kind": "folder", "path": str(tmp_path / "none")}, tmp_path / "texts")
    with pytest.raises(UserError, match="revision 'main'"):
        room.copy({"kind": "hub", "name": "a/b", "revision": "main"}, tmp_path / "texts")
