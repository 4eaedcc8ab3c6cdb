"""Build one source twice: libparser.so for WebAssembly, libparser-native.so for this machine."""

import subprocess
import sys

FLAGS = ["-fPIC", "-fvisibility=default", "-O2", "-Wall", "-Wextra"]


def zig(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "ziglang", *arguments], check=True)


zig("cc", "--target=wasm32-wasi", *FLAGS, "-c", "parser.c", "-o", "parser.o")
zig(
    "wasm-ld",
    "--experimental-pic",
    "-shared",
    "--unresolved-symbols=import-dynamic",
    "-o",
    "libparser.so",
    "parser.o",
)
zig("cc", *FLAGS, "-shared", "parser.c", "-o", "libparser-native.so")
