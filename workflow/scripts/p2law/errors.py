"""Errors that a user can mend."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REFUSALS = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "no space left in the disk quota",
    errno.EROFS: "the file system can only be read",
    errno.EFBIG: "the file is larger than a limit (ulimit -f, or the file system's) allows",
}
"""Why a disk does not take a file, by the system's number."""


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


def refusal(error: Exception) -> str | None:
    """Why the disk did not take what was written; None for any other error.

    safetensors (Rust) and numpy's ``tofile`` give no error number: their words are read.
    """
    number = getattr(error, "errno", None)
    if number is None and (told := re.search(r"\(os error (\d+)\)", str(error))):
        number = int(told[1])
    if isinstance(error, OSError) and re.fullmatch(r"\d+ requested and \d+ written", str(error)):
        number = errno.ENOSPC
    return None if number is None else REFUSALS.get(number)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file that is being written where the disk refuses it."""
    try:
        yield
    except Exception as error:
        if (reason := refusal(error)) is None:
            raise
        raise UserError(f"{path}: {reason}") from error
