"""A loaded library, as every group instantiates it (``csrc/library.h``)."""

from __future__ import annotations

import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pylinker.native.core import ffi, lib
from pylinker.native.hostfuncs import release_host
from pylinker.native.scopes import Finalized
from pylinker.native.sources import SOURCE, Sources
from pylinker.native.symbols import Names

if TYPE_CHECKING:
    from pylinker._core import pl_library_p

__all__ = ["ExportLayout", "Library", "pack_source"]


def pack_source(
    kind: int,
    index: int = 0,
    value: int = 0,
    library: Library | None = None,
    type_address: int = 0,
    handle: int = 0,
) -> bytes:
    """Return a ``pl_source``."""
    packed: bytes = SOURCE.pack(
        kind, index, value, library.address if library is not None else 0, type_address, handle
    )
    return packed


class ExportLayout:
    """The export layout: the part of a Library that follows from its module's bytes alone.

    It is filled in once for all loads of the module. ``slot_exports`` are the exported functions
    that get slots of their own, ``roles`` the exports with a special role, by the name of the C
    member without ``export_``; exports are numbered in the module's order.
    """

    __slots__ = ("_kept", "parts")

    def __init__(
        self, names: Names, slot_exports: array.array[int], roles: Mapping[str, int]
    ) -> None:
        parts = self.parts = ffi.new("pl_library_parts *")
        slots = ffi.from_buffer("uint32_t[]", slot_exports)
        self._kept = names, slots
        parts.names = names.text
        parts.offsets = names.offsets
        parts.export_count = names.count
        parts.slot_exports = slots
        parts.slot_count = len(slot_exports)
        for role in (
            "memory",
            "table",
            "stack_pointer",
            "tls_base",
            "tls_init",
            "tls_relocs",
            "tls_make",
        ):
            setattr(parts, f"export_{role}", roles.get(role, -1))


def _modules(addresses: Sequence[int]) -> Any:
    return ffi.new("pl_module *[]", [ffi.cast("pl_module *", address) for address in addresses])


class Library(Finalized):
    """A loaded library, as every group instantiates it (``csrc/library.h``).

    Args:
        code: Address of the compiled module. The caller keeps it alive, as well as ``trampolines``.
        trampolines: Addresses of the compiled modules of trampolines, PLT_BLOCK in each.
        trampoline_count: Number of PLT entries.
        resolver: Handle of the host function that binds a PLT entry at its first call.
        sources: The definitions of all imports.
        layout: The export layout of the module.
        slot_base: The first of the slots of its exported functions; None if they have none.
        place: The ordinal of the library.
        handles: Host functions that are released with the library.
        rewritten: Whether waits of the code were rewritten.
        reuse: For pooled instances (``csrc/pool.h``): the numbers of code and trampolines, the
            module's memory base and size, table base and size.
        plt: A library whose PLT entries it uses in place of its own, and the number of the first.
    """

    def __init__(
        self,
        *,
        code: int,
        trampolines: Sequence[int],
        trampoline_count: int,
        resolver: int,
        sources: Sources,
        layout: ExportLayout,
        slot_base: int | None,
        place: int,
        handles: Sequence[int],
        rewritten: bool,
        reuse: tuple[int, int, int, int, int, int] | None = None,
        plt: tuple[Library, int] | None = None,
    ) -> None:
        self.handles = [*handles]
        self._layout = layout
        parts = ffi.new("pl_library_parts *", layout.parts[0])
        parts.code = ffi.cast("pl_module *", code)
        if trampoline_count:
            modules = _modules(trampolines)
            parts.trampolines = modules
            parts.trampoline_count = trampoline_count
            parts.resolver = resolver
        if plt is not None:
            parts.plt_of, parts.plt_base = plt[0].pointer, plt[1]
        parts.sources = sources
        parts.source_count = len(sources)
        if slot_base is None:
            parts.slot_count = 0
        else:
            parts.slot_base = slot_base
        parts.place = place
        parts.rewritten = rewritten
        if reuse is not None:
            (
                parts.code_number,
                parts.trampolines_number,
                parts.memory_base,
                parts.memory_size,
                parts.table_base,
                parts.table_size,
            ) = reuse
        self.pointer: pl_library_p = ffi.gc(lib.pl_library_new(parts), lib.pl_library_release)
        if self.pointer == ffi.NULL:
            raise MemoryError("no memory for a library")
        self.address = int(ffi.cast("uintptr_t", self.pointer))

    def set_trampolines(self, trampolines: Sequence[int], count: int, resolver: int) -> None:
        """Set ``count`` PLT entries, its own and those that other libraries use.

        Once, before it is loaded. ``resolver`` is released with the library.
        """
        self.handles.append(resolver)
        if lib.pl_library_set_trampolines(self.pointer, _modules(trampolines), count, resolver):
            raise MemoryError("no memory for a library's trampolines")

    def aim(self, index: int, target: Library, export: int) -> None:
        """Bind PLT entry ``index`` to an export of another library, for later calls."""
        lib.pl_library_bind(self.pointer, index, target.pointer, export)

    def bind_lazily(self, lazy: Sequence[int], addresses: array.array[int]) -> None:
        """Bind the first PLT entries to the definitions that the core has found.

        ``addresses`` are those of the scope's libraries, by number.
        """
        found, libraries = (
            ffi.from_buffer("pl_lazy[]", lazy),
            ffi.from_buffer("pl_library *[]", addresses),
        )
        lib.pl_lookup_bind(self.pointer, found, len(found), libraries)

    def miss(self, index: int) -> None:
        """Unbind a PLT entry; only while every other group is at the barrier or parked."""
        lib.pl_library_unbind(self.pointer, index)

    def set_unloaded(self) -> None:
        """Mark the library as unloaded. Requires the write lock."""
        lib.pl_library_set_unloaded(self.pointer)

    def _drop(self) -> None:
        for handle in getattr(self, "handles", ()):
            release_host(handle)
