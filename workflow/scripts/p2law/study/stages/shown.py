"""Stages that a study has one job of: tables, law, and what people look at."""

from collections.abc import Iterator
from typing import Any

from p2law import laws, tables
from p2law.canonical import LIBRARY, code_digest, sha256_file
from p2law.study.stage import Json, Names, Ref, Stage


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
