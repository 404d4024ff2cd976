"""What text points to exists: files, modules and names in the docs, docstrings and comments."""

import ast
import builtins
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "workflow" / "scripts"
FILES = [
    name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    if (ROOT / name).is_file()
]
# The changelog tells what was, also of what is gone.
DOCUMENTS = [name for name in FILES if name.endswith(".md") and name != "CHANGELOG.md"]
PYTHON = [name for name in FILES if name.endswith(".py")]
OTHER = [
    name for name in FILES if name.endswith((".smk", "Snakefile", ".yaml", ".toml", ".ci/run"))
]

# A file of ours: by its path from the root, from workflow/scripts, or its last parts.
PATH = re.compile(r"(?<![\w/.<{*-])(?:\.{0,3}/)?((?:[\w-]+/)*[\w-]+\.(?:py|md|smk))\b(?!\.)")
FOLDERED = re.compile(
    r"(?<![\w/.<{-])((?:docs|envs|studies|slurm|tests|benchmarks|workflow|p2law)/[\w./-]*\w)"
)
DOTTED = re.compile(r"(?<![\w/.])p2law(?:\.(?!sif\b)\w+)+")
# Numbered sections are those of notes: pages in docs/ have headings.
NUMBERED = re.compile(r"[\w/-]+\.md,? section \d")
ROLE = re.compile(r":(?:func|class|mod|meth|data|attr|exc):`~?([\w.]+)`")


def tail_of_a_file(path: str) -> bool:
    return any(name == path or name.endswith(f"/{path}") for name in FILES)


def folder_or_file(path: str) -> bool:
    return any((base / path).exists() for base in (ROOT, SCRIPTS)) or tail_of_a_file(path)


@cache
def names_of(module: Path) -> frozenset[str]:
    """Names that a module binds at its top, and in its classes as Class.name."""
    found: set[str] = set()
    for node in ast.parse(module.read_text()).body:
        found |= bound(node)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for part in node.body for name in bound(part)}
            # Attributes that methods set.
            found |= {
                f"{node.name}.{target.attr}"
                for target in ast.walk(node)
                if isinstance(target, ast.Attribute) and isinstance(target.ctx, ast.Store)
            }
    return frozenset(found)


def bound(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return {name.id for t in targets if t for name in ast.walk(t) if isinstance(name, ast.Name)}


def resolves(dotted: str) -> bool:
    """Whether a dotted name is a module of ours, or a name bound in one."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        base = SCRIPTS.joinpath(*parts[:length])
        module = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        if module.is_file():
            return length == len(parts) or ".".join(parts[length:]) in names_of(module)
    return False


def texts(name: str) -> list[tuple[int, str]]:
    """(line, text) of what a person reads: docstrings and comments of Python, else all lines."""
    lines = (ROOT / name).read_text().splitlines()
    if not name.endswith(".py"):
        # In a page, "# path" heads a block that is to become that file.
        headed = name.endswith(".md") and re.compile("# [^#]*\\.(py|smk)").match
        return [(k, line) for k, line in enumerate(lines, 1) if not (headed and headed(line))]
    found = [(k, line.partition("#")[2]) for k, line in enumerate(lines, 1) if "# " in line]
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            value = node.value.value
            if isinstance(value, str):
                found += enumerate(value.splitlines(), node.lineno)
    return found


def local(name: str, role: str) -> bool:
    """Whether a role names something of its file, a module beside it, an error or a builtin."""
    names = names_of(ROOT / name)
    if role in names or any(full.endswith(f".{role}") for full in names):
        return True
    if hasattr(builtins, role) or role in names_of(SCRIPTS / "p2law" / "errors.py"):
        return True
    module, _, rest = role.partition(".")
    benchmark = ROOT / "benchmarks" / f"{module}.py"
    if benchmark.is_file():
        return not rest or rest in names_of(benchmark)
    package = (ROOT / name).parent
    return package.is_relative_to(SCRIPTS / "p2law") and any(
        resolves(".".join([*base.relative_to(SCRIPTS).parts, role]))
        for base in (package, SCRIPTS / "p2law")
    )


def faults(name: str) -> list[str]:
    found = []
    for line, text in texts(name):
        cited = [p for p in PATH.findall(text) if not tail_of_a_file(p)]
        cited += [p for p in FOLDERED.findall(text) if not folder_or_file(p) and "yours" not in p]
        cited += NUMBERED.findall(text)
        dotted = set(DOTTED.findall(text))
        roles = {role for role in ROLE.findall(text) if role not in dotted}
        cited += [d for d in dotted if not resolves(d)]
        cited += [r for r in roles if not r.startswith("p2law.") and not local(name, r)]
        found += [f"{name}:{line}: {what}" for what in dict.fromkeys(cited)]
    return found


@pytest.mark.parametrize("kind", ["documents", "python", "other"])
def test_every_file_and_name_that_is_cited_exists(kind):
    names = {"documents": DOCUMENTS, "python": PYTHON, "other": OTHER}[kind]
    assert len(names) > 4
    assert [fault for name in names for fault in faults(name)] == []


def test_a_wrong_citation_is_found():
    assert not tail_of_a_file("law.md") and not tail_of_a_file("p2law/laws/judge.py")
    assert tail_of_a_file("config.md") and folder_or_file("p2law/laws/forms")
    assert resolves("p2law.laws.fitting.fit.fit") and resolves("p2law.results.manifest")
    assert not resolves("p2law.laws.fitting.fit.fits") and not resolves("p2law.study.expand")
