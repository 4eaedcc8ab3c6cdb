"""The module that calls function pointers for the host."""

import pytest
import wasmtime

from pylinker.wasm import invoker_module

TARGETS = """(module
  (global $seen (export "seen") (mut i32) (i32.const 0))
  (table (export "table") 8 funcref)
  (elem (i32.const 1) $plain $one $two $vector)
  (func $plain i32.const 1 global.set $seen)
  (func $one (param i32) local.get 0 global.set $seen)
  (func $two (param i32 i32) i32.const -1 global.set $seen)
  (func $vector (param v128) i32.const -1 global.set $seen))"""


@pytest.fixture
def world():
    store = wasmtime.Store()
    targets = wasmtime.Instance(store, wasmtime.Module(store.engine, TARGETS), []).exports(store)
    exports = wasmtime.Instance(
        store, wasmtime.Module(store.engine, invoker_module()), [targets["table"]]
    ).exports(store)
    return store, exports, lambda: targets["seen"].value(store)


def test_it_is_valid(wasm_tools):
    wasm_tools("validate", data=invoker_module())


def test_it_calls_functions_of_the_right_type(world):
    store, exports, seen = world
    exports["call"](store, 1)
    assert seen() == 1
    exports["call_with"](store, 2, 42)
    assert seen() == 42


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("call", [2], "indirect call type mismatch"),
        ("call_with", [1, 5], "indirect call type mismatch"),
        ("call_with", [3, 5], "indirect call type mismatch"),
        ("call_with", [4, 5], "indirect call type mismatch"),
        ("call", [0], "uninitialized element"),
        ("call", [8], "out of bounds"),
        ("call_with", [-1, 5], "out of bounds"),
    ],
)
def test_it_traps_at_anything_else(world, name, arguments, message):
    store, exports, seen = world
    with pytest.raises(wasmtime.Trap, match=message):
        exports[name](store, *arguments)
    assert seen() == 0
