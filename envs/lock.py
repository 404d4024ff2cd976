"""Regenerate the pinned environments from requirements.in.

One resolution (Linux on x86-64, Python 3.11 to 3.14, the index's CUDA build of torch) gives
cuda.lock. The others say the same versions: cpu.lock leaves out what only the CUDA build needs and
torch's hashes (the CPU build is another file), conda.yaml and apptainer.def serve those who need
Conda or a container. Versions that a lock already holds are kept unless --upgrade is given.

    python3 envs/lock.py
"""

import argparse
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTHON = "3.11"
PLATFORM = "sys_platform == 'linux' and platform_machine == 'x86_64' and python_version < '3.15'"
UV = "uv==0.13.9"
# Parts of torch's CUDA build, never needed by a CPU build.
CUDA_ONLY = re.compile(r"(nvidia-|cuda-|triton==)")

HEAD = """\
# {title}
# Made by envs/lock.py from envs/requirements.in: change that, not this.
"""

CONDA = """\
channels:
  - conda-forge
dependencies:
  - python={python}.*
  - pip
  - pip:
{pins}
"""

APPTAINER = """\
# apptainer build p2law.sif envs/apptainer.def   (from the repository root)
# The container installs cuda.lock as envs/run does, so its versions are the lock's:
#   {pins}
Bootstrap: docker
From: python:{python}-slim-bookworm

%files
    envs/run /opt/p2law/envs/run
    envs/cuda.lock /opt/p2law/envs/cuda.lock

%post
    P2LAW_ENV=cuda /opt/p2law/envs/run true
    ln -s /opt/p2law/.env/cuda-* /opt/p2law/env

%environment
    export PATH=/opt/p2law/env/bin:$PATH

%runscript
    exec "$@"
"""


def resolve(upgrade: bool) -> list[str]:
    """Return the blocks of a hashed lock (one requirement with its hashes each), sorted by name."""
    with tempfile.TemporaryDirectory() as folder:
        tmp = Path(folder)
        venv.create(tmp / "uv", with_pip=True)
        subprocess.run([tmp / "uv/bin/pip", "install", "--quiet", UV], check=True)
        (tmp / "pyproject.toml").write_text(f'[tool.uv]\nenvironments = ["{PLATFORM}"]\n')
        lock = tmp / "cuda.lock"
        if not upgrade and (HERE / "cuda.lock").exists():
            lock.write_text((HERE / "cuda.lock").read_text())
        options = ["--universal", "--python-version", PYTHON, "--generate-hashes", "--no-header"]
        options += ["--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--quiet"]
        options += ["--output-file", lock, HERE / "requirements.in"]
        subprocess.run([tmp / "uv/bin/uv", "pip", "compile", *options], check=True, cwd=tmp)
        # The one platform is the marker of every line: say it here, not 130 times there.
        text = re.sub(r" ;.*(?= \\$)", "", lock.read_text(), flags=re.MULTILINE)
        return re.findall(r"^\S.*(?:\n\s.*)*", text, flags=re.MULTILINE)


def pins(blocks: list[str]) -> list[str]:
    """Return `name==version` of each block, without hashes."""
    return [block.split("\\")[0].strip() for block in blocks]


def cpu(blocks: list[str]) -> list[str]:
    """Return the blocks of the CPU lock: no CUDA parts, torch without hashes."""
    kept = [block for block in blocks if not CUDA_ONLY.match(block)]
    return [pins([block])[0] if block.startswith("torch==") else block for block in kept]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--upgrade", action="store_true", help="newest versions of what is free")
    blocks = resolve(parser.parse_args().upgrade)
    cpu_blocks = cpu(blocks)
    named = (HERE / "requirements.in").read_text().splitlines()
    named = [line for line in named if "==" in line]
    write = {
        "cuda.lock": HEAD.format(title="Pinned environment, CUDA build of torch (P2LAW_ENV=cuda)")
        + "\n".join(blocks),
        "cpu.lock": HEAD.format(title="Pinned environment, CPU build of torch")
        + "\n".join(cpu_blocks),
        "conda.yaml": HEAD.format(title="The versions of cpu.lock as a Conda environment")
        + CONDA.format(
            python=PYTHON, pins="\n".join(f"      - {pin}" for pin in pins(cpu_blocks))
        ).rstrip(),
        "apptainer.def": APPTAINER.format(python=PYTHON, pins=" ".join(named)).rstrip(),
    }
    for name, text in write.items():
        (HERE / name).write_text(text + "\n")
    print(f"{len(blocks)} packages in cuda.lock, {len(cpu_blocks)} in cpu.lock")
    return 0


if __name__ == "__main__":
    sys.exit(main())
