"""The program that ``pylinker demo`` runs: three small modules in C, their sources and their build recipe.

``main.wasm`` (``main.c``) needs ``libgreet.so`` (``greet.c``) and opens ``libplugin.so``
(``plugin.c``) while it runs. ``build.py`` builds the three with ``pip install ziglang`` and nothing
else.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["DIRECTORY", "MAIN"]

DIRECTORY = Path(__file__).resolve().parent
MAIN = DIRECTORY / "main.wasm"
