"""``pylinker bench soak``: all operations at the same time, with faults."""

from __future__ import annotations

import json
import random

import click
from rich.text import Text

from pylinker.cli.bar import Bar
from pylinker.cli.output import console, printable, table, traceback_option

__all__ = ["soak"]


@click.command()
@click.option(
    "--minutes",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="Duration; at least one round.",
)
@click.option(
    "--seed",
    type=int,
    help="Repeat an earlier soak, as far as scheduling allows; random by default.",
)
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write JSON; - is stdout.",
)
@traceback_option
@click.pass_context
def soak(ctx: click.Context, *, minutes: float, seed: int | None, json_file: str | None) -> None:
    """Run all operations at the same time, with faults, and check the results.

    Threads load and unload libraries, call, wait, look up, make closures, start threads and fail,
    in one program after the other. After each all tables must be equal and all resources must have
    been released; at the end memory must not have grown. The exit status is 1 if a check failed.
    The seed is printed first.

    \b
    pylinker bench soak --minutes 30

    """  # noqa: D301 - click needs the character, not an escape of a raw string
    # Imported here, as the other commands do not need it.
    from pylinker.bench.soak import Soak  # noqa: PLC0415

    if seed is None:
        seed = random.SystemRandom().randrange(1 << 32)
    click.echo(f"seed {seed}", err=json_file == "-")
    with Bar() as bar:
        report = Soak(60 * minutes, seed, bar).run()
    if json_file != "-":
        listing = table("", "times", numbers=("times",))
        for name, count in sorted((report.done + report.faults).items()):
            listing.add_row(printable(name.strip("_")), str(count))
        out = console()
        out.print(listing)
        out.print(
            f"{report.rounds} rounds in {report.seconds:.0f} s, "
            f"{report.resident[-1] >> 20} MiB, growth {report.growth >> 10} KiB"
        )
        out.print(
            Text("failed", style="red")
            if report.failures
            else Text("all is as it must be", style="green")
        )
    for failure in report.failures:
        click.echo(failure, err=True)
    if json_file:
        names = ("seed", "seconds", "rounds", "done", "faults", "resident", "growth", "failures")
        with click.open_file(json_file, "w", encoding="utf-8") as stream:
            stream.write(
                json.dumps({name: getattr(report, name) for name in names}, indent=2) + "\n"
            )
    ctx.exit(1 if report.failures else 0)
