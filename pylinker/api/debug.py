"""The debug output of the linker on a terminal: ``pylinker.debug("libs,bindings")``."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from typing import TextIO

__all__ = ["CATEGORIES", "debug", "debug_from_environment"]

CATEGORIES = {
    "libs": "where libraries are searched, and when modules are loaded, constructed and unloaded",
    "symbols": "every lookup of a symbol, module by module",
    "bindings": "which module each import is bound to, at load and at first calls",
    "sync": "the rendezvous in which threads agree, and threads that come and go",
    "stats": "counts and sizes of a program when it is closed",
}
"""The names of loggers below ``pylinker``, and what each logs."""

VARIABLE = "PYLINKER_DEBUG"
FORMAT = "%(process)8d:\t%(name)s: %(message)s"


class _Printable(logging.Formatter):
    """Escapes what could upset a terminal: names come from untrusted files."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        message = record.message
        record.message = "".join(
            each if each.isprintable() else repr(each)[1:-1] for each in message
        )
        return super().formatMessage(record)


def debug(categories: str | Iterable[str], *, stream: TextIO | None = None) -> logging.Handler:
    """Log what the linker does, in the manner of ``LD_DEBUG``.

    The categories are loggers, ``pylinker.libs`` and so on: to have the records elsewhere, set
    their level to DEBUG and add a handler.

    Args:
        categories: Names of categories, in a list or with commas between them, or ``all``:
            ``libs``, ``symbols``, ``bindings``, ``sync``, ``stats``.
        stream: The stream, standard error unless given.

    Returns:
        The handler, for ``logging.getLogger("pylinker").removeHandler``.

    Raises:
        ValueError: A category is unknown.
    """
    wanted = [
        each.strip()
        for each in (categories.split(",") if isinstance(categories, str) else categories)
    ]
    unknown = sorted(set(wanted) - {"all", *CATEGORIES})
    if unknown:
        raise ValueError(
            f"there is no debug category {unknown[0]!r}: "
            f"give some of {', '.join(CATEGORIES)}, or all"
        )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Printable(FORMAT))
    for name in CATEGORIES if "all" in wanted else wanted:
        logging.getLogger(f"pylinker.{name}").setLevel(logging.DEBUG)
    logging.getLogger("pylinker").addHandler(handler)
    return handler


def debug_from_environment() -> None:
    """Log what the variable ``PYLINKER_DEBUG`` names.

    An unknown category is a line on standard error and no exception: the program did not set it.
    """
    value = os.environ.get(VARIABLE)
    if value:
        try:
            if value == "help":
                sys.stderr.write(help_text())
            else:
                debug(value)
        except ValueError as error:
            sys.stderr.write(f"pylinker: {VARIABLE}: {error}\n")


def help_text() -> str:
    """Return the categories, a line for each."""
    lines = [f"{name:<10} {meaning}\n" for name, meaning in CATEGORIES.items()]
    return "".join([*lines, f"{'all':<10} all of it\n", f"{'help':<10} this list\n"])
