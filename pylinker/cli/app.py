"""The command group, its shared options, and the mapping of errors to messages and exit statuses.

- the program's own: ``run``: the program ended by itself, or the guest exited earlier;
- 1: ``check``, ``ldd``, ``bench``: something is missing or wrong; an extra is missing;
- 2: wrong usage; ``check`` and ``graph``: MAIN cannot be read;
- 70 (``EX_SOFTWARE``): a broken invariant of pylinker: please report it;
- 124: ``run --timeout``: the time limit was exceeded;
- 127: a module or symbol is missing, malformed or has the wrong type;
- 130 (128 + SIGINT): Ctrl-C;
- 134 (128 + SIGABRT): a trap in guest code.
"""

from __future__ import annotations

import importlib
import sys
from typing import NoReturn

import click
import wasmtime

from pylinker._version import __version__
from pylinker.cli.output import INTERRUPTED, Settings, one_line, traceback_option, trap_line
from pylinker.errors import LinkError, TimeoutExpired
from pylinker.runtime.compat import VERSION

__all__ = ["app", "main"]

COMMANDS = ("run", "check", "ldd", "nm", "graph", "inspect", "demo", "bench")
"""Each is a function in the module of its name in this package."""
BROKEN_INVARIANT = 70
TIMED_OUT = 124
LINK_ERROR = 127
TRAPPED = 134


class Commands(click.Group):
    """The commands; only the module of the one that is run is imported.

    An import of the others takes longer than a short program.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"pylinker.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message=f"pylinker %(version)s (wasmtime {VERSION})")
@traceback_option
def app() -> None:
    """A dynamic linker for WebAssembly: loads a program and its shared libraries, and runs it."""


def main() -> NoReturn:
    """Run the command line and exit with its status."""
    settings = Settings()
    try:
        status = app.main(prog_name="pylinker", obj=settings, standalone_mode=False) or 0
    except click.Abort:
        sys.exit(INTERRUPTED)
    except wasmtime.ExitTrap as exit_:  # of a constructor, or of the invoked function
        sys.exit(exit_.code & 0xFF)
    except Exception as error:  # noqa: BLE001 - the outermost frame reports unexpected errors
        message, status = explain(error)
        if settings.traceback:
            import traceback  # noqa: PLC0415 - see Commands

            click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
        click.echo(message, err=True)
    sys.exit(status)


def explain(error: Exception) -> tuple[str, int]:
    """Return the message and exit status for an error."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error.format_message(), error.exit_code  # the help itself
    if isinstance(error, click.ClickException):
        message, status = error.format_message(), error.exit_code
    elif (
        isinstance(error, ModuleNotFoundError)
        and error.name is not None
        and error.name.partition(".")[0] == "rich"
    ):
        message, status = "this command needs rich: pip install 'pylinker[cli]'", 1
    elif isinstance(error, TimeoutExpired):
        message, status = str(error), TIMED_OUT
    elif isinstance(error, LinkError):
        message, status = str(error), LINK_ERROR
    elif isinstance(error, wasmtime.Trap):
        message, status = trap_line(error), TRAPPED
    elif isinstance(error, OSError):
        message, status = (
            f"{error.filename}: {error.strerror}" if error.filename else str(error),
            LINK_ERROR,
        )
    else:
        message, status = (
            f"{type(error).__name__}: {error} (please report this, with --traceback)",
            BROKEN_INVARIANT,
        )
    return f"pylinker: {one_line(message)}", status
