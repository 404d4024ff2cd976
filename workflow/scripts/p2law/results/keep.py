"""Clean-up by policy: what of a study's checkpoints and training states can go, and what cannot.

    all         training states of finished runs go, but for the last snapshots of each trunk
    annealed    as all, and the pruned checkpoints whose runs are finished
    none        as annealed, and the post-trained checkpoints whose losses are known

Which stage's weights go from which policy on is said by the stage (``Stage.weights``). Base
checkpoints and corpora always stay: every added rate starts from them. Nothing goes that a stage of
the study as it stands still has to read. Imports no torch.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from p2law.results import cleaned
from p2law.results.manifest import read_manifest
from p2law.results.stale import Standing
from p2law.study.stage import Names, Ref, Stage
from p2law.study.stages import Stages
from p2law.training import lease

POLICIES = ("all", "annealed", "none")
WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class Item:
    """Something that can go: a folder, or files beside a manifest; ``bytes`` on disk."""

    path: Path
    files: tuple[str, ...]
    bytes: int
    what: str
    evaluation: str = ""

    def delete(self) -> None:
        """Delete it; files beside a manifest are marked as cleaned first."""
        if self.files:
            cleaned.remove(self.path, self.files, self.evaluation)
        else:
            shutil.rmtree(self.path)


class Keep:
    """What of a study may be deleted under a policy, keeping ``snapshots`` forks of each trunk."""

    def __init__(self, stages: Stages, policy: str, snapshots: int) -> None:
        self.stages, self.policy, self.snapshots = stages, policy, snapshots
        self.standing = Standing(stages)
        self._stands = cache(self._stands)
        self.readers: dict[Ref, list[tuple[Stage, Names]]] = defaultdict(list)
        for stage, job in stages.jobs():
            for refs in stage.reads(*job).values():
                for ref in refs:
                    self.readers[ref].append((stage, job))

    def items(self) -> Iterator[Item]:
        """Everything that can go, states first."""
        for stage, job in self.stages.jobs():
            if stage.trains and stage.weights and self._stands(stage.name, job):
                yield from self._states(stage, job)
        for name, stage in self.stages.items():
            if stage.weights and POLICIES.index(stage.weights) <= POLICIES.index(self.policy):
                for names in stage.results():
                    if self._spent(Ref(name, names)):
                        yield from self._weights(Ref(name, names))

    def _stands(self, name: str, job: Names) -> bool:
        """Whether all of a job's results are there as the study wants them, and nobody trains."""
        stage = self.stages[name]
        held = [found for path in _state(stage, job).glob("*/lease.json")
                if (found := lease.read(path))]  # fmt: skip
        return not self.standing.must_run(stage, job) and not any(map(lease.alive, held))

    def _spent(self, ref: Ref) -> bool:
        """Whether a result stands, has a reader, and no reader has still to run."""
        stage = self.stages[ref.stage]
        readers = self.readers[ref]
        return (
            bool(readers)
            and self._stands(ref.stage, stage.job(ref.names))
            and all(self._stands(reader.name, job) for reader, job in readers)
        )

    def _states(self, stage: Stage, job: Names) -> Iterator[Item]:
        """Training states: of other settings all, of this run all but its trunk's last forks."""
        root = _state(stage, job)
        own = root / stage.spec(*job)["key"][:16]
        for folder in sorted(path for path in root.glob("*") if path.is_dir()):
            if folder.name == "points":
                continue  # records, a few kilobytes, by which finished points are known again
            if folder != own:
                yield _folder(folder, "state of other settings")
                continue
            forks = sorted((folder / "forks").glob("step-*"))
            for fork in forks[: max(0, len(forks) - self.snapshots)]:
                yield _folder(fork, "trunk snapshot")
            for leg in sorted(path for path in folder.glob("*") if path.is_dir()):
                if leg.name != "forks":
                    yield _folder(leg, "rolling state")

    def _weights(self, ref: Ref) -> Iterator[Item]:
        """The weight files beside a manifest that are still there."""
        path = self.stages.path(ref)
        there = [n for n in read_manifest(path)["files"] if n.endswith(WEIGHTS)]
        there = [name for name in there if (path.parent / name).exists()]
        if there:
            size = sum((path.parent / name).stat().st_size for name in there)
            model = self.stages.study.models[ref.names[0]]
            evaluation = self.stages.evaluation(model)
            yield Item(path, tuple(there), size, "weights", evaluation)


def _state(stage: Stage, job: Names) -> Path:
    """Where a job's training states lie."""
    return stage.study.root.joinpath(stage.folder, *job, "state")


def _folder(path: Path, what: str) -> Item:
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return Item(path, (), size, what)
