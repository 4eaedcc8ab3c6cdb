"""``pylinker demo``: run the program shipped with the package and show its modules."""

from __future__ import annotations

import click

import pylinker
from pylinker.cli.output import console, table, traceback_option
from pylinker.demo import MAIN

__all__ = ["demo"]


@click.command()
@traceback_option
@click.pass_context
def demo(ctx: click.Context) -> None:
    """Run a small program with two shared libraries, and show where they were loaded."""
    out = console()
    with pylinker.Program(MAIN, stdout=pylinker.CAPTURE) as program:
        status = program.run()
        out.print(f"{MAIN.name} says", style="bold")
        for line in program.stdout.decode().splitlines():
            out.print(f"  {line}")
        out.print("\nlinked", style="bold")
        main, modules = program.main.name, program.libraries
        requesters = {
            module.name: ", ".join(other.name for other in modules if module.name in other.needed)
            for module in modules
        }
        listing = table("module", "memory", "bytes", "table slots", "needed by", numbers=("bytes",))
        for module in modules:
            end = module.memory_base + module.memory_size
            slots = (
                f"{module.table_base}..{module.table_base + module.table_size}"
                if module.table_size
                else "-"
            )
            reason = requesters[module.name] or ("-" if module.name == main else "dlopen")
            listing.add_row(
                module.name,
                f"{module.memory_base:#x}..{end:#x}",
                str(module.memory_size),
                slots,
                reason,
            )
        out.print(listing)
    ctx.exit(status)
