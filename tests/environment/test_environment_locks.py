"""All environment files name the same versions, and nothing of the machine that made them."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENVS = ROOT / "envs"
CUDA_PARTS = re.compile(r"(nvidia-|cuda-|triton$)")


def versions(name: str) -> dict[str, str]:
    """Every `package==version` of a file in envs/."""
    text = (ENVS / name).read_text()
    return dict(re.findall(r"(?<![\w.-])([a-z0-9][a-z0-9._-]*)==([0-9][\w.+]*)", text))


def test_every_file_names_the_locks_versions():
    cuda, cpu = versions("cuda.lock"), versions("cpu.lock")
    asked = versions("requirements.in")
    assert len(cpu) > 100
    assert asked.items() <= cpu.items()
    assert cpu == {name: version for name, version in cuda.items() if not CUDA_PARTS.match(name)}
    assert versions("conda.yaml") == cpu
    assert versions("apptainer.def") == asked


def imported(path: Path) -> set[str]:
    """Top-level packages that a Python file imports by absolute name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names - {"p2law"}


def test_every_imported_package_is_asked_for_by_name():
    """What only comes along with another package may go with its next version.

    Packages of an optional target are asked for in a file of their own.
    """
    asked = versions("requirements.in") | versions("downstream.txt")
    other_names = {"yaml": "pyyaml", "pydantic_core": "pydantic"}  # of one release
    for path in (ROOT / "workflow" / "scripts").rglob("*.py"):
        for name in imported(path):
            package = other_names.get(name, name.replace("_", "-"))
            assert package in asked, f"{path.relative_to(ROOT)} imports {name}"


def test_everything_is_hashed_but_the_cpu_build_of_torch():
    blocks = re.findall(r"^\w.*(?:\n\s.*)*", (ENVS / "cpu.lock").read_text(), flags=re.MULTILINE)
    assert [block for block in blocks if "--hash=sha256:" not in block] == [
        f"torch=={versions('cpu.lock')['torch']}"
    ]
    cuda = re.findall(r"^\w.*(?:\n\s.*)*", (ENVS / "cuda.lock").read_text(), flags=re.MULTILINE)
    assert all("--hash=sha256:" in block for block in cuda)


@pytest.mark.parametrize("name", ["cpu.lock", "cuda.lock", "conda.yaml", "apptainer.def"])
def test_no_address_and_no_local_path(name):
    text = (ENVS / name).read_text()
    assert not re.search(r"https?:|file:|\+cpu|--(extra-)?index|--find-links|/root|/home", text)


def test_the_tests_run_with_the_locks_versions():
    from importlib.metadata import version

    if not (Path(sys.prefix) / "complete").exists():
        pytest.skip("not started through envs/run")
    cpu = versions("cpu.lock")
    assert {name: version(name).split("+")[0] for name in cpu} == cpu
