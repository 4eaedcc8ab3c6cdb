"""A guest function as a Python callable."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pylinker import _native
from pylinker.errors import UnsupportedError

if TYPE_CHECKING:
    from pylinker._native import Values
    from pylinker.api.handle import Handle
    from pylinker.api.program import Program
    from pylinker.linker import Definition, Linker
    from pylinker.wasm import FuncType

__all__ = ["Function"]

_STACK_BYTES = 4096
"""Strings of one call go on the guest's stack up to this size: a page of what is at least 64 KiB in every toolchain."""


def _put_i32(value: Values, argument: Any) -> None:
    number = operator.index(argument)
    value.i32 = number - (1 << 32) if 1 << 31 <= number < 1 << 32 else number


def _put_i64(value: Values, argument: Any) -> None:
    number = operator.index(argument)
    value.i64 = number - (1 << 64) if 1 << 63 <= number < 1 << 64 else number


def _put_f32(value: Values, argument: Any) -> None:
    value.f32 = argument


def _put_f64(value: Values, argument: Any) -> None:
    value.f64 = argument


def _put_v128(value: Values, argument: Any) -> None:
    if not isinstance(argument, bytes) or len(argument) != 16:
        raise TypeError("a v128 is given as 16 bytes")
    value.v128 = list(argument)


def _c_string(argument: str | bytes) -> bytes:
    """Return a C string. Text with a NUL would silently be cut by the callee; bytes may be a buffer and not a string."""
    if isinstance(argument, bytes):
        return argument + b"\0"
    if "\0" in argument:
        raise ValueError("embedded null character in a str; pass bytes if that is meant")
    return argument.encode() + b"\0"


_PUT: dict[str, Callable[[Values, Any], None]] = {
    "i32": _put_i32,
    "i64": _put_i64,
    "f32": _put_f32,
    "f64": _put_f64,
    "v128": _put_v128,
}

_GET: dict[str, Callable[[Values], Any]] = {
    "i32": lambda value: value.i32,
    "i64": lambda value: value.i64,
    "f32": lambda value: value.f32,
    "f64": lambda value: value.f64,
    "v128": lambda value: bytes(value.v128),
}


class Function:
    """A function of a library: call it with one argument for each parameter.

    i32 and i64 take an ``int`` (signed or unsigned, OverflowError beyond) and give a signed one; f32 and f64 take a number; v128 is 16
    ``bytes``. ``str`` (as UTF-8) and ``bytes`` for an i32 become a C string in guest memory, with a NUL at its end, for the time of the
    call. No result is None, several are a tuple.

    Raises TypeError for a wrong number or kind of arguments, ``wasmtime.Trap`` if the guest traps, UndefinedSymbolError if it called a
    function that nobody defines, ``wasmtime.ExitTrap`` if it exits. Blocks as long as the guest runs. Attributes: ``name``, ``type``
    (:class:`pylinker.wasm.FuncType`).
    """

    __slots__ = ("_count", "_definition", "_get", "_handle", "_put", "name", "type")

    def __init__(self, handle: Handle, name: str, type_: FuncType, definition: Definition) -> None:
        self.name = name
        self.type = type_
        self._handle = handle
        self._definition = definition
        try:
            self._put = tuple(_PUT[each] for each in type_.params)
            self._get = tuple(_GET[each] for each in type_.results)
        except KeyError as error:
            raise UnsupportedError(
                f"{handle.name}: {name} is {type_}: values of type {error.args[0]} cannot be passed from Python",
                module=handle.name,
                symbol=name,
            ) from None
        self._count = max(len(self._put), len(self._get), 1)

    def __repr__(self) -> str:
        return f"<Function {self.name} {self.type} of {self._handle.name}>"

    @property
    def slot(self) -> int:
        """The function's slot in the table: its value as a C function pointer, the same for every module."""
        return self._handle.slot_of(self._definition)

    def __call__(self, *arguments: Any) -> Any:
        """Call the function; see the class."""
        raw, texts = self._converted(arguments)
        with self._handle.entered() as linker:
            return self._run(linker, raw, texts)

    def prepared(self, program: Program, arguments: tuple[Any, ...]) -> Callable[[], Any]:
        """Return a call of the function in ``program``, its arguments checked and converted, for whichever thread makes it."""
        if self._handle.program is not program:
            raise ValueError(f"{self!r} belongs to another program")
        raw, texts = self._converted(arguments)

        def call() -> Any:
            with self._handle.entered() as linker:
                return self._run(linker, raw, texts)

        return call

    def _converted(self, arguments: tuple[Any, ...]) -> tuple[Values, list[tuple[int, bytes]]]:
        """Return the raw arguments, and the strings among them by index."""
        if len(arguments) != len(self._put):
            raise TypeError(f"{self.name}{self.type} takes {len(self._put)} arguments, not {len(arguments)}")
        raw = _native.values(self._count)
        texts: list[tuple[int, bytes]] = []
        for index, (put, argument) in enumerate(zip(self._put, arguments, strict=True)):
            if put is _put_i32 and isinstance(argument, (str, bytes)):
                texts.append((index, _c_string(argument)))
                continue
            try:
                put(raw[index], argument)
            except TypeError as error:
                raise TypeError(f"{self.name}{self.type}, argument {index + 1}: {error}") from None
            except OverflowError:
                raise OverflowError(
                    f"{self.name}{self.type}, argument {index + 1}: {argument} does not fit into {self.type.params[index]}"
                ) from None
        return raw, texts

    def _run(self, linker: Linker, raw: Values, texts: list[tuple[int, bytes]]) -> Any:
        group = linker.group
        if linker.threads is not None:
            linker.catch_up()  # another thread may have loaded the library
        func = group.function(self._definition.module, self._definition.export.name)
        if texts:
            with linker.borrow([text for _, text in texts], stack=_STACK_BYTES) as addresses:
                for (index, _), address in zip(texts, addresses, strict=True):
                    _put_i32(raw[index], address)
                group.call_raw(func, raw, self._count)
        else:
            group.call_raw(func, raw, self._count)
        if len(self._get) == 1:
            return self._get[0](raw[0])
        if not self._get:
            return None
        return tuple(get(raw[index]) for index, get in enumerate(self._get))
