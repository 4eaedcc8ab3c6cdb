"""The memory shim, and the types of the WASI functions."""

from __future__ import annotations

from typing import Any

import pytest
import wasmtime

from pylinker.errors import UnsupportedError
from pylinker.wasm import (
    WASI_PREVIEW1,
    FuncType,
    Kind,
    Limits,
    MemoryType,
    memory_shim,
    parse_module,
)

WASI = "wasi_snapshot_preview1"
PAGE = MemoryType(Limits(1, None))

# A side module: it imports its memory, so the WASI functions do not find one in it.
CALLER = """(module
    (import "env" "memory" (memory 1))
    (import "wasi" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
    (table (export "table") 1 funcref)
    (elem (i32.const 0) func $args_sizes_get)
    (type $t (func (param i32 i32) (result i32)))
    (func (export "direct") (result i32) (call $args_sizes_get (i32.const 8) (i32.const 12)))
    (func (export "indirect") (result i32) (call_indirect (type $t) (i32.const 8) (i32.const 12)
      (i32.const 0)))
    (func (export "argc") (result i32) (i32.load (i32.const 8))))"""


class World:
    """A store with WASI and a memory that no instance defines."""

    def __init__(self) -> None:
        self.store = wasmtime.Store()
        config = wasmtime.WasiConfig()
        config.argv = ["program", "a", "b"]
        self.store.set_wasi(config)
        self.linker = wasmtime.Linker(self.store.engine)
        self.linker.define_wasi()
        self.memory = wasmtime.Memory(self.store, wasmtime.MemoryType(wasmtime.Limits(1, None)))

    def host(self, name: str) -> wasmtime.Func:
        function = self.linker.get(self.store, WASI, name)
        assert isinstance(function, wasmtime.Func)
        return function

    def shim(self, functions: dict[str, FuncType]) -> Any:
        module = wasmtime.Module(self.store.engine, memory_shim(PAGE, WASI, functions))
        imports = [
            self.memory if each.module == "env" else self.host(each.name or "")
            for each in module.imports
        ]
        return wasmtime.Instance(self.store, module, imports).exports(self.store)

    def caller(self, function: wasmtime.Func) -> Any:
        module = wasmtime.Module(self.store.engine, CALLER)
        return wasmtime.Instance(self.store, module, [self.memory, function]).exports(self.store)


def test_a_module_without_a_memory_of_its_own_can_call_wasi() -> None:
    world = World()
    shim = world.shim({"args_sizes_get": WASI_PREVIEW1["args_sizes_get"]})
    caller = world.caller(shim["args_sizes_get"])
    for how in ("direct", "indirect"):
        world.memory.write(world.store, bytes(16), 0)
        assert caller[how](world.store) == 0
        assert caller["argc"](world.store) == 3


def test_it_could_not_without_the_shim() -> None:
    """The reason why the shim exists."""
    world = World()
    caller = world.caller(world.host("args_sizes_get"))
    with pytest.raises(
        (wasmtime.Trap, wasmtime.WasmtimeError), match="missing required memory export"
    ):
        caller["direct"](world.store)


def test_the_types_of_all_wasi_functions_are_wasmtimes() -> None:
    world = World()
    assert len(WASI_PREVIEW1) == 46  # wasmtime cannot list them; preview 1 is frozen with these
    for name, function in WASI_PREVIEW1.items():
        theirs = world.host(name).type(world.store)
        assert function == FuncType(
            tuple(map(str, theirs.params)), tuple(map(str, theirs.results))
        ), name


def test_the_whole_of_wasi_in_one_shim(wasm_tools) -> None:
    data = memory_shim(PAGE, WASI, WASI_PREVIEW1)
    wasm_tools("validate", data=data)
    info = parse_module(data)
    assert info.imports[0][:3] == ("env", "memory", Kind.MEMORY)
    assert {each.name: each.type for each in info.imports[1:]} == WASI_PREVIEW1
    assert {each.module for each in info.imports[1:]} == {WASI}
    outside = {name: info.export_type(export) for name, export in info.exports.items()}
    assert outside == {"memory": PAGE, **WASI_PREVIEW1}
    assert all(
        each.index >= len(WASI_PREVIEW1) for each in info.exports.values() if each.kind == Kind.FUNC
    )
    assert data == memory_shim(PAGE, WASI, WASI_PREVIEW1)
    assert len(World().shim(dict(WASI_PREVIEW1))) == 47


def test_the_bytes_are_those_of_this_text() -> None:
    expected = wasmtime.wat2wasm("""(module
        (type (func (param i64 v128) (result f32)))
        (import "env" "memory" (memory 2 9 shared))
        (import "m" "f" (func (type 0)))
        (export "memory" (memory 0))
        (export "f" (func $f))
        (func $f (type 0) local.get 0 local.get 1 call 0))""")
    data = memory_shim(
        MemoryType(Limits(2, 9, shared=True)), "m", {"f": FuncType(("i64", "v128"), ("f32",))}
    )
    assert data.hex() == expected.hex()


@pytest.mark.parametrize(
    "memory",
    [
        MemoryType(Limits(0, None)),
        MemoryType(Limits(1, 65536)),
        MemoryType(Limits(200, 300, shared=True)),
        MemoryType(Limits(1, 2**32, is64=True)),
        MemoryType(Limits(70_000, None), 0),
        MemoryType(Limits(1, 5, shared=True, is64=True), 0),
    ],
)
def test_all_kinds_of_memory(memory: MemoryType, wasm_tools) -> None:
    data = memory_shim(memory, "m", {})
    wasm_tools("validate", "--features", "all", data=data)
    assert parse_module(data).imports[0].type == memory


def test_what_cannot_be_forwarded() -> None:
    with pytest.raises(UnsupportedError, match="memory"):
        memory_shim(PAGE, "m", {"memory": FuncType((), ())})
    with pytest.raises(UnsupportedError, match="anyref"):
        memory_shim(PAGE, "m", {"f": FuncType(("anyref",), ())})
