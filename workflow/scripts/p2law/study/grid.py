"""A study expanded: its models, variants, runs and budgets, and where their results lie."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from p2law.architectures import configs, counts
from p2law.architectures.architecture import architecture_of
from p2law.architectures.model_config import check_config
from p2law.checkpoints import gguf
from p2law.errors import UserError, within
from p2law.pruning.methods.method import named
from p2law.results.manifest import NAME
from p2law.study import inputs, schema


@dataclass(frozen=True)
class Model:
    """A base checkpoint of the study and where it sits."""

    name: str
    family: str
    settings: inputs.Model
    config: Mapping[str, Any] = field(hash=False)
    """Hugging Face config keys, complete enough to count parameters."""

    @cached_property
    def parameters(self) -> dict[str, int]:
        """Parameter counts by part (see :func:`p2law.architectures.counts.parameters`)."""
        return counts.parameters(self.config)


@dataclass(frozen=True)
class Variant:
    """A model pruned by a method at a rate."""

    model: str
    method: str
    asked: str
    """The rate as the study asks for it; the achieved one is measured."""
    shape: Mapping[str, Any] = field(hash=False)
    """What the rate comes to: expected rate, N, new config (see ``Method.solve``)."""

    @property
    def name(self) -> str:
        return f"{self.method}-{self.asked}"


@dataclass(frozen=True)
class Run:
    """One post-training of a variant."""

    variant: Variant
    seed: int
    schedule: str
    name: str
    """Folder name below the model: the variant's, with schedule and seed where not the first."""


class Study:
    """A validated study: its grid, and the paths of its results.

    ``config`` is the study file's mapping, ``origin`` names it in errors. Raises
    :class:`UserError` for a fault of the file, or for what only the expanded grid shows (a rate
    no layer count gives, a shape Hugging Face cannot load).
    """

    def __init__(
        self, config: Mapping[str, Any], origin: str, root: Path = Path("results")
    ) -> None:
        self.config, self.origin = dict(config), origin
        self.settings = settings = schema.read(config, origin)
        self.name = settings.study
        self.root = Path(root) / settings.study
        try:
            self.models = {model.name: model for model in self._models()}
            variants = [v for model in self.models.values() for v in self._variants(model)]
        except UserError as error:
            raise UserError(f"{origin}: {error}") from None
        self.variants = {(v.model, v.method, v.asked): v for v in variants}
        self.runs = {(run.variant.model, run.name): run for run in self._runs()}
        # Asked for once a group: a study of thousands of runs must not be searched each time.
        self._group_variants: dict[tuple[str, str], list[Variant]] = defaultdict(list)
        self._group_runs: dict[tuple[str, str], list[Run]] = defaultdict(list)
        for variant in self.variants.values():
            self._group_variants[variant.model, variant.method].append(variant)
        for run in self.runs.values():
            self._group_runs[run.variant.model, run.variant.method].append(run)

    @property
    def budgets(self) -> list[int]:
        """Tokens of each point of a run; none where nothing is post-trained."""
        section = self.settings.posttrain
        return section.budgets if section else []

    @property
    def schedules(self) -> list[str]:
        """Schedules that every variant is trained under, the laws' first."""
        section = self.settings.posttrain
        return section.schedules if section else []

    def _models(self) -> Iterator[Model]:
        seen: dict[str, str] = {}
        for family, section in self.settings.families.items():
            for name, settings in section.models.items():
                if name in seen:
                    raise UserError(
                        f"families.{family}.models.{name}: families.{seen[name]} has a model of"
                        " that name; model names must differ over all families"
                    )
                seen[name] = family
                yield Model(name, family, settings, self._config(family, name, settings))

    def _config(self, family: str, name: str, settings: inputs.Model) -> dict[str, Any]:
        section = self.settings.families[family]
        if settings.source == "pretrain":
            if self.settings.pretrain is None:
                raise UserError(f"pretrain: missing, but model {name} has source: pretrain")
            if section.tokenizer.kind != "train":
                raise UserError(
                    f"families.{family}.tokenizer.kind = {section.tokenizer.kind!r}: models of"
                    " source pretrain need kind: train (their vocabulary must be known)"
                )
            config = {
                "vocab_size": section.tokenizer.vocabulary,
                "max_position_embeddings": self.settings.corpus.sequence_length,
                **section.config,
                **settings.config,
            }
            with within(f"families.{family}.models.{name}.config"):
                architecture_of(config)
                check_config(config)
                return configs.loadable(config)
        if settings.source == "gguf":
            with within(f"families.{family}.models.{name}"):
                return {**section.config, **gguf.config(gguf.find(settings.model_dump()))}
        key = "shape" if settings.source == "hub" else "path"
        path = Path(getattr(settings, key)) / ("config.json" if key == "path" else "")
        try:
            return {**section.config, **json.loads(path.read_text())}
        except FileNotFoundError:
            fault = "does not exist"
        except json.JSONDecodeError as error:
            fault = f"is not JSON: {error}"
        raise UserError(f"families.{family}.models.{name}.{key}: {path} {fault}")

    def _variants(self, model: Model) -> Iterator[Variant]:
        for method, settings in self.settings.methods.items():
            for rate in settings.rates:
                with within(f"methods.{method} on model {model.name}"):
                    shape = settings.solve(model.config, rate)
                yield Variant(model.name, method, named(rate), shape)

    def _runs(self) -> Iterator[Run]:
        section = self.settings.posttrain
        grid = product(self.variants.values(), self.schedules, section.seeds if section else [])
        for variant, schedule, seed in grid:
            name = variant.name
            name += "" if schedule == self.schedules[0] else f"-{schedule}"
            name += "" if seed == section.seeds[0] else f"-seed{seed}"
            yield Run(variant, seed, schedule, name)

    def group_variants(self, model: str, method: str) -> list[Variant]:
        """The variants of one model and method, by rising rate; [] for another name."""
        return self._group_variants.get((model, method), [])

    def group_runs(self, model: str, method: str) -> list[Run]:
        """The runs of one model and method."""
        return self._group_runs.get((model, method), [])

    def needs_tokens(self, family: str) -> int:
        """Training tokens that a family's longest training takes without repeating any."""
        section = self.settings.families[family]
        trained = [m.tokens for m in section.models.values() if m.source == "pretrain"]
        return max([*trained, *self.budgets, 0])

    # Paths: identity is the path.

    def corpus_manifest(self, family: str) -> Path:
        return self.root / "corpus" / family / NAME

    def base_manifest(self, model: str) -> Path:
        return self.root / "base" / model / NAME

    def pruned_manifest(self, model: str, method: str) -> Path:
        return self.root / "pruned" / model / method / NAME

    def variant_manifest(self, variant: Variant) -> Path:
        return self.root / "pruned" / variant.model / variant.method / variant.asked / NAME

    def point_manifest(self, run: Run, budget: int) -> Path:
        # One join, not six: a large study asks for tens of thousands of these.
        return self.root / f"posttrained/{run.variant.model}/{run.name}/D{budget}/{NAME}"

    def evaluated_manifest(self, model: str, group: str) -> Path:
        return self.root / "evaluated" / model / group / NAME

    def downstream_manifest(self, model: str, group: str) -> Path:
        return self.root / "downstream" / model / group / NAME

    def stage_manifest(self, stage: str) -> Path:
        """The manifest of a stage that a study has one of: tables, law, figures."""
        return self.root / stage / NAME
