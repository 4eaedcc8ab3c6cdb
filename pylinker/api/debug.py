"""Switching on what the linker tells of its work, for a terminal: ``pylinker.debug("libs,bindings")``."""

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
"""What can be told: the names of loggers below ``pylinker``, and what each says."""

VARIABLE = "PYLINKER_DEBUG"
FORMAT = "%(process)8d:\t%(name)s: %(message)s"


class _Printable(logging.Formatter):
    """Escapes what could upset a terminal: names come from files nobody vouched for."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        message = record.message
        record.message = "".join(
            each if each.isprintable() else repr(each)[1:-1] for each in message
        )
        return super().formatMessage(record)


def debug(categories: str | Iterable[str], *, stream: TextIO | None = None) -> logging.Handler:
    """Write what the linker does to ``stream`` (standard error unless given), in the manner of ``LD_DEBUG``.

    ``categories`` are names of :data:`CATEGORIES`, in a list or with commas between them, or
    ``all``. They are loggers, ``pylinker.libs`` and so on: whoever wants the records elsewhere sets
    their level to DEBUG and adds a handler. Returns the handler, for
    ``logging.getLogger("pylinker").removeHandler``. Raises ValueError for a category there is none
    of.
    """
    wanted = [
        each.strip()
        for each in (categories.split(",") if isinstance(categories, str) else categories)
    ]
    unknown = sorted(set(wanted) - {"all", *CATEGORIES})
    if unknown:
        raise ValueError(
            f"there is no debug category {unknown[0]!r}: give some of {', '.join(CATEGORIES)}, or all"
        )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Printable(FORMAT))
    for name in CATEGORIES if "all" in wanted else wanted:
        logging.getLogger(f"pylinker.{name}").setLevel(logging.DEBUG)
    logging.getLogger("pylinker").addHandler(handler)
    return handler


def debug_from_environment() -> None:
    """Do what ``PYLINKER_DEBUG`` says; one that makes no sense is a line on standard error, since the program is not to blame."""
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
    """Return what there is to choose from, a line for each category."""
    lines = [f"{name:<10} {meaning}\n" for name, meaning in CATEGORIES.items()]
    return "".join([*lines, f"{'all':<10} all of it\n", f"{'help':<10} this list\n"])
