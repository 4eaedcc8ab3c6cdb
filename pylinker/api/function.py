"""A guest function as a Python callable.

A call goes straight to the C core if it can: plain numbers for numbers, on the main group, while no
other thread uses it. All else (strings, other types, other threads, errors) takes the slow path,
which raises the errors.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from pylinker._pickling import OfOneProcess
from pylinker.errors import ClosedError, InternalError, UnsupportedError
from pylinker.native.enums import CLOSED, ELSEWHERE, RANGE, TAKEN, PreparedKind
from pylinker.native.objects import values
from pylinker.native.prepared import (
    PREPARED_LIMIT,
    PREPARED_LIMIT_DOUBLE,
    forget_outcomes,
    take_outcome,
)
from pylinker.runtime.store import what_ended_call

if TYPE_CHECKING:
    from pylinker.api.handle import Handle
    from pylinker.api.session import Session
    from pylinker.linker import Definition, Linker
    from pylinker.native.failures import Failure
    from pylinker.native.objects import Value, Values
    from pylinker.native.prepared import PreparedCall
    from pylinker.wasm import FuncType

__all__ = ["Function"]

_STACK_BYTES = 4096
"""Strings of one call go on the guest's stack up to this size: it is 64 KiB or more by default."""


def _put_i32(value: Value, argument: Any) -> None:
    number = operator.index(argument)
    value.i32 = number - (1 << 32) if 1 << 31 <= number < 1 << 32 else number


def _put_i64(value: Value, argument: Any) -> None:
    number = operator.index(argument)
    value.i64 = number - (1 << 64) if 1 << 63 <= number < 1 << 64 else number


def _put_f32(value: Value, argument: Any) -> None:
    value.f32 = argument


def _put_f64(value: Value, argument: Any) -> None:
    value.f64 = argument


def _put_v128(value: Value, argument: Any) -> None:
    if not isinstance(argument, bytes) or len(argument) != 16:
        raise TypeError("a v128 is given as 16 bytes")
    value.v128[0:16] = list(argument)


def _c_string(argument: str | bytes) -> bytes:
    """Return a C string.

    Text with a NUL would be truncated by the callee; bytes may be a buffer and not a string.
    """
    if isinstance(argument, bytes):
        return argument + b"\0"
    if "\0" in argument:
        raise ValueError("embedded null character in a str; pass bytes if that is meant")
    return argument.encode() + b"\0"


def _advice(argument: object) -> str:
    """Return what to give instead of an argument that is often meant to work."""
    if isinstance(argument, Function):
        return f"a function pointer is a number: library[{argument.name!r}].slot"
    if callable(argument):
        return (
            "a function pointer is library['f'].slot; "
            "a Python function goes through imports={'f': function}"
        )
    if isinstance(argument, (bytearray, memoryview)):
        return f"{type(argument).__name__} cannot be passed; give bytes, which are copied"
    return ""


_PUT: dict[str, Callable[[Value, Any], None]] = {
    "i32": _put_i32,
    "i64": _put_i64,
    "f32": _put_f32,
    "f64": _put_f64,
    "v128": _put_v128,
}

_GET: dict[str, Callable[[Value], Any]] = {
    "i32": lambda value: value.i32,
    "i64": lambda value: value.i64,
    "f32": lambda value: value.f32,
    "f64": lambda value: value.f64,
    "v128": lambda value: bytes(value.v128),
}

_KINDS = {
    "i32": PreparedKind.I32,
    "i64": PreparedKind.I64,
    "f32": PreparedKind.F32,
    "f64": PreparedKind.F64,
    "v128": PreparedKind.OTHER,
}

_FLOATS = frozenset({"f32", "f64"})


class Function(OfOneProcess):
    """A function of a library: call it with one argument for each parameter.

    i32 and i64 take an ``int`` (signed or unsigned) and return a signed one; f32 and f64 take a
    number; v128 is 16 ``bytes``. ``str`` (as UTF-8) and ``bytes`` for an i32 become a C string in
    guest memory, with a NUL at its end, for the time of the call. No result is None, several are a
    tuple.

    Blocks: as long as the guest runs.

    Raises:
        TypeError: The number or kind of the arguments is wrong.
        OverflowError: A number does not fit.
        wasmtime.Trap: The guest trapped.
        UndefinedSymbolError: It called an undefined function.
        wasmtime.ExitTrap: It exited.
    """

    __slots__ = (
        "_call",
        "_definition",
        "_get",
        "_handle",
        "_limit",
        "_prepared",
        "_put",
        "_record",
        "_takes_integers",
        "name",
        "type",
    )

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
                f"{handle.name}: {name} is {type_}: "
                f"values of type {error.args[0]} cannot be passed from Python",
                module=handle.name,
                symbol=name,
            ) from None
        self._takes_integers = not _FLOATS.issuperset(type_.params)
        self._limit: float = (
            PREPARED_LIMIT_DOUBLE if _FLOATS.intersection(type_.results) else PREPARED_LIMIT
        )
        self._prepared: PreparedCall | None = None
        self._record: Any = None
        # None is no function: a call of it is a TypeError, and the slow path prepares the call.
        self._call: Any = None

    def __repr__(self) -> str:
        return f"<Function {self.name} {self.type} of {self._handle.name}>"

    @property
    def __name__(self) -> str:
        return self.name

    @property
    def slot(self) -> int:
        """The function's slot in the table, the same for every module: a C function pointer."""
        return self._handle.slot_of(self._definition)

    def __call__(self, *arguments: Any) -> Any:
        """Call the function; see the class."""
        for argument in arguments:
            if argument.__class__ is not int and self._takes_integers:
                return self._call_slowly(arguments)  # C would truncate what has __int__
        try:
            result = self._call(self._record, *arguments)
            if result < self._limit:
                return self._explain(result, arguments)
        except (TypeError, OverflowError) as error:
            if _is_of_another(error):
                raise
            return self._call_slowly(arguments)
        except BaseException:  # a signal handler may raise after the call and before the read
            forget_outcomes()
            raise
        return result if self._get else None

    def bind(self) -> Callable[..., Any]:
        """Return a plain function that calls this one with as little work as possible.

        For a call that is made often. It takes positional arguments as the function does, but
        without the check that an integer argument is an ``int``: a number with ``__int__`` is
        truncated. A wrong number of them is a TypeError of Python's own. It works as long as the
        function does. Threads: any.
        """
        with self._handle.entered_for_call() as linker:
            prepared = self._prepared_in(linker)
        if prepared.call is None:
            return self.__call__
        names = ", ".join(f"a{index}" for index in range(len(self._put)))
        # With the arguments spelled out Python passes them on without making a tuple.
        space: dict[str, Any] = {
            "call": prepared.call,
            "record": prepared.record,
            "limit": self._limit,
            "is_of_another": _is_of_another,
            "slowly": self._call_slowly,
            "explain": self._explain,
            "forget": forget_outcomes,
        }
        value = "result" if self._get else "None"
        tuple_ = f"({names}{',' if names else ''})"
        parameters = f"{names}, /" if names else ""
        text = _TEMPLATE.format(
            parameters=parameters,
            arguments=f", {names}" if names else "",
            value=value,
            tuple=tuple_,
        )
        exec(compile(text, "<pylinker.bind>", "exec"), space)  # noqa: S102 - no text of others
        # Taken out, or it would keep itself, and the program with it.
        function: Callable[..., Any] = space.pop("bound")
        function.__name__ = function.__qualname__ = self.name
        function.__doc__ = f"{self.name}{self.type}"
        return function

    def close(self) -> None:
        """Refuse calls from now on: the handle is closed. Requires: the main lock."""
        if self._prepared is not None:
            self._prepared.close()

    def prepared(self, session: Session, arguments: tuple[Any, ...]) -> Callable[[], Any]:
        """Return a call of the function, its arguments checked and converted, for any thread.

        Raises:
            ValueError: ``session`` is not the function's.
        """
        if self._handle.session is not session:
            raise ValueError(f"{self!r} belongs to another program")
        raw, texts = self._converted(arguments)

        def call() -> Any:
            with self._handle.entered_for_call() as linker:
                return self._run(linker, raw, texts)

        return call

    # The slow path

    def _call_slowly(self, arguments: tuple[Any, ...]) -> Any:
        raw, texts = self._converted(arguments)
        with self._handle.entered_for_call() as linker:
            return self._run(linker, raw, texts)

    def _explain(self, result: float, arguments: tuple[Any, ...]) -> Any:
        """Return or raise the outcome of the call that returned ``result``, or call again."""
        outcome = take_outcome(result)
        if outcome.status == RANGE:
            raise self._overflow(outcome.argument, arguments)
        if outcome.status in (CLOSED, TAKEN, ELSEWHERE):
            return self._call_slowly(arguments)
        if outcome.failure is not None:
            self._raise(outcome.failure)
        return outcome.result

    def _raise(self, failure: Failure) -> NoReturn:
        linker = self._handle.session.running
        if linker is not None:
            linker.group.store.raise_failure(failure)
        # Another thread has closed the program since, which may be what stopped the call.
        assert self._prepared is not None
        error = what_ended_call(failure, self._prepared.shared)
        try:
            raise error from error.__cause__
        finally:
            del error, failure  # no cycle through this frame

    def _overflow(self, index: int, arguments: tuple[Any, ...]) -> OverflowError:
        return OverflowError(
            f"{self.name}{self.type}, argument {index + 1}: {arguments[index]} does not fit into "
            f"{self.type.params[index]}"
        )

    def _converted(self, arguments: tuple[Any, ...]) -> tuple[Values, list[tuple[int, bytes]]]:
        """Return the raw arguments, and the strings among them by index."""
        if len(arguments) != len(self._put):
            raise TypeError(
                f"{self.name}{self.type} takes {len(self._put)} "
                f"argument{'s' * (len(self._put) != 1)}, not {len(arguments)}"
            )
        raw = values(max(len(self._put), len(self._get), 1))
        texts: list[tuple[int, bytes]] = []
        for index, (put, argument) in enumerate(zip(self._put, arguments, strict=True)):
            if put is _put_i32 and isinstance(argument, (str, bytes)):
                texts.append((index, _c_string(argument)))
                continue
            try:
                put(raw[index], argument)
            except TypeError as error:
                raise TypeError(
                    f"{self.name}{self.type}, argument {index + 1}: {_advice(argument) or error}"
                ) from None
            except OverflowError:
                raise self._overflow(index, arguments) from None
        return raw, texts

    def _prepared_in(self, linker: Linker) -> PreparedCall:
        """Return the prepared call in the calling thread's group, which is up to date then."""
        params = [_KINDS[each] for each in self.type.params]
        results = [_KINDS[each] for each in self.type.results]
        group = linker.group
        if linker.threads is not None:
            linker.catch_up()  # another thread may have loaded the library,
            self._handle.check()  # or closed it just now
        if group is not linker.context.main_group:
            return group.own_prepared(self._definition, params, results)
        if self._prepared is None or not self._prepared.is_open:
            prepared = self._prepared = group.prepared(self._definition, params, results)
            if prepared.call is not None:
                self._record, self._call = prepared.record, prepared.call
        return self._prepared

    def _run(self, linker: Linker, raw: Values, texts: list[tuple[int, bytes]]) -> Any:
        prepared = self._prepared_in(linker)
        if texts:
            with linker.scratch.strings(
                [text for _, text in texts], stack=_STACK_BYTES
            ) as addresses:
                for (index, _), address in zip(texts, addresses, strict=True):
                    _put_i32(raw[index], address)
                status, _, failure, _ = prepared.raw(raw)
        else:
            status, _, failure, _ = prepared.raw(raw)
        if status == CLOSED:
            raise ClosedError(
                f"library {self._handle.name} was closed by the guest", module=self._handle.name
            )
        if status in (TAKEN, ELSEWHERE):
            raise InternalError(f"{self!r} was prepared in another group")
        if failure is not None:
            linker.group.store.raise_failure(failure)
        if len(self._get) == 1:
            return self._get[0](raw[0])
        if not self._get:
            return None
        return tuple(get(raw[index]) for index, get in enumerate(self._get))


def _is_of_another(error: BaseException) -> bool:
    """Whether an error was raised by Python code within the call, such as a signal handler."""
    traceback = error.__traceback__
    return traceback is not None and traceback.tb_next is not None


_TEMPLATE = """
def bound({parameters}):
    try:
        result = call(record{arguments})
        if result < limit:
            return explain(result, {tuple})
    except (TypeError, OverflowError) as error:
        if is_of_another(error):
            raise
        return slowly({tuple})
    except BaseException:
        forget()
        raise
    return {value}
"""
