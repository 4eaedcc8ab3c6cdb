"""Call one C parser in a sandbox and natively, with good input and with bad."""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
from pathlib import Path

import wasmtime

import pylinker

GOOD = "3a2b1c"
SHORT = "17x"  # one character more than the buffer has, and a zero
LONG = "999999999x"


def sandboxed() -> pylinker.CDLL:
    """Return the parser in its own program, limited to 16 MiB of memory and granted nothing."""
    return pylinker.CDLL("./libparser.so", limits=pylinker.Limits(memory=16 << 20))


def native() -> ctypes.CDLL:
    """Return the parser in this process."""
    library = ctypes.CDLL(str(Path("libparser-native.so").resolve()))
    library.unpacked.restype = ctypes.c_char_p
    return library


def unpack_natively(text: str) -> None:
    """Run in another process, which is going to die."""
    native().unpack(text.encode())


def main() -> None:
    """Show both."""
    parser, twin = sandboxed(), native()
    print("sandboxed:", parser.unpack(GOOD), parser.program.memory.cstring(parser.unpacked()))
    print("native:   ", twin.unpack(GOOD.encode()), twin.unpacked())
    print("nonsense: ", parser.unpack("abc"), twin.unpack(b"abc"))

    # A short overflow stays inside the parser's own data. A sandbox keeps a guest from the host,
    # not from itself.
    parser.unpack(SHORT)
    twin.unpack(SHORT.encode())
    print(
        "short overflow, trusted now? sandboxed:",
        bool(parser.is_trusted()),
        "native:",
        bool(twin.is_trusted()),
    )

    # A long one runs into whatever comes next. Natively that is the process: so this is done in
    # another one.
    victim = multiprocessing.get_context("spawn").Process(target=unpack_natively, args=(LONG,))
    victim.start()
    victim.join()
    assert victim.exitcode is not None
    print("long overflow, native: the process died of", signal.Signals(-victim.exitcode).name)
    try:
        parser.unpack(LONG)
    except wasmtime.Trap as trap:
        print("long overflow, sandboxed:", trap.trap_code.name)

    # What that guest's memory holds now is worth nothing. Throw it away and start with a new one.
    parser.program.close()
    with sandboxed() as parser:
        print(
            "a new sandbox:",
            parser.unpack(GOOD),
            parser.program.memory.cstring(parser.unpacked()),
            bool(parser.is_trusted()),
        )


if __name__ == "__main__":
    main()
