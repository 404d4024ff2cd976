"""Which results must be made again, and why, told from the manifests alone.

Snakemake's own records lie in ``.snakemake/`` and are lost when results are copied beside a fresh
clone; file times are scrambled by the copy. Manifests travel with the results: a result is stale
when its manifest's key is not the study's, when a file that it names is gone or cut (and was not
deleted on purpose, see :mod:`p2law.results.cleaned`), or when its weights were cleaned and a job
that will run reads them.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from p2law.results import cleaned, fingerprint
from p2law.results.manifest import read_manifest
from p2law.study.stage import Names, Stage
from p2law.study.stages import Stages

KEYS = {"key", "trunk"}
"""Parts of a spec that say what was read, by its key."""


class Standing:
    """What of a study stands. ``forced`` are rules that are asked to run whatever stands."""

    def __init__(self, stages: Stages, forced: Iterable[str] = ()) -> None:
        self.stages, self.forced = stages, set(forced)
        self.reasons: dict[str, str] = {}
        """Output that is there and must be made again -> why."""
        self.demanded: dict[str, list[Path]] = defaultdict(list)
        """Output -> manifests of its job whose weights were cleaned away and must come back."""
        self.drifted: dict[str, tuple[str, Any]] = {}
        """Room whose code has changed since some results -> (one of them, their RECIPE)."""
        self._look()
        self._demand()
        self._runs = cache(self._runs)
        self._stale_beyond = cache(self._stale_beyond)

    def _look(self) -> None:
        for name, stage in self.stages.items():
            for names in stage.results():
                output, path = stage.output(names), stage.path(*names)
                if not output.exists() or str(output) in self.reasons:
                    continue
                if not path.exists():
                    self.reasons[str(output)] = f"{path} is missing"
                elif reason := self._reason(stage, path, stage.spec(*names)):
                    self.reasons[str(output)] = f"{name}: {reason}"

    def _reason(self, stage: Stage, path: Path, spec: dict[str, Any]) -> str:
        manifest = read_manifest(path)
        if manifest.get("key") != spec["key"]:
            changes = list(differences(manifest.get("spec", {}), spec))
            return "; ".join(changes[:3]) or "what it was made from has changed"
        if lost := cleaned.lost_files(path, manifest):
            return f"{lost[0]} is missing or cut"
        if stage.room not in self.drifted and fingerprint.differs(manifest, stage.room):
            self.drifted[stage.room] = (str(path), fingerprint.recipe(stage.room))
        return ""

    def _demand(self) -> None:
        """Cleaned weights that a job which will run reads; what makes them reads in its turn."""
        pending = [(stage, job) for stage, job in self.stages.jobs()]
        for stage, job in reversed(pending):  # readers first
            if stage.optional or not self.must_run(stage, job):
                continue
            for refs in stage.reads(*job).values():
                for ref in refs:
                    path = self.stages.path(ref)
                    if not cleaned.lacks_weights(path):
                        continue
                    if stage.needs_weights(cleaned.read(path), *job):
                        output = str(self.stages[ref.stage].output(ref.names))
                        where = stage.outputs(*job)[0]
                        why = f"{where} needs weights that were cleaned away"
                        self.reasons.setdefault(output, why)
                        self.demanded[output].append(path)

    def must_run(self, stage: Stage, job: Names) -> bool:
        """Whether a job has an output that is missing or must be made again, or is forced."""
        if stage.name in self.forced:
            return True
        outputs = stage.outputs(*job)
        return any(str(path) in self.reasons or not path.exists() for path in outputs)

    def inputs(self, stage: Stage, job: Names) -> Iterator[tuple[str, list[str], bool]]:
        """A job's inputs as (name, files, whether their making is a reason to run).

        A job that stands has only inputs whose making is no reason. One that must run is told, as
        ``after``, of stale outputs behind upstream jobs that stand: Snakemake looks for jobs to run
        along inputs that are a reason, and would not get past those.
        """
        runs = self._runs(stage.name, job)
        for name, refs in stage.reads(*job).items():
            outputs = [str(self.stages[r.stage].output(r.names)) for r in refs]
            yield name, list(dict.fromkeys(outputs)), runs
        if runs and (beyond := self._stale_beyond(stage.name, job)):
            yield "after", sorted(beyond), True

    def _runs(self, name: str, job: Names) -> bool:
        return self.must_run(self.stages[name], job)

    def _stale_beyond(self, name: str, job: Names) -> frozenset[str]:
        """Stale outputs upstream of a job, behind jobs that stand."""
        found: set[str] = set()
        for refs in self.stages[name].reads(*job).values():
            for ref in refs:
                above = self.stages[ref.stage].job(ref.names)
                if not self._runs(ref.stage, above):
                    for stage, names in self._read_by(ref.stage, above):
                        outputs = {str(path) for path in self.stages[stage].outputs(*names)}
                        found |= outputs & self.reasons.keys()
                    found |= self._stale_beyond(ref.stage, above)
        return frozenset(found)

    def _read_by(self, name: str, job: Names) -> set[tuple[str, Names]]:
        refs = [ref for refs in self.stages[name].reads(*job).values() for ref in refs]
        return {(ref.stage, self.stages[ref.stage].job(ref.names)) for ref in refs}


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """What differs between two specs, setting by setting: ``key: old -> new``, ``key: + added``.

    Digests of results that were read are not told; where nothing else differs, nothing is yielded.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _of_mappings(old, new, path)
    elif (
        isinstance(old, list)
        and isinstance(new, list)
        and not any(isinstance(x, dict) for x in old + new)
    ):
        yield from _told(path, [x for x in new if x not in old], [x for x in old if x not in new])
    elif old != new and not _is_digest(new):
        yield f"{path}: {_short(old)} -> {_short(new)}"
    elif old != new and "content." in path:  # a file that users know, not a result
        yield f"{path.rpartition('content.')[2]} has changed"


def _of_mappings(old: dict[str, Any], new: dict[str, Any], path: str) -> Iterator[str]:
    added, gone = sorted({*new} - {*old} - KEYS), sorted({*old} - {*new} - KEYS)
    if path and all(_is_digest(v) for v in [*old.values(), *new.values()]):
        yield from _told(path, added, gone)
    else:
        for key in added:
            yield f"{f'{path}.{key}'.lstrip('.')}: {_short(new[key])}"
        for key in gone:
            yield f"{f'{path}.{key}'.lstrip('.')}: gone"
    for key in sorted({*old} & {*new} - KEYS):
        where = f"{path}.{key}".lstrip(".").removeprefix("study.")
        yield from differences(old[key], new[key], where)


def _told(path: str, added: list[Any], gone: list[Any]) -> Iterator[str]:
    for sign, values in (("+", added), ("-", gone)):
        if values:
            yield f"{path}: {sign} {', '.join(map(_short, values))}"


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")


def _short(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
