"""Python functions that guests call, and the conversion of their arguments and results.

The core calls one of a few functions made here (``csrc/callback.h``), with a handle and plain
numbers; that function calls the Python function of the handle. Types with other values are passed
as raw values, which is slower.

This module holds weak references only: the creator of a :class:`Callback` owns it, so that a
function that refers to the program it was given to does not keep that program alive.
"""

from __future__ import annotations

import functools
import math
import operator
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from pylinker.errors import InternalError
from pylinker.native.callbacks import (
    CALLBACK_FAILED,
    CALLBACK_FAILED_DOUBLE,
    callback_type,
    confirm_result,
    install_callbacks,
    keep_callback_error,
)
from pylinker.native.enums import (
    CALLBACK_DOUBLES,
    CALLBACK_INTEGERS,
    CallbackFailure,
    CallbackForm,
    CallbackResult,
    SourceKind,
)
from pylinker.native.hostfuncs import new_handle, register_host, release_host
from pylinker.native.libraries import pack_source
from pylinker.native.scopes import Finalized
from pylinker.runtime.types import function_type

if TYPE_CHECKING:
    from pylinker.native.objects import Value, Values
    from pylinker.wasm import FuncType

__all__ = ["PASSED", "Callback"]

PASSED = frozenset({"i32", "i64", "f32", "f64"})
"""The types of values that can be passed to and returned from a Python function."""

_INTEGERS = frozenset({"i32", "i64"})
_DOUBLES = frozenset({"f32", "f64"})
_BITS = {"i32": 32, "i64": 64}

_functions: dict[int, weakref.ref[Callable[..., Any]]] = {}
_callbacks: dict[int, weakref.ref[Callback]] = {}


class Callback(Finalized):
    """A Python function as guests import it with one type.

    The type has values of ``PASSED`` only. ``source`` is the ``pl_source`` for the core. A call
    after the end of the Callback traps.

    Args:
        function: The Python function.
        name: Its name, for messages.
        type_: The type.
        number: Its number in the program, from 0: each instance group makes it once.
    """

    __slots__ = ("__weakref__", "_function", "handle", "name", "source", "type")

    def __init__(
        self, function: Callable[..., Any], name: str, type_: FuncType, number: int
    ) -> None:
        self._function, known = _referable(function)
        self.name = name
        self.type = type_
        self.handle = new_handle()
        form = _form(type_)
        if form is CallbackForm.RAW:
            register_host(_raw(known, name, type_), self.handle)
        _functions[self.handle] = known
        _callbacks[self.handle] = weakref.ref(self)
        self.source = pack_source(
            SourceKind.CALLBACK,
            number,
            _written(type_, form),
            type_address=function_type(type_),
            handle=self.handle,
        )

    def __repr__(self) -> str:
        return f"<Callback {self.name}{self.type}>"

    def _drop(self) -> None:
        if hasattr(self, "handle"):
            _functions.pop(self.handle, None)
            _callbacks.pop(self.handle, None)
            release_host(self.handle)


def _referable(
    function: Callable[..., Any],
) -> tuple[Callable[..., Any], weakref.ref[Callable[..., Any]]]:
    """Return the function, or a wrapper of it, and a weak reference to that."""
    try:
        return function, weakref.ref(function)
    except TypeError:  # an object with __slots__
        function = functools.partial(function)
        return function, weakref.ref(function)


def _form(type_: FuncType) -> CallbackForm:
    params, results = type_
    used = {*params, *results}
    if used <= _INTEGERS and len(params) <= CALLBACK_INTEGERS and len(results) <= 1:
        return CallbackForm.INTEGERS
    if used <= _DOUBLES and 0 < len(params) <= CALLBACK_DOUBLES and len(results) == 1:
        return CallbackForm.DOUBLES
    return CallbackForm.RAW


def _written(type_: FuncType, form: CallbackForm) -> int:
    if form is CallbackForm.RAW:
        return form
    wide = [index for index, each in enumerate(type_.params) if each in ("i64", "f64")]
    result = CallbackResult.NONE
    if type_.results:
        result = (
            CallbackResult.WIDE if type_.results[0] in ("i64", "f64") else CallbackResult.NARROW
        )
    return callback_type(form, len(type_.params), result, wide)


# Results. `who` is the name and type of the function.


def _refuse(who: str, result: object, wanted: str) -> NoReturn:
    raise TypeError(f"{who} returned {type(result).__name__}, not {wanted}")


def _too_large(who: str, type_: str) -> OverflowError:
    return OverflowError(f"{who} returned a number that does not fit into {type_}")


def _integer(who: str, result: Any, type_: str) -> int:
    """Return a result as a signed number; it may be given as an unsigned one."""
    try:
        number = operator.index(result)
    except TypeError:
        _refuse(who, result, type_)
    bits = _BITS[type_]
    if not -1 << bits - 1 <= number < 1 << bits:
        raise _too_large(who, type_)
    return number if number < 1 << bits - 1 else number - (1 << bits)


def _double(who: str, result: Any, type_: str) -> float:
    if isinstance(result, (str, bytes, bytearray)):  # float() would parse it
        _refuse(who, result, type_)
    try:
        return float(result)
    except TypeError:
        _refuse(who, result, type_)
    except OverflowError:
        raise _too_large(who, type_) from None


def _put_i32(who: str, value: Value, result: Any) -> None:
    value.i32 = _integer(who, result, "i32")


def _put_i64(who: str, value: Value, result: Any) -> None:
    value.i64 = _integer(who, result, "i64")


def _put_f32(who: str, value: Value, result: Any) -> None:
    number = _double(who, result, "f32")
    value.f32 = number
    if math.isinf(value.f32) and not math.isinf(number):
        raise _too_large(who, "f32")


def _put_f64(who: str, value: Value, result: Any) -> None:
    value.f64 = _double(who, result, "f64")


_PUT: dict[str, Callable[[str, Value, Any], None]] = {
    "i32": _put_i32,
    "i64": _put_i64,
    "f32": _put_f32,
    "f64": _put_f64,
}


# Raw values

_RAW = """
def call(raw):
    store(raw, known()({arguments}))
"""


def _raw(
    known: weakref.ref[Callable[..., Any]], name: str, type_: FuncType
) -> Callable[[Values], None]:
    """Return a function of raw values that calls the one that ``known`` refers to."""
    who = f"{name}{type_}"
    puts = [_PUT[each] for each in type_.results]

    def nothing(_raw: Values, result: Any) -> None:
        if result is not None:
            _refuse(who, result, "None")

    def one(raw: Values, result: Any) -> None:
        put(who, raw[0], result)

    def several(raw: Values, result: Any) -> None:
        if not isinstance(result, tuple) or len(result) != len(puts):
            raise TypeError(f"{who} returned {_shape(result)}, not a tuple of {len(puts)}")
        for index, (each, value) in enumerate(zip(puts, result, strict=True)):
            each(who, raw[index], value)

    put = puts[0] if puts else _put_i32
    space: dict[str, Any] = {
        "__name__": __name__,
        "known": known,
        "store": nothing if not puts else one if len(puts) == 1 else several,
    }
    arguments = ", ".join(f"raw[{index}].{each}" for index, each in enumerate(type_.params))
    text = _RAW.format(arguments=arguments)
    exec(compile(text, "<pylinker.callbacks>", "exec"), space)  # noqa: S102 - only text from here
    call: Callable[[Values], None] = space["call"]
    return call


def _shape(result: object) -> str:
    return f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__


# Plain numbers


def _who(handle: int) -> str:
    callback = _callback(handle)
    return f"{callback.name}{callback.type}" if callback is not None else "a freed function"


def _callback(handle: int) -> Callback | None:
    known = _callbacks.get(handle)
    return known() if known is not None else None


def _not_nothing(handle: int, result: Any) -> NoReturn:
    _refuse(_who(handle), result, "None")


def _narrow(handle: int, result: Any) -> int:
    return _integer(_who(handle), result, "i32")


def _wide(handle: int, result: Any) -> int:
    number = _integer(_who(handle), result, "i64")
    if number == CALLBACK_FAILED:
        confirm_result()
    return number


def _number(handle: int, result: Any) -> float:
    callback = _callback(handle)
    number = _double(
        _who(handle), result, callback.type.results[0] if callback is not None else "f64"
    )
    if number == CALLBACK_FAILED_DOUBLE:
        confirm_result()
    return number


_BODIES = {
    CallbackResult.NONE: """
        if (result := functions[handle]()({numbers})) is not None:
            not_nothing(handle, result)
        return 0
""",
    # C checks whether the number fits.
    CallbackResult.NARROW: """
        result = functions[handle]()({numbers})
        return result if result.__class__ is int else narrow(handle, result)
""",
    CallbackResult.WIDE: """
        result = functions[handle]()({numbers})
        if result.__class__ is int and failed < result < -failed:
            return result
        return wide(handle, result)
""",
}
_DOUBLE_BODY = """
        result = functions[handle]()({numbers})
        if result.__class__ is float and result != failed_double:
            return result
        return number(handle, result)
"""
# An exception is kept here, not by cffi's onerror: onerror then gets an interrupt that comes
# meanwhile; one within onerror would be lost.
_CALLBACK = """
def call(handle{parameters}):
    try:{body}
    except BaseException as error:
        keep(error)
        return {failure}
"""


def _made(body: str, count: int, failure: str) -> Callable[..., Any]:
    """Return a function that the core calls with a handle and ``count`` numbers.

    Its parameters are spelled out, so that none is packed or unpacked.
    """
    numbers = ", ".join("abcdef"[:count])
    space: dict[str, Any] = {
        "__name__": __name__,
        "functions": _functions,
        "not_nothing": _not_nothing,
        "narrow": _narrow,
        "wide": _wide,
        "number": _number,
        "failed": CALLBACK_FAILED,
        "failed_double": CALLBACK_FAILED_DOUBLE,
        "keep": keep_callback_error,
    }
    text = _CALLBACK.format(
        parameters=f", {numbers}" if count else "",
        body=body.format(numbers=numbers),
        failure=failure,
    )
    exec(compile(text, "<pylinker.callbacks>", "exec"), space)  # noqa: S102 - only text from here
    call: Callable[..., Any] = space["call"]
    return call


def _explain(
    handle: int, failure: CallbackFailure, _result: float, error: BaseException | None
) -> BaseException | None:
    """Return the exception for a callback's caller; one that Python code raised is unchanged."""
    callback = _callback(handle)
    if callback is None:
        return InternalError("a freed function was called")
    if failure is not CallbackFailure.RAISED:
        return _too_large(_who(handle), callback.type.results[0])
    if isinstance(error, OverflowError) and error.__traceback__ is None:
        return _too_large(_who(handle), callback.type.results[0])  # cffi could not convert it
    return error


def _install() -> None:
    integers: dict[CallbackResult, Sequence[Callable[..., Any]]] = {
        result: [_made(body, count, "failed") for count in range(CALLBACK_INTEGERS + 1)]
        for result, body in _BODIES.items()
    }
    doubles = [
        _made(_DOUBLE_BODY, count, "failed_double") for count in range(1, CALLBACK_DOUBLES + 1)
    ]
    install_callbacks(integers=integers, doubles=doubles, explain=_explain)


_install()
