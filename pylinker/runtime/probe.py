"""Tries what the C core relies on, in a millisecond, with the wasmtime that is installed."""

from __future__ import annotations

import wasmtime

from pylinker import _native
from pylinker.runtime.private import address_of

__all__ = ["probe"]


def probe() -> str | None:
    """Exercise each kind of object once (``csrc/probe.h``).

    Returns:
        What this wasmtime does differently, or None. Blocks for about two milliseconds.
    """
    config = wasmtime.Config()
    for feature in ("wasm_threads", "shared_memory", "wasm_function_references", "wasm_gc", "wasm_exceptions", "epoch_interruption"):
        setattr(config, feature, True)
    engine = wasmtime.Engine(config)
    number = wasmtime.ValType
    function = wasmtime.FuncType([number.i32(), number.i64(), number.f32(), number.f64()], [number.i64()])
    cell = wasmtime.GlobalType(number.i32(), mutable=True)
    table = wasmtime.TableType(number.funcref(), wasmtime.Limits(2, 4))
    tag = wasmtime.TagType(wasmtime.FuncType([number.i32()], []))
    memory = wasmtime.MemoryType(wasmtime.Limits(1, 2))
    shared = wasmtime.SharedMemory(engine, wasmtime.MemoryType(wasmtime.Limits(1, 2), shared=True))
    module = wasmtime.Module(engine, wasmtime.wat2wasm(_native.probe_text()))
    return _native.probe(
        address_of(engine),
        address_of(module),
        address_of(shared),
        function=address_of(function),
        cell=address_of(cell),
        table=address_of(table),
        tag=address_of(tag),
        memory=address_of(memory),
    )
