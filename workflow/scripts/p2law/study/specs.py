"""What each stage's job is told, and its key.

A key is the sha256 of what a stage's numbers depend on: its spec, the ``RECIPE`` of the code that
makes them, and the keys of what it reads. Equal keys mean equal results; paths, resources and
labels are not in them. Keys replace file times as the reason to run a stage again.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from p2law import checkpoints, corpus, evaluation, laws, pruning, tables, training
from p2law.canonical import digest, sha256_file
from p2law.evaluation import downstream
from p2law.results.manifest import read_manifest
from p2law.study.grid import Run, Study, Variant

LIBRARY = Path(__file__).parents[1]
BASE = "base"
"""The group under ``evaluated/<model>/`` that holds the unpruned model's loss."""


class Specs:
    """The spec and key of every stage of one study."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.settings = study.settings
        for stage in ("corpus", "base", "variant", "prune", "posttrain", "evaluate", "checkpoints"):
            # Asked for many times a parse: a study does not change, so each is made once.
            setattr(self, stage, cache(getattr(self, stage)))

    def corpus(self, family: str) -> dict[str, Any]:
        """Of the corpus stage: a family's text, split and tokenizer."""
        section = self.settings.families[family]
        spec = {
            **self.settings.corpus.model_dump(),
            "tokenizer": section.tokenizer.model_dump(),
            "seed": self.settings.seed,
        }
        return _keyed("corpus", corpus.RECIPE, spec, [])

    def base(self, model: str) -> dict[str, Any]:
        """Of the base stage: how to train, copy or download one model."""
        named = self.study.models[model]
        spec = named.settings.model_dump(exclude={"shape"})
        upstream = []
        if named.settings.source == "pretrain":
            train = self.settings.pretrain.model_dump()
            train["tokens"] = spec.pop("tokens")
            train["learning_rate"] = spec.pop("learning_rate") or train["learning_rate"]
            spec |= {"config": dict(named.config), "train": train, "seed": self.settings.seed}
            spec["sequence_length"] = self.settings.corpus.sequence_length
            upstream = [self.corpus(named.family)["key"]]
        recipe = training.RECIPE if upstream else checkpoints.RECIPE
        return _keyed("base", recipe, spec, upstream)

    def variant(self, variant: Variant) -> dict[str, Any]:
        """Of one pruned checkpoint."""
        spec = {
            "rate": float(variant.asked),
            "prune": self.settings.methods[variant.method].settings(),
            "calibration": {"windows": self.settings.corpus.calibration_windows},
            "seed": self.settings.seed,
        }
        return _keyed("prune", pruning.RECIPE, spec, self._checkpoint_inputs(variant.model))

    def prune(self, model: str, method: str) -> dict[str, Any]:
        """Of the prune stage: one method at all its rates."""
        variants = {v.asked: self.variant(v) for v in self.study.group_variants(model, method)}
        common = next(iter(variants.values()))
        spec = {
            "method": method,
            **{name: common[name] for name in ("prune", "calibration", "seed")},
            "variants": {
                asked: {"key": one["key"], "rate": one["rate"]} for asked, one in variants.items()
            },
        }
        return _keyed("prune-method", 1, spec, [])

    def posttrain(self, run: Run) -> dict[str, Any]:
        """Of the posttrain stage: ``key`` names the trunk, ``budgets`` the key of each point."""
        section = self.settings.posttrain
        train = section.model_dump(exclude={"schedule", "budgets", "seeds"})
        spec = {
            "schedule": run.schedule,
            "train": {**train, "learning_rate": section.peak(run.schedule)},
            "seed": run.seed,
            "sequence_length": self.settings.corpus.sequence_length,
        }
        upstream = [self.variant(run.variant)["key"]]
        upstream += [self.corpus(self.study.models[run.variant.model].family)["key"]]
        if section.distil is not None:
            upstream += [self.base(run.variant.model)["key"]]
        spec = _keyed("posttrain", training.RECIPE, spec, upstream)
        spec["budgets"] = {str(D): self.point_key(spec["key"], D) for D in self.study.budgets}
        return spec

    @staticmethod
    def point_key(trunk: str, budget: int) -> str:
        """Key of the annealed model that a trunk gives at a budget."""
        return digest({"stage": "posttrain", "trunk": trunk, "budget": budget})

    def evaluate(self, model: str, group: str) -> dict[str, Any]:
        """Of the evaluate stage: a model's base, or one method's variants and all their points."""
        keys = {name: key for name, (_, key) in self.checkpoints(model, group).items()}
        return self.evaluate_spec(model, keys)

    def evaluate_spec(self, model: str, keys: dict[str, str]) -> dict[str, Any]:
        """Of an evaluation of checkpoints with these keys, by name."""
        section = self.settings.evaluate.model_dump()
        batch_rows = section.pop("batch_rows")
        spec = {
            **section,
            "split": "validation",
            "sequence_length": self.settings.corpus.sequence_length,
            "checkpoints": keys,
        }
        corpus_key = self.corpus(self.study.models[model].family)["key"]
        return {
            **_keyed("evaluate", evaluation.RECIPE, spec, [corpus_key]),
            "batch_rows": batch_rows,
        }

    def downstream(self, model: str, group: str) -> dict[str, Any]:
        """Of the optional downstream stage: the same checkpoints as an evaluation's, on tasks."""
        section = self.settings.downstream
        keys = {name: key for name, (_, key) in self.checkpoints(model, group).items()}
        definitions = sorted(Path(section.include).glob("**/*")) if section.include else []
        spec = {
            **section.model_dump(),
            "definitions": {p.name: sha256_file(p) for p in definitions if p.is_file()},
            "sequence_length": self.settings.corpus.sequence_length,
            "seed": self.settings.seed,
            "checkpoints": keys,
        }
        corpus_key = self.corpus(self.study.models[model].family)["key"]
        return _keyed("downstream", downstream.RECIPE, spec, [corpus_key])

    def evaluation(self, model: str) -> str:
        """What a model's losses depend on besides the weights: its rows and how they are read."""
        return self.evaluate_spec(model, {})["key"]

    def checkpoints(self, model: str, group: str) -> dict[str, tuple[Path, str]]:
        """Name -> (manifest, key) of what an evaluation job reads.

        Names: ``base``; ``<rate>/pruned``; ``<rate>[-<schedule>][-seed<k>]/D<budget>``. Of a
        partial study, those that are finished.
        """
        named = {}
        if group == BASE:
            named[BASE] = (self.study.base_manifest(model), self.base(model)["key"])
        for variant in self.study.group_variants(model, group):
            key = self.variant(variant)["key"]
            named[f"{variant.asked}/pruned"] = (self.study.variant_manifest(variant), key)
        for run in self.study.group_runs(model, group):
            label = run.name.removeprefix(f"{group}-")
            for budget, key in self.posttrain(run)["budgets"].items():
                named[f"{label}/D{budget}"] = (self.study.point_manifest(run, int(budget)), key)
        if self.settings.partial:
            named = {n: (p, k) for n, (p, k) in named.items() if is_finished(p, k)}
        return named

    def groups(self) -> list[tuple[str, str]]:
        """The (model, group) pairs that are evaluated: the base and each method, a model.

        Of a partial study, those with at least one finished checkpoint.
        """
        pairs = [(m, g) for m in self.study.models for g in (BASE, *self.settings.methods)]
        return [p for p in pairs if self.checkpoints(*p)] if self.settings.partial else pairs

    def tables(self) -> dict[str, Any]:
        """Of the tables stage; ``study`` is what the study file says of the grid."""
        keys = {f"{m}/{g}": self.evaluate(m, g)["key"] for m, g in self.groups()}
        grid = {k: v for k, v in self.study.config.items() if k not in ("law", "hardware")}
        return {**_keyed("tables", tables.RECIPE, {"evaluated": keys}, []), "study": grid}

    def law(self) -> dict[str, Any]:
        """Of the law stage: forms, objective, replicates."""
        spec = self.settings.law.model_dump(exclude={"identify"}, exclude_none=True)
        spec |= {"seed": self.settings.seed, "schedule": next(iter(self.study.schedules), None)}
        return _keyed("law", laws.RECIPE, spec, [self.tables()["key"]])

    def figures(self) -> dict[str, Any]:
        """Of the figures stage: nothing but what it draws and the code that draws."""
        sources = sorted((LIBRARY / "figures").glob("*.py"))
        return _keyed("figures", code_digest(sources), {}, [self._results()["key"]])

    def summary(self) -> dict[str, Any]:
        """Of the report's tables."""
        planning = [
            LIBRARY / "laws" / "deciding" / f"{name}.py"
            for name in ("plan", "buy", "answers", "variants")
        ]
        pages = sorted((LIBRARY / "report").glob("*.py"))
        code = code_digest([LIBRARY.parent / "summary.py", *pages, *planning])
        spec = _keyed("summary", code, {}, [self._results()["key"]])
        return {**spec, "study": self.study.config}

    def _results(self) -> dict[str, Any]:
        """What figures and report show: the law, or the tables of a study without runs."""
        return self.law() if self.study.runs else self.tables()

    def expected(self) -> Iterator[tuple[Path, Path, dict[str, Any]]]:
        """(the output to make again, the manifest to look at, its spec) of every stage."""
        for family in self.settings.families:
            path = self.study.corpus_manifest(family)
            yield path, path, self.corpus(family)
        for model in self.study.models:
            path = self.study.base_manifest(model)
            yield path, path, self.base(model)
            for method in self.settings.methods:
                path = self.study.pruned_manifest(model, method)
                yield path, path, self.prune(model, method)
        for variant in self.study.variants.values():
            path = self.study.pruned_manifest(variant.model, variant.method)
            yield path, self.study.variant_manifest(variant), self.variant(variant)
        for run in self.study.runs.values():
            spec = self.posttrain(run)
            for budget, key in spec["budgets"].items():
                path = self.study.point_manifest(run, int(budget))
                yield path, path, {**spec, "key": key}
        for pair in self.groups():
            path = self.study.evaluated_manifest(*pair)
            yield path, path, self.evaluate(*pair)
            if self.settings.downstream is not None:
                path = self.study.downstream_manifest(*pair)
                yield path, path, self.downstream(*pair)
        for stage in ("tables", *(["law"] if self.study.runs else []), "figures", "summary"):
            path = self.study.stage_manifest(stage)
            yield path, path, getattr(self, stage)()

    def _checkpoint_inputs(self, model: str) -> list[str]:
        family = self.study.models[model].family
        return [self.base(model)["key"], self.corpus(family)["key"]]


def _keyed(stage: str, recipe: Any, spec: dict[str, Any], upstream: list[str]) -> dict[str, Any]:
    """``spec`` with its key, from stage, recipe, spec and the keys of what it reads."""
    identity = {"stage": stage, "recipe": recipe, "spec": spec, "upstream": upstream}
    return {**spec, "key": digest(identity)}


def is_finished(path: Path, key: str) -> bool:
    """Whether a manifest is there and carries the key."""
    return path.exists() and read_manifest(path)["key"] == key


def code_digest(sources: list[Path]) -> str:
    """Digest of Python files' syntax, so that comments and layout do not count."""
    return digest([ast.dump(ast.parse(path.read_text(encoding="utf-8"))) for path in sources])
