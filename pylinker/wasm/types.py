"""The types of a WebAssembly module's imports and exports, as plain values that compare and print.

All of them are named tuples: equal when the types are equal, hashable, and cheap to create in
thousands. ``str()`` returns the text for error messages. Types are structural, with one exception:
a reference to a concrete type, such as ``(ref null 5)``, refers to types of its own module, so such
a text has another meaning in another module.
"""

from __future__ import annotations

import enum
from typing import NamedTuple, TypeAlias

__all__ = [
    "GOT_FUNC",
    "GOT_MEM",
    "PRIVATE",
    "Export",
    "ExternType",
    "FuncType",
    "GlobalType",
    "Import",
    "Kind",
    "Limits",
    "MemoryType",
    "TableType",
    "TagType",
    "ValType",
]

GOT_MEM, GOT_FUNC = "GOT.mem", "GOT.func"
"""The import modules of GOT entries, with the address of data or the table slot of a function."""

PRIVATE = frozenset(
    {
        "_initialize",
        "_start",
        "__indirect_function_table",
        "__memory_base",
        "__stack_pointer",
        "__table_base",
        "__tls_align",
        "__tls_base",
        "__tls_size",
        "__wasi_init_tp",
        "__wasix_init_tls",
        "__wasm_apply_data_relocs",
        "__wasm_apply_global_relocs",
        "__wasm_apply_tls_relocs",
        "__wasm_call_ctors",
        "__wasm_init_memory",
        "__wasm_init_tls",
        "memory",
        "wasi_thread_start",
    }
)
"""Exports that are no symbols (tool-conventions, DynamicLinking.md, and exports of wasm-ld)."""

ValType: TypeAlias = str
"""A value type, as text.

``"i32"``, ``"i64"``, ``"f32"``, ``"f64"``, ``"v128"``, ``"funcref"``, ``"externref"``,
``"exnref"``, or the text of another reference type, e.g. ``"(ref null 5)"``, ``"(ref func)"``,
``"anyref"``.
"""


class Kind(enum.IntEnum):
    """The kind of an import or export; the values are those of the binary format."""

    FUNC = 0
    TABLE = 1
    MEMORY = 2
    GLOBAL = 3
    TAG = 4

    @property
    def label(self) -> str:
        """The word for messages, such as ``"function"`` or ``"tag"``."""
        return _LABELS[self]


_LABELS = {
    Kind.FUNC: "function",
    Kind.TABLE: "table",
    Kind.MEMORY: "memory",
    Kind.GLOBAL: "global",
    Kind.TAG: "tag",
}


class FuncType(NamedTuple):
    """A function's parameter and result types."""

    params: tuple[ValType, ...]
    results: tuple[ValType, ...]

    def __str__(self) -> str:
        results = self.results[0] if len(self.results) == 1 else f"({', '.join(self.results)})"
        return f"({', '.join(self.params)}) -> {results}"


class Limits(NamedTuple):
    """Bounds of a table (in elements) or a memory (in pages).

    ``is64``: addressed by i64 instead of i32.
    """

    minimum: int
    maximum: int | None
    shared: bool = False
    is64: bool = False

    def __str__(self) -> str:
        parts = ["i64"] if self.is64 else []
        parts.append(str(self.minimum))
        if self.maximum is not None:
            parts.append(str(self.maximum))
        if self.shared:
            parts.append("shared")
        return " ".join(parts)


class TableType(NamedTuple):
    """A table of references of type ``element``."""

    element: ValType
    limits: Limits

    def __str__(self) -> str:
        return f"{self.limits} {self.element}"


class MemoryType(NamedTuple):
    """A linear memory.

    A page has ``1 << page_size_log2`` bytes: 65536, or 1 with the custom page sizes proposal.
    """

    limits: Limits
    page_size_log2: int = 16

    def __str__(self) -> str:
        return (
            str(self.limits)
            if self.page_size_log2 == 16
            else f"{self.limits} (pagesize {1 << self.page_size_log2})"
        )


class GlobalType(NamedTuple):
    """A global variable's type."""

    value: ValType
    mutable: bool

    def __str__(self) -> str:
        return f"(mut {self.value})" if self.mutable else self.value


class TagType(NamedTuple):
    """An exception tag; the parameters of ``type`` are the exception's payload."""

    type: FuncType

    def __str__(self) -> str:
        return str(self.type)


ExternType: TypeAlias = FuncType | TableType | MemoryType | GlobalType | TagType


class Import(NamedTuple):
    """One import, in the order of the module. Names need not be unique."""

    module: str
    name: str
    kind: Kind
    type: ExternType


class Export(NamedTuple):
    """One export; ``index`` counts in the index space of its ``kind``, imports first."""

    name: str
    kind: Kind
    index: int  # type: ignore[assignment]  # tuple.index is not used
