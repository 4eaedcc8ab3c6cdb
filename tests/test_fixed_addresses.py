"""Modules at fixed addresses: programs whose libraries lie behind them, and no libraries."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import wasmtime

import pylinker
from pylinker.linker import check_links
from running import sizes
from test_cli import cli

MEMORY = '(import "env" "memory" (memory 17))'
TABLE = '(import "env" "__indirect_function_table" (table 1 funcref))'
DYLINK = "(@dylink.0 (mem-info (memory 0 0) (table 0 0)))"

FIXED = f"""(module {DYLINK} {MEMORY} (data (i32.const 1048576) "CLOBBERED")
  (func (export "text") (result i32) (i32.const 1048576)))"""

OWN_MEMORY = f"""(module {DYLINK} (memory (export "memory") 1) (data (i32.const 1024) "hello\\00")
  (func (export "text") (result i32) (i32.const 1024)))"""

OWN_MEMORY_PLACED = f"""(module {DYLINK} (import "env" "__memory_base" (global i32))
  (memory (export "memory") 1)
  (data (global.get 0) "hello\\00"))"""

PASSIVE = f"""(module {DYLINK} {MEMORY} (data $d "CLOBBERED") (start $s)
  (func $s (memory.init $d (i32.const 1048576) (i32.const 0) (i32.const 9))))"""

FIXED_SLOTS = f"(module {DYLINK} {TABLE} (elem (i32.const 1) func $f) (func $f))"

OWN_STACK = f"""(module {DYLINK} {MEMORY}
  (global (export "__stack_pointer") (mut i32) (i32.const 65536)))"""

PROGRAM = f"""(module {DYLINK} {MEMORY}
  (import "env" "__memory_base" (global i32)) (func (export "_start")))"""

NO_LIBRARIES = {
    "fixed": (FIXED, "fixed addresses"),
    "own_memory": (OWN_MEMORY, "own memory"),
    "own_memory_placed": (OWN_MEMORY_PLACED, "own memory"),
    "passive": (PASSIVE, "fixed addresses"),
    "fixed_slots": (FIXED_SLOTS, "fixed slots"),
    "own_stack": (OWN_STACK, "fixed addresses"),
    "program": (PROGRAM, "exports _start"),
    "static": ('(module (memory (export "memory") 1) (func (export "_start")))', "exports _start"),
}

GOOD = """(module (@dylink.0 (mem-info (memory 12 4) (table 0 0)))
  (import "env" "memory" (memory 1)) (import "env" "__memory_base" (global $base i32))
  (import "env" "__indirect_function_table" (table 0 funcref))
  (data (global.get $base) "good data")
  (global (export "word") i32 (i32.const 0))
  (func (export "number") (result i32) (i32.const 7))
  (func (export "get") (result i32) (global.get $base)))"""

STACKED = """(module (@dylink.0 (mem-info (memory 0 0)))
  (import "env" "memory" (memory 1)) (import "env" "__stack_pointer" (global $sp (mut i32)))
  (func (export "stack") (result i32) (global.get $sp)))"""

# As Emscripten links a program: at fixed addresses, with a dylink.0 section that says so by asking
# for nothing.
MAIN = """(module (@dylink.0 (mem-info (memory 0 4) (table 0 0)) {needed})
  {imports}
  (memory (export "memory") 20 {maximum})
  (table (export "__indirect_function_table") {table} funcref)
  (elem (i32.const 1) func $own)
  (global (export "__stack_pointer") (mut i32) (i32.const 1240000))
  (global (export "__heap_base") i32 (i32.const 1240000))
  (global (export "place") i32 (i32.const 1048576))
  (data (i32.const 1048576) "main data")
  (func $own (export "own") (result i32) (i32.const 42))
  (func (export "_start"))
  {functions})"""

GOT = """(import "GOT.mem" "word" (global $word (mut i32)))
  (import "GOT.func" "number" (global $number (mut i32)))
  (import "GOT.mem" "place" (global $place (mut i32)))
  (import "GOT.func" "own" (global $own_slot (mut i32)))
  (import "env" "number" (func $call (result i32)))"""

ASKS = """(func (export "word_address") (result i32) (global.get $word))
  (func (export "place_address") (result i32) (global.get $place))
  (func (export "own_pointer") (result i32) (global.get $own_slot))
  (func (export "through_pointer") (result i32) (call_indirect (result i32) (global.get $number)))
  (func (export "through_call") (result i32) (call $call))"""


def write(path: Path, text: str) -> Path:
    path.write_bytes(wasmtime.wat2wasm(text))
    return path


def main(
    *, needed: str = "", imports: str = "", functions: str = "", maximum: str = "", table: str = "2"
) -> bytes:
    text = MAIN.format(
        needed=needed, imports=imports, functions=functions, maximum=maximum, table=table
    )
    return bytes(wasmtime.wat2wasm(text))


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write(tmp_path / "libgood.so", GOOD)


@pytest.mark.parametrize("name", NO_LIBRARIES)
def test_a_program_is_refused_as_a_library_by_name(name: str, good: Path, tmp_path: Path) -> None:
    text, reason = NO_LIBRARIES[name]
    path = write(tmp_path / f"{name}.so", text)
    with pylinker.Program(library_path=[tmp_path]) as program:
        library = program.dlopen("libgood.so")
        program.memory.read(library.get(), 9)
        before = sizes(program)
        for _ in range(2):
            with pytest.raises(pylinker.NotDynamicError, match=reason) as caught:
                program.dlopen(path.name)
            assert caught.value.module == path.name
            assert sizes(program) == before
        assert program.memory.read(library.get(), 9) == b"good data"
    with pytest.raises(pylinker.NotDynamicError, match=reason):
        pylinker.CDLL(path)
    with pytest.raises(pylinker.NotDynamicError, match=reason):
        pylinker.Program(preload=[path])
    seen = check_links(str(good), [str(path)])
    assert [reason in each.problem for each in seen.missing] == [True]


def test_a_program_that_a_library_needs_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "program.so", PROGRAM)
    write(
        tmp_path / "libneeds.so",
        '(module (@dylink.0 (mem-info (memory 0 0)) (needed "program.so")))',
    )
    with pytest.raises(pylinker.NotDynamicError, match=r"program\.so.*_start"):
        pylinker.CDLL(tmp_path / "libneeds.so", library_path=[tmp_path])


@pytest.mark.parametrize("bind_now", [False, True])
@pytest.mark.parametrize("imports", [False, True])
def test_libraries_lie_behind_the_program(good: Path, *, imports: bool, bind_now: bool) -> None:
    data = main(imports=GOT, functions=ASKS) if imports else main()
    with pylinker.Program(data, preload=[good], bind_now=bind_now) as program:
        library = program.dlopen(good)
        assert program.memory.read(1048576, 9) == b"main data"
        assert program.memory.read(library.get(), 9) == b"good data"
        assert library.get() >= 20 << 16
        assert program.main.own() == 42
        assert program.main["own"].slot == 1
        assert library["number"].slot not in (0, 1)
        assert program.run() == 0


def test_addresses_are_those_of_what_was_preloaded(good: Path) -> None:
    with pylinker.Program(main(imports=GOT, functions=ASKS), preload=[good]) as program:
        library = program.dlopen(good)
        assert program.main.word_address() == library.address_of("word") == library.get()
        assert program.main.place_address() == program.main.address_of("place") == 1048576
        assert program.main.through_pointer() == program.main.through_call() == 7
        assert program.main.own_pointer() == program.main["own"].slot == 1


def test_what_a_program_at_fixed_addresses_needs_is_loaded(good: Path) -> None:
    data = main(needed=f'(needed "{good.name}")', imports=GOT, functions=ASKS)
    with pylinker.Program(data, library_path=[good.parent]) as program:
        assert [each.name for each in program.libraries][1:] == [good.name]
        assert program.main.through_pointer() == 7
        assert program.memory.read(program.main.word_address(), 9) == b"good data"


def test_an_address_that_nothing_defines_is_named() -> None:
    with pytest.raises(pylinker.UndefinedSymbolError) as caught:
        pylinker.Program(main(imports=GOT, functions=ASKS))
    assert sorted(each.symbol for each in caught.value.undefined) == ["number", "word"]


def test_memory_that_cannot_hold_the_libraries_is_a_limit(good: Path) -> None:
    for data in (main(imports=GOT, functions=ASKS, maximum="20"), main(maximum="20")):
        with pytest.raises(pylinker.LimitError):
            pylinker.Program(data, preload=[good])


def test_a_table_that_cannot_grow_is_named(good: Path) -> None:
    with pytest.raises(pylinker.NotDynamicError, match="--growable-table"):
        pylinker.Program(main(imports=GOT, functions=ASKS, table="2 2"), preload=[good])


def test_the_stack_is_the_programs(tmp_path: Path) -> None:
    with pylinker.Program(main(), preload=[write(tmp_path / "libstacked.so", STACKED)]) as program:
        assert program.dlopen(tmp_path / "libstacked.so").stack() == 1240000


def test_a_memory_that_is_imported_is_as_large_as_it_wants(good: Path) -> None:
    text = FIXED.replace('(func (export "text")', '(func (export "_start")) (func (export "text")')
    with pylinker.Program(bytes(wasmtime.wat2wasm(text)), preload=[good]) as program:
        library = program.dlopen(good)
        assert program.memory.cstring(program.main.text()) == b"CLOBBERED"
        assert library.get() >= 17 << 16
        assert program.memory.read(library.get(), 9) == b"good data"


def test_a_program_with_a_table_of_its_own(good: Path) -> None:
    """Case own_table: no maximum, so it can grow."""
    text = """(module (@dylink.0 (mem-info (memory 0 4) (table 3 0)))
      {base}
      (table (export "__indirect_function_table") 4 funcref) (memory (export "memory") 17)
      (elem (i32.const 1) func $f $f $f)
      (func $f (export "f") (result i32) (i32.const 42))
      (func (export "h") (result i32) (i32.const 0))
      (func (export "call") (param i32) (result i32) (call_indirect (result i32) (local.get 0)))
      (func (export "_start")))"""
    for base in ("", '(import "env" "__memory_base" (global i32))'):
        for preload in ([], [good]):
            with pylinker.Program(
                bytes(wasmtime.wat2wasm(text.format(base=base))), preload=preload
            ) as program:
                assert program.run() == 0
                library = program.dlopen(good)
                slots = [program.main["h"].slot, library["number"].slot]
                assert all(slot >= 4 for slot in slots)
                assert [program.main.call(slot) for slot in (1, 2, 3, *slots)] == [42, 42, 42, 0, 7]


def test_slots_that_a_program_fills_itself_are_its_own(good: Path) -> None:
    text = f"""(module {DYLINK} (import "env" "memory" (memory 1)) {TABLE}
      (elem (i32.const 1) func $f $f $f) (func $f (export "f") (result i32) (i32.const 42))
      (func (export "call") (param i32) (result i32) (call_indirect (result i32) (local.get 0))))"""
    with pylinker.Program(bytes(wasmtime.wat2wasm(text)), preload=[good]) as program:
        number = program.dlopen(good)["number"].slot
        assert [program.main.call(slot) for slot in (1, 2, 3, number)] == [42, 42, 42, 7]


class TestOlderSection:
    TEXT = """(module (@custom "dylink" (before first) "\\08\\02\\00\\00\\00")
      (import "env" "memory" (memory 1))
      (import "env" "__memory_base" (global $mb i32))
        (import "env" "__indirect_function_table" (table 0 funcref))
      (import "env" "__table_base" (global $tb i32)) (data (global.get $mb) "\\2a\\00\\00\\00")
      (func (export "address") (result i32) global.get $mb)
        (func (export "value") (result i32) global.get $mb i32.load))"""

    def test_as_a_library(self, tmp_path: Path) -> None:
        path = write(tmp_path / "liblegacy.so", self.TEXT)
        for cache in (
            False,
            tmp_path / "cache",
            tmp_path / "cache",
        ):  # read, and read from what was stored
            with pylinker.CDLL(path, cache=cache) as library:
                assert library.value() == 42
                assert library.address() > 0

    def test_as_the_main_module(self) -> None:
        with pylinker.Program(bytes(wasmtime.wat2wasm(self.TEXT))) as program:
            assert program.main.value() == 42
            assert program.main.address() > 0

    def test_what_it_needs(self, good: Path, tmp_path: Path) -> None:
        body = b"\x0a\x02\0\0\1" + bytes([len(good.name)]) + good.name.encode()
        custom = b"\x06dylink" + body
        (tmp_path / "liblegacy.so").write_bytes(b"\0asm\1\0\0\0\0" + bytes([len(custom)]) + custom)
        with pylinker.CDLL(tmp_path / "liblegacy.so", library_path=[tmp_path]) as library:
            assert [each.name for each in library.program.libraries] == ["liblegacy.so", good.name]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (FIXED, "static program"),
        (OWN_MEMORY_PLACED, "position-independent program, defines its memory"),
        (
            MAIN.format(needed="", imports="", functions="", maximum="", table="2"),
            "program that can load libraries",
        ),
        (TestOlderSection.TEXT, "shared library"),
    ],
)
def test_inspect_agrees(text: str, kind: str, tmp_path: Path) -> None:
    assert kind in cli("inspect", write(tmp_path / "x.wasm", text), cwd=tmp_path).stdout


def test_an_import_info_with_more_entries_than_it_says(tmp_path: Path) -> None:
    """As auditwheel-emscripten 0.3.0 writes it."""
    entries = b"".join(b"\3env" + name + b"\x11" for name in (b"\1a", b"\1b"))
    body = (
        b"\x08dylink.0" + b"\1\4\0\0\0\0" + struct.pack("BB", 4, 1 + len(entries)) + b"\1" + entries
    )
    (tmp_path / "libinfo.so").write_bytes(b"\0asm\1\0\0\0\0" + bytes([len(body)]) + body)
    pylinker.CDLL(tmp_path / "libinfo.so").close()
