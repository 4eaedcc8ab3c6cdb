"""Build two C++ libraries and a program that carries the C and C++ libraries for all three."""

import subprocess
import sys
from pathlib import Path

from pylinker.wasm import parse_module

COMPILE = [
    "c++",
    "--target=wasm32-wasi",
    "-fPIC",
    "-fvisibility=default",
    "-O2",
    "-std=c++20",
    "-fno-exceptions",
    "-Wall",
    "-Wextra",
]
SHARED = [
    "wasm-ld",
    "--experimental-pic",
    "-shared",
    "--unresolved-symbols=import-dynamic",
    "--strip-debug",
]


def zig(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "ziglang", *arguments], check=True)


def library(name: str, *needed: str) -> None:
    zig(*COMPILE, "-c", f"{name}.cpp", "-o", f"{name}.o")
    zig(*SHARED, "-o", f"lib{name}.so", f"{name}.o", *needed)


def wanted(*libraries: str) -> list[str]:
    """Return the undefined symbols of the libraries.

    The program must export them, from the archives that are linked into it.
    """
    modules = [parse_module(Path(path).read_bytes()) for path in libraries]
    symbols = {
        each.name
        for module in modules
        for each in module.imports
        if each.module in ("env", "GOT.func", "GOT.mem")
    }
    defined = {name for module in modules for name in module.exports}
    own = {
        "memory",
        "__indirect_function_table",
        "__stack_pointer",
        "__memory_base",
        "__table_base",
    }
    return sorted(symbols - defined - own)


library("shapes")
library("report", "libshapes.so")
exports = [f"-Wl,--export={name}" for name in wanted("libshapes.so", "libreport.so")]
# --strip-all: zig 0.17's wasm-ld crashes on debug information of libc++ when a symbol that a
# library wants is exported, too.
program = [
    "main.cpp",
    "libreport.so",
    "libshapes.so",
    "-pie",
    "-Wl,--import-memory",
    "-Wl,--strip-all",
]
zig(*COMPILE, *program, *exports, "-o", "main.wasm")
