"""A stage as one object: what it makes, what that reads, and the key that identifies it.

A stage makes *results*, each a folder with a manifest, named by a tuple of words below the stage's
own folder. One *job* of a stage's rule makes all results whose names begin with the job's. The key
of a result is the sha256 of what its numbers depend on: its settings, the RECIPE of the code that
makes them, and the keys of what it reads. Equal keys mean equal results; paths, resources and
labels are not in them. Everything else (paths, rule inputs, staleness, costs, clean-up, status) is
a loop over the table of stages, :mod:`p2law.study.stages`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from p2law.canonical import digest
from p2law.results.manifest import NAME

if TYPE_CHECKING:
    from p2law.study.stages import Stages

Names = tuple[str, ...]
Json = dict[str, Any]


class Ref(NamedTuple):
    """A result: its stage, and its names below that stage's folder."""

    stage: str
    names: Names


@dataclass(frozen=True)
class Work:
    """What one job takes: tokens read or trained on, FLOPs, peak resident bytes, bytes written."""

    tokens: float
    flops: float
    memory: float
    disk: float


class Stage:
    """One stage of one study. A stage of its own says what it makes; the rest follows.

    name       of its rule and of its script
    folder     below ``results/<study>/``
    wildcards  of its rule; a job's names are their values
    room       the room of the library whose code makes its numbers
    trains     whether its jobs train, over several GPUs and nodes, with states below ``state/``
    weights    the clean-up policy from which on its results' weights may go; None keeps them
    optional   a target of its own: no part of a whole study, so that cleaned weights are not made
               again for its sake
    """

    name: ClassVar[str]
    folder: ClassVar[str]
    wildcards: ClassVar[Names] = ()
    room: ClassVar[str]
    trains: ClassVar[bool] = False
    weights: ClassVar[str | None] = None
    optional: ClassVar[bool] = False

    def __init__(self, stages: "Stages") -> None:
        self.stages, self.study, self.settings = stages, stages.study, stages.study.settings
        # Asked for many times a parse: a study does not change, so each is made once.
        self.spec = cache(self.spec)
        self.reads = cache(self.reads)
        self.jobs = cache(self.jobs)

    # What a stage says of itself.

    def results(self) -> Iterator[Names]:
        """The names of everything it makes."""
        raise NotImplementedError

    def told(self, *names: str) -> Json:
        """The settings that a result's numbers depend on."""
        raise NotImplementedError

    def reads(self, *names: str) -> Mapping[str, list[Ref]]:
        """What a result, or a job, reads: the rule's named inputs."""
        return {}

    def recipe(self, *names: str) -> Any:
        """The version of the code that makes a result's numbers."""
        raise NotImplementedError

    def work(self, costs: Any, *job: str) -> Work | None:
        """What a job takes, by the cost model (``cluster.costs.Costs``); None for a moment."""
        return None

    def needs_weights(self, mark: Mapping[str, Any], *job: str) -> bool:
        """Whether a job that runs reads the weights of a result that were cleaned away.

        ``mark`` is what the clean-up left (:func:`p2law.results.cleaned.read`).
        """
        return True

    def trained(self, *job: str) -> bool:
        """Whether a job trains."""
        return self.trains

    def outputs(self, *job: str) -> list[Path]:
        """The manifests that its rule names as a job's output."""
        return [self.path(*job)]

    # What follows.

    def spec(self, *names: str) -> Json:
        """What a result's manifest holds and its job is told: settings with the key."""
        told = self.told(*names)
        upstream = [self.stages.key(ref) for refs in self.reads(*names).values() for ref in refs]
        identity = {"stage": self.name, "recipe": self.recipe(*names), "spec": told}
        return {**told, "key": digest({**identity, "upstream": upstream})}

    def path(self, *names: str) -> Path:
        """A result's manifest."""
        return self.study.root.joinpath(self.folder, *names, NAME)

    def job(self, names: Names) -> Names:
        """The job that makes a result."""
        return names[: len(self.wildcards)]

    def jobs(self) -> list[Names]:
        """Every job's names, in the study's order."""
        return list(dict.fromkeys(self.job(names) for names in self.results()))

    def output(self, names: Names) -> Path:
        """The output of the rule that stands for a result: its own manifest, or its job's."""
        outputs, path = self.outputs(*self.job(names)), self.path(*names)
        return path if path in outputs else outputs[0]

    def log(self, *job: str) -> Path:
        """Where a job's output goes."""
        return self._beside("logs", ".log", job)

    def benchmark(self, *job: str) -> Path:
        """Where Snakemake writes a job's wall time."""
        return self._beside("benchmarks", ".tsv", job)

    def _beside(self, folder: str, ending: str, job: Names) -> Path:
        *above, last = self.name, *job
        return self.study.root.joinpath(folder, *above, f"{last}{ending}")
