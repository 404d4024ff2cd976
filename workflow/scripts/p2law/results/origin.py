"""Whose results a folder holds: the study's name, and the files that it was read from."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from p2law.canonical import write_json
from p2law.errors import UserError
from p2law.results.manifest import read_manifest
from p2law.study.grid import Study

NAME = "origin.json"


def read_study(config: Mapping[str, Any], files: Iterable[str]) -> Study:
    """The study of a merged mapping and the files that it came from.

    Raises :class:`UserError` for a fault of the study, for a key that stands twice in a file (YAML
    would take the last without a word), and where the results of a study of this name were made
    from another file that still holds it.
    """
    files = [os.path.relpath(file) for file in files]
    for file in files:
        refuse_repeats(Path(file))
    study = Study(config, ", ".join(files))
    made = _made_from(study)
    for other in made:
        if other not in files and study.root not in Path(files[0]).parents and _names(other, study):
            raise UserError(
                f"study = {study.name!r}: {study.root} holds the results of {other}, which has the"
                f" same name as {', '.join(files)}; give one of them another"
            )
    return study


def leave(study: Study, files: Iterable[str]) -> None:
    """Write into a study's results which files they come from."""
    files = [os.path.relpath(file) for file in files]
    if _made_from(study) != files:
        write_json(study.root / NAME, {"files": files})


def _made_from(study: Study) -> list[str]:
    path = study.root / NAME
    return read_manifest(path)["files"] if path.exists() else []


def _names(file: str, study: Study) -> bool:
    """Whether a file is there and holds a study of the same name."""
    try:
        found = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return False
    return isinstance(found, Mapping) and found.get("study") == study.name


def refuse_repeats(file: Path) -> None:
    """Raise :class:`UserError` for a key that a YAML file gives twice in one mapping."""
    if not file.is_file() or file.suffix not in (".yaml", ".yml"):
        return
    text = file.read_text(encoding="utf-8")
    try:
        root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not YAML: {error}") from None
    _walk(root, file, "")


def _walk(node: Any, file: Path, path: str) -> None:
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            where = f"{path}.{key.value}".lstrip(".")
            line = key.start_mark.line + 1
            if key.value in lines and key.value != "<<":
                raise UserError(
                    f"{file}: {where} stands twice, in lines {lines[key.value]} and {line};"
                    " the first would be lost: delete or rename one"
                )
            lines[key.value] = line
            _walk(value, file, where)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _walk(value, file, path)
