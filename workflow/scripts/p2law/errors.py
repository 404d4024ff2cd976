"""Errors that a user can mend."""

from collections.abc import Iterator
from contextlib import contextmanager


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
