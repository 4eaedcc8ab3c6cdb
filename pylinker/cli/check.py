"""``pylinker check``: the errors of linking a program, without running any of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from pylinker.cli.output import console, one_line, print_json, printable, table, traceback_option
from pylinker.errors import LinkError
from pylinker.linker import check_links

if TYPE_CHECKING:
    from pylinker.linker import Category, LinkReport

__all__ = ["check", "look"]

TITLES: tuple[tuple[Category, str, str], ...] = (
    ("undefined", "undefined: no module defines it", "red"),
    ("mismatched", "mismatched: it is defined with another type", "red"),
    ("unserved", "unserved: functions of wasix_32v1 that return ENOTSUP", "yellow"),
    ("weak", "weak: null if undefined", ""),
    ("duplicate", "duplicate: the first definition is used", ""),
    ("heap", "heap: several modules request it, the first gets it", ""),
)


class Unreadable(click.ClickException):
    """The main module cannot be read."""

    exit_code = 2


@click.command()
@click.argument("main", type=click.Path(exists=True, dir_okay=False))
@click.argument("libs", metavar="[LIBS]...", nargs=-1)
@click.option("-L", "library_path", metavar="DIR", multiple=True, help="Search DIR for libraries.")
@click.option(
    "--provide",
    metavar="NAME",
    multiple=True,
    help="A function that the host provides: NAME, or MODULE.NAME.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@traceback_option
@click.pass_context
def check(
    ctx: click.Context,
    *,
    main: str,
    libs: tuple[str, ...],
    library_path: tuple[str, ...],
    provide: tuple[str, ...],
    as_json: bool,
) -> None:
    """Link MAIN with LIBS and their dependencies, without running anything, and list problems.

    These are undefined, mismatched, weak and duplicate symbols, with the modules that reference and
    define each. The exit status is 1 if a library is missing or a symbol is undefined or
    mismatched, 2 if MAIN cannot be read.
    """
    seen = look(main, libs, library_path, provide)
    if as_json:
        modules = [
            {"name": each.name, "path": each.path, "needed": each.needed} for each in seen.modules
        ]
        facts: dict[str, object] = {
            "main": main,
            "ok": seen.ok,
            "modules": modules,
            "missing": [asdict(each) for each in seen.missing],
        }
        for category, _, _ in TITLES:
            facts[category] = [_as_json(asdict(each)) for each in seen.of(category)]
        print_json(facts)
    else:
        show(seen)
    ctx.exit(0 if seen.ok else 1)


def look(
    main: str, libs: tuple[str, ...], library_path: tuple[str, ...], provide: tuple[str, ...] = ()
) -> LinkReport:
    """Check a program; an invalid main module is wrong usage."""
    try:
        return check_links(main, libs, library_path=library_path, host_imports=provide)
    except (LinkError, OSError) as error:
        raise Unreadable(one_line(str(error))) from error


def show(seen: LinkReport) -> None:
    """Print the findings, the most severe first, and a summary line."""
    out = console()
    if seen.missing:
        out.print("missing libraries", style="bold")
        for absent in seen.missing:
            asked = f", needed by {absent.requester}" if absent.requester else ""
            out.print(Text(printable(f"  {absent.name}{asked}: {absent.problem}"), style="red"))
    for category, title, style in TITLES:
        found = seen.of(category)
        if found:
            out.print(f"{title}", style=f"bold {style}".strip())
            listing = table("  symbol", "kind", "referenced by", "defined by", "")
            for each in found:
                cells = (
                    f"  {each.symbol}",
                    each.kind,
                    ", ".join(each.wanted_by) or "-",
                    ", ".join(each.defined_by) or "-",
                    each.detail,
                )
                listing.add_row(*(printable(cell) for cell in cells))
            out.print(listing)
    counts = ", ".join(
        f"{len(seen.of(category))} {category}" for category, _, _ in TITLES if category != "heap"
    )
    name = Path(seen.modules[0].path).name
    out.print(
        f"{printable(name)}: {len(seen.modules)} modules, {len(seen.bindings)} imports bound, "
        f"{len(seen.missing)} missing, {counts}"
    )


def _as_json(finding: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in finding.items() if key != "category"}
