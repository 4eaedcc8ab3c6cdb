"""``pylinker run``: load a program with its shared libraries and run it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pylinker import Function, Program, debug
from pylinker.api.debug import CATEGORIES, help_text
from pylinker.cli.output import INTERRUPTED, traceback_option
from pylinker.cli.progress import compilations
from pylinker.linker import Limits, read_file
from pylinker.wasm import MemoryType, parse_module

__all__ = ["run"]


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("main", metavar="MAIN")
@click.argument("args", metavar="[ARGS]...", nargs=-1, type=click.UNPROCESSED)
@click.option("-L", "library_path", metavar="DIR", multiple=True, help="Search DIR for libraries.")
@click.option(
    "--dir",
    "dirs",
    metavar="HOST[::GUEST]",
    multiple=True,
    help="Map a directory of the host into the program.",
)
@click.option(
    "--env",
    metavar="NAME[=VALUE]",
    multiple=True,
    help="Set an environment variable, to its value on the host by default.",
)
@click.option("--preload", metavar="LIB", multiple=True, help="Load LIB first; it interposes.")
@click.option(
    "--bind-now",
    is_flag=True,
    help="Bind every function at load; undefined functions are then errors.",
)
@click.option(
    "--invoke",
    metavar="NAME",
    help="Call the function NAME with ARGS instead of running the program.",
)
@click.option(
    "--stack-size",
    metavar="BYTES",
    type=click.IntRange(1, 1 << 32),
    default=1 << 20,
    help="Size of the program's stack.",
)
@click.option(
    "--threads/--no-threads",
    default=None,
    help="Allow the program to start threads (default: if its memory is shared).",
)
@click.option(
    "--preempt",
    is_flag=True,
    help="Interrupt threads in pure computation when another opens a library.",
)
@click.option(
    "--no-rewrite-waits",
    is_flag=True,
    help="Keep memory.atomic.wait, which cannot be interrupted.",
)
@click.option(
    "--trace",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Write a trace of the threads to FILE, for Perfetto.",
)
@click.option(
    "--debug",
    "categories",
    metavar="WHAT",
    is_eager=True,
    callback=lambda ctx, _parameter, value: listen(ctx, value),
    help="Log the linker's work on stderr: libs, symbols, bindings, sync, stats (comma-separated), "
    "all; help explains them.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0),
    callback=lambda _ctx, _parameter, value: seconds(value),
    help="End the program after SECONDS, with exit status 124.",
)
@traceback_option
@click.pass_context
def run(
    ctx: click.Context,
    *,
    main: str,
    args: tuple[str, ...],
    library_path: tuple[str, ...],
    dirs: tuple[str, ...],
    env: tuple[str, ...],
    preload: tuple[str, ...],
    bind_now: bool,
    invoke: str | None,
    stack_size: int,
    threads: bool | None,
    preempt: bool,
    no_rewrite_waits: bool,
    trace: str | None,
    categories: str | None,
    timeout: float | None,
) -> None:
    """Run the program MAIN with its shared libraries.

    Options stand before MAIN; everything after it goes to the program. The exit status is the
    program's own.

    \b
    pylinker run -L lib --dir data::/data app.wasm --verbose /data/in.txt
    pylinker run -L lib --invoke add libcalc.so 1 2

    """  # noqa: D301 - click needs the character, not an escape of a raw string
    if categories:
        debug(categories)
    program = Program(
        main,
        args=() if invoke else [utf8(each, "ARGS") for each in args],
        env=dict(map(variable, env)),
        dirs=dict(map(directory, dirs)),
        library_path=library_path,
        preload=preload,
        bind_now=bind_now,
        stack_size=stack_size,
        threads=has_shared_memory(main) if threads is None else threads,
        preempt=preempt,
        rewrite_waits=not no_rewrite_waits,
        trace=trace,
        progress=compilations(),
        load_timeout=timeout,
    )
    with program:
        if invoke is None:
            try:
                status = program.run(timeout=timeout)
            except KeyboardInterrupt:
                status = INTERRUPTED  # here, without the line that click would print
            ctx.exit(status)
        function = program.main[invoke]
        arguments = numbers(function, args)
        with program.time_limit(timeout):
            result = function(*arguments)
    show_result(result)


def show_result(result: Any) -> None:
    """Print the results of an invoked function, one a line."""
    if result is not None:
        for each in result if isinstance(result, tuple) else (result,):
            click.echo(each)


def listen(ctx: click.Context, value: str | None) -> str | None:
    """Check the value of ``--debug``; ``help`` prints the categories and ends the command."""
    if value == "help":
        click.echo(help_text(), nl=False)
        ctx.exit()
    unknown = [each for each in (value or "all").split(",") if each not in {"all", *CATEGORIES}]
    if unknown:
        raise click.BadParameter(f"no category {unknown[0]!r}; --debug=help lists them")
    return value


def seconds(value: float | None) -> float | None:
    """Return a time; refuse NaN, which click accepts."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is no time")
    return value


def has_shared_memory(main: str) -> bool:
    """Whether a main module is made for threads: it imports a shared memory."""
    info = parse_module(read_file(main, main, Limits().library_size)[1], name=main)
    return any(
        isinstance(each.type, MemoryType) and each.type.limits.shared for each in info.imports
    )


def utf8(text: str, hint: str) -> str:
    """Return a text for the guest unchanged; invalid Unicode on the command line is wrong usage."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.BadParameter(
            f"{text!r} is not valid Unicode, and WASI takes UTF-8 only", param_hint=hint
        ) from None
    return text


def variable(text: str) -> tuple[str, str]:
    """Return name and value of ``NAME=VALUE``, or of ``NAME`` with the host's value."""
    name, equals, value = text.partition("=")
    if not name:
        raise click.BadParameter(f"{text!r} has no name", param_hint="--env")
    if not equals and (value := os.environ.get(name, "\0")) == "\0":
        raise click.BadParameter(f"{name} is not set in the environment", param_hint="--env")
    return utf8(name, "--env"), utf8(value, "--env")


def directory(text: str) -> tuple[str, str]:
    """Return guest and host path of ``HOST[::GUEST]``."""
    host, _, guest = text.partition("::")
    if not Path(host).is_dir():
        raise click.BadParameter(f"{host!r} is not a directory", param_hint="--dir")
    return utf8(guest or host, "--dir"), host


def numbers(function: Function, args: Sequence[str]) -> list[int | float]:
    """Return ``args`` as numbers of the types of the function's parameters."""
    parameters = function.type.params
    if len(args) != len(parameters):
        raise click.UsageError(
            f"{function.name} is {function.type}: "
            f"it takes {len(parameters)} arguments, not {len(args)}"
        )
    try:
        return [number(text, kind) for text, kind in zip(args, parameters, strict=True)]
    except ValueError as error:
        raise click.UsageError(f"{function.name} is {function.type}: {error}") from None


def number(text: str, kind: str) -> int | float:
    """Return ``text`` as a number of this type; ValueError if it is invalid or out of range."""
    if kind in {"f32", "f64"}:
        return float(text)
    if kind not in {"i32", "i64"}:
        raise ValueError(f"a value of type {kind} cannot be given on the command line")
    bits = int(kind[1:])
    value = int(text, 0)
    if not -1 << (bits - 1) <= value < 1 << bits:
        raise ValueError(f"{text} is out of range for {kind}")
    return value
