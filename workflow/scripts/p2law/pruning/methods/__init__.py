"""The methods of pruning, one object in one file each (see :mod:`method`). Imports no torch.

A file that is put here is a method that a study can name: nothing else lists them.
"""

import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any, cast

from pydantic import TypeAdapter, ValidationError

from p2law.errors import UserError
from p2law.pruning.methods.method import Method
from p2law.settings.section import Tagged, faults


def _found() -> Iterator[type[Method]]:
    for module in pkgutil.iter_modules(__path__):
        for item in vars(import_module(f"{__name__}.{module.name}")).values():
            is_kind = inspect.isclass(item) and issubclass(item, Method) and item is not Method
            if is_kind and item.__module__ == f"{__name__}.{module.name}":
                yield item


TAGGED = Tagged("prune", tuple(_found()))
KINDS = cast(Mapping[str, type[Method]], TAGGED.kinds())
"""``prune`` -> its method."""

_READER = TypeAdapter(Annotated[Method, TAGGED])


def read(settings: Mapping[str, Any], where: str = "prune") -> Method:
    """A method from its settings; ``where`` names their place in the message.

    Raises :class:`UserError` that lists every fault by key, value and what is allowed.
    """
    try:
        return _READER.validate_python(dict(settings))
    except ValidationError as error:
        kind = KINDS.get(str(settings.get("prune")), Method)
        raise UserError(f"{where}: {faults(error, kind, settings)}") from None
