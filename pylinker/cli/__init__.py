"""The command line: ``pylinker run | ldd | inspect | demo | bench``. What it needs beyond the library is the extra ``cli``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        from pylinker.cli import app  # noqa: PLC0415  # the library works without the extra, so only here
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in {"click", "rich"}:
            raise
        sys.exit(f"pylinker: the command line needs {package}: pip install 'pylinker[cli]'")
    app.main()
