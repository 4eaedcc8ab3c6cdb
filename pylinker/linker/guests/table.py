"""The table of functions that the linker provides to guests, and the decorator that fills it.

A function is written once, with its import module, its name and its wasm type:

    @guest_call("wasix_32v1", "thread_join", "i->i", operation=False)
    def thread_join(caller: Caller[Linker], tid: int) -> Errno:
        ...

No other file lists it: the resolver, ``check``, ``dlsym`` and the core find it here. The package
imports the modules that have such functions, so that the table is complete before anything is
loaded.
"""

from __future__ import annotations

import struct
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from pylinker.errors import InternalError
from pylinker.native.core import ffi
from pylinker.runtime.outline import WASIX
from pylinker.sync.reentry import begin_operation, end_operation
from pylinker.wasm import WASI_PREVIEW1, FuncType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pylinker.linker.modules.module import LoadedModule
    from pylinker.native.enums import AtomicsKind, BuiltinIndex
    from pylinker.native.objects import Values
    from pylinker.wasm import ValType

__all__ = [
    "RESOLVE",
    "WASIX",
    "Caller",
    "GuestFunction",
    "HostTable",
    "core_call",
    "function_named",
    "guest_call",
    "host_type",
    "i32",
    "key_of",
    "provided",
    "provided_type",
    "u32",
    "wasi_call",
    "watched",
]

RESOLVE: Final = "pylinker.resolve"
"""The HostCall of the trampolines of a module."""

_PROVIDERS: Final = {WASIX: "WASIX", "wasi_snapshot_preview1": "WASI preview 1"}
"""The provider of the functions of an import module, for messages; else it is pylinker."""

_TYPES: Final[Mapping[str, ValType]] = {"i": "i32", "l": "i64"}
_FIELDS: Final = {"i": "I12x", "l": "Q8x"}
_VALUE_SIZE: Final = 16

L = TypeVar("L")
"""The type of the linker: this file is below it in the layers, and the functions are above it."""


@dataclass(frozen=True, slots=True)
class GuestFunction:
    """A function for guests."""

    space: str
    """The import module."""
    name: str
    """The import name."""
    type: FuncType
    """The wasm type."""
    call: Callable[..., int | None] | None = None
    """The implementation in Python, None if the core or WASI preview 1 implements the function."""
    core: BuiltinIndex | AtomicsKind | None = None
    """The function of the core that serves it, or that runs before ``call``; None if there is none.
    """
    wasi: str | None = None
    """The function of WASI preview 1 that implements it, or None."""
    operation: bool = True
    """Whether a call is an operation of the linker (:func:`pylinker.sync.begin_operation`)."""
    check: bool = True
    """Whether such an operation is refused where it would interrupt another of the same thread."""
    importable: bool = True
    """Whether guests can import it by its name alone; else other parts of the linker decide that.
    """
    threaded: bool = False
    """Whether only programs with threads can import it."""

    @property
    def key(self) -> str:
        """The name of its ``HostCall``."""
        return key_of(self.space, self.name)


_functions: dict[str, GuestFunction] = {}


def key_of(space: str, name: str) -> str:
    """Return the name of the ``HostCall`` for an import."""
    return name if space == "env" else f"{space}.{name}"


def function_named(key: str) -> GuestFunction:
    """Return the function of a ``HostCall`` by its name."""
    return _functions[key]


def provided(space: str) -> Mapping[str, FuncType]:
    """Return the types of all functions of an import module that guests can import, by name."""
    return {
        each.name: each.type
        for each in _functions.values()
        if each.space == space and each.importable
    }


def host_type(space: str, name: str) -> FuncType | None:
    """Return the type of an importable function of this table, None if there is none."""
    found = _functions.get(key_of(space, name))
    return found.type if found is not None and found.space == space and found.importable else None


def watched(name: str) -> FuncType | None:
    """Return the type of a function of ``env`` whose calls the linker forwards to the guest's own.

    A module defines it. None for any other function.
    """
    found = _functions.get(name)
    return found.type if found is not None and not found.importable else None


def provided_type(space: str, name: str, *, threaded: bool) -> tuple[FuncType, str] | None:
    """Return the type and the provider of a function that guests can import, or None."""
    type_ = host_type(space, name)
    if type_ is None:
        type_ = WASI_PREVIEW1.get(name) if space == "wasi_snapshot_preview1" else None
    elif not threaded and _functions[key_of(space, name)].threaded:
        type_ = None
    return None if type_ is None else (type_, _PROVIDERS.get(space, "pylinker"))


def _type_of(signature: str) -> FuncType:
    """Return the type for a text such as ``iil->i``: i for i32, l for i64."""
    params, arrow, results = signature.partition("->")
    if not arrow:
        raise InternalError(f"{signature!r} is not the type of a function")
    return FuncType(
        tuple([_TYPES[each] for each in params]), tuple([_TYPES[each] for each in results])
    )


def _register(function: GuestFunction) -> None:
    if function.key in _functions:
        raise InternalError(f"{function.key} is registered twice")
    _functions[function.key] = function


def guest_call(
    space: str,
    name: str,
    signature: str,
    *,
    core: BuiltinIndex | None = None,
    operation: bool = True,
    check: bool = True,
    importable: bool = True,
    threaded: bool = False,
) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """Return a decorator that lets guests import a Python function.

    The function runs on the guest's thread with a :class:`Caller` and the arguments, all unsigned.
    Its return value is the result of the call, modulo 2^32; None leaves the values unchanged, for a
    function that the core continues. An exception makes the guest trap, and is raised by the call
    that entered the guest. No argument of a guest is to be trusted.

    Args:
        space: The import module, such as ``wasix_32v1``.
        name: The name of the import.
        signature: Its wasm type, such as ``iil->i``: i for i32, l for i64.
        core: A function of the core that runs first and calls this one for what it cannot do.
        operation: Whether a call is an operation of the linker. False: it does not use the linker,
            waits, or begins an operation itself.
        check: Whether that operation is refused within another of the same thread. False: the guest
            did not ask for it.
        importable: Whether guests can import it by its name alone.
        threaded: Whether only programs with threads can import it.

    Returns:
        The decorator, which returns the function unchanged.
    """

    def register(call: Callable[..., int | None]) -> Callable[..., int | None]:
        _register(
            GuestFunction(
                space,
                name,
                _type_of(signature),
                call,
                core,
                operation=operation,
                check=check,
                importable=importable,
                threaded=threaded,
            )
        )
        return call

    return register


def core_call(
    space: str,
    name: str,
    signature: str,
    core: BuiltinIndex | AtomicsKind,
    *,
    importable: bool = True,
) -> None:
    """Register a function for guests that the core implements alone, without Python."""
    _register(GuestFunction(space, name, _type_of(signature), core=core, importable=importable))


def wasi_call(space: str, name: str, signature: str, wasi: str) -> None:
    """Register an import that a function of WASI preview 1 with the same type implements."""
    _register(GuestFunction(space, name, _type_of(signature), wasi=wasi))


class Caller(Generic[L]):
    """The caller of a function for guests: the linker, and the importing module.

    Both are weak references, since host functions must not keep them alive.
    """

    key: str
    """The name of the ``HostCall``."""

    __slots__ = ("_linker", "_module", "key")

    def __init__(
        self, linker: weakref.ref[L], module: weakref.ref[LoadedModule] | None, key: str
    ) -> None:
        self._linker = linker
        self._module = module
        self.key = key

    @property
    def linker(self) -> L:
        """The linker of the program."""
        linker = self._linker()
        if linker is None:
            raise InternalError("a guest runs without its linker")
        return linker

    @property
    def module(self) -> LoadedModule | None:
        """The calling module; None for a call by pointer, which is the same for all modules."""
        if self._module is None:
            return None
        module = self._module()
        if module is None:
            raise InternalError(f"{self.key} was called by an unloaded module")
        return module

    @property
    def handle(self) -> int | None:
        """The handle of the host function, for the cache of the core; None for a pointer."""
        module = self.module
        return None if module is None else module.host_handles[self.key]


class HostTable(Generic[L]):
    """The functions of one linker, in the form that the core calls."""

    def __init__(self, linker: L) -> None:
        self._linker = weakref.ref(linker)

    def function_for(self, module: LoadedModule | None, key: str) -> Callable[[Values], None]:
        """Return the function that ``module`` imports for a ``HostCall``.

        Each module that imports one gets a function of its own, since the result depends on the
        caller. The function behind a pointer is the same for all modules (None): its caller is not
        known.
        """
        function = _functions[key]
        act, operation, check = function.call, function.operation, function.check
        if act is None:
            raise InternalError(f"{key} is not served by Python")
        known = weakref.ref(module) if module is not None else None
        caller = Caller(self._linker, known, key)
        unpack = struct.Struct(
            "=" + "".join([_FIELDS[each] for each in _letters(function.type)])
        ).unpack
        size = _VALUE_SIZE * len(function.type.params)
        buffer = ffi.buffer

        def call(raw: Values) -> None:
            if known is not None and known() is None:
                raise InternalError(f"{key} was called by an unloaded module")
            arguments = unpack(buffer(raw, size)) if size else ()
            if operation:
                begun = begin_operation(check=check)
                try:
                    result = act(caller, *arguments)
                finally:
                    end_operation(begun)
            else:
                result = act(caller, *arguments)
            if result is not None:
                raw[0].i32 = i32(result)

        return call


def _letters(type_: FuncType) -> str:
    return "".join(["i" if each == "i32" else "l" for each in type_.params])


def u32(value: int) -> int:
    """Return the unsigned value of 32 bits."""
    return value & 0xFFFFFFFF


def i32(value: int) -> int:
    """Return the signed value of 32 bits."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value
