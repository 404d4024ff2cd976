"""Which code made a result: a warning where a room has changed and its RECIPE has not.

A manifest holds, for every room of the library that was loaded when it was written, the digest of
its files' bytes and of their syntax. Fingerprints are in no key: they rerun nothing.
"""

import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

from p2law.canonical import LIBRARY, code_digest, digest, sha256_file


@cache
def of_room(room: str) -> tuple[str, str]:
    """A room's digests: of its files' bytes, and of their syntax."""
    return _bytes(room), code_digest(room)


@cache
def _bytes(room: str) -> str:
    return digest([sha256_file(path) for path in sorted((LIBRARY / room).rglob("*.py"))])


def loaded() -> dict[str, list[str]]:
    """Room -> digests, for the rooms that this process has loaded."""
    parts = (name.split(".") for name in sys.modules if name.startswith("p2law."))
    rooms = {part[1] for part in parts if (LIBRARY / part[1]).is_dir()}
    return {room: list(of_room(room)) for room in sorted(rooms)}


def differs(manifest: Mapping[str, Any], room: str) -> bool:
    """Whether a room's syntax is not what it was when a manifest was written."""
    kept = manifest.get("code", {}).get(room)
    if not kept or kept[0] == _bytes(room):  # equal bytes: no need to parse them
        return False
    return kept[1] != code_digest(room)


def recipe(room: str) -> Any:
    """A room's RECIPE; None where its stages are identified by their code."""
    return getattr(import_module(f"p2law.{room}"), "RECIPE", None)
