"""The whole stage on small text: what lies in the folder, twice the same, whole or not at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from p2law.corpus.build import build
from p2law.corpus.documents import Spool, below
from p2law.corpus.packed import SPLITS, Packed
from p2law.errors import UserError
from p2law.results import manifest

SCRIPT = Path(manifest.__file__).parents[2] / "corpus.py"


def files(folder):
    return {f.name: f.read_bytes() for f in folder.iterdir() if f.name != manifest.NAME}


def decoded(folder, split):
    """The documents of a split, read back from its files alone."""
    corpus = Packed(folder)
    tokens = corpus.tokens(split).tolist()
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    end = corpus.manifest["results"]["end_of_text"]
    ends = [i + 1 for i, token in enumerate(tokens) if token == end]
    parts = [tokens[a:b] for a, b in zip([0, *ends], [*ends, len(tokens)], strict=True) if a < b]
    if split != "calibration":  # which ends where its last window does
        assert all(part[-1] == end for part in parts)
    return [plain.decode([t for t in part if t != end]) for part in parts]


@pytest.fixture
def built(tmp_path, spec):
    build(spec, tmp_path / "corpus")
    return tmp_path / "corpus"


def test_every_document_is_in_its_split(built, texts, tmp_path):
    spool = Spool(tmp_path / "spool", texts, 0, None)
    held = {texts[i] for i in np.flatnonzero(below(spool.hashes, 0.2))}
    assert set(decoded(built, "validation")) == held
    training, calibration = decoded(built, "train"), decoded(built, "calibration")
    assert set(training) < set(texts) - held
    # Calibration: the rest, the documents of lowest hash, cut to slices.
    left = sorted(set(range(len(texts))) - {texts.index(t) for t in training + list(held)})
    ranks = sorted(set(range(len(texts))) - {texts.index(t) for t in held})
    ranks.sort(key=lambda i: int(spool.hashes[i]))
    assert sorted(ranks[: len(left)]) == left
    assert len(calibration) == len(left)
    for part, i in zip(calibration, ranks[: len(left)], strict=True):
        assert part in texts[i]


def test_the_manifest_says_what_there_is(built, texts):
    results = manifest.verify_files(built / manifest.NAME)["results"]
    corpus = Packed(built)
    for split in SPLITS:
        counts = results["splits"][split]
        assert counts["tokens"] == len(corpus.tokens(split))
        assert counts["rows"] == corpus.rows(split)
    assert results["splits"]["calibration"]["rows"] == 8
    assert sum(results["splits"][split]["documents"] for split in SPLITS) == len(texts)
    training = decoded(built, "train")
    assert results["splits"]["train"]["bytes"] == sum(len(t.encode()) for t in training)
    assert results["source"]["bytes"] == sum(len(t.encode()) for t in texts)


def test_bytes_of_rows_are_those_of_their_text(built):
    corpus = Packed(built)
    row_bytes = corpus.row_bytes()
    assert len(row_bytes) == corpus.rows("validation")
    plain = Tokenizer.from_file(str(built / "tokenizer.json"))
    # The first token is no target; every character of these texts that spans tokens has two
    # bytes, of which the first token has both: a row can be one byte off at either edge.
    rows = corpus.read("validation", np.arange(len(row_bytes)))
    for row, size in zip(rows, row_bytes, strict=True):
        pieces = [plain.id_to_token(t) for t in row[1:].tolist() if t != 0]
        assert abs(sum(map(len, pieces)) - int(size)) <= 1


def test_two_builds_are_the_same_bytes(built, spec, tmp_path):
    build(spec, tmp_path / "again")
    assert files(tmp_path / "again") == files(built)


def test_names_and_order_of_files_move_no_document(built, spec, tmp_path, folder):
    for i, file in enumerate(sorted(folder.iterdir())):
        file.rename(folder / f"renamed-{(i * 37) % 60:02}.md")
    build(spec, tmp_path / "again")
    for split in SPLITS:
        assert sorted(decoded(tmp_path / "again", split)) == sorted(decoded(built, split))
    assert files(tmp_path / "again")["tokenizer.json"] == files(built)["tokenizer.json"]


def test_copies_and_near_duplicates_are_dropped(built, spec, tmp_path, folder):
    held = decoded(built, "validation")
    kept = decoded(built, "train")
    (folder / "copy.txt").write_bytes(held[0].encode())
    (folder / "copy2.txt").write_bytes(kept[0].encode())
    near = [text.replace("alpha ", "ALPHA, ") + "!" for text in held[:3]]
    for i, text in enumerate(near):
        (folder / f"near{i}.txt").write_bytes(text.encode())
    results = build(spec, tmp_path / "again")
    dropped = results["dropped"]
    assert dropped["exact_duplicates"] == {"validation": 1, "train": 1}
    # A changed copy can fall into validation by its own hash: then nothing is to be dropped.
    side = set(decoded(tmp_path / "again", "validation"))
    assert dropped["near_duplicates"]["train"] == sum(text not in side for text in near)
    assert not set(near) & set(decoded(tmp_path / "again", "train"))
    kept_all = build({**spec, "near_duplicates": None}, tmp_path / "third")
    assert kept_all["dropped"]["near_duplicates"]["train"] == 0


def test_large_vocabularies_take_four_bytes(spec, tmp_path, texts):
    words = {word: i for i, word in enumerate(sorted({w for t in texts for w in t.split()}))}
    words |= {"<unk>": 69_998, "</s>": 69_999}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    named = tmp_path / "named"
    named.mkdir()
    tokenizer.save(str(named / "tokenizer.json"))
    (named / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    spec["tokenizer"] = {"kind": "folder", "path": str(named)}
    results = build(spec, tmp_path / "corpus")
    corpus = Packed(tmp_path / "corpus")
    assert results["vocabulary"] == corpus.vocabulary == 70_000
    assert corpus.tokens("train").dtype == np.dtype("<u4")
    ends = np.flatnonzero(corpus.tokens("train") == 69_999) + 1
    assert len(ends) == results["splits"]["train"]["documents"]
    assert ends[-1] == len(corpus.tokens("train"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"validation_share": 1e-9}, "validation_share 1e-09: of 60 documents none is left"),
        ({"calibration_windows": 10_000}, "calibration_windows 10000: windows of 16 tokens need"),
        ({"sequence_length": 100_000}, "validation tokens give no row of 100000"),
        ({"max_bytes": 10}, "document set is empty"),
        ({"source": {"kind": "files", "path": "/nowhere"}}, "/nowhere: no such file or folder"),
        ({"tokenizer": {"kind": "train", "vocabulary": 40_000}}, "the training text gives only"),
    ],
)
def test_a_failed_build_leaves_all_as_it_was(built, spec, change, said):
    before = files(built)
    about = (built / manifest.NAME).read_bytes()
    with pytest.raises(UserError, match=said):
        build({**spec, **change, "key": "1" * 64}, built)
    assert files(built) == before
    assert (built / manifest.NAME).read_bytes() == about
    assert [f.name for f in built.parent.iterdir() if "partial" in f.name] == []


def test_a_corpus_too_small_for_its_study_is_refused(built, spec, tmp_path):
    held = Packed(built).rows("train") * 16
    build(spec, built, needs_tokens=held)
    with pytest.raises(UserError, match=f"corpus: {held:,} training tokens .* needs {held + 1:,};"):
        build(spec, built, needs_tokens=held + 1)
    with pytest.raises(UserError, match="add text"):
        build(spec, tmp_path / "again", needs_tokens=held + 1)
    assert not (tmp_path / "again").exists()


def test_a_finished_corpus_is_kept_and_a_damaged_one_built_again(built, spec):
    about = (built / manifest.NAME).read_bytes()
    build(spec, built)
    assert (built / manifest.NAME).read_bytes() == about
    train = built / "train.bin"
    whole = train.read_bytes()
    train.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    build(spec, built)
    assert train.read_bytes() == whole
    build({**spec, "key": "2" * 64, "sequence_length": 8}, built)
    assert Packed(built).sequence_length == 8


def test_the_script_by_hand(spec, tmp_path, folder):
    def run(spec):
        command = [sys.executable, str(SCRIPT), "--spec", json.dumps(spec)]
        command += [
            "--out",
            str(tmp_path / "out" / "code"),
            "--threads",
            "1",
            "--needs-tokens",
            "1000",
        ]
        return subprocess.run(command, env=os.environ, capture_output=True, text=True)

    done = run(spec)
    assert done.returncode == 0, done.stderr
    assert "train: " in done.stdout
    assert Packed(tmp_path / "out" / "code").rows("calibration") == 8
    (folder / "bad.jsonl").write_text('{"text": 1')
    done = run({**spec, "key": "3" * 64})
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "bad.jsonl line 1: not readable as JSON" in last
