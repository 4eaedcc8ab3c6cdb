"""Builds the demo's modules from their C sources: ``python -m pylinker.demo.build [DIRECTORY]``.

The recipe is the one of ``docs/building-modules.md``; it needs ``pip install ziglang``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pylinker.demo import DIRECTORY

COMPILE = [
    "cc",
    "--target=wasm32-wasi",
    "-fPIC",
    "-fvisibility=default",
    "-O2",
    "-Wall",
    "-Wextra",
    f"-I{DIRECTORY}",
]
SHARED = [
    "wasm-ld",
    "--experimental-pic",
    "-shared",
    "--unresolved-symbols=import-dynamic",
    "--strip-all",
]
# Functions of the main module's C library that the libraries use.
EXPORTS = ["printf", "qsort", "strcmp"]


def zig(*arguments: str, directory: Path) -> None:
    """Run zig in ``directory``; raises ``subprocess.CalledProcessError`` if it fails."""
    command = [sys.executable, "-m", "ziglang", *arguments]
    subprocess.run(command, cwd=directory, check=True)  # noqa: S603


def build(output: Path) -> list[Path]:
    """Build the three modules into ``output`` and return their paths, libraries first."""
    objects = {name: output / f"{name}.o" for name in ("greet", "plugin")}
    for name, path in objects.items():
        zig(*COMPILE, "-c", str(DIRECTORY / f"{name}.c"), "-o", path.name, directory=output)
    # A library on the command line is recorded as needed under the name given there, so run in its
    # directory.
    zig(*SHARED, "-o", "libgreet.so", "greet.o", directory=output)
    zig(*SHARED, "-o", "libplugin.so", "plugin.o", "libgreet.so", directory=output)
    exports = [f"-Wl,--export={name}" for name in EXPORTS]
    main = [
        str(DIRECTORY / "main.c"),
        "libgreet.so",
        "-pie",
        "-Wl,--import-memory",
        "-Wl,--strip-all",
        *exports,
    ]
    zig(*COMPILE, *main, "-o", "main.wasm", directory=output)
    for path in objects.values():
        path.unlink()
    modules = [output / name for name in ("libgreet.so", "libplugin.so", "main.wasm")]
    for path in modules:
        path.chmod(0o644)  # package data, not executable as the linker makes it
    return modules


if __name__ == "__main__":
    for module in build(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else DIRECTORY):
        sys.stdout.write(f"{module.name}: {module.stat().st_size} bytes\n")
