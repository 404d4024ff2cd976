"""Clean-up by policy: what of a study's checkpoints and training states can go, and what cannot.

    all         training states of finished runs go, but for the last snapshots of each trunk
    annealed    as all, and the pruned checkpoints whose runs are finished
    none        as annealed, and the post-trained checkpoints whose losses are in the tables' inputs

Base checkpoints and corpora always stay: every added rate starts from them. Nothing goes that a
stage of the study as it stands still has to read. Imports no torch.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from p2law.results import cleaned
from p2law.results.manifest import read_manifest
from p2law.results.stale import stale
from p2law.study.grid import Run, Study, Variant
from p2law.study.specs import Specs
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

    def __init__(self, study: Study, policy: str, snapshots: int) -> None:
        self.study, self.policy, self.snapshots = study, policy, snapshots
        self.specs = Specs(study)
        self.stale = stale(self.specs.expected())

    def items(self) -> Iterator[Item]:
        """Everything that can go, runs first."""
        for run in self.study.runs.values():
            if self._finished(run):
                yield from self._states(run)
                if self.policy == "none":
                    for budget in self.study.budgets:
                        if self._evaluated(run, f"{_label(run)}/D{budget}"):
                            yield from self._weights(
                                self.study.point_manifest(run, budget), run.variant.model
                            )
        if self.policy != "all":
            for variant in self.study.variants.values():
                if self._spent(variant):
                    yield from self._weights(self.study.variant_manifest(variant), variant.model)

    def _current(self, path: Path) -> bool:
        return path.exists() and str(path) not in self.stale

    def _finished(self, run: Run) -> bool:
        """Whether every point of a run is there and nobody trains it."""
        points = [self.study.point_manifest(run, budget) for budget in self.study.budgets]
        root = points[0].parents[1] / "state"
        held = [found for path in root.glob("*/lease.json") if (found := lease.read(path))]
        return all(map(self._current, points)) and not any(map(lease.alive, held))

    def _states(self, run: Run) -> Iterator[Item]:
        """Training states: of other settings all, of this run all but its trunk's last forks."""
        root = self.study.point_manifest(run, self.study.budgets[0]).parents[1] / "state"
        own = root / self.specs.posttrain(run)["key"][:16]
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

    def _evaluated(self, run_or_variant: Run | Variant, name: str) -> bool:
        """Whether all that a study asks of a checkpoint is known: its loss, and scores on tasks."""
        variant = getattr(run_or_variant, "variant", run_or_variant)
        paths = [self.study.evaluated_manifest(variant.model, variant.method)]
        if self.study.settings.downstream is not None:
            paths.append(self.study.downstream_manifest(variant.model, variant.method))
        return all(
            self._current(path) and name in read_manifest(path)["spec"]["checkpoints"]
            for path in paths
        )

    def _spent(self, variant: Variant) -> bool:
        """Whether a pruned checkpoint has been evaluated and trained to all its points."""
        path = self.study.pruned_manifest(variant.model, variant.method)
        runs = [
            run
            for run in self.study.group_runs(variant.model, variant.method)
            if run.variant is variant
        ]
        return (
            self._current(path)
            and all(map(self._finished, runs))
            and self._evaluated(variant, f"{variant.asked}/pruned")
        )

    def _weights(self, path: Path, model: str) -> Iterator[Item]:
        """The weight files beside a manifest that are still there."""
        there = [n for n in read_manifest(path)["files"] if n.endswith(WEIGHTS)]
        there = [name for name in there if (path.parent / name).exists()]
        if there:
            size = sum((path.parent / name).stat().st_size for name in there)
            yield Item(path, tuple(there), size, "weights", self.specs.evaluation(model))


def _label(run: Run) -> str:
    return run.name.removeprefix(f"{run.variant.method}-")


def _folder(path: Path, what: str) -> Item:
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return Item(path, (), size, what)
