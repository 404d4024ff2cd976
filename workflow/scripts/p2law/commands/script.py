"""The door of every script: its parser, options that hold JSON, and how faults are reported."""

import argparse
import gc
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from p2law.commands import environment
from p2law.errors import UserError, refusal

USER_ERROR = 2
"""Exit code of a script that stopped on a :class:`UserError`."""

SCRIPTS = str(Path(__file__).parents[2])

# Python puts a script's own folder before the installed packages, where our evaluate.py would hide
# the package that lm-eval imports under that name. Behind them, the folder still gives p2law.
if sys.path[0] == SCRIPTS:
    sys.path.append(sys.path.pop(0))


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose ``--help`` is the script's docstring as it stands."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def spec_option(parse: argparse.ArgumentParser, what: str, required: bool = True) -> None:
    """Add ``--spec``: what a stage is told, one JSON object with its key."""
    parse.add_argument("--spec", type=json_object, required=required, help=f"{what}, JSON")


def device_option(parse: argparse.ArgumentParser) -> None:
    """Add ``--device``: what a stage computes on, as its rule says; nothing guesses it."""
    parse.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="what to compute on (default cpu)"
    )


def json_object(text: str) -> dict[str, Any]:
    """An option's JSON object; argparse tells the user where it is not one."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON ({error})") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError("a JSON object is needed")
    return found


def run(main: Callable[[], int | None]) -> int:
    """Run a script's ``main``; print a :class:`UserError` as one message instead of a traceback.

    A disk that is full or can only be read is told the same way, whatever was being written.
    Returns the exit code: what ``main`` returns (None is 0), or 2 after such an error. Every other
    exception passes through with its traceback: it is our fault, not the user's.
    """
    # Imports of torch and transformers make a million objects that stay: looking for garbage after
    # every 700 of them is half a second of each job's start.
    gc.set_threshold(1_000_000)
    try:
        environment.settle()
        return main() or 0
    except UserError as error:
        return _refuse(str(error))
    except Exception as error:
        if (reason := refusal(error)) is None:
            raise
        return _refuse(f"{_written(error)}: {reason}")


def _refuse(message: str) -> int:
    with suppress(OSError):  # a log on the same full disk
        print(f"error: {message}", file=sys.stderr, flush=True)
    return USER_ERROR


def _written(error: Exception) -> str:
    """The file that an error names, else the folder that the script was told to write."""
    named = getattr(error, "filename2", None) or getattr(error, "filename", None)
    told = sys.argv[sys.argv.index("--out") + 1 :] if "--out" in sys.argv else []
    return str(named or next(iter(told), "a file of this command"))
