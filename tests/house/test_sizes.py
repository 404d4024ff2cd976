"""Files stay small, and every module of the library stands in a room."""

from pathlib import Path

LIBRARY = Path(__file__).parents[2] / "workflow" / "scripts" / "p2law"
MOST_LINES = 300


def test_no_file_of_the_library_is_longer_than_a_few_screens():
    lines = {p: len(p.read_text().splitlines()) for p in LIBRARY.rglob("*.py")}
    assert {p.name: n for p, n in lines.items() if n > MOST_LINES} == {}


def test_only_what_everyone_needs_stands_outside_a_room():
    outside = {p.stem for p in LIBRARY.glob("*.py")}
    assert outside == {"__init__", "errors", "canonical"}
    for room in (p for p in LIBRARY.iterdir() if p.is_dir() and p.name != "__pycache__"):
        doc = (room / "__init__.py").read_text()
        assert doc.startswith('"""'), f"{room.name}/__init__.py does not say what the room is for"
