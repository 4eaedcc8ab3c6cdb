"""The WebAssembly binary format, as far as a linker needs it: reading modules and generating small ones.

Pure Python, without wasmtime; it imports nothing of pylinker but its errors. Start at :func:`parse_module`.
"""

from __future__ import annotations

from pylinker.wasm.bodies import body_sizes
from pylinker.wasm.closures import PACKED_SIZES, closure_module, dynamic_call_module
from pylinker.wasm.constexpr import ConstExpr
from pylinker.wasm.dylink import DylinkInfo, SymbolFlags, parse_dylink
from pylinker.wasm.invoker import invoker_module
from pylinker.wasm.module import ModuleInfo, parse_module
from pylinker.wasm.reader import Reader
from pylinker.wasm.rewrite import with_memory_minimum
from pylinker.wasm.shim import WASI_PREVIEW1, memory_shim
from pylinker.wasm.summary import SUMMARY_FORMAT, read_summary, write_summary
from pylinker.wasm.threadlocal import has_thread_locals
from pylinker.wasm.trampolines import trampoline_module
from pylinker.wasm.types import (
    Export,
    ExternType,
    FuncType,
    GlobalType,
    Import,
    Kind,
    Limits,
    MemoryType,
    TableType,
    TagType,
    ValType,
)
from pylinker.wasm.waits import WAIT_TYPES, WAITS_EXPORT, WAITS_TABLE, WaitSlot, has_waits_table, rewrite_waits

__all__ = [
    "PACKED_SIZES",
    "SUMMARY_FORMAT",
    "WAITS_EXPORT",
    "WAITS_TABLE",
    "WAIT_TYPES",
    "WASI_PREVIEW1",
    "ConstExpr",
    "DylinkInfo",
    "Export",
    "ExternType",
    "FuncType",
    "GlobalType",
    "Import",
    "Kind",
    "Limits",
    "MemoryType",
    "ModuleInfo",
    "Reader",
    "SymbolFlags",
    "TableType",
    "TagType",
    "ValType",
    "WaitSlot",
    "body_sizes",
    "closure_module",
    "dynamic_call_module",
    "has_thread_locals",
    "has_waits_table",
    "invoker_module",
    "memory_shim",
    "parse_dylink",
    "parse_module",
    "read_summary",
    "rewrite_waits",
    "trampoline_module",
    "with_memory_minimum",
    "write_summary",
]
