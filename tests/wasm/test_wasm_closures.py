"""The modules of closures and of dynamic calls, run in wasmtime."""

from __future__ import annotations

import struct
from typing import Any

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from pylinker.errors import UnsupportedError
from pylinker.wasm import (
    PACKED_SIZES,
    FuncType,
    Kind,
    closure_module,
    dynamic_call_module,
    parse_module,
)

ALL = sorted(PACKED_SIZES)
NUMBERS = {"i32": "i", "i64": "q", "f32": "f", "f64": "d"}
TOP = 4096
ENVIRONMENT = 77

# The function behind closures: it keeps what it was called with, and a copy of the arguments; it
# gives as results what is at 1024.
BACKING = """(module
  (import "" "memory" (memory 1))
  (global $arguments (export "arguments") (mut i32) (i32.const 0))
  (global $results (export "results") (mut i32) (i32.const 0))
  (global $environment (export "environment") (mut i32) (i32.const 0))
  (func (export "backing") (param i32 i32 i32)
    (global.set $arguments (local.get 0)) (global.set $results (local.get 1))
      (global.set $environment (local.get 2))
    (memory.copy (i32.const 0) (local.get 0) (i32.const 512))
    (memory.copy (local.get 1) (i32.const 1024) (i32.const 512)))
  (func (export "traps") (param i32 i32 i32) unreachable)
  (func (export "other") (param i32)))"""

lists = st.lists(st.sampled_from(ALL), max_size=12).map(tuple)


def aligned(size: int) -> int:
    return -(-size // 16) * 16


class World:
    """A closure of one type, with all it imports."""

    def __init__(self, type_: FuncType, target: str = "backing") -> None:
        self.store = store = wasmtime.Store()
        engine = store.engine
        self.memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(1, None)))
        table = wasmtime.Table(
            store, wasmtime.TableType(wasmtime.ValType.funcref(), wasmtime.Limits(8, None)), None
        )
        i32 = wasmtime.GlobalType(wasmtime.ValType.i32(), True)
        self.top = wasmtime.Global(store, i32, wasmtime.Val.i32(TOP))
        globals_ = [
            wasmtime.Global(store, i32, wasmtime.Val.i32(value)) for value in (3, ENVIRONMENT)
        ]
        self.backing = wasmtime.Instance(
            store, wasmtime.Module(engine, BACKING), [self.memory]
        ).exports(store)
        table.set(store, 3, self.backing[target])
        imports = [self.memory, table, self.top, *globals_]
        self.instance = wasmtime.Instance(
            store, wasmtime.Module(engine, closure_module(type_, shared=False)), imports
        )

    def __call__(self, *arguments: float) -> Any:
        return self.instance.exports(self.store)["closure"](self.store, *arguments)

    def seen(self, name: str) -> int:
        return int(self.backing[name].value(self.store))


@given(params=lists, results=lists, shared=st.booleans())
@settings(max_examples=40, deadline=None)
def test_they_are_valid(all_features, params, results, shared):
    type_ = FuncType(params, results)
    closure, dynamic = closure_module(type_, shared=shared), dynamic_call_module(type_)
    assert closure == closure_module(type_, shared=shared)
    assert dynamic == dynamic_call_module(type_)
    for data in (closure, dynamic):
        wasmtime.Module.validate(all_features, data)
    assert parse_module(closure).export_type(parse_module(closure).exports["closure"]) == type_
    invoke = parse_module(dynamic).export_type(parse_module(dynamic).exports["invoke"])
    assert invoke == FuncType((*params, "i32"), results)


def test_the_other_opinion(wasm_tools):
    type_ = FuncType(tuple(ALL), tuple(reversed(ALL)))
    for data in (
        closure_module(type_, shared=True),
        closure_module(type_, shared=False),
        dynamic_call_module(type_),
    ):
        wasm_tools("validate", "--features", "all", data=data)


def test_what_a_closure_imports():
    info = parse_module(closure_module(FuncType((), ()), shared=True))
    assert [(each.module, each.name, each.kind) for each in info.imports] == [
        ("env", "memory", Kind.MEMORY),
        ("env", "__indirect_function_table", Kind.TABLE),
        ("env", "__stack_pointer", Kind.GLOBAL),
        ("pylinker", "function", Kind.GLOBAL),
        ("pylinker", "environment", Kind.GLOBAL),
    ]


@given(
    params=st.lists(st.sampled_from(sorted(NUMBERS)), max_size=20).map(tuple),
    results=st.lists(st.sampled_from(sorted(NUMBERS)), max_size=6).map(tuple),
    random=st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_a_closure_packs_its_arguments_and_unpacks_its_results(params, results, random):
    world = World(FuncType(params, results))
    layouts = ["<" + "".join(NUMBERS[each] for each in types) for types in (params, results)]
    values, answers = (
        [
            random.randrange(-100, 100)
            if each in ("i32", "i64")
            else random.randrange(-100, 100) / 4
            for each in types
        ]
        for types in (params, results)
    )
    packed = struct.pack(layouts[1], *answers)
    world.memory.write(world.store, packed, 1024)
    found = world(*values)
    assert (found if isinstance(found, list) else [] if found is None else [found]) == answers
    data = struct.pack(layouts[0], *values)
    assert world.memory.read(world.store, 0, len(data)) == data
    arguments, result_area = world.seen("arguments"), world.seen("results")
    assert result_area == TOP - aligned(len(packed))
    assert arguments == result_area - aligned(len(data))
    assert world.seen("environment") == ENVIRONMENT
    assert world.top.value(world.store) == TOP


def test_a_trap_leaves_the_stack_pointer():
    world = World(FuncType(("i32",), ("i64",)), "traps")
    with pytest.raises(wasmtime.Trap):
        world(1)
    assert world.top.value(world.store) == TOP - 32


def test_a_function_of_another_type_is_not_called():
    world = World(FuncType((), ()), "other")
    with pytest.raises(wasmtime.Trap, match="indirect call type mismatch"):
        world()


def test_a_stack_without_room_traps():
    world = World(FuncType(("i32",), ()))
    world.top.set_value(world.store, wasmtime.Val.i32(8))
    with pytest.raises(wasmtime.Trap, match="out of bounds"):
        world(1)


def test_a_dynamic_call_calls_what_is_of_its_type_only():
    store = wasmtime.Store()
    targets = """(module (table (export "t") 4 funcref) (elem (i32.const 1) $swap $other)
      (func $swap (param i32 f64) (result f64 i32) local.get 1 local.get 0)
        (func $other (param i32 f64)))"""
    table = wasmtime.Instance(store, wasmtime.Module(store.engine, targets), []).exports(store)["t"]
    module = wasmtime.Module(
        store.engine, dynamic_call_module(FuncType(("i32", "f64"), ("f64", "i32")))
    )
    invoke = wasmtime.Instance(store, module, [table]).exports(store)["invoke"]
    assert invoke(store, 5, 1.5, 1) == [1.5, 5]
    for slot, message in (
        (2, "type mismatch"),
        (0, "uninitialized"),
        (4, "undefined element"),
        (-1, "undefined element"),
    ):
        with pytest.raises(wasmtime.Trap, match=message):
            invoke(store, 5, 1.5, slot)


@pytest.mark.parametrize("kind", ["externref", "funcref"])
def test_references_have_no_place_in_memory(kind):
    for type_ in (FuncType((kind,), ()), FuncType((), (kind,))):
        with pytest.raises(UnsupportedError, match=kind):
            closure_module(type_, shared=True)
