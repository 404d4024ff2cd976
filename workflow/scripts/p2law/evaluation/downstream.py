"""Downstream tasks of a checkpoint by EleutherAI's lm-eval: an optional target of its own.

lm-eval is no part of the pinned environment (envs/downstream.txt adds it). Scores move with its
version, the task's version, the batch size and whether a BOS token is put first, so all four are
fixed by the spec and written beside the scores.
"""

import csv
import difflib
import io as text
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from p2law import canonical
from p2law.errors import UserError
from p2law.results import manifest

RECIPE = 1
"""Raised when the numbers of this file change; part of every key of the downstream stage."""
VERSION = "0.4.13"
"""The lm-eval whose scores these are, as envs/downstream.txt pins it."""
SCORES = "scores.csv"
COLUMNS = ("checkpoint", "task", "version", "metric", "value", "stderr", "documents")


def require() -> None:
    """Raise :class:`UserError` unless the pinned lm-eval is installed."""
    try:
        found = metadata.version("lm_eval")
    except metadata.PackageNotFoundError:
        found = "absent"
    if found != VERSION:
        raise UserError(
            f"lm-eval is {found}; downstream tasks need {VERSION}:"
            " envs/run pip install -r envs/downstream.txt"
        )


def score(
    spec: Mapping[str, Any],
    corpus: Path,
    checkpoints: Mapping[str, Path],
    out: Path,
    device: str = "cpu",
) -> None:
    """Score every checkpoint on every task and write ``scores.csv`` and the manifest to ``out``.

    ``corpus`` is the manifest of the folder that holds the tokenizer. Raises :class:`UserError`
    for an unknown task or one whose data cannot be had.
    """
    from p2law.evaluation.evaluate import check_checkpoints

    require()
    started = time.time()
    check_checkpoints(spec, checkpoints)
    tasks = _tasks(spec)
    rows = []
    for name, path in checkpoints.items():
        found = _scores(spec, path.parent, corpus.parent, tasks, device)
        rows += [{"checkpoint": name, **row} for row in found]
        shown = ", ".join(f"{r['task']} {r['metric']} {r['value']:.4f}" for r in found)
        print(f"{name}: {shown}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    table = text.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    canonical.write_text(out / SCORES, table.getvalue())
    manifest.write_manifest(
        out,
        stage="downstream",
        spec=spec,
        inputs={"corpus": corpus, **checkpoints},
        files=[SCORES],
        results={"lm_eval": VERSION, "scores": len(rows)},
        started=started,
    )


def _tasks(spec: Mapping[str, Any]) -> Any:
    """lm-eval's task manager, which knows every task that the spec asks for."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=spec["include"])
    known = set(manager.all_tasks)
    for name in spec["tasks"]:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3)
            hint = f"; did you mean {', '.join(close)}?" if close else ""
            raise UserError(f"downstream.tasks: lm-eval {VERSION} has no task {name!r}{hint}")
    return manager


def _scores(
    spec: Mapping[str, Any], folder: Path, tokenizer: Path, tasks: Any, device: str
) -> list[dict[str, Any]]:
    """A checkpoint's scores, one row a task and metric."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    from p2law.checkpoints import io

    model = HFLM(
        pretrained=io.load(folder, device=device),
        tokenizer=AutoTokenizer.from_pretrained(tokenizer, local_files_only=True),
        batch_size=spec["batch_rows"],
        max_length=spec["sequence_length"],
        add_bos_token=spec["add_bos_token"],
        device=device,
    )
    try:
        found = lm_eval.simple_evaluate(
            model,
            tasks=list(spec["tasks"]),
            num_fewshot=spec["shots"],
            limit=spec["limit"],
            task_manager=tasks,
            random_seed=spec["seed"],
            fewshot_random_seed=spec["seed"],
            log_samples=False,
        )
    except OSError as error:  # the hub out of reach, or a data set that is not there
        raise UserError(
            f"downstream.tasks {', '.join(spec['tasks'])}: data could not be had ({error})"
        ) from error
    return list(_rows(found))


def _rows(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """lm-eval's results, flat: its keys read ``metric,filter``."""
    for task, scores in found["results"].items():
        for key, value in scores.items():
            metric, comma, kind = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, float | int):
                continue
            error = scores.get(f"{metric}_stderr,{kind}")
            yield {
                "task": task,
                "version": found["versions"].get(task),
                "metric": metric if kind == "none" else f"{metric} ({kind})",
                "value": value,
                "stderr": error if isinstance(error, float) else None,
                "documents": found["n-samples"][task]["effective"],
            }
