"""``pylinker bench leaks``: tests for memory growth."""

from __future__ import annotations

import dataclasses
import json

import click
from rich.text import Text

from pylinker.cli.bar import Bar
from pylinker.cli.output import console, printable, table, traceback_option

__all__ = ["leaks"]

_NUMBERS = ("cycles", "before", "after", "a cycle", "seconds")


@click.command()
@click.argument("names", metavar="[NAMES]...", nargs=-1)
@click.option("--quick", is_flag=True, help="A hundredth of the cycles.")
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write JSON; - is stdout.",
)
@traceback_option
@click.pass_context
def leaks(
    ctx: click.Context, *, names: tuple[str, ...], quick: bool, json_file: str | None
) -> None:
    """Repeat operations many thousand times, and check whether memory grows.

    NAMES are parts of the names of runs; the default is all of them: loads of one library, the same
    beside a thread that does not follow, loads that fail, threads, programs. The exit status is 1
    if memory has grown.

    \b
    pylinker bench leaks
    pylinker bench leaks spawns --json leaks.json

    """  # noqa: D301 - click needs the character, not an escape of a raw string
    # Imported here, as the other commands do not need it.
    from pylinker.bench.leaks import UnknownRunError, measure  # noqa: PLC0415

    try:
        with Bar() as bar:
            found = measure(names, bar, share=0.01 if quick else 1.0)
    except UnknownRunError as error:
        raise click.BadParameter(str(error), ctx, param_hint="NAMES") from error
    if json_file != "-":
        listing = table(
            "",
            "cycles",
            "before",
            "after",
            "a cycle",
            "seconds",
            "",
            numbers=("cycles", "before", "after", "a cycle", "seconds"),
        )
        for each in found:
            verdict = Text("flat", style="green") if each.flat else Text("grows", style="red")
            sizes = [f"{bytes_ / (1 << 20):.1f} MiB" for bytes_ in (each.before, each.after)]
            listing.add_row(
                printable(each.name),
                str(each.cycles),
                *sizes,
                f"{each.per_cycle:.0f} B",
                f"{each.seconds:.1f}",
                verdict,
            )
        console().print(listing)
    if json_file:
        text = json.dumps(
            [
                dataclasses.asdict(each) | {"per_cycle": each.per_cycle, "flat": each.flat}
                for each in found
            ],
            indent=2,
        )
        with click.open_file(json_file, "w", encoding="utf-8") as stream:
            stream.write(text + "\n")
    ctx.exit(0 if all(each.flat for each in found) else 1)
