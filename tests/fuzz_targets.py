"""What must hold for any bytes: of the reader of modules, and of the rewriter of waits.

For hypothesis, and for tests/fuzz/run.py.
"""

from __future__ import annotations

import functools

import wasmtime

from pylinker.errors import LinkError
from pylinker.wasm import (
    CachedInfo,
    has_waits_table,
    pack_info,
    parse_module,
    rewrite_waits,
    with_memory_minimum,
)
from pylinker.wasm.reader import Reader, sections
from pylinker.wasm.waits import _CANDIDATE, WAITS_EXPORT

_CODE = 10


@functools.lru_cache(maxsize=1)
def _engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    for name in (
        "wasm_threads",
        "shared_memory",
        "wasm_tail_call",
        "wasm_function_references",
        "wasm_gc",
        "wasm_exceptions",
    ):
        setattr(config, name, True)
    return wasmtime.Engine(config)


def is_valid(data: bytes) -> bool:
    """Whether wasmtime's validator, which is that of wasm-tools, takes the module."""
    try:
        wasmtime.Module.validate(_engine(), data)
    except wasmtime.WasmtimeError:
        return False
    return True


def check_reader(data: bytes) -> bool:
    """Read a module: nothing but a LinkError comes of it, and no valid module is refused.

    Whether it was read.
    """
    try:
        info = parse_module(data, name="fuzz")
    except LinkError:
        return False
    assert info.spaces
    stored = CachedInfo(memoryview(pack_info(info, data)), name="fuzz")
    assert repr(stored) == repr(info)
    assert tuple(stored.imports) == info.imports
    assert stored.private == info.private
    assert dict(stored.exports) == info.exports
    for export in info.exports.values():
        info.export_type(export)
    try:
        raised = with_memory_minimum(data, 3, name="fuzz")
    except LinkError:
        return True
    assert len(parse_module(raised).memories) == len(info.memories)
    return True


def bodies(data: bytes) -> list[bytes]:
    """The function bodies of a module, in order."""
    for section in sections(data, "fuzz"):
        if section.id == _CODE:
            reader = Reader(data[section.start : section.end])
            return [reader.take(reader.u32()) for _ in range(reader.u32())]
    return []


def check_waits(data: bytes) -> bool:
    """Rewrite the waits of a module, and return whether it has any.

    A valid module stays valid, offsets do not shift, and a module without waits stays the same.
    """
    try:
        written = rewrite_waits(data, name="fuzz")
    except LinkError:
        return False
    if written == data:
        return False
    assert rewrite_waits(written, name="fuzz") == written
    before, after = parse_module(data, name="fuzz"), parse_module(written, name="fuzz")
    assert has_waits_table(after)
    assert before.imports == after.imports
    assert before.dylink == after.dylink
    assert list(after.exports) == [*before.exports, WAITS_EXPORT]
    for name, export in before.exports.items():
        assert after.exports[name] == export
        assert after.export_type(export) == before.export_type(export)
    for old, new in zip(before.spaces, after.spaces, strict=True):
        assert tuple(new[: len(old)]) == tuple(old)
    if is_valid(data):
        assert is_valid(written)
        for old_body, new_body in zip(bodies(data), bodies(written), strict=False):
            assert len(old_body) == len(new_body)
            if old_body != new_body:
                assert _CANDIDATE.search(old_body)
    return True


TARGETS = {"reader": check_reader, "waits": check_waits}
