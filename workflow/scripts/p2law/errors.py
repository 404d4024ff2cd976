"""Errors that a user can mend, and how every script reports them."""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

USER_ERROR = 2
"""Exit code of a script that stopped on a :class:`UserError`."""


class UserError(ValueError):
    """A fault in a setting, an input file or the machine's state that its user can mend.

    The message is one sentence or two that name the setting or file, what was found, and what is
    allowed or what to do. Raised before anything is written where it can be known.
    """


@contextmanager
def within(where: str) -> Iterator[None]:
    """Put the setting or file that a :class:`UserError` comes from before its message."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def run(main: Callable[[], int | None]) -> int:
    """Run a script's ``main``; print a :class:`UserError` as one message instead of a traceback.

    Returns the exit code: what ``main`` returns (None is 0), or 2 after a user error. Every other
    exception passes through with its traceback: it is our fault, not the user's.
    """
    # Imports of torch and transformers make a million objects that stay: looking for garbage after
    # every 700 of them is half a second of each job's start.
    gc.set_threshold(1_000_000)
    try:
        return main() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return USER_ERROR
