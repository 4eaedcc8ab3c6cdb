"""``pylinker bench``: measure pylinker and its peers on this machine.

Its dependencies are the extra ``bench``.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from pylinker.cli.bar import Bar
from pylinker.cli.leaks import leaks
from pylinker.cli.output import Settings, console, printable, table, traceback_option
from pylinker.cli.soak import soak

if TYPE_CHECKING:
    from pylinker.bench.results import Comparison, Run

__all__ = ["bench"]

NEEDED = {
    "msgspec": "msgspec",
    "plotly": "plotly",
    "pytest": "pytest",
    "pytest_benchmark": "pytest-benchmark",
}


class _Bench(click.Command):
    """The command, and subcommands: ``leaks`` and ``soak`` are no names of benchmarks."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        command = _COMMANDS.get(args[0]) if args else None
        if command is not None:
            return command.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


_COMMANDS = {each.name: each for each in (leaks, soak)}


@click.command(cls=_Bench)
@click.argument("names", metavar="[NAMES]...", nargs=-1)
@click.option("--quick", is_flag=True, help="A minute or two in total; the numbers are rough.")
@click.option(
    "--compare",
    "baseline",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Show the changes since the run whose JSON is in FILE.",
)
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write JSON; - is stdout.",
)
@click.option(
    "--html",
    "html_file",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Write a page with charts.",
)
@traceback_option
@click.pass_context
def bench(
    ctx: click.Context,
    *,
    names: tuple[str, ...],
    quick: bool,
    baseline: Path | None,
    json_file: str | None,
    html_file: str | None,
) -> None:
    """Measure pylinker and its peers on this machine.

    NAMES are parts of the names of benchmark files or groups; the default is all benchmarks.
    The exit status is 1 if a benchmark failed. Missing a target is not a failure.

    \b
    pylinker bench --html report.html
    pylinker bench call dlopen --json before.json
    pylinker bench call dlopen --compare before.json

    \b
    pylinker bench leaks --help
    pylinker bench soak --help

    """  # noqa: D301 - click needs the character, not an escape of a raw string
    absent = [distribution for module, distribution in NEEDED.items() if find_spec(module) is None]
    if absent:
        raise click.ClickException(
            f"the benchmarks need {', '.join(absent)}: pip install 'pylinker[bench]'"
        )
    # Imported here, as the other commands work without the extra.
    from pylinker.bench import report, results, runner  # noqa: PLC0415

    for option, file in (("--json", json_file), ("--html", html_file)):
        directory = Path(file or ".").parent
        if not os.access(directory, os.W_OK):  # reported now, not after the measurement
            raise click.BadParameter(
                f"{directory} is not a writable directory", ctx, param_hint=option
            )
    try:
        before = results.load(baseline) if baseline else None
    except results.ResultsError as error:
        raise click.BadParameter(str(error), ctx, param_hint="--compare") from error
    try:
        with Bar() as bar:
            run, details = runner.measure(names, bar, quick=quick)
    except runner.UnknownNameError as error:
        raise click.BadParameter(str(error), ctx, param_hint="NAMES") from error
    comparison = results.compare(run, before) if before else None
    if ctx.ensure_object(Settings).traceback:
        click.echo("\n\n".join(details), err=True, nl=bool(details))
    if json_file != "-":
        show(run, comparison)
    if json_file:
        with click.open_file(json_file, "w", encoding="utf-8") as stream:
            stream.write(results.to_json(run) + "\n")
    if html_file:
        Path(html_file).write_text(report.page(run, comparison), encoding="utf-8")
    ctx.exit(1 if run.failed else 0)


def show(run: Run, comparison: Comparison | None) -> None:
    """Print the results."""
    from pylinker.bench.table import CHANGES, COLUMNS, facts_table, notes, rows  # noqa: PLC0415

    out = console()
    facts = table("", "")
    facts.show_header = False
    for name, value in facts_table(run.facts):
        facts.add_row(Text(name, style="dim"), printable(value))
    out.print(facts)
    columns = COLUMNS + (CHANGES if comparison else ())
    for group in run.groups:
        out.print(f"\n{printable(group.name)}", style="bold")
        listing = table(*columns, numbers=("median", "spread", *CHANGES))
        for column in listing.columns:
            column.no_wrap = column.header in {"median", "spread"}
        for row in rows(run, group, comparison):
            cells = [Text(printable(cell)) for cell in row.cells]
            if row.reached is not None:
                cells[COLUMNS.index("target")].stylize("green" if row.reached else "red")
            listing.add_row(*cells, style=None if row.measured else "dim")
        out.print(listing)
    remarks = notes(run, comparison)
    if remarks:
        out.print()
    for remark in remarks:
        out.print(printable(remark), style="dim")
