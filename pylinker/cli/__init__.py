"""The command line: ``pylinker run | check | ldd | nm | graph | inspect | demo | bench``.

What it needs beyond the library is the extra ``cli``.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        from pylinker.cli import app  # noqa: PLC0415  # the library works without the extra, so only here
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "click":
            raise
        sys.exit("pylinker: the command line needs click: pip install 'pylinker[cli]'")
    app.main()
