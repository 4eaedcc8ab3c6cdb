"""The ``dylink.0`` section: the metadata of a dynamic library for linkers.

The format is described in
https://github.com/WebAssembly/tool-conventions/blob/main/DynamicLinking.md ("The dylink.0
Section"); the symbol flags are those of ``WASM_SYMBOL_TABLE`` in Linking.md beside it. Before 2021
the section was called ``dylink`` and had no subsections.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from pylinker.wasm.reader import Reader, quoted
from pylinker.wasm.types import GOT_FUNC, GOT_MEM

__all__ = ["DylinkInfo", "SymbolFlags", "parse_dylink", "parse_legacy_dylink"]

_MEM_INFO = 1
_NEEDED = 2
_EXPORT_INFO = 3
_IMPORT_INFO = 4
_RUNTIME_PATH = 5
_MAXIMUM_EXPONENT = 31  # an alignment must be a 32-bit number


class SymbolFlags(enum.IntFlag):
    """Flags of a symbol in ``export-info`` and ``import-info``; unknown bits may be set too."""

    BINDING_WEAK = 0x1
    BINDING_LOCAL = 0x2
    VISIBILITY_HIDDEN = 0x4
    UNDEFINED = 0x10
    EXPORTED = 0x20
    EXPLICIT_NAME = 0x40
    NO_STRIP = 0x80
    TLS = 0x100
    ABSOLUTE = 0x200


@dataclass(frozen=True)
class DylinkInfo:
    """The contents of a ``dylink.0`` section."""

    memory_size: int = 0
    """Size in bytes of the zeroed memory at ``env.__memory_base``."""
    memory_alignment: int = 1
    """Alignment of ``env.__memory_base`` in bytes, a power of 2."""
    table_size: int = 0
    """Number of slots at ``env.__table_base``."""
    table_alignment: int = 1
    """Alignment of ``env.__table_base`` in slots, a power of 2."""
    needed: tuple[str, ...] = ()
    """Names of the libraries to load first."""
    runtime_path: tuple[str, ...] = ()
    """Directories to search for them."""
    export_flags: Mapping[str, int] = field(default_factory=dict)
    """:class:`SymbolFlags` by export name, for the symbols that have any."""
    import_flags: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """:class:`SymbolFlags` by (module, name), for the symbols that have any."""

    def flags_of_import(self, module: str, name: str) -> int:
        """Return the flags of one import.

        wasm-ld writes one entry for a symbol, under module ``env`` when the symbol has no import
        module of its own, although the module may import ``GOT.mem`` or ``GOT.func`` of it: for
        these the entry under ``env`` counts as well.
        """
        flags = self.import_flags.get((module, name), 0)
        if module in (GOT_MEM, GOT_FUNC):
            flags |= self.import_flags.get(("env", name), 0)
        return flags


def parse_dylink(reader: Reader) -> DylinkInfo:
    """Parse the contents of a ``dylink.0`` section, without its name.

    A subsection of an unknown type is skipped, as the format is extended that way. A subsection may
    be repeated, and a name may be listed twice (the flags are then combined): the conventions do
    not forbid either. The entries of import-info and export-info are read to the end of the
    subsection: auditwheel-emscripten adds entries and leaves the count unchanged.

    Raises:
        ParseError: A subsection is malformed, or an alignment is more than 2**31.
    """
    memory = table = (0, 1)
    needed: list[str] = []
    runtime_path: list[str] = []
    export_flags: dict[str, int] = {}
    import_flags: dict[tuple[str, str], int] = {}
    while reader.remaining:
        kind = reader.byte()
        body = reader.sub(reader.u32())
        if kind == _MEM_INFO:
            memory = _size_and_alignment(body, "memory")
            table = _size_and_alignment(body, "table")
        elif kind == _NEEDED:
            needed += _names(body, "needed library")
        elif kind == _EXPORT_INFO:
            least = body.count(2)
            while body.remaining >= 2 or least > 0:
                least -= 1
                name = body.name()
                export_flags[name] = export_flags.get(name, 0) | body.u32()
        elif kind == _IMPORT_INFO:
            least = body.count(3)
            while body.remaining >= 3 or least > 0:
                least -= 1
                key = body.name(), body.name()
                import_flags[key] = import_flags.get(key, 0) | body.u32()
        elif kind == _RUNTIME_PATH:
            runtime_path += _names(body, "runtime path")
        else:
            continue
        body.finish()
    return DylinkInfo(
        *memory, *table, tuple(needed), tuple(runtime_path), export_flags, import_flags
    )


def parse_legacy_dylink(reader: Reader) -> DylinkInfo:
    """Parse the contents of a ``dylink`` section, without its name.

    It has sizes and alignments, then the needed libraries.

    Raises:
        ParseError: It is malformed, or an alignment is more than 2**31.
    """
    memory = _size_and_alignment(reader, "memory")
    table = _size_and_alignment(reader, "table")
    needed = tuple(_names(reader, "needed library")) if reader.remaining else ()
    reader.finish()
    return DylinkInfo(*memory, *table, needed)


def _size_and_alignment(reader: Reader, what: str) -> tuple[int, int]:
    size = reader.u32()
    position = reader.position
    exponent = reader.u32()
    if exponent > _MAXIMUM_EXPONENT:
        raise reader.error(
            f"{what} alignment of 2**{exponent} exceeds the maximum of 2**{_MAXIMUM_EXPONENT}",
            position,
        )
    return size, 1 << exponent


def _names(reader: Reader, what: str) -> list[str]:
    names = []
    for _ in range(reader.count()):
        position = reader.position
        name = reader.name()
        # Both become parts of file paths, which cannot contain a NUL.
        if "\0" in name:
            raise reader.error(f"{what} {quoted(name)} contains a NUL character", position)
        names.append(name)
    return names
