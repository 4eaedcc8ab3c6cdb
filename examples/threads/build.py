"""Build a threaded program and its library, with shared memory and thread-local data."""

import subprocess
import sys

THREADS = ["-matomics", "-mbulk-memory", "-pthread", "-nostdlib", "-ffreestanding"]
COMPILE = [
    "cc",
    "--target=wasm32-wasi",
    "-fPIC",
    "-fvisibility=default",
    "-O2",
    "-Wall",
    "-Wextra",
    *THREADS,
    "-I.",
]
MEMORY = ["--shared-memory", "--import-memory", "--max-memory=67108864"]
LOCAL = [
    f"--export={name}" for name in ("__wasm_init_tls", "__tls_base", "__tls_size", "__tls_align")
]
LINK = ["wasm-ld", "--experimental-pic", "--unresolved-symbols=import-dynamic", *MEMORY]


def zig(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "ziglang", *arguments], check=True)


for source in ("count", "pthread", "main"):
    zig(*COMPILE, "-c", f"{source}.c", "-o", f"{source}.o")
zig(*LINK, "-shared", "-o", "libcount.so", "count.o")
program = ["-pie", "--export=_start", "--export-if-defined=__wasm_apply_data_relocs"]
zig(*LINK, *LOCAL, *program, "-o", "primes.wasm", "main.o", "pthread.o")
