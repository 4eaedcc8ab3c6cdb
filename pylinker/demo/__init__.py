"""The program of ``pylinker demo``: three small modules in C, their sources and a build script.

``main.wasm`` (``main.c``) needs ``libgreet.so`` (``greet.c``) and opens ``libplugin.so``
(``plugin.c``) while it runs. ``build.py`` builds the three; it requires only ``pip install
ziglang``.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["DIRECTORY", "MAIN"]

DIRECTORY = Path(__file__).resolve().parent
MAIN = DIRECTORY / "main.wasm"
