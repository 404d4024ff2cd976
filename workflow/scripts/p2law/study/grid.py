"""A study expanded: its models, variants, runs and budgets."""

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
from p2law.study import inputs, schema
from p2law.study.recipes import Recipe

CONTROL = "control"
"""What stands for a method where the unpruned model itself is post-trained: rate 0."""


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
    """One post-training of a variant by a recipe and a seed."""

    variant: Variant
    recipe: str
    seed: int
    label: str
    """Its name less the method: the rate, with recipe and seed where not the study's first."""

    @property
    def name(self) -> str:
        """Folder name below the model."""
        return f"{self.variant.method}-{self.label}"


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
        controls = [
            self._control(model) for model in self.models.values() if self.controlled(model)
        ]
        self.runs: dict[tuple[str, str], Run] = {}
        # Asked for once a group: a study of thousands of runs must not be searched each time.
        self._group_variants: dict[tuple[str, str], list[Variant]] = defaultdict(list)
        self._group_runs: dict[tuple[str, str], list[Run]] = defaultdict(list)
        for variant in variants:
            self._group_variants[variant.model, variant.method].append(variant)
        for run in self._runs([*controls, *variants]):
            where = run.variant.model, run.name
            if where in self.runs:
                raise UserError(
                    f"{origin}: two runs of {where[0]} are called {where[1]}; rename a"
                    " method or recipe"
                )
            self.runs[where] = run
            self._group_runs[run.variant.model, run.variant.method].append(run)

    @property
    def budgets(self) -> list[int]:
        """Tokens of each point of a run; none where nothing is post-trained."""
        section = self.settings.posttrain
        return section.budgets if section else []

    @property
    def recipes(self) -> Mapping[str, Recipe]:
        """The recipes by name, the law's first; none where nothing is post-trained."""
        section = self.settings.posttrain
        return section.recipes if section else {}

    def controlled(self, model: Model) -> bool:
        """Whether the unpruned model is post-trained too.

        As the study says; where it is silent, for bases that have not seen the study's own text.
        """
        section = self.settings.posttrain
        if section is None:
            return False
        return model.settings.source != "pretrain" if section.control is None else section.control

    def peak(self, run: Run) -> float:
        """A run's peak learning rate: of the recipe, by its unpruned model."""
        model = self.models[run.variant.model]
        return self.recipes[run.recipe].peak(model.name, model.parameters["total"])

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
            given = {**section.config, **settings.config}
            vocabulary, rows = section.tokenizer.vocabulary, self.settings.corpus.sequence_length
            with within(f"families.{family}.models.{name}.config"):
                config = {**architecture_of(given).fresh(vocabulary, rows), **given}
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

    @staticmethod
    def _control(model: Model) -> Variant:
        counts = model.parameters
        parts = {"N": counts["total"], "N_nonembedding": counts["nonembedding"]}
        before = {"N0": counts["total"], "N0_nonembedding": counts["nonembedding"]}
        shape = {"rate": 0.0, **parts, **before, "removed": {}, "config": dict(model.config)}
        return Variant(model.name, CONTROL, "0", shape)

    def _runs(self, variants: list[Variant]) -> Iterator[Run]:
        section = self.settings.posttrain
        if section is None:
            return
        for variant, recipe, seed in product(variants, self.recipes, section.seeds):
            label = variant.asked
            label += "" if recipe == next(iter(self.recipes)) else f"-{recipe}"
            label += "" if seed == section.seeds[0] else f"-seed{seed}"
            yield Run(variant, recipe, seed, label)

    def group_variants(self, model: str, method: str) -> list[Variant]:
        """The variants of one model and method, by rising rate; [] for another name."""
        return self._group_variants.get((model, method), [])

    def groups(self, model: str) -> list[str]:
        """What a model's runs and variants are grouped by: its control, if any, and the methods."""
        control = [CONTROL] if self.controlled(self.models[model]) else []
        return [*control, *self.settings.methods]

    def group_runs(self, model: str, method: str) -> list[Run]:
        """The runs of one model and method, or of its control."""
        return self._group_runs.get((model, method), [])

    def needs_tokens(self, family: str) -> int:
        """Training tokens that a family's longest training takes without repeating any."""
        section = self.settings.families[family]
        trained = [m.tokens for m in section.models.values() if m.source == "pretrain"]
        return max([*trained, *self.budgets, 0])
