"""The WebAssembly binary format as a linker uses it: a parser, and a generator of small modules.

Pure Python, without wasmtime; it imports nothing of pylinker but its errors. Start at
:func:`parse_module`.
"""

from __future__ import annotations

from pylinker.wasm.bodies import body_sizes, uses_legacy_exceptions
from pylinker.wasm.cached import (
    CachedInfo,
    names_of,
    pack_info,
    pack_sections,
    pack_type,
    unpack_sections,
    unpack_type,
)
from pylinker.wasm.closures import PACKED_SIZES, closure_module, dynamic_call_module
from pylinker.wasm.constexpr import ConstExpr
from pylinker.wasm.dylink import DylinkInfo, SymbolFlags, parse_dylink
from pylinker.wasm.invoker import invoker_module
from pylinker.wasm.module import ModuleInfo, parse_module
from pylinker.wasm.reader import Reader
from pylinker.wasm.reuse import is_reusable
from pylinker.wasm.rewrite import with_memory_minimum
from pylinker.wasm.shim import WASI_PARAMETERS, WASI_PREVIEW1, memory_shim
from pylinker.wasm.threadlocal import has_thread_locals
from pylinker.wasm.trampolines import trampoline_module
from pylinker.wasm.types import (
    GOT_FUNC,
    GOT_MEM,
    PRIVATE,
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
from pylinker.wasm.waits import (
    WAIT_TYPES,
    WAITS_EXPORT,
    WAITS_TABLE,
    WaitSlot,
    has_waits_table,
    rewrite_waits,
)

__all__ = [
    "GOT_FUNC",
    "GOT_MEM",
    "PACKED_SIZES",
    "PRIVATE",
    "WAITS_EXPORT",
    "WAITS_TABLE",
    "WAIT_TYPES",
    "WASI_PARAMETERS",
    "WASI_PREVIEW1",
    "CachedInfo",
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
    "is_reusable",
    "memory_shim",
    "names_of",
    "pack_info",
    "pack_sections",
    "pack_type",
    "parse_dylink",
    "parse_module",
    "rewrite_waits",
    "trampoline_module",
    "unpack_sections",
    "unpack_type",
    "uses_legacy_exceptions",
    "with_memory_minimum",
]
