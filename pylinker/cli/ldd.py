"""``pylinker ldd``: the direct and indirect dependencies of a module, and their paths.

Nothing is compiled or run.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import click
from rich.text import Text
from rich.tree import Tree

from pylinker.cli.output import console, one_line, print_json, printable, traceback_option
from pylinker.errors import LibraryNotFoundError, LinkError
from pylinker.linker import Limits, Locator, bytes_of, read_file, why_no_library
from pylinker.wasm import DylinkInfo, parse_module

__all__ = ["ldd"]


@dataclass(frozen=True)
class Library:
    """A library by the name in NEEDED: its path and own dependencies, or the problem with it."""

    name: str
    requester: str
    path: str | None = None
    needed: tuple[str, ...] = ()
    problem: str | None = None
    searched: tuple[tuple[str, str], ...] = ()


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-L", "library_path", metavar="DIR", multiple=True, help="Search DIR for libraries.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@traceback_option
@click.pass_context
def ldd(ctx: click.Context, *, file: Path, library_path: tuple[str, ...], as_json: bool) -> None:
    """Show the shared libraries that the module FILE needs.

    The exit status is 1 if one of them is missing.
    """
    path, data = read_file(file.name, file, Limits().library_size)
    main = parse_module(data, name=file.name).dylink
    libraries = resolve(file.name, path, main, library_path) if main else {}
    missing = [library.name for library in libraries.values() if library.problem]
    if as_json:
        print_json(
            {
                "file": str(file),
                "needed": list(main.needed) if main else [],
                "libraries": [vars(library) for library in libraries.values()],
                "missing": missing,
            }
        )
    elif not libraries:
        click.echo(f"{printable(str(file))}: needs no libraries")
    else:
        console().print(tree(str(file), main.needed if main else (), libraries))
    ctx.exit(1 if missing else 0)


def resolve(
    name: str, path: str, main: DylinkInfo, library_path: tuple[str, ...]
) -> dict[str, Library]:
    """Return all dependencies of the file by name, breadth-first, in the linker's search order."""
    locator = Locator(library_path, default_path=(os.path.dirname(path),))
    libraries: dict[str, Library] = {}
    pending = deque([(name, path, main)])
    while pending:
        requester, path, info = pending.popleft()
        for name in info.needed:
            if name in libraries:
                continue
            try:
                found = locator.find(
                    name,
                    origin=os.path.dirname(path),
                    runtime_path=info.runtime_path,
                    requester=requester,
                )
                read = parse_module(
                    bytes_of(name, found.path, found.file, Limits().library_size), name=name
                )
                dylink = read.dylink
                problem = why_no_library(read) if dylink else "not a shared library"
                libraries[name] = Library(
                    name, requester, found.path, dylink.needed if dylink else (), problem
                )
                if dylink:
                    pending.append((name, found.path, dylink))
            except LibraryNotFoundError as error:
                libraries[name] = Library(
                    name, requester, problem="not found", searched=error.searched
                )
            except LinkError as error:
                libraries[name] = Library(name, requester, problem=one_line(str(error)))
    return libraries


def tree(root: str, needed: tuple[str, ...], libraries: dict[str, Library]) -> Tree:
    """Return the tree to print; dependencies of a library appear once, so its size is bounded."""
    result = Tree(Text(printable(root), style="bold"))
    shown: set[str] = set()
    # Depth-first without recursion: a chain of libraries may exceed Python's stack.
    pending = [(result, name, frozenset[str]()) for name in reversed(needed)]
    while pending:
        parent, name, above = pending.pop()
        library = libraries[name]
        line = Text(f"{printable(name)} => ")
        line.append(
            library.problem or printable(str(library.path)),
            style="bold red" if library.problem else "",
        )
        again = name in shown and bool(library.needed)
        if again:
            line.append(" (cycle)" if name in above else " (see above)", style="dim")
        branch = parent.add(line)
        if not again:
            shown.add(name)
            pending += [(branch, each, above | {name}) for each in reversed(library.needed)]
    return result
