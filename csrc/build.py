"""Build script of ``pylinker._core``, the C core, as a cffi extension in API mode.

The declarations that cffi needs are the headers themselves (``csrc/*.h``): the C compiler and cffi read the same text, so
the two cannot drift apart. ``setup.py`` names :data:`ffibuilder`; this file imports nothing from pylinker.

A header with a C file of the same name is public. It may contain what cffi can read: comments, an include guard,
``#include``, typedefs, structs, enums and prototypes. Preprocessor lines are dropped before cffi sees them, so a constant
belongs into an ``enum``. Any other header is for the C files only. ``*.cdef`` is for cffi only: the ``extern "Python"``
callbacks.

Environment: ``PYLINKER_SANITIZE`` (``address``, ``thread``, ``undefined``; several with a comma), ``PYLINKER_BUILD_DEBUG=1`` (no
optimization, C assertions on), ``PYLINKER_WERROR=1`` (warnings are errors).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from cffi import FFI

CSRC = Path(os.path.relpath(Path(__file__).resolve().parent))  # setuptools wants paths relative to setup.py
PYTHON = CSRC / "python"  # what needs CPython's headers; its tests are those of the package


def ordered_headers() -> list[Path]:
    """Return the public headers, each after those it includes."""
    headers = {path.name: path for path in sorted((*CSRC.glob("*.h"), *PYTHON.glob("*.h"))) if path.with_suffix(".c").exists()}
    ordered: list[Path] = []

    def add(path: Path) -> None:
        if path not in ordered:
            for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE):
                if name in headers:
                    add(headers[name])
            ordered.append(path)

    for path in headers.values():
        add(path)
    return ordered


def declarations(text: str) -> str:
    """Return a header's ``text`` without comments and preprocessor lines; line numbers stay, for cffi's messages."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", lambda comment: "\n" * comment[0].count("\n"), text, flags=re.DOTALL)
    return re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda line: "\n" * line[0].count("\n"), text, flags=re.MULTILINE)


def flags() -> tuple[list[str], list[str]]:
    """Return the compiler's and the linker's flags for this environment."""
    compiler = ["-std=c11", "-O2", "-fvisibility=hidden", "-Wall", "-Wextra"]
    linker: list[str] = []
    if os.environ.get("PYLINKER_BUILD_DEBUG") == "1":
        compiler += ["-O0", "-g", "-UNDEBUG"]
    if sanitize := os.environ.get("PYLINKER_SANITIZE"):
        compiler += [
            f"-fsanitize={sanitize}",
            "-fno-sanitize-recover=all",
            "-fno-omit-frame-pointer",
            "-O1",
            "-g",
            "-UNDEBUG",
        ]
        linker += [f"-fsanitize={sanitize}"]
    if os.environ.get("PYLINKER_WERROR") == "1":
        compiler.append("-Werror")
    return compiler, linker


def builder() -> FFI:
    """Return the configured builder of ``pylinker._core``."""
    ffi = FFI()
    headers = ordered_headers()
    for path in headers:
        ffi.cdef(declarations(path.read_text(encoding="utf-8")))
    for path in sorted(CSRC.glob("*.cdef")):
        ffi.cdef(path.read_text(encoding="utf-8"))
    # Our own headers are compiled with every warning; the wrappers that cffi writes below them have unused parameters.
    preamble = "".join(f'#include "{path.name}"\n' for path in headers)
    preamble += '#pragma GCC diagnostic ignored "-Wunused-parameter"\n'
    compiler, linker = flags()
    ffi.set_source(
        "pylinker._core",
        preamble,
        sources=[str(path) for path in sorted((*CSRC.glob("*.c"), *PYTHON.glob("*.c")))],
        depends=[str(path) for path in sorted((*CSRC.iterdir(), *PYTHON.iterdir())) if path.suffix in {".h", ".cdef", ".py"}],
        include_dirs=[str(CSRC), str(PYTHON)],
        extra_compile_args=compiler,
        extra_link_args=linker,
    )
    return ffi


ffibuilder = builder()
