"""The stages of a study, in the order data flows: one class a stage, one table of them.

    corpus -> base -> prune -> posttrain -> evaluate -> tables -> law -> figures, summary -> report

To add one: a class here (or in a module of its own) and its line in :data:`TABLE`, a rules file, a
script. Keys, reruns and their reasons, costs, actuals, status and clean-up follow.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from p2law.study.grid import Model, Study
from p2law.study.outside import Outside
from p2law.study.stage import Names, Ref, Stage
from p2law.study.stages.measured import Downstream, Evaluate
from p2law.study.stages.models import Base, Corpus, Posttrain, Prune
from p2law.study.stages.shown import Figures, Law, Report, Summary, Tables

TABLE: tuple[type[Stage], ...] = (
    Corpus, Base, Prune, Posttrain, Evaluate, Downstream, Tables, Law, Figures, Summary, Report,
)  # fmt: skip


class Stages(Mapping[str, Stage]):
    """The table of stages of one study, by name, in the order data flows."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.outside = Outside(study.root / "digests.json")
        self._stages = {stage.name: stage(self) for stage in TABLE}
        self.key = cache(self.key)
        self.path = cache(self.path)

    def __getitem__(self, name: str) -> Stage:
        return self._stages[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stages)

    def __len__(self) -> int:
        return len(self._stages)

    def key(self, ref: Ref) -> str:
        """A result's key."""
        return self[ref.stage].spec(*ref.names)["key"]

    def path(self, ref: Ref) -> Path:
        """A result's manifest."""
        return self[ref.stage].path(*ref.names)

    def evaluation(self, model: Model) -> str:
        """What a model's losses rest on besides the weights."""
        stage = self["evaluate"]
        assert isinstance(stage, Evaluate)
        return stage.on(model)

    def results(self) -> Iterator[Ref]:
        """Every result of the study."""
        for name, stage in self.items():
            yield from (Ref(name, names) for names in stage.results())

    def jobs(self) -> Iterator[tuple[Stage, Names]]:
        """Every job of the study."""
        for stage in self.values():
            yield from ((stage, job) for job in stage.jobs())
