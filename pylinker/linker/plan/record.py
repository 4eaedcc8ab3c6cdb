"""Conversion of the decisions of a plan into the records of the C core."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from pylinker.errors import InternalError, UnsupportedError
from pylinker.linker.guests.table import RESOLVE, function_named
from pylinker.linker.modules.module import (
    Constant,
    ExportRef,
    GotEntry,
    GroupTag,
    HostCall,
    PltSlot,
    PythonCall,
    ThreadLocalGotEntry,
    WasiCall,
)
from pylinker.native.enums import AtomicsKind, SourceKind
from pylinker.native.hostfuncs import register_host
from pylinker.native.libraries import ExportLayout, Library, pack_source
from pylinker.native.sources import put_source
from pylinker.runtime.types import function_type, tag_type
from pylinker.runtime.wasi import wasi_source
from pylinker.wasm import FuncType, GlobalType, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pylinker.linker.modules.module import ImportSource, LoadedModule
    from pylinker.native.objects import Values
    from pylinker.runtime.code import CodeCache, Trampolines

__all__ = ["HostCalls", "SharedTrampolines", "lower_module"]

HostCalls = Callable[["LoadedModule | None", str], Callable[["Values"], None]]
"""Returns the function of a HostCall (by its name) for one module, or for all (None)."""

_MOST_SHARED = 50_000
"""The maximum of trampolines in one module: more than programs need, and few enough for engines."""
_MUTABLE_ADDRESS = GlobalType("i32", mutable=True)
_ONE_ADDRESS = FuncType(("i32",), ())
_NOTHING = FuncType((), ())


class SharedTrampolines:
    """The trampolines of modules that are loaded together and never unloaded.

    Each group has one instance for all of them, in place of one for each module. The first module
    that needs trampolines owns them all, once :meth:`make` was called.
    """

    def __init__(self) -> None:
        self._owner: LoadedModule | None = None
        self._modules: list[LoadedModule] = []
        self._count = 0
        self._users: list[tuple[int, weakref.ref[LoadedModule]]] = []

    def add(self, module: LoadedModule) -> tuple[bool, tuple[Library, int] | None]:
        """Add those of a module.

        Returns:
            Whether they are shared and, except for the first module, the owner and the first
                number.
        """
        base = self._count
        if base + len(module.plt) > _MOST_SHARED:
            return False, None
        self._count += len(module.plt)
        self._modules.append(module)
        if self._owner is None:
            self._owner = module
            module.plt_users = self._users
            return True, None
        self._users.append((base, weakref.ref(module)))
        return True, (self._owner.native, base)

    def make(self, cache: CodeCache, host_calls: HostCalls, check: Callable[[], None]) -> None:
        """Give the trampolines to their owner; call this before it is instantiated.

        ``check`` is called between compilations.
        """
        owner = self._owner
        if owner is not None:
            owner.trampolines = _trampolines(self._modules, cache, check)
            resolver = register_host(host_calls(owner, RESOLVE))
            owner.native.set_trampolines(owner.trampolines.addresses, self._count, resolver)


def _trampolines(
    modules: Sequence[LoadedModule], cache: CodeCache, check: Callable[[], None]
) -> Trampolines:
    """Return the trampolines of modules; their types are computed only if they are not cached."""
    parts = [
        part
        for module in modules
        if module.code
        for part in (module.code.key, module.plt.signature())
    ]
    types = (type_ for module in modules for type_ in module.plt.types())
    return cache.trampolines(parts, types, name=f"trampolines of {modules[0].name}", check=check)


def lower_module(
    module: LoadedModule,
    tags: Mapping[GroupTag, int],
    cache: CodeCache,
    host_calls: HostCalls,
    shared: SharedTrampolines | None,
    check: Callable[[], None],
) -> Library:
    """Return the record from which the core instantiates a module.

    Its sources are decided, and the records that they refer to exist.

    Args:
        module: The module.
        tags: The numbers of the tags.
        cache: The cache of the trampolines.
        host_calls: Creates the host functions.
        shared: The trampolines of a load that is never unloaded. Without them the module has its
            own, and its instance is reused, if possible, after the unload.
        check: Called between compilations of trampolines.
    """
    handles: list[int] = []
    trampolines: Sequence[int] = ()
    trampolines_number, resolver = 0, 0
    is_shared, plt = shared.add(module) if shared is not None and module.plt else (False, None)
    if module.plt and not is_shared:
        module.trampolines = _trampolines([module], cache, check)
        trampolines, trampolines_number = module.trampolines.addresses, module.trampolines.number
        resolver = register_host(host_calls(module, RESOLVE))
        handles.append(resolver)

    _put_special(module, tags, host_calls, handles)
    assert module.code is not None
    outline = module.outline
    return Library(
        code=module.code.address,
        trampolines=trampolines,
        trampoline_count=len(module.plt) if module.trampolines else 0,
        resolver=resolver,
        sources=module.sources,
        layout=outline.layouts.get(module.is_main) or _new_layout(module),
        slot_base=module.slot_base if module.has_slots else None,
        place=_ordinal(module),
        handles=handles,
        rewritten=module.code.rewritten,
        reuse=_reuse(module, module.code.number, trampolines_number) if shared is None else None,
        plt=plt,
    )


def _put_special(
    module: LoadedModule, tags: Mapping[GroupTag, int], host_calls: HostCalls, handles: list[int]
) -> None:
    """Store the sources that the core has not decided; handles of new functions are added."""
    for index, source in module.special:
        packed = (
            _packed_host(module, source, host_calls, handles)
            if isinstance(source, HostCall)
            else _packed(source, tags)
        )
        put_source(module.sources, index, packed)
        # The linker implements proc_exit itself.
        if isinstance(source, WasiCall) and source.name != "proc_exit":
            module.calls_wasi = True


def _reuse(
    module: LoadedModule, code: int, trampolines: int
) -> tuple[int, int, int, int, int, int] | None:
    """Return the key of an instance for its reuse, None if it cannot be reused."""
    if not module.outline.reusable or not module.memory_reserved:
        return None
    return (
        code,
        trampolines,
        module.memory_base,
        module.memory_size,
        module.table_base,
        module.table_size,
    )


def _ordinal(module: LoadedModule) -> int:
    assert module.ordinal is not None
    return module.ordinal


def _packed_host(
    module: LoadedModule, source: HostCall, host_calls: HostCalls, handles: list[int]
) -> bytes:
    """Return the source of a function of the linker; the handle of a new one is added."""
    type_address = function_type(source.type)
    function = function_named(source.name)
    if isinstance(function.core, AtomicsKind):
        return pack_source(SourceKind.ATOMICS, function.core, type_address=type_address)
    handle = 0
    if function.call is not None:
        handle = register_host(host_calls(module, source.name))
        handles.append(handle)
        module.host_handles[source.name] = handle
    kind = SourceKind.HOST if function.core is None else SourceKind.BUILTIN
    return pack_source(kind, function.core or 0, type_address=type_address, handle=handle)


def _packed(source: ImportSource, tags: Mapping[GroupTag, int]) -> bytes:
    if isinstance(source, ExportRef):
        return pack_source(
            SourceKind.EXPORT, source.definition.position, library=source.definition.module.native
        )
    if isinstance(source, GotEntry):
        return pack_source(SourceKind.CELL, value=source.value)
    if isinstance(source, PltSlot):
        return pack_source(SourceKind.PLT, source.index)
    if isinstance(source, ThreadLocalGotEntry):
        if not hasattr(source.module, "native"):
            raise UnsupportedError(
                f"thread-local data of {source.module.name} is used before it exists",
                module=source.module.name,
            )
        return pack_source(SourceKind.TLS_CELL, value=source.offset, library=source.module.native)
    if isinstance(source, WasiCall):
        return wasi_source(source.name)
    if isinstance(source, PythonCall):
        return source.source
    if isinstance(source, Constant):
        return pack_source(SourceKind.CONSTANT, value=source.value)
    if isinstance(source, GroupTag):
        return pack_source(SourceKind.TAG, tags[source], type_address=tag_type(source.type))
    raise InternalError(f"no source: {source!r}")


def _new_layout(module: LoadedModule) -> ExportLayout:
    outline = module.outline
    return outline.layouts.setdefault(
        module.is_main, ExportLayout(outline.names, outline.slot_exports, _roles(module))
    )


def _roles(module: LoadedModule) -> dict[str, int]:
    """Return the exports that the group itself uses, by the names of the core for them."""
    info, position = module.info, module.outline.position
    roles: dict[str, int] = {}

    if module.is_main:
        for role, name, kind in (
            ("memory", "memory", Kind.MEMORY),
            ("table", "__indirect_function_table", Kind.TABLE),
        ):
            export = info.private.get(name)
            if export is not None and export.kind is kind:
                roles[role] = position(name)
    for role, name in (("stack_pointer", "__stack_pointer"), ("tls_base", "__tls_base")):
        export = info.private.get(name)
        if (
            export is not None
            and export.kind is Kind.GLOBAL
            and info.export_type(export) == _MUTABLE_ADDRESS
        ):
            roles[role] = position(name)
    if module.makes_thread_locals:
        roles["tls_make"] = position("__wasix_init_tls")
    if module.thread_local is not None:
        if module.lifecycle_function("__wasm_init_tls", _ONE_ADDRESS):
            roles["tls_init"] = position("__wasm_init_tls")
        if module.lifecycle_function("__wasm_apply_tls_relocs", _NOTHING):
            roles["tls_relocs"] = position("__wasm_apply_tls_relocs")
    return roles
