"""Python functions that the user provides to guests, by import name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from pylinker.errors import SignatureMismatchError, UnsupportedError
from pylinker.linker.plan.operation import HostSlot
from pylinker.linker.ranges import Grant, release_all
from pylinker.native.enums import SourceKind, SymbolBase, SymbolKind
from pylinker.native.hostfuncs import register_host, release_host
from pylinker.native.libraries import pack_source
from pylinker.native.scopes import Finalized
from pylinker.native.symbols import SCOPE_ENTRY, SYMBOL, Names, Symbols
from pylinker.runtime.callbacks import PASSED, Callback
from pylinker.runtime.types import function_type
from pylinker.wasm import FuncType, names_of

if TYPE_CHECKING:
    from pylinker.linker.modules.module import LoadedModule
    from pylinker.linker.plan.record import HostCalls
    from pylinker.linker.plan.space import SlotAllocator
    from pylinker.native.objects import Values

__all__ = ["HostImports", "HostPointer", "Imports", "NewPointers", "UnknownTypeError"]

_Function: TypeAlias = Callable[..., Any]
_Key: TypeAlias = tuple[str, str]

Imports: TypeAlias = (
    Mapping[str, _Function] | Mapping[_Key, _Function] | Mapping[str | _Key, _Function]
)
"""Python functions by the name of the import (in module ``env``), or by its module and name."""

_ENV = "env"


class HostPointer(NamedTuple):
    """The table slot of a host function, which is its value as a C function pointer.

    It is the same in every group and for every module.
    """

    type: FuncType
    """The type of the function."""
    slot: HostSlot
    """Its table slot."""
    provided: _Provided | None = None
    """Keeps a function of pylinker alive; None for a function of the user."""


class _Provided(Finalized):
    """Keeps a host function alive."""

    handle: int
    """The handle of the function."""

    def __init__(self, function: Callable[[Values], None]) -> None:
        self.handle = register_host(function)

    def _drop(self) -> None:
        if hasattr(self, "handle"):
            release_host(self.handle)


class HostImports:
    """The Python functions of one program, and the types they are imported with.

    It owns all objects that are created for them: without it, a guest that calls one traps.

    Threads: changed under the write lock.

    Raises:
        TypeError: ``functions`` is not a mapping from names to functions.
        ValueError: A name is there twice.
    """

    pointers: dict[str, HostPointer]
    """The pointers that were created, by name. They live as long as the program, since a guest may
    have stored one anywhere.
    """

    def __init__(self, functions: Imports | None = None) -> None:
        self._functions: dict[_Key, _Function] = {}
        self._callbacks: dict[tuple[_Key, FuncType], Callback] = {}
        self.pointers = {}
        if functions is not None and not isinstance(functions, Mapping):
            raise TypeError(
                f'imports is {type(functions).__name__}; give a dict such as {{"name": function}}'
            )
        for name, function in (functions or {}).items():
            key = _key(name)
            if not callable(function):
                raise TypeError(f"imports[{name!r}] is {type(function).__name__}, not a function")
            if key in self._functions:
                raise ValueError(f"imports has {key[1]!r} of {key[0]!r} twice")
            self._functions[key] = function
        self._native = _symbols(name for space, name in self._functions if space == _ENV)

    @property
    def scope_entry(self) -> bytes:
        """The first entry of every scope, for the core: all names of ``env``.

        Empty if there are none.
        """
        native = self._native
        return b"" if native is None else SCOPE_ENTRY.pack(native.address, 0, 0, 0, 0, 0, 0)

    def __bool__(self) -> bool:
        return bool(self._functions)

    def __contains__(self, key: _Key) -> bool:
        return key in self._functions

    def callback(
        self, module: str, name: str, type_: FuncType, *, importer: LoadedModule | None
    ) -> Callback:
        """Return the callback for an import of this type, the same for all importers.

        Raises:
            SignatureMismatchError: The function does not accept that many arguments.
            UnsupportedError: The arguments cannot be passed.
        """
        key = (module, name)
        known = self._callbacks.get((key, type_))
        if known is None:
            self.check(module, name, type_, importer=importer)
            known = Callback(self._functions[key], _shown(*key), type_, len(self._callbacks))
            self._callbacks[key, type_] = known
        return known

    def check(
        self, module: str, name: str, type_: FuncType, *, importer: LoadedModule | None
    ) -> None:
        """Raise what :meth:`callback` raises, and change nothing: the read lock suffices."""
        key = (module, name)
        if (key, type_) not in self._callbacks:
            _check(
                self._functions[key], key, type_, importer.name if importer is not None else "dlsym"
            )

    def slots(self) -> Iterator[HostSlot]:
        """Iterate over the table slots that every group fills."""
        return (pointer.slot for pointer in self.pointers.values())


class UnknownTypeError(Exception):
    """The type of a pointer to a host function is unknown; the message is for people."""


class NewPointers:
    """The pointers to host functions that one load creates.

    They can be rolled back until the load is published. With ``dry_run`` the functions of the
    user are checked, and neither callbacks nor host functions are created.
    """

    def __init__(
        self,
        imports: HostImports,
        table: SlotAllocator,
        host_calls: HostCalls,
        *,
        dry_run: bool = False,
    ) -> None:
        self._dry_run = dry_run
        self._imports = imports
        self._table = table
        self._host_calls = host_calls
        self._new: dict[str, HostPointer] = {}
        self._grants: list[Grant] = []

    @property
    def slots(self) -> tuple[HostSlot, ...]:
        """The new table slots."""
        return tuple([pointer.slot for pointer in self._new.values()]) if self._new else ()

    @property
    def has_any(self) -> bool:
        """Whether there is anything to roll back."""
        return bool(self._new or self._grants)

    def provided(self, name: str, type_: FuncType) -> int:
        """Return the table slot of a function that pylinker provides.

        Raises:
            LimitError: The table is full.
        """
        pointer = self._imports.pointers.get(name) or self._new.get(name)
        if pointer is None:
            slot = self._table.allocate(1, 1, self._grants, module=name)
            if self._dry_run:
                return slot
            owner = _Provided(self._host_calls(None, name))
            source = pack_source(
                SourceKind.HOST, type_address=function_type(type_), handle=owner.handle
            )
            pointer = self._new[name] = HostPointer(type_, HostSlot(slot, source), owner)
        return pointer.slot.slot

    def slot_for(
        self, name: str, *, importer: LoadedModule | None, modules: Iterable[LoadedModule]
    ) -> int:
        """Return the table slot of a function of ``env``.

        A pointer import does not declare the type. It is that of the importer's calls or, if it has
        none, that of the calls of all ``modules``; only the first pointer to a function decides.
        Without ``importer`` (``dlsym``) all modules count. Also raises what
        :meth:`HostImports.callback` raises.

        Raises:
            UnknownTypeError: There is no single type.
            SignatureMismatchError: Another module has decided otherwise.
        """
        types = _imported_types([importer] if importer is not None else [], name)
        pointer = self._imports.pointers.get(name) or self._new.get(name)
        if pointer is not None and importer is not None and types and pointer.type not in types:
            raise SignatureMismatchError(
                module=importer.name,
                symbol=name,
                wanted=str(min(types)),
                provider="a module that took its address before",
                found=str(pointer.type),
            )
        if pointer is None:
            types = types or _imported_types(modules, name)
            if len(types) != 1:
                why = (
                    f"modules call it with {len(types)} types"
                    if types
                    else "no module calls it; a call that is never executed would declare the type"
                )
                raise UnknownTypeError(
                    f"imports has {name}, but the type of a pointer to it is unknown: {why}"
                )
            type_ = types.pop()
            if self._dry_run:
                self._imports.check(_ENV, name, type_, importer=importer)
                source = b""
            else:
                source = self._imports.callback(_ENV, name, type_, importer=importer).source
            slot = self._table.allocate(
                1, 1, self._grants, module=importer.name if importer is not None else name
            )
            pointer = self._new[name] = HostPointer(type_, HostSlot(slot, source))
        return pointer.slot.slot

    def keep(self) -> None:
        """Commit: the load is published."""
        if self._new:
            self._imports.pointers.update(self._new)
            self._new = {}
            self._grants = []

    def undo(self) -> None:
        """Roll back the pointers that are not committed."""
        release_all(self._grants)
        self._new = {}


def _imported_types(modules: Iterable[LoadedModule], name: str) -> set[FuncType]:
    """Return the types with which modules import a function of ``env``."""
    return {
        each.type
        for module in modules
        for each in module.info.imports
        if each.name == name and each.module == _ENV and isinstance(each.type, FuncType)
    }


def _symbols(names: Iterable[str]) -> Symbols | None:
    """Return a symbol table of functions for the core, or None if there are none.

    Python decides the source of each import of one.
    """
    known = [name for name in names if _is_unicode(name)]  # no module can import any other name
    if not known:
        return None
    record = SYMBOL.pack
    records = b"".join(
        [
            record(index, SymbolKind.OTHER, SymbolBase.NOWHERE, 0, 0, 0)
            for index in range(len(known))
        ]
    )
    text, offsets = names_of(known)
    nothing, end = names_of(())
    defined = Names(memoryview(text), memoryview(offsets))
    return Symbols(
        defined,
        memoryview(records),
        Names(memoryview(nothing), memoryview(end)),
        memoryview(b""),
        (0,),
    )


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(module: str, name: str) -> str:
    """Return the name of an import for messages."""
    return name if module == _ENV else f"{module}.{name}"


def _key(name: object) -> _Key:
    if isinstance(name, str):
        return (_ENV, name)
    if isinstance(name, tuple) and len(name) == 2 and all(isinstance(part, str) for part in name):
        return name
    raise TypeError(
        f"imports[{name!r}]: a key is the name of a function, or a tuple of its module and its name"
    )


def _check(function: _Function, key: _Key, type_: FuncType, importer: str) -> None:
    name = _shown(*key)
    for each in (*type_.params, *type_.results):
        if each not in PASSED:
            raise UnsupportedError(
                f"{importer}: {name} is {type_}, but values of type {each} cannot be passed to "
                "Python",
                module=importer,
                symbol=name,
            )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # some functions in C have no signature
    try:
        signature.bind(*type_.params)
    except TypeError:
        found = f"a Python function {signature}"
        raise SignatureMismatchError(
            module=importer, symbol=name, wanted=str(type_), provider="imports", found=found
        ) from None
