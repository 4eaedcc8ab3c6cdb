"""Output of the commands: plain text in a pipe, colours on a terminal unless ``NO_COLOR`` is set.

Untrusted names are escaped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import click
import wasmtime

from pylinker.wasm import ExternType, FuncType, GlobalType, Limits, MemoryType, TableType

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = [
    "INTERRUPTED",
    "Settings",
    "console",
    "describe",
    "one_line",
    "print_json",
    "printable",
    "table",
    "traceback_option",
    "trap_line",
]

INTERRUPTED = 130
"""The exit status after Ctrl-C: 128 and the number of SIGINT."""
UNLIMITED_WIDTH = 1 << 16
"""Width of a file: a truncated name is useless to the next command in a pipe."""

Command = TypeVar("Command", bound=Callable[..., object])


@dataclass
class Settings:
    """Values of the options shared by all commands; the ``obj`` of click's context."""

    traceback: bool = False


def traceback_option(command: Command) -> Command:
    """Add ``--traceback``, which is allowed before and after the name of the command."""

    def remember(
        ctx: click.Context,
        _parameter: click.Parameter,
        value: bool,  # noqa: FBT001 - click's signature
    ) -> None:
        if value:
            ctx.ensure_object(Settings).traceback = True

    option = click.option(
        "--traceback",
        is_flag=True,
        expose_value=False,
        callback=remember,
        help="Show the traceback of an error inside pylinker.",
    )
    return option(command)


def printable(text: str) -> str:
    """Return ``text`` with control characters escaped: names come from untrusted files."""
    return (
        text
        if text.isprintable()
        else "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    )


def one_line(message: str) -> str:
    """Return a message of several lines, a heading and its details, as one printable line."""
    first, *details = [line.strip() for line in message.splitlines() if line.strip()] or [""]
    return printable(f"{first.rstrip(':')}: {'; '.join(details)}" if details else first)


def trap_line(trap: wasmtime.Trap) -> str:
    """Return the cause and the place of a trap, from its message of many lines."""
    *_, cause = trap.message.strip().splitlines()
    where = [
        f"{frame.module_name or '?'}!{frame.func_name or frame.func_index}"
        for frame in trap.frames[:1]
    ]
    return " in ".join([cause.strip(), *where])


def console() -> Console:
    """Return a console on stdout without markup and without highlighting of numbers and paths."""
    from rich.console import Console  # noqa: PLC0415 - slow to import, and not always used

    width = None if sys.stdout.isatty() else UNLIMITED_WIDTH
    return Console(width=width, markup=False, emoji=False, highlight=False)


def table(*columns: str, numbers: tuple[str, ...] = ()) -> Table:
    """Return an empty table with the given ``columns``; those in ``numbers`` are right-aligned."""
    from rich.table import Table  # noqa: PLC0415 - as above

    result = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        result.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return result


def print_json(value: object) -> None:
    """Print ``value`` as JSON on stdout."""
    click.echo(json.dumps(value, indent=2))


def describe(extern: ExternType) -> str:
    """Return a type as text: ``(i32) -> ()``, ``mut i32``, ``funcref 1..8``, ``2.. pages``."""
    if isinstance(extern, FuncType):
        return str(extern)
    if isinstance(extern, GlobalType):
        return f"mut {extern.value}" if extern.mutable else extern.value
    if isinstance(extern, TableType):
        return f"{extern.element} {limits(extern.limits)}"
    if isinstance(extern, MemoryType):
        pages = (
            "pages"
            if extern.page_size_log2 == 16
            else f"pages of {1 << extern.page_size_log2} bytes"
        )
        return f"{limits(extern.limits)} {pages}"
    return str(extern.type)


def limits(value: Limits) -> str:
    """Return limits as ``minimum..maximum`` with their properties."""
    text = f"{value.minimum}.." + ("" if value.maximum is None else str(value.maximum))
    return text + (" 64-bit" if value.is64 else "") + (" shared" if value.shared else "")
