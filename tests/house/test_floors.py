"""Imports run one way: what the linter's list of floors covers, and what importing really loads.

`lint-imports` (.ci/run) reads the contracts of pyproject.toml; it takes an import inside a function
for an import. Here the rooms are imported, in a process of their own, and what came along is seen.
"""

import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "workflow" / "scripts"
CONTRACTS = {
    contract["id"]: contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
}
MODULES = [found.name for found in pkgutil.walk_packages([str(SCRIPTS / "p2law")], prefix="p2law.")]


def loaded_by(modules: list[str]) -> set[str]:
    """Names of all modules that a fresh interpreter holds once it has imported these."""
    code = (
        "import importlib, json, sys\n"
        "for name in json.loads(sys.argv[1]): importlib.import_module(name)\n"
        "print(json.dumps(list(sys.modules)))"
    )
    command = [sys.executable, "-c", code, json.dumps(modules)]
    done = subprocess.run(command, cwd=SCRIPTS, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def below(name: str, rooms: list[str]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def test_every_module_stands_on_one_floor():
    rooms = [
        room
        for floor in CONTRACTS["floors"]["layers"]
        for room in re.split(r"\s*[|:]\s*", floor.strip("()"))
    ]
    # Of the package results only the modules have floors: manifests are read below, by all.
    homeless = [name for name in MODULES if not below(name, rooms) and name != "p2law.results"]
    assert homeless == []
    optional = {floor.strip("()") for floor in CONTRACTS["floors"]["layers"] if floor[0] == "("}
    assert set(rooms) - set(MODULES) <= optional


@pytest.mark.parametrize("contract", ["laws", "planning"])
def test_importing_loads_nothing_that_is_forbidden(contract):
    contract = CONTRACTS[contract]
    modules = [name for name in MODULES if below(name, contract["source_modules"])]
    assert len(modules) > 20
    loaded = loaded_by(modules)
    assert {name for name in loaded if below(name, contract["forbidden_modules"])} == set()


def test_fitting_a_table_by_hand_loads_neither_study_nor_torch():
    loaded = loaded_by(["fit"])
    forbidden = CONTRACTS["laws"]["forbidden_modules"]
    assert {name for name in loaded if below(name, forbidden)} == set()
