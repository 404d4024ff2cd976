"""Stages that measure checkpoints: held-out losses, and tasks where they are asked for."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from p2law import evaluation
from p2law.canonical import digest, sha256_file
from p2law.evaluation import downstream
from p2law.results.manifest import is_finished
from p2law.study.grid import Model
from p2law.study.stage import Json, Names, Ref, Stage, Work
from p2law.study.stages.models import start

BASE = "base"
"""The group under ``evaluated/<model>/`` that holds the unpruned model's loss."""


class _OnCheckpoints(Stage):
    """What is measured on checkpoints: a model's base, its control's points, or a method's all."""

    wildcards, room = ("model", "group"), "evaluation"

    def results(self) -> Iterator[Names]:
        for model in self.study.models:
            for group in (BASE, *self.study.groups(model)):
                if not self.settings.partial or self.checkpoints(model, group):
                    yield model, group

    def checkpoints(self, model: str, group: str) -> dict[str, Ref]:
        """Name -> checkpoint of what a job reads; of a partial study, those that are finished.

        Names: ``base``; ``<rate>/pruned``; ``<rate>[-<recipe>][-seed<k>]/D<budget>``.
        """
        named = {BASE: Ref("base", (model,))} if group == BASE else {}
        for variant in self.study.group_variants(model, group):
            named[f"{variant.asked}/pruned"] = start(variant)
        for run in self.study.group_runs(model, group):
            for budget in self.study.budgets:
                ref = Ref("posttrain", (model, run.name, f"D{budget}"))
                named[f"{run.label}/D{budget}"] = ref
        if self.settings.partial:
            stages = self.stages
            return {n: r for n, r in named.items() if is_finished(stages.path(r), stages.key(r))}
        return named

    def reads(self, model: str, group: str) -> dict[str, list[Ref]]:
        family = self.study.models[model].family
        checkpoints = list(self.checkpoints(model, group).values())
        return {"checkpoints": checkpoints, "corpus": [Ref("corpus", (family,))]}

    def keys(self, model: str, group: str) -> dict[str, str]:
        """The checkpoints' keys by name."""
        return {n: self.stages.key(ref) for n, ref in self.checkpoints(model, group).items()}


class Evaluate(_OnCheckpoints):
    """Held-out losses."""

    name, folder = "evaluate", "evaluated"

    def recipe(self, *names: str) -> int:
        return evaluation.RECIPE

    def told(self, model: str, group: str) -> Json:
        return {**self._rows(), "checkpoints": self.keys(model, group)}

    def _rows(self) -> Json:
        rows = {"tokens": self.settings.evaluate.tokens, "split": "validation"}
        return rows | {"sequence_length": self.settings.corpus.sequence_length}

    def spec(self, *names: str) -> Json:
        return super().spec(*names) | {"batch_rows": self.settings.evaluate.batch_rows}

    def on(self, model: Model) -> str:
        """What a model's losses depend on besides the weights: its rows and how they are read."""
        corpus_key = self.stages.key(Ref("corpus", (model.family,)))
        return digest([self.name, self.recipe(), self._rows(), corpus_key])

    def needs_weights(self, mark: Mapping[str, Any], model: str, group: str) -> bool:
        return mark["evaluation"] != self.on(self.study.models[model])

    def work(self, costs: Any, model: str, group: str) -> Work:
        count, tokens = costs.group_checkpoints(model, group), self.settings.evaluate.tokens
        flops = count * tokens * costs.model_flops(model)
        disk = count * tokens / self.settings.corpus.sequence_length * 8
        return Work(count * tokens, flops, costs.load_memory(model), disk)


class Downstream(_OnCheckpoints):
    """Tasks by lm-eval on the same checkpoints; only where a study has the section."""

    name, folder, optional = "downstream", "downstream", True

    def results(self) -> Iterator[Names]:
        return iter(()) if self.settings.downstream is None else super().results()

    def recipe(self, *names: str) -> int:
        return downstream.RECIPE

    def told(self, model: str, group: str) -> Json:
        section = self.settings.downstream
        folder = Path(section.include) if section.include else None
        found = sorted(folder.glob("**/*")) if folder else []
        return {
            **section.model_dump(),
            "definitions": {
                p.relative_to(folder).as_posix(): sha256_file(p) for p in found if p.is_file()
            },
            "sequence_length": self.settings.corpus.sequence_length,
            "seed": self.settings.seed,
            "checkpoints": self.keys(model, group),
        }
