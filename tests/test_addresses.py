"""Addresses at and above 2 GiB, where an i32 is a negative number."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import wasmtime

import pylinker

HALF = 1 << 31

# It wants more than 2 GiB of memory, so that all that comes later lies above.
LARGE = '(module (@dylink.0 (mem-info (memory 0 0))) (import "env" "memory" (memory 33000)))'

HIGH = """(module (@dylink.0 (mem-info (memory 64 4) (table 0 0)))
  (import "env" "memory" (memory 1)) (import "env" "__memory_base" (global $base i32))
  (import "GOT.mem" "word" (global $word (mut i32)))
  (import "env" "seen" (func $seen (param i32) (result i32)))
  (import "env" "dlsym" (func $dlsym (param i32 i32) (result i32)))
  (import "env" "dlerror" (func $dlerror (result i32)))
  (data (global.get $base) "a word\\00none\\00")
  (global (export "word") i32 (i32.const 0))
  (func (export "same") (param i32) (result i32) (local.get 0))
  (func (export "base") (result i32) (global.get $base))
  (func (export "got") (result i32) (global.get $word))
  (func (export "first") (param i32 i32) (result i32)
    (i32.load8_u (i32.add (local.get 0) (local.get 1))))
  (func (export "show") (param i32) (result i32) (call $seen (local.get 0)))
  (func (export "find") (result i32) (call $dlsym (i32.const 0)
    (i32.add (global.get $base) (i32.const 2))))
  (func (export "fail") (result i32)
    (drop (call $dlsym (i32.const 0) (i32.add (global.get $base) (i32.const 7))))
      (call $dlerror)))"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[pylinker.Program]:
    (tmp_path / "liblarge.so").write_bytes(wasmtime.wat2wasm(LARGE))
    (tmp_path / "libhigh.so").write_bytes(wasmtime.wat2wasm(HIGH))
    imports = {"seen": lambda address: address & 0xFFFFFFFF}
    with pylinker.Program(
        library_path=[tmp_path], preload=["liblarge.so"], imports=imports
    ) as program:
        yield program


@pytest.fixture
def high(program: pylinker.Program) -> pylinker.Library:
    return program.dlopen("libhigh.so", pylinker.RTLD_GLOBAL)


def test_memory_takes_both_spellings(program: pylinker.Program, high: pylinker.Library) -> None:
    memory = program.memory
    address = high.address_of("word")
    assert HALF <= address < 2 * HALF
    for spelling in (address, address - 2 * HALF):
        assert memory.read(spelling, 6) == b"a word"
        assert memory.cstring(spelling) == b"a word"
        memory.check(spelling, 64)
        memory.write(spelling + 32, b"x" * 8)
        memory.zero(spelling + 32, 4)
        assert memory.read(spelling + 32, 8) == bytes(4) + b"x" * 4
    assert program.dladdr(address - 2 * HALF) == program.dladdr(address) is not None


def test_what_no_i32_spells_is_refused(program: pylinker.Program) -> None:
    memory = program.memory
    for address in (-1, -HALF - 1, -2 * HALF, 2 * HALF, 1 << 70, -(1 << 70)):
        for access in (
            lambda at: memory.read(at, 2),
            lambda at: memory.write(at, b"xx"),
            lambda at: memory.zero(at, 2),
            lambda at: memory.check(at, 2),
            memory.cstring,
        ):
            with pytest.raises(pylinker.MemoryAccessError):
                access(address)


def test_a_pointer_comes_out_as_it_went_in(
    program: pylinker.Program, high: pylinker.Library
) -> None:
    """Numbers from the linker are unsigned; an i32 result of a guest function is signed.

    Both mean the same address to every function that takes one.
    """
    memory = program.memory
    address = high.address_of("word")
    assert program.dlsym(high, "word") == address
    for spelling in (
        address,
        high.base(),
        high.got(),
        high.same(address),
        high["same"].bind()(address),
        high.find(),
    ):
        assert spelling & 0xFFFFFFFF == address
        assert memory.cstring(spelling) == b"a word"
        assert high.same(spelling) == high.same(address)
        assert high.first(spelling, 2) == ord("w")
        assert high.show(spelling) & 0xFFFFFFFF == address


def test_strings_and_messages_lie_there_too(
    program: pylinker.Program, high: pylinker.Library
) -> None:
    assert high.first("x" * 100_000 + "y", 100_000) == ord("y")
    assert b"none" in program.memory.cstring(high.fail())


def test_a_library_of_the_start_may_lie_there(tmp_path: Path) -> None:
    text = HIGH.replace("(memory 64 4)", f"(memory {HALF + 64} 4)").replace(
        "(i32.const 0))", f"(i32.const {HALF}))", 1
    )
    (tmp_path / "libhigh.so").write_bytes(wasmtime.wat2wasm(text))
    with pylinker.CDLL(
        tmp_path / "libhigh.so", imports={"seen": lambda address: address}
    ) as library:
        address = library.address_of("word")
        assert address == library.base() + HALF == library.got() & 0xFFFFFFFF
        library.program.memory.write(library.got(), struct.pack("<I", address))
        assert library.program.memory.read(address, 4) == struct.pack("<I", address)
