"""Stages that make checkpoints: corpus, base, prune, posttrain."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from p2law import checkpoints, corpus, pruning, training
from p2law.study.grid import CONTROL, Run, Variant
from p2law.study.stage import Json, Names, Ref, Stage, Work

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
            content["tokenizer"] = outside.folder(tokenizer["path"])
        if tokenizer["kind"] == "gguf":
            content["tokenizer"] = outside.gguf(tokenizer)
        text["source"], tokenizer = placeless(text["source"]), placeless(tokenizer)
        return {**text, "tokenizer": tokenizer, "seed": self.settings.seed, "content": content}

    def spec(self, family: str) -> Json:
        source, named = self.settings.corpus.source, self.settings.families[family].tokenizer
        places = {"source": source.model_dump(), "tokenizer": named.model_dump()}
        return super().spec(family) | places


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
        told = placeless(told)
        if self.trained(model):
            section = self.settings.pretrain
            peak = section.peak(model, named.parameters["total"])
            train = section.model_dump() | {"tokens": told.pop("tokens"), "learning_rate": peak}
            told |= {"config": dict(named.config), "train": train, "seed": self.settings.seed}
            told["sequence_length"] = self.settings.corpus.sequence_length
        return told

    def spec(self, model: str) -> Json:
        place = getattr(self.study.models[model].settings, "path", None)
        return super().spec(model) | ({} if place is None else {"path": place})

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


def placeless(given: Mapping[str, Any]) -> Json:
    """Settings without the path that a job reads from: what lies there counts by its content."""
    return {key: value for key, value in given.items() if key != "path"}


def start(variant: Variant) -> Ref:
    """The checkpoint that post-training of a variant starts from."""
    if variant.method == CONTROL:
        return Ref("base", (variant.model,))
    return Ref("prune", (variant.model, variant.method, variant.asked))
