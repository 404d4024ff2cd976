"""The stages of a study, in the order data flows: one class a stage, one table of them.

    corpus -> base -> prune -> posttrain -> evaluate -> tables -> law -> figures, summary -> report

To add one: a class here (or in its own module) and its line in :data:`TABLE`, a rules file, a
script. Keys, reruns and their reasons, costs, actuals, status and clean-up follow.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from p2law import checkpoints, corpus, evaluation, laws, pruning, tables, training
from p2law.canonical import LIBRARY, code_digest, digest, sha256_file
from p2law.evaluation import downstream
from p2law.results.manifest import is_finished
from p2law.study.grid import CONTROL, Model, Run, Study, Variant
from p2law.study.outside import Outside
from p2law.study.stage import Json, Names, Ref, Stage, Work

BASE = "base"
"""The group under ``evaluated/<model>/`` that holds the unpruned model's loss."""
COPIES = 3
"""A training state holds the weights and two moments."""
ROLLING = 2
"""States kept while a job runs, beside one for good where each budget leaves the trunk."""


class Corpus(Stage):
    """A family's text, split, tokenised and packed."""

    name, folder, wildcards, room = "corpus", "corpus", ("family",), "corpus"

    def results(self) -> Iterator[Names]:
        yield from ((family,) for family in self.settings.families)

    def recipe(self, *names: str) -> int:
        return corpus.RECIPE

    def told(self, family: str) -> Json:
        outside, text = self.stages.outside, self.settings.corpus.model_dump()
        tokenizer = self.settings.families[family].tokenizer.model_dump()
        content = {"text": outside.text(text["source"])}
        if tokenizer["kind"] == "folder":
            content["tokenizer"] = outside.folder(tokenizer.pop("path"))
        if tokenizer["kind"] == "gguf":
            content["tokenizer"] = outside.gguf(tokenizer)
        return {**text, "tokenizer": tokenizer, "seed": self.settings.seed, "content": content}


class Base(Stage):
    """An unpruned checkpoint: trained here, or copied or downloaded."""

    name, folder, wildcards, room, trains = "base", "base", ("model",), "training", True

    def results(self) -> Iterator[Names]:
        yield from ((model,) for model in self.study.models)

    def trained(self, model: str) -> bool:
        return self.study.models[model].settings.source == "pretrain"

    def recipe(self, model: str) -> int:
        return training.RECIPE if self.trained(model) else checkpoints.RECIPE

    def reads(self, model: str) -> dict[str, list[Ref]]:
        family = self.study.models[model].family
        return {"corpus": [Ref("corpus", (family,))]} if self.trained(model) else {}

    def told(self, model: str) -> Json:
        named, outside = self.study.models[model], self.stages.outside
        told = named.settings.model_dump(exclude={"shape"})
        if named.settings.source == "folder":
            told["content"] = outside.folder(told["path"])
        if named.settings.source == "gguf":
            told["content"] = outside.gguf(told)
        if self.trained(model):
            section = self.settings.pretrain
            peak = section.peak(model, named.parameters["total"])
            train = section.model_dump() | {"tokens": told.pop("tokens"), "learning_rate": peak}
            told |= {"config": dict(named.config), "train": train, "seed": self.settings.seed}
            told["sequence_length"] = self.settings.corpus.sequence_length
        return told

    def work(self, costs: Any, model: str) -> Work:
        tokens = costs.base_tokens(model)
        flops = 3 * costs.model_flops(model) * tokens
        return Work(tokens, flops, costs.base_memory(model), costs.weight_bytes(model))


class Prune(Stage):
    """Pruned checkpoints: one job a model and method, one result more for each rate."""

    name, folder, wildcards, room = "prune", "pruned", ("model", "method"), "pruning"
    weights = "annealed"

    def results(self) -> Iterator[Names]:
        yield from ((m, method) for m in self.study.models for method in self.settings.methods)
        yield from ((v.model, v.method, v.asked) for v in self.study.variants.values())

    def recipe(self, *names: str) -> int:
        return pruning.RECIPE

    def reads(self, model: str, *_: str) -> dict[str, list[Ref]]:
        family = self.study.models[model].family
        return {"base": [Ref("base", (model,))], "corpus": [Ref("corpus", (family,))]}

    def told(self, model: str, method: str, *asked: str) -> Json:
        told = {
            "method": method,
            "prune": self.settings.methods[method].settings(),
            "calibration": {"windows": self.settings.corpus.calibration_windows},
            "seed": self.settings.seed,
        }
        variants = self.study.group_variants(model, method)
        if asked:
            del told["method"]  # what a variant's method is called moves no number
            return {"rate": float(asked[0]), **told}
        rates = {v.asked: self.spec(model, method, v.asked) for v in variants}
        return told | {
            "variants": {name: {k: one[k] for k in ("key", "rate")} for name, one in rates.items()}
        }

    def work(self, costs: Any, model: str, method: str) -> Work:
        corpus_, variants = self.settings.corpus, self.study.group_variants(model, method)
        tokens = corpus_.calibration_windows * corpus_.sequence_length
        layers = self.study.models[model].config["num_hidden_layers"]
        passes = self.settings.methods[method].passes(layers)
        flops = costs.model_flops(model) * tokens * passes
        disk = costs.weight_bytes(model) * len(variants)
        return Work(tokens, flops, costs.load_memory(model), disk)


class Posttrain(Stage):
    """Post-trained checkpoints: one job a run, one result at each budget."""

    name, folder, wildcards, room = "posttrain", "posttrained", ("model", "run"), "training"
    trains, weights = True, "none"

    def results(self) -> Iterator[Names]:
        for model, run in self.study.runs:
            yield from ((model, run, f"D{budget}") for budget in self.study.budgets)

    def run(self, *names: str) -> Run:
        """The run that a result or job belongs to."""
        return self.study.runs[names[0], names[1]]

    def outputs(self, *job: str) -> list[Path]:
        root = str(self.study.root.joinpath(self.folder, *job))
        return [Path(f"{root}/D{budget}/manifest.json") for budget in self.study.budgets]

    def recipe(self, *names: str) -> int:
        return training.RECIPE

    def reads(self, *names: str) -> dict[str, list[Ref]]:
        run = self.run(*names)
        model = self.study.models[run.variant.model]
        found = {"pruned": [start(run.variant)], "corpus": [Ref("corpus", (model.family,))]}
        if self.study.recipes[run.recipe].distil is not None:
            found["teacher"] = [Ref("base", (model.name,))]
        return found

    def told(self, *names: str) -> Json:
        if len(names) == 3:
            trunk = dict(self.trunk(*names[:2]))
            return {"trunk": trunk.pop("key"), **trunk, "budget": int(names[2][1:])}
        run = self.run(*names)
        train = self.study.recipes[run.recipe].model_dump(exclude={"schedule"})
        return {
            "schedule": self.study.recipes[run.recipe].schedule,
            "train": {**train, "learning_rate": self.study.peak(run)},
            "seed": run.seed,
            "sequence_length": self.settings.corpus.sequence_length,
        }

    def trunk(self, *job: str) -> Json:
        """The spec of a run apart from its budgets: its key is the one that all points share."""
        return super().spec(*job)

    def spec(self, *names: str) -> Json:
        if len(names) == 3:
            return super().spec(*names)
        points = {str(D): self.spec(*names, f"D{D}")["key"] for D in self.study.budgets}
        return {**self.trunk(*names), "budgets": points}

    def work(self, costs: Any, *job: str) -> Work:
        run = self.run(*job)
        tokens, points = costs.run_tokens(run), len(self.study.budgets)
        copies = points + COPIES * (points + ROLLING)
        disk = costs.variant_bytes(run.variant) * copies
        return Work(tokens, costs.run_flops(run) * tokens, costs.run_memory(run), disk)


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


class _Whole(Stage):
    """A stage that a study has one job of."""

    def results(self) -> Iterator[Names]:
        yield ()


class Tables(_Whole):
    """The pruned models, the points of runs, the controls, what is there of the grid."""

    name, folder, room = "tables", "tables", "tables"

    def recipe(self) -> int:
        return tables.RECIPE

    def reads(self) -> dict[str, list[Ref]]:
        return {
            "evaluated": [Ref("evaluate", names) for names in self.stages["evaluate"].results()]
        }

    def told(self) -> Json:
        # Labels that the rows carry and no key upstream holds.
        families = {name: list(one.models) for name, one in self.settings.families.items()}
        return {
            "evaluated": {"/".join(r.names): self.stages.key(r) for r in self.reads()["evaluated"]},
            "families": families,
            "methods": list(self.settings.methods),
            "recipes": list(self.study.recipes),
        }

    def spec(self) -> Json:
        grid = {k: v for k, v in self.study.config.items() if k not in ("law", "hardware")}
        return super().spec() | {"study": grid}


class Law(_Whole):
    """Fitted laws, of a study that has runs."""

    name, folder, room = "law", "law", "laws"

    def results(self) -> Iterator[Names]:
        return super().results() if self.study.runs else iter(())

    def recipe(self) -> list[Any]:
        return [laws.RECIPE, code_digest("laws/forms")]  # a form added or changed is a fit to make

    def reads(self) -> dict[str, list[Ref]]:
        return {"tables": [Ref("tables", ())]}

    def told(self) -> Json:
        told = self.settings.law.model_dump(exclude={"identify"}, exclude_none=True)
        return told | {"seed": self.settings.seed, "recipe": next(iter(self.study.recipes))}


class _Shown(_Whole):
    """What is made for people from tables and law: made again whenever its code changes."""

    code: tuple[str, ...]

    def recipe(self) -> str:
        return code_digest(*self.code)

    def reads(self) -> dict[str, list[Ref]]:
        found = {"tables": [Ref("tables", ())]}
        return found | ({"law": [Ref("law", ())]} if self.study.runs else {})

    def told(self) -> Json:
        return {}


class Figures(_Shown):
    """Every figure as PDF, PNG and CSV."""

    name, folder, room, code = "figures", "figures", "figures", ("figures", "laws", "tables")


class Summary(_Shown):
    """The report's tables and the plan."""

    name, folder, room = "summary", "summary", "report"
    code = ("report", "laws", "tables", "cluster", "results")

    def told(self) -> Json:
        return {"hardware": self.settings.hardware.model_dump()}

    def spec(self) -> Json:
        return super().spec() | {"study": self.study.config}


class Report(_Whole):
    """One page of it all."""

    name, folder, room = "report", "report", "report"

    def recipe(self) -> list[str]:
        captions = sorted((LIBRARY.parents[1] / "report").glob("*.rst"))
        return [sha256_file(path) for path in captions]

    def reads(self) -> dict[str, list[Ref]]:
        return {name: [Ref(name, ())] for name in ("figures", "summary")}

    def told(self) -> Json:
        return {}

    def spec(self) -> Json:
        return super().spec() | {"study": self.study.config}


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

    def results(self) -> Iterator[Ref]:
        """Every result of the study."""
        for name, stage in self.items():
            yield from (Ref(name, names) for names in stage.results())

    def jobs(self) -> Iterator[tuple[Stage, Names]]:
        """Every job of the study."""
        for stage in self.values():
            yield from ((stage, job) for job in stage.jobs())


def start(variant: Variant) -> Ref:
    """The checkpoint that post-training of a variant starts from."""
    if variant.method == CONTROL:
        return Ref("base", (variant.model,))
    return Ref("prune", (variant.model, variant.method, variant.asked))
