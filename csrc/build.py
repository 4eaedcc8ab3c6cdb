"""Build script of ``pylinker._core``, the C core, as a cffi extension in API mode.

cffi reads the headers themselves (``csrc/*.h``): the C compiler and cffi see the same text, so the
declarations cannot drift apart. ``setup.py`` names :data:`ffibuilder`; this file imports nothing
from pylinker.

A header with a C file of the same name is public. It may contain comments, an include guard,
``#include``, typedefs, structs, enums and prototypes; preprocessor lines are dropped before cffi
sees them, so a constant belongs into an ``enum``. cffi supports neither atomics nor mutexes, inline
functions nor thread-local variables: it sees a struct with such a field as opaque, with the size
from the compiler; inline functions and thread-local variables are hidden from it. Any other header
is for the C files only. ``*.cdef`` is for cffi only: the ``extern "Python"`` callbacks.

Environment: ``PYLINKER_SANITIZE`` (``address``, ``thread``, ``undefined``; comma-separated),
``PYLINKER_BUILD_DEBUG=1`` (no optimization, C assertions on), ``PYLINKER_WERROR=1`` (warnings are
errors).
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from pathlib import Path

from cffi import FFI

CSRC = Path(
    os.path.relpath(Path(__file__).resolve().parent)
)  # setuptools wants paths relative to setup.py
PYTHON = CSRC / "python"  # files that need CPython's headers; the package's tests cover them


def ordered_headers() -> list[Path]:
    """Return the public headers, each after those it includes."""
    headers = {
        path.name: path
        for path in sorted((*CSRC.glob("*.h"), *PYTHON.glob("*.h")))
        if path.with_suffix(".c").exists()
    }
    ordered: list[Path] = []

    def add(path: Path) -> None:
        if path not in ordered:
            for name in re.findall(
                r'^\s*#\s*include\s+"([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE
            ):
                if name in headers:
                    add(headers[name])
            ordered.append(path)

    for path in headers.values():
        add(path)
    return ordered


def _blank(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")


def _content(struct: re.Match[str]) -> str:
    """Return a struct, with ``...`` for its fields if cffi does not support one of them."""
    fields = struct[2]
    if not re.search(r"\b(?:_Atomic|atomic_\w+|pthread_\w+)\b", fields):
        return struct[0]
    return f"{struct[1]} ...; " + "\n" * fields.count("\n") + "}"


def declarations(text: str) -> str:
    """Return the part of a header that cffi can read; line numbers stay, for cffi's messages."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", _blank, text, flags=re.DOTALL)
    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", _blank, text, flags=re.MULTILINE)
    text = re.sub(
        r"^static inline [^;{]*\{.*?^\}|^extern _Thread_local [^;]*;",
        _blank,
        text,
        flags=re.MULTILINE | re.DOTALL,
    )
    return re.sub(
        r"^(typedef struct \w+ \{)(.*?)^\}", _content, text, flags=re.MULTILINE | re.DOTALL
    )


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
    if (
        "-g" not in compiler
    ):  # Python's own flags have it: debug information is three quarters of the core
        compiler.append("-g0")
        linker.append("-Wl,-x" if sys.platform == "darwin" else "-Wl,-s")
    if os.environ.get("PYLINKER_WERROR") == "1":
        compiler.append("-Werror")
    return compiler, linker


def macros() -> list[tuple[str, str]]:
    """Return the macros of the build: the limited API of CPython 3.11, where it is available."""
    if sysconfig.get_config_var("Py_GIL_DISABLED") or hasattr(sys, "gettotalrefcount"):
        return []
    return [("Py_LIMITED_API", "0x030B0000")]


def builder() -> FFI:
    """Return the configured builder of ``pylinker._core``."""
    ffi = FFI()
    headers = ordered_headers()
    for path in headers:
        ffi.cdef(declarations(path.read_text(encoding="utf-8")))
    for path in sorted(CSRC.glob("*.cdef")):
        ffi.cdef(path.read_text(encoding="utf-8"))
    # The headers are compiled with all warnings; the wrappers that cffi generates below them have
    # unused parameters.
    preamble = "".join(f'#include "{path.name}"\n' for path in headers)
    preamble += '#pragma GCC diagnostic ignored "-Wunused-parameter"\n'
    compiler, linker = flags()
    ffi.set_source(
        "pylinker._core",
        preamble,
        sources=[str(path) for path in sorted((*CSRC.glob("*.c"), *PYTHON.glob("*.c")))],
        depends=[
            str(path)
            for path in sorted((*CSRC.iterdir(), *PYTHON.iterdir()))
            if path.suffix in {".h", ".cdef", ".py"}
        ],
        include_dirs=[str(CSRC), str(PYTHON)],
        define_macros=macros(),
        extra_compile_args=compiler,
        extra_link_args=linker,
    )
    return ffi


ffibuilder = builder()
