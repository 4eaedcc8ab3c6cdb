"""The command line: ``pylinker run | check | ldd | nm | graph | inspect | demo | bench``.

Its dependencies beyond those of the library are the extra ``cli``.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        # Imported here, as the library works without the extra.
        from pylinker.cli import app  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "click":
            raise
        sys.exit("pylinker: the command line needs click: pip install 'pylinker[cli]'")
    app.main()
