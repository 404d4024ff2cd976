"""Downstream tasks: lm-eval where it is installed, and one clear refusal where it is not."""

import csv
import json
from importlib import metadata
from pathlib import Path

import pytest
import torch

from p2law import canonical
from p2law.checkpoints import io
from p2law.errors import UserError
from p2law.evaluation import downstream
from p2law.results import manifest

ROOT = Path(__file__).parents[2]
TASK = """
task: local_letters
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: choices
doc_to_target: answer
target_delimiter: ""
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0}
"""


def test_the_version_is_the_one_that_the_environment_file_pins():
    lines = (ROOT / "envs" / "downstream.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        f"lm-eval=={downstream.VERSION}"
    ]


@pytest.mark.parametrize("found", [None, "0.4.2"])
def test_without_it_one_message_says_how_to_install(monkeypatch, found):
    def version(name):
        assert name == "lm_eval"
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(downstream.metadata, "version", version)
    words = f"lm-eval is {found or 'absent'}; .* pip install -r envs/downstream.txt"
    with pytest.raises(UserError, match=words):
        downstream.require()


def test_scores_are_flat():
    """As lm-eval 0.4.13 returns them: ``metric,filter``, an error that may be 'N/A'."""
    found = {
        "results": {
            "boolq": {"alias": "boolq", "acc,none": 0.5, "acc_stderr,none": 0.1},
            "gsm": {"exact_match,strict": 0.25, "exact_match_stderr,strict": "N/A"},
        },
        "versions": {"boolq": 2.0},
        "n-samples": {"boolq": {"effective": 10}, "gsm": {"effective": 4}},
    }
    assert list(downstream._rows(found)) == [
        {"task": "boolq", "version": 2.0, "metric": "acc", "value": 0.5, "stderr": 0.1,
         "documents": 10},
        {"task": "gsm", "version": None, "metric": "exact_match (strict)", "value": 0.25,
         "stderr": None, "documents": 4},
    ]  # fmt: skip


@pytest.fixture
def letters(tmp_path, corpus):
    """A local task, and the corpus' folder with a tokenizer of one token a letter."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = [chr(ord("!") + k) for k in range(64)]
    plain = Tokenizer(models.WordLevel({c: k for k, c in enumerate(alphabet)}, unk_token="!"))
    plain.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    folder = tmp_path / "corpus"
    PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="!").save_pretrained(folder)
    canonical.write_json(folder / manifest.NAME, manifest.read_manifest(corpus))
    documents = [
        {"question": "ABCD"[k % 4], "choices": ["1#", "2$", "3"], "answer": k % 3}
        for k in range(12)
    ]
    (tmp_path / "tasks").mkdir()
    data = tmp_path / "documents.jsonl"
    data.write_text("".join(json.dumps(document) + "\n" for document in documents))
    (tmp_path / "tasks" / "letters.yaml").write_text(TASK % data)
    spec = {
        "key": "d", "tasks": ["local_letters"], "add_bos_token": False, "shots": 0,
        "batch_rows": 4, "limit": None, "include": str(tmp_path / "tasks"),
        "sequence_length": 16, "seed": 0, "checkpoints": {"a": "a"},
    }  # fmt: skip
    return spec, folder / manifest.NAME, documents, alphabet


def test_a_local_task_is_scored_as_by_hand(tmp_path, checkpoints, letters):
    """The most likely choice, token by token, against lm-eval's accuracy."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: envs/downstream.txt")
    spec, corpus, documents, alphabet = letters
    downstream.score(spec, corpus, {"a": checkpoints["a"]}, tmp_path / "out")
    with (tmp_path / "out" / downstream.SCORES).open() as file:
        (row,) = csv.DictReader(file)
    model = io.load(checkpoints["a"].parent)

    def likelihood(question: str, choice: str) -> float:
        tokens = torch.tensor([[alphabet.index(c) for c in question + choice]])
        with torch.inference_mode():
            logs = torch.log_softmax(model(input_ids=tokens).logits[0], -1)
        first = len(question) - 1
        return sum(logs[first + k, alphabet.index(c)].item() for k, c in enumerate(choice))

    right = 0
    for document in documents:
        scores = [likelihood(document["question"], choice) for choice in document["choices"]]
        right += scores.index(max(scores)) == document["answer"]
    assert (row["checkpoint"], row["task"], row["version"]) == ("a", "local_letters", "1.0")
    assert (row["metric"], row["documents"]) == ("acc", "12")
    assert float(row["value"]) == pytest.approx(right / 12)
    found = manifest.verify_files(tmp_path / "out" / "manifest.json")
    assert found["results"]["lm_eval"] == downstream.VERSION


def test_an_unknown_task_is_named(tmp_path, checkpoints, letters):
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: envs/downstream.txt")
    spec, corpus, *_ = letters
    with pytest.raises(UserError, match="no task 'hellaswog'; did you mean .*hellaswag"):
        downstream.score(
            {**spec, "tasks": ["hellaswog"]}, corpus, {"a": checkpoints["a"]}, tmp_path
        )
