"""envs/run against toy locks whose wheels are made here: nothing is downloaded."""

import hashlib
import os
import shutil
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / "envs" / "run"
MOUNTS = subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0


def wheel(folder: Path, name: str, version: str) -> str:
    """Write a wheel with one module and return its sha256."""
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(zipfile.ZipInfo(file), text)  # a fixed date: the same hash each time
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Checkout:
    """A folder with envs/run, a lock of two toy packages, and the wheels they come from."""

    def __init__(self, root: Path):
        self.root, self.wheels = root / "a checkout", root / "wheels"
        self.wheels.mkdir(parents=True)
        (self.root / "envs").mkdir(parents=True)
        shutil.copy(RUN, self.root / "envs" / "run")
        self.torch = wheel(self.wheels, "torch", "2.0")
        self.lock("1.0")

    def lock(self, version: str, digest: str | None = None) -> None:
        digest = digest or wheel(self.wheels, "toy", version)
        (self.root / "envs/cpu.lock").write_text(
            f"torch==2.0\ntoy=={version} \\\n    --hash=sha256:{digest}\n"
        )

    def start(self, *command: str, **options) -> subprocess.Popen:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "P2LAW_"))}
        env |= {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_CONFIG_FILE": os.devnull,
        }
        env |= {"PYTHONDONTWRITEBYTECODE": "1", **options.pop("env", {})}
        return subprocess.Popen(
            [self.root / "envs/run", *command],
            env=env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    def run(self, *command: str, **options) -> tuple[int, str, str]:
        process = self.start(*command, **options)
        out, err = process.communicate(timeout=120)
        return process.returncode, out.strip(), err

    def environments(self) -> list[Path]:
        return sorted(self.root.glob(".env/cpu-*"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A checkout whose environment is installed, for tests that only use it."""
    checkout = Checkout(tmp_path_factory.mktemp("shared"))
    status, out, err = checkout.run("python", "-c", "import toy, torch; print(toy.version)")
    assert (status, out) == (0, "1.0"), err
    assert "installing the pinned environment (cpu, 2 packages, once)" in err
    assert "ready after" in err
    return checkout


def test_first_call_installs_and_the_next_says_nothing(shared, tmp_path):
    command = "import os, sys, toy; print(os.getcwd()); sys.exit(7)"
    status, out, err = shared.run("python", "-c", command, cwd=tmp_path)
    assert (status, out, err) == (7, str(tmp_path), "")


def test_arguments_and_standard_error_pass_through(shared):
    status, out, err = shared.run(
        "bash", "-c", 'printf "%s|" "$@"; echo e >&2', "_", "a b", "*", ""
    )
    assert (status, out, err) == (0, "a b|*||", "e\n")


def test_foreign_python_settings_do_not_leak_in(shared, tmp_path):
    (tmp_path / "toy.py").write_text("version = 'foreign'\n")
    env = {"PYTHONPATH": str(tmp_path)}
    assert shared.run("python", "-c", "import toy; print(toy.version)", env=env)[1] == "1.0"


SHOW = "import os; print(os.environ.get('XDG_CACHE_HOME'), os.environ.get('HF_TOKEN_PATH'))"


def test_a_home_that_can_be_written_keeps_its_cache(shared, tmp_path):
    env = {"HOME": str(tmp_path), "XDG_CACHE_HOME": ""}
    assert shared.run("python", "-c", SHOW, env=env)[1].split()[-1] == "None"
    env = {"HOME": "/proc", "XDG_CACHE_HOME": str(tmp_path / "mine")}
    assert shared.run("python", "-c", SHOW, env=env)[1] == f"{tmp_path / 'mine'} None"


@pytest.mark.parametrize("home", ["/proc", "/nonexistent/home", "", "/dev/null"])
def test_caches_lie_elsewhere_where_home_cannot_be_written(shared, home):
    """/proc takes no folder from anybody, root included, as a read-only mount does not."""
    if home == "/nonexistent/home" and os.getuid() == 0:
        home = "/proc/nonexistent/home"
    status, out, err = shared.run("python", "-c", SHOW, env={"HOME": home, "XDG_CACHE_HOME": ""})
    assert (status, out) == (0, f"{shared.root / '.env' / 'cache'} None"), err


@pytest.mark.skipif(not MOUNTS, reason="file systems cannot be mounted here")
def test_a_read_only_home(shared, tmp_path):
    """A real mount, on which root too is refused; the hub's token is still found."""
    token = tmp_path / ".cache" / "huggingface" / "token"
    token.parent.mkdir(parents=True)
    token.write_text("hf_x")
    mount = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro {tmp_path}"
    words = ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "-"]
    words += [shared.root / "envs/run", "python", "-c", SHOW]
    env = os.environ | {"HOME": str(tmp_path), "XDG_CACHE_HOME": ""}
    done = subprocess.run([str(w) for w in words], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == f"{shared.root / '.env' / 'cache'} {token}", done.stderr


def test_bytecode_is_compiled_whatever_the_variable_says(shared):
    (env,) = shared.environments()
    assert list(env.glob("lib/python3*/site-packages/__pycache__/toy.*.pyc"))


def test_signals_reach_the_command(shared):
    process = shared.start("python", "-c", "import time; print('up', flush=True); time.sleep(60)")
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == -signal.SIGTERM


def test_help_and_no_command(shared):
    status, out, _ = shared.run("--help")
    assert status == 0
    assert out.startswith("Usage: envs/run COMMAND")
    assert shared.run()[0] == 2


def test_unknown_environment_and_missing_lock(shared):
    status, _, err = shared.run("true", env={"P2LAW_ENV": "tpu"})
    assert status == 2
    assert "P2LAW_ENV is 'tpu'; it can be cpu or cuda" in err
    status, _, err = shared.run("true", env={"P2LAW_ENV": "cuda"})
    assert status == 2
    assert "cuda.lock is missing" in err


def test_changed_lock_installs_anew(tmp_path):
    checkout = Checkout(tmp_path)
    checkout.run("true")
    checkout.lock("1.1")
    assert checkout.run("python", "-c", "import toy; print(toy.version)")[1] == "1.1"
    # The old one stays for what still runs in it.
    assert len(checkout.environments()) == 2


def test_two_callers_build_once(tmp_path):
    checkout = Checkout(tmp_path)
    first = checkout.start("python", "-c", "import toy")
    second = checkout.start("python", "-c", "import toy")
    errors = [process.communicate(timeout=120)[1] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0)
    assert sorted("installing the pinned" in err for err in errors) == [False, True]
    assert sorted("waiting for another" in err for err in errors) == [False, True]


def test_interrupted_installation_is_redone(tmp_path):
    checkout = Checkout(tmp_path)
    process = checkout.start("true", start_new_session=True)
    deadline = time.monotonic() + 60
    while not (found := checkout.environments()) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (found[0] / "complete").exists()
    assert checkout.run("python", "-c", "import toy; print(toy.version)")[:2] == (0, "1.0")


def test_copied_checkout_does_not_use_the_originals(tmp_path):
    checkout = Checkout(tmp_path)
    checkout.run("true")
    copy = Checkout(tmp_path / "copy")
    shutil.copytree(checkout.root / ".env", copy.root / ".env", symlinks=True)
    shutil.copy(checkout.root / "envs/cpu.lock", copy.root / "envs/cpu.lock")
    status, out, err = copy.run("python", "-c", "import sys; print(sys.prefix)")
    assert status == 0
    assert out == str(copy.environments()[0])
    assert "installing" in err


def test_failed_installation_says_why(tmp_path):
    checkout = Checkout(tmp_path)
    checkout.lock("1.0", digest="0" * 64)
    status, _, err = checkout.run("true")
    assert status == 2
    assert "HASHES" in err
    assert "the installation failed; the whole log is" in err
    assert checkout.run("true")[0] == 2
