"""Every host function with hostile arguments: nothing but documented errors.

The functions are taken from the tables that the linker resolves imports by, so that a new one is
called, too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import wasmtime

import pylinker
from fields import MEMORY, SHARED, TABLE, forward, wasm
from guests import orderly
from pylinker.linker.guests import wasix
from pylinker.linker.guests.table import provided
from pylinker.wasm import WASI_PREVIEW1, FuncType

FUNCTIONS: dict[tuple[str, str], FuncType] = {
    **{("env", name): type_ for name, type_ in provided("env").items()},
    ("wasi", "thread-spawn"): provided("wasi")["thread-spawn"],
    ("pylinker", "safepoint"): provided("pylinker")["safepoint"],
    **{("wasi_snapshot_preview1", name): type_ for name, type_ in WASI_PREVIEW1.items()},
    **{
        (wasix.WASIX, name): type_
        for name, type_ in {**WASI_PREVIEW1, **provided(wasix.WASIX)}.items()
    },
    (wasix.WASIX, "no_such_function"): FuncType(("i32", "i64"), ("i32",)),
}

CALLS = 30
TIME = 0.05
"""Seconds for a call; those that wait for what never comes take all of it."""
WAITS = 3
"""So many calls of one function may wait."""

_END = 1 << 16
_ROUND = (
    0,
    1,
    2,
    3,
    4,
    8,
    64,
    0x100,
    0x1000,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    0xFFFF_FFFC,
    0xFFFF_0000,
)
_CODE = (
    '(func (export "wasi_thread_start") (param i32 i32))',
    '(func (export "handler") (param i32))',
    "(func $plain (result i32) (i32.const 1))",
    "(elem (i32.const 0) func $plain)",
    '(func (export "grow") (result i32) (memory.grow (i32.const 0)))',
    '(func (export "__wasm_signal") (param i32))',
)  # fmt: skip


class Caller:
    """A program whose export ``go`` is the function; a new one when the last has ended."""

    def __init__(self, folder: Path, key: tuple[str, str], *, threads: bool) -> None:
        module, name = key
        type_ = FUNCTIONS[key]
        fields = forward(name, " ".join(type_.params), " ".join(type_.results), module=module)
        self.path = wasm(
            folder / "main.wasm", SHARED if threads else MEMORY, TABLE, *fields, *_CODE, slots=1
        )
        self.root = folder / "root"
        self.root.mkdir()
        (self.root / "file").write_bytes(b"contents")
        self.threads = threads
        self.program: pylinker.Program | None = None

    def opened(self, rng: random.Random) -> pylinker.Program:
        if self.program is None:
            self.program = pylinker.Program(
                self.path,
                dirs={"/": self.root},
                stdin=b"input",
                stdout=pylinker.DEVNULL,
                stderr=pylinker.DEVNULL,
                threads=self.threads,
                limits=pylinker.Limits(memory=64 << 20, table=10_000, threads=8),
                cache=False,
            )
            memory = self.program.memory
            base = self.program.libraries[0].memory_base
            memory.write(
                base, bytes(rng.choice((0, 0, 0, 1, 2, 3, rng.randrange(256))) for _ in range(4096))
            )
            memory.write(base + 64, b"file\0")
            memory.write(
                base + 128, base.to_bytes(4, "little") + (16).to_bytes(4, "little")
            )  # a buffer of some call
            memory.write(memory.size - 16, b"x" * 16)  # a string without an end
        return self.program

    def end(self) -> None:
        if self.program is not None:
            self.program.close()
            self.program = None


def argument(rng: random.Random, kind: str, program: pylinker.Program) -> int:
    base, size = program.libraries[0].memory_base, program.memory.size
    near = [
        base,
        base + 64,
        base + 128,
        base + rng.randrange(4096),
        size,
        size - 1,
        size - 4,
        size - 8,
        size - 16,
    ]
    value = rng.choice(
        [
            rng.choice(_ROUND),
            rng.choice(_ROUND),
            rng.choice(near),
            rng.choice(near),
            rng.randrange(64),
            rng.getrandbits(32),
        ]
    )
    return (
        value
        if kind == "i32"
        else rng.choice([value, value << 32, rng.getrandbits(64), (1 << 64) - 1, 1 << 63])
    )


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    with orderly():
        yield


@pytest.mark.parametrize("threads", [False, True], ids=["alone", "threads"])
@pytest.mark.parametrize("key", list(FUNCTIONS), ids=".".join)
@pytest.mark.slow
def test_any_arguments(tmp_path: Path, key: tuple[str, str], threads: bool) -> None:
    rng = random.Random(repr((key, threads)))  # the same calls each time
    caller = Caller(tmp_path, key, threads=threads)
    waits = 0
    try:
        for _ in range(CALLS):
            program = caller.opened(rng)
            arguments = [argument(rng, kind, program) for kind in FUNCTIONS[key].params]
            try:
                with program.time_limit(TIME):
                    program.main.go(*arguments)
                assert program.main.grow() > 0  # it lives
            except pylinker.TimeoutExpired:
                caller.end()
                waits += 1
                if waits == WAITS:
                    break
            except (wasmtime.Trap, wasmtime.ExitTrap, pylinker.LinkError):
                caller.end()  # a guest that has trapped may be in any state, its host is not
    finally:
        caller.end()
    assert (tmp_path / "root").is_dir()


def test_a_function_that_the_tables_have_is_called(tmp_path: Path) -> None:
    """The test of each of them is one of the function itself, and not of a stub in its place."""
    caller = Caller(tmp_path, ("wasi_snapshot_preview1", "path_unlink_file"), threads=False)
    program = caller.opened(random.Random(1))
    assert program.main.go(3, program.libraries[0].memory_base + 64, 4) == 0
    assert not (caller.root / "file").exists()
    caller.end()
