"""What is kept of a module beside its code comes back as it was."""

from pathlib import Path

import pytest
import wasmtime

import pylinker
from pylinker.wasm import ModuleInfo, parse_module, read_summary, write_summary

ROOT = Path(pylinker.__file__).parent
FILES = sorted([*ROOT.glob("demo/*.wasm"), *ROOT.glob("demo/*.so")])

EVERYTHING = """(module $named
  (import "env" "memory" (memory 1 4 shared))
  (import "env" "f" (func (param i32 i64) (result f32)))
  (import "GOT.mem" "cell" (global (mut i32)))
  (import "other" "table" (table 2 9 funcref))
  (tag $t (export "tag") (param i32 f64))
  (table (export "own") 3 funcref)
  (func $g (export "g") (export "same") (param v128) (result i32 i32) (i32.const 1) (i32.const 2))
  (func $start)
  (start $start)
  (global (export "value") i32 (i32.const -7))
  (global (export "sum") i32 (i32.const 5))
  (global f64 (f64.const 1.5))
  (elem (table 0) (i32.const 4) func $g $start)
  (elem (table 0) (i32.const 9) func $g)
  (memory (export "second") 2)
)"""


def attributes(info: ModuleInfo) -> dict[str, object]:
    return {name: getattr(info, name) for name in ModuleInfo.__slots__ if name != "__weakref__"}


def assert_same(info: ModuleInfo) -> None:
    again = read_summary(write_summary(info), name=info.name)
    before, after = attributes(info), attributes(again)
    assert before == after
    # Named tuples of different classes may be equal.
    assert [[type(each) for each in one] for one in before["spaces"]] == [[type(each) for each in one] for one in after["spaces"]]
    assert [type(each) for each in info.imports] == [type(each) for each in again.imports]
    assert list(info.exports) == list(again.exports)
    assert [type(each.kind) for each in info.exports.values()] == [type(each.kind) for each in again.exports.values()]
    assert repr(info) == repr(again)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_module_of_a_compiler(path):
    assert_same(parse_module(path.read_bytes(), name=path.name))


def test_a_module_with_everything():
    info = parse_module(bytes(wasmtime.wat2wasm(EVERYTHING)), name="everything")
    assert info.module_name == "named" and info.start is not None and info.start_body is not None
    assert len(info.element_slots) == 2 and all(info.spaces)
    assert_same(info)


def test_an_empty_module():
    assert_same(parse_module(b"\0asm\1\0\0\0", name="empty"))


def test_the_name_is_the_readers():
    info = parse_module(b"\0asm\1\0\0\0", name="one")
    assert read_summary(write_summary(info), name="another").name == "another"
