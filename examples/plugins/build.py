"""Build a plugin: ``python build.py SOURCE OUTPUT [-DNAME...]``."""

import subprocess
import sys
from pathlib import Path

COMPILE = [
    "cc",
    "--target=wasm32-wasi",
    "-fPIC",
    "-fvisibility=default",
    "-O2",
    "-Wall",
    "-Wextra",
    "-c",
]
LINK = [
    "wasm-ld",
    "--experimental-pic",
    "-shared",
    "--unresolved-symbols=import-dynamic",
    "--strip-debug",
]


def zig(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "ziglang", *arguments], check=True)


def build(source: str, output: str, *defines: str) -> None:
    """Replace ``output`` in one step: no reader sees half of it."""
    made = f"{output}.o"
    zig(*COMPILE, *defines, source, "-o", made)
    zig(*LINK, "-o", f"{output}.new", made)
    Path(made).unlink()
    Path(f"{output}.new").replace(output)


if __name__ == "__main__":
    build(*sys.argv[1:])
