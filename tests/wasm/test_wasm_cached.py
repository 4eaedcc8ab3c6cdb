"""What was read of a module and written down says the same as the module."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime

from pylinker.benchmarks.linked import Shape, write
from pylinker.wasm import (
    PRIVATE,
    CachedInfo,
    ModuleInfo,
    pack_info,
    pack_sections,
    parse_module,
    unpack_sections,
)

PLACE = ("is_position_independent", "data_range", "fixed_slots", "has_legacy_dylink")

TEXT = """(module $named
  (type $f (func (param i32 i64) (result f64)))
  (import "env" "memory" (memory 1 7 shared))
  (import "env" "__indirect_function_table" (table 3 funcref))
  (import "env" "f" (func $f (type $f)))
  (import "GOT.mem" "d" (global (mut i32)))
  (import "env" "tag" (tag $t (param i32)))
  (memory 2) (table 5 9 externref)
  (global $g i32 (i32.const 40))
  (func $start (nop)) (start $start)
  (func $own (export "own") (result v128) unreachable)
  (elem (table 0) (i32.const 1) func $own)
  (export "f" (func $f)) (export "__stack_pointer" (global 0)) (export "g" (global $g))
    (export "tag" (tag $t))
  (export "memory" (memory 1)))"""


def modules() -> dict[str, bytes]:
    return {"all kinds": bytes(wasmtime.wat2wasm(TEXT)), "nothing": b"\0asm\x01\0\0\0"}


@pytest.fixture(params=["all kinds", "nothing", "library", "main"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> bytes:
    if request.param in modules():
        return modules()[request.param]
    main = write(
        tmp_path, Shape(libraries=2, functions=30, imported_functions=24, main_functions=20)
    )
    return (main if request.param == "main" else main.with_name("lib1.so")).read_bytes()


@pytest.fixture
def pair(data: bytes) -> tuple[ModuleInfo, ModuleInfo]:
    read = parse_module(data, name="m")
    return read, CachedInfo(memoryview(pack_info(read, data)), name="m")


def test_the_head_is_the_same(pair: tuple[ModuleInfo, ModuleInfo]) -> None:
    read, stored = pair
    for name in (
        "name",
        "module_name",
        "dylink",
        "start",
        "start_body",
        "memories",
        "tables",
        "is_dynamic",
        *PLACE,
    ):
        assert getattr(read, name) == getattr(stored, name), name
    assert list(read.imported_memories) == list(stored.imported_memories)
    assert list(read.imported_tables) == list(stored.imported_tables)
    assert [read.imported_count(each.kind) for each in read.imports] == [
        stored.imported_count(each.kind) for each in read.imports
    ]


def test_imports_are_the_same_one_by_one_and_all(pair: tuple[ModuleInfo, ModuleInfo]) -> None:
    read, stored = pair
    assert tuple(stored.imports) == read.imports
    assert len(stored.imports) == len(read.imports)
    assert [stored.imports[index] for index in range(-len(read.imports), len(read.imports))] == [
        *read.imports,
        *read.imports,
    ]
    assert list(stored.imports[1:3]) == list(read.imports[1:3])
    with pytest.raises(IndexError):
        stored.imports[len(read.imports)]


def test_exports_are_the_same(pair: tuple[ModuleInfo, ModuleInfo]) -> None:
    read, stored = pair
    for name in PRIVATE:
        export = read.exports.get(name)
        assert stored.exports.get(name) == export
        assert (name in stored.exports) == (name in read.exports)
        assert export is None or stored.export_type(export) == read.export_type(export)
    assert stored.private == read.private
    assert len(stored.exports) == len(read.exports)
    assert list(stored.exports.items()) == list(read.exports.items())
    assert [stored.export_type(each) for each in read.exports.values()] == [
        read.export_type(each) for each in read.exports.values()
    ]


def test_what_few_ask_for_is_read_again(pair: tuple[ModuleInfo, ModuleInfo]) -> None:
    read, stored = pair
    assert stored.element_slots == read.element_slots
    assert stored.index_spaces == read.index_spaces


def test_a_module_is_not_read_again_for_what_all_ask_for(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = memoryview(pack_info(parse_module(data), data))
    monkeypatch.setattr("pylinker.wasm.cached.parse_module", None)
    stored = CachedInfo(kept, name="m")
    assert "_start" in stored.exports or "_initialize" not in stored.exports
    assert all(stored.import_at(index) for index in range(len(stored.imports)))


def test_parts_come_apart_as_they_were_joined() -> None:
    parts = [b"", b"a", b"12345678", b"123456789"]
    whole = memoryview(pack_sections(parts))
    assert [bytes(part) for part in unpack_sections(whole)] == parts
    for length in range(len(whole) - 7):
        with pytest.raises(ValueError, match="parts"):
            unpack_sections(whole[:length])
