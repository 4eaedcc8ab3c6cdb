"""A library that exports every function of WASI, and a process in which one waits for ever.

As a script: ``wasi_guest.py FOLDER STOP THREADS``. Standard input and output are pipes that nobody
writes to or reads. The script makes each of ``CALLS``, which waits, in a program of its own, stops
it by ``STOP``, and reports on standard error, as JSON, what the call raised and how long after the
stop.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wasmtime

import pylinker
from pylinker.native.enums import PARKED
from pylinker.wasm import WASI_PREVIEW1

if TYPE_CHECKING:
    from typing import Self

ROOM = 1 << 18
READ_ONLY, WRITE_ONLY = 0x2E, 0x6C  # with seek and tell
RIGHTS = READ_ONLY | WRITE_ONLY
READ, WRITE = 1, 2  # tags of subscriptions
BADF, INVAL, NOTDIR, NXIO = 8, 28, 54, 60

LOOPS = """
  (global $stop (mut i32) (i32.const 0))
  (func $open (param $flags i32) (result i32)
    (call $path_open (i32.const 3) (i32.const 1) (global.get $base) (i32.const 4) (i32.const 0)
      (i64.const 0x2e)
      (i64.const 0) (i32.const 0) (i32.add (global.get $base) (i32.const 128))))
  (func (export "open_often") (param $times i32) (result i32) (local $opened i32)
    (loop $again
      (if (i32.eqz (call $open (i32.const 0))) (then
        (local.set $opened (i32.add (local.get $opened) (i32.const 1)))
        (drop (call $fd_close (i32.load offset=128 (global.get $base))))))
      (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
    (i32.atomic.store offset=256 (global.get $base) (i32.const 1))
    (local.get $opened))
  (func (export "open_all") (result i32) (local $opened i32)
    (loop $again
      (if (i32.eqz (call $open (i32.const 0))) (then
        (local.set $opened (i32.add (local.get $opened) (i32.const 1))) (br $again))))
    (local.get $opened))
  (func $rename (param $from i32) (param $to i32)
    (drop (call $path_rename (i32.const 3) (i32.add (global.get $base) (local.get $from))
      (i32.const 4)
      (i32.const 3) (i32.add (global.get $base) (local.get $to)) (i32.const 4))))
  (func (export "rename_often")
    (loop $again
      (call $rename (i32.const 0) (i32.const 8))
      (call $rename (i32.const 16) (i32.const 0))
      (call $rename (i32.const 0) (i32.const 16))
      (call $rename (i32.const 8) (i32.const 0))
      (br_if $again (i32.eqz (i32.atomic.load offset=256 (global.get $base))))))
  (func (export "retype_often")
    (loop $again
      (i32.atomic.store (global.get $base) (i32.load offset=16 (global.get $base)))
      (i32.atomic.store (global.get $base) (i32.load offset=8 (global.get $base)))
      (br_if $again (i32.eqz (i32.atomic.load offset=256 (global.get $base))))))
"""


def module(*, threads: bool) -> bytes:
    """The text of the library."""
    imports, exports = [], []
    for name, type_ in WASI_PREVIEW1.items():
        params = f"(param {' '.join(type_.params)}) (result {' '.join(type_.results)})"
        gets = " ".join(f"(local.get {index})" for index in range(len(type_.params)))
        imports.append(f'(import "wasi_snapshot_preview1" "{name}" (func ${name} {params}))')
        exports.append(f'(func (export "{name}") {params} (call ${name} {gets}))')
    memory = "(memory 1 1024 shared)" if threads else "(memory 1)"
    loops = LOOPS if threads else ""
    return bytes(
        wasmtime.wat2wasm(
            f'(module (@dylink.0 (mem-info (memory {ROOM} 4))) (import "env" "memory" {memory})'
            f'(import "env" "__memory_base" (global $base i32)) {" ".join(imports)} '
            f"{' '.join(exports)} {loops})"
        )
    )


class WasiGuest:
    """The library in a program of its own.

    Each method is a call of WASI; it returns the error number and what came of it.
    """

    def __init__(self, folder: Path, *, threads: bool = False, **keywords: Any) -> None:
        path = folder / f"libwasi{threads}.so"
        path.write_bytes(module(threads=threads))
        self.library = pylinker.CDLL(path, threads=threads, cache=False, **keywords)
        self.program = self.library.program
        self.memory = self.program.memory
        self.base = next(
            each for each in self.program.libraries if "libwasi" in each.name
        ).memory_base

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.program.close()

    def word(self, at: int) -> int:
        """A number in the guest's memory."""
        return int.from_bytes(self.memory.read(at, 4), "little")

    def read(self, descriptor: int, size: int = 100, *, at: int = 0) -> tuple[int, bytes]:
        base = self.base + at
        self.memory.write(base, struct.pack("<II", base + 64, size))
        error = self.library.fd_read(descriptor, base, 1, base + 16)
        return error, self.memory.read(base + 64, 0 if error else self.word(base + 16))

    def write(self, descriptor: int, *parts: bytes, at: int = 0) -> tuple[int, int]:
        base = self.base + at
        data = base + 64 + 8 * len(parts)
        for index, part in enumerate(parts):
            self.memory.write(base + 64 + 8 * index, struct.pack("<II", data, len(part)))
            self.memory.write(data, part)
            data += len(part)
        error = self.library.fd_write(descriptor, base + 64, len(parts), base)
        return error, self.word(base)

    def poll(
        self, *subscriptions: tuple[int, int] | float, at: int = 0
    ) -> tuple[int, list[tuple[int, int, int, int]]]:
        """Seconds are a clock, pairs a tag and a descriptor.

        Events are index, error, tag and flags.
        """
        base = self.base + at
        events = base + 48 * len(subscriptions)
        for index, each in enumerate(subscriptions):
            if isinstance(each, tuple):
                data = struct.pack("<QBxxxxxxxI28x", index, *each)
            else:
                data = struct.pack("<QBxxxxxxxIxxxxQQHxxxxxx", index, 0, 1, int(each * 1e9), 0, 0)
            self.memory.write(base + 48 * index, data)
        count = events + 32 * len(subscriptions)
        error = self.library.poll_oneoff(base, events, len(subscriptions), count)
        found = 0 if error else self.word(count)
        return error, [
            struct.unpack("<QHBxxxxxxxxxxxxxHxxxxxx", self.memory.read(events + 32 * each, 32))
            for each in range(found)
        ]

    def open(
        self, path: str, *, how: int = 0, follow: int = 1, rights: int = RIGHTS, at: int = 0
    ) -> tuple[int, int]:
        base = self.base + at
        self.memory.write(base + 64, path.encode())
        error = self.library.path_open(
            3, follow, base + 64, len(path.encode()), how, rights, 0, 0, base
        )
        return error, self.word(base)

    def touch(self, path: str, *, follow: int = 1) -> int:
        self.memory.write(self.base, path.encode())
        return int(
            self.library.path_filestat_set_times(
                3, follow, self.base, len(path.encode()), 0, 5_000_000_000, 4
            )
        )

    def rename(self, old: str, new: str) -> int:
        self.memory.write(self.base, old.encode() + new.encode())
        return int(
            self.library.path_rename(3, self.base, len(old), 3, self.base + len(old), len(new))
        )


def flood(guest: WasiGuest, descriptor: int = 1, *, at: int = 0) -> Any:
    """Write until that waits."""
    while guest.write(descriptor, b"x" * 60_000, at=at)[0] == 0:
        pass
    return "not written"


def read_renumbered(guest: WasiGuest) -> Any:
    assert guest.library.fd_renumber(0, 2) == 0
    assert guest.read(0) == (BADF, b"")
    return guest.read(2)


def flood_renumbered(guest: WasiGuest) -> Any:
    assert guest.library.fd_renumber(1, 0) == 0
    assert guest.write(1, b"gone")[0] == BADF
    return flood(guest, 0)


def poll_full(guest: WasiGuest) -> Any:
    os.set_blocking(1, False)
    try:
        while os.write(1, b"x" * 60_000):
            pass
    except BlockingIOError:
        pass
    os.set_blocking(1, True)
    return guest.poll((WRITE, 1))


CALLS: dict[str, Callable[[WasiGuest], Any]] = {
    "read": lambda guest: guest.read(0),
    "read renumbered": read_renumbered,
    "write": flood,
    "write renumbered": flood_renumbered,
    "poll input": lambda guest: guest.poll((READ, 0)),
    "poll input and clock": lambda guest: guest.poll((READ, 0), 3600.0),
    "poll clocks": lambda guest: guest.poll(3600.0, 3601.0),
    "poll output": poll_full,
}


def until_it_waits(guest: WasiGuest) -> None:
    """Return when the guest has been in one of its calls of WASI for some time."""
    linker = guest.program._linker
    assert linker is not None
    group = linker.context.main_group
    seen = 0
    while seen < 20:
        time.sleep(0.015)
        seen = seen + 1 if group.native.is_running and group.state.state == PARKED else 0


def stopped(guest: WasiGuest, call: str, stop: str) -> tuple[str, float]:
    """The exception of a waiting call that is stopped, and the seconds until it."""
    at = [0.0]

    def act() -> None:
        until_it_waits(guest)
        at[0] = time.monotonic()
        if stop == "signal":
            os.kill(os.getpid(), signal.SIGINT)
        else:
            guest.program.close()

    timer = threading.Thread(target=act)
    try:
        if stop == "limit":
            at[0] = time.monotonic() + 0.3
            with guest.program.time_limit(0.3):
                result = CALLS[call](guest)
        else:
            timer.start()
            result = CALLS[call](guest)
    except BaseException as error:  # noqa: BLE001 - KeyboardInterrupt is one
        return type(error).__name__, time.monotonic() - at[0]
    return repr(result), time.monotonic() - at[0]


def main() -> None:
    folder, stop, threads = Path(sys.argv[1]), *sys.argv[2:4]
    outcomes: dict[str, tuple[str, float]] = {}
    for call in CALLS:
        guest = WasiGuest(folder, threads=threads == "threads")
        if stop == "limit on a thread":

            def work(guest: WasiGuest = guest, call: str = call) -> None:
                outcomes[call] = stopped(guest, call, "limit")

            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            thread.join()
        else:
            outcomes[call] = stopped(guest, call, stop)
    print(json.dumps(outcomes), file=sys.stderr, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
