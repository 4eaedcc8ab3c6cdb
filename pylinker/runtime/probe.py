"""A probe of wasmtime's behaviour that the C core relies on, in a few milliseconds."""

from __future__ import annotations

import wasmtime

from pylinker.native.api import probe as run_probe
from pylinker.native.api import probe_text
from pylinker.runtime.private import address_of, switch_off_signals

__all__ = ["probe"]

_FEATURES = (
    "wasm_threads",
    "shared_memory",
    "wasm_function_references",
    "wasm_gc",
    "wasm_exceptions",
    "epoch_interruption",
)


def probe() -> str | None:
    """Exercise each kind of object once (``csrc/probe.h``).

    It uses an engine of its own that starts no thread and installs no signal handler, so that the
    import of pylinker does not either. Blocks for a few milliseconds.

    Returns:
        The first difference in behaviour, or None.

    Raises:
        Exception: This wasmtime refuses the module or configuration of the probe.
    """
    config = wasmtime.Config()
    for feature in _FEATURES:
        setattr(config, feature, True)
    config.parallel_compilation = False
    switch_off_signals(config)
    engine = wasmtime.Engine(config)
    number = wasmtime.ValType
    function = wasmtime.FuncType(
        [number.i32(), number.i64(), number.f32(), number.f64()], [number.i64()]
    )
    cell = wasmtime.GlobalType(number.i32(), mutable=True)
    table = wasmtime.TableType(number.funcref(), wasmtime.Limits(2, 4))
    tag = wasmtime.TagType(wasmtime.FuncType([number.i32()], []))
    memory = wasmtime.MemoryType(wasmtime.Limits(1, 2))
    shared = wasmtime.SharedMemory(engine, wasmtime.MemoryType(wasmtime.Limits(1, 2), shared=True))
    module = wasmtime.Module(engine, bytes(wasmtime.wat2wasm(probe_text())))
    return run_probe(
        address_of(engine),
        address_of(module),
        address_of(shared),
        function=address_of(function),
        cell=address_of(cell),
        table=address_of(table),
        tag=address_of(tag),
        memory=address_of(memory),
    )
