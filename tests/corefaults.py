"""Fault injection in the C core: calls of wasmtime go through Python during a test.

The core calls wasmtime through a table (``csrc/api.h``). Here an entry of it is exchanged for a
callback that knows which thread calls, and either goes on to wasmtime's own function or answers in
its place, with an error that wasmtime itself has made.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pylinker._core import ffi, lib
from pylinker.runtime.private import address_of_function

if TYPE_CHECKING:
    from typing import Self

TEXT = "injected"
"""What an injected error or trap says."""

# The entries that can be exchanged, as in csrc/api_table.h. `const` is left out: it makes no
# difference to a call.
_TYPES = {
    "instance_new": "pl_error *(*)(pl_context *, pl_module *, pl_extern *, size_t, pl_instance *, "
    "pl_trap **)",
    "instance_export_get": "_Bool(*)(pl_context *, pl_instance *, char *, size_t, pl_extern *)",
    "func_call_unchecked": "pl_error *(*)(pl_context *, pl_func *, pl_value *, size_t, pl_trap **)",
    "global_new": "pl_error *(*)(pl_context *, pl_type *, pl_cell *, pl_global *)",
    "table_new": "pl_error *(*)(pl_context *, pl_type *, pl_cell *, pl_table *)",
    "table_set": "pl_error *(*)(pl_context *, pl_table *, uint64_t, pl_cell *)",
    "error_message": "void(*)(pl_error *, pl_bytes *)",
    "table_grow": "pl_error *(*)(pl_context *, pl_table *, uint64_t, pl_cell *, uint64_t *)",
}

_kept: list[Any] = []
"""Callbacks for ever: a thread may be on its way out of one when the table is put back."""


def _address(name: str) -> int:
    """The address of one of wasmtime's own functions."""
    return address_of_function(name)


def _index(name: str) -> int:
    for index in itertools.count():
        if lib.pl_api_name(index) == ffi.NULL:
            raise LookupError(f"the core does not call {name}")
        if ffi.string(lib.pl_api_name(index)).decode() == name:
            return index
    raise AssertionError


def _new_error() -> Any:
    return ffi.cast("pl_error *(*)(char *)", _address("wasmtime_error_new"))(
        ffi.new("char[]", TEXT.encode())
    )


def _new_trap() -> Any:
    return ffi.cast("pl_trap *(*)(char *, size_t)", _address("wasmtime_trap_new"))(
        ffi.new("char[]", TEXT.encode()), len(TEXT)
    )


class Led:
    """Calls of ``wasmtime_<name>`` by the core, led through :meth:`before`.

    A context manager: the table is put back at the end.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.broken: list[
            BaseException | None
        ] = []  # what went wrong here and not in what is tested
        self._index = _index(f"wasmtime_{name}")
        self._original = _address(f"wasmtime_{name}")
        type_ = ffi.typeof(_TYPES[name])
        self.original = original = ffi.cast(type_, self._original)

        def led(*arguments: Any) -> Any:
            answer = self.before(arguments)
            return original(*arguments) if answer is None else answer[0]

        def keep(_kind: object, error: BaseException | None, _traceback: object) -> None:
            self.broken.append(error)

        self._callback = ffi.callback(type_, led, onerror=keep)
        _kept.append(self._callback)

    def before(self, arguments: tuple[Any, ...]) -> tuple[Any] | None:
        """Run before wasmtime's function; return None to call it, or a result to return instead."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        lib.pl_api_set(self._index, ffi.cast("void *", self._callback))
        return self

    def __exit__(self, *_exception: object) -> None:
        lib.pl_api_set(self._index, ffi.cast("void *", self._original))
        assert self.broken == []


class CoreFault(Led):
    """Makes one call fail: the one with this number, from 1, of those on ``thread`` (None: on any).

    With ``trap`` the guest seems to have trapped; else wasmtime answers an error, or for an export
    that there is none. ``happened`` tells that it was done; ``asked`` is then the name of the
    export.
    """

    def __init__(
        self, name: str, at: int = 1, *, thread: threading.Thread | None = None, trap: bool = False
    ) -> None:
        super().__init__(name)
        self.at = at
        self.thread = thread
        self.happened = threading.Event()
        self.asked = ""
        self._trap = trap
        self._lock = threading.Lock()

    def before(self, arguments: tuple[Any, ...]) -> tuple[Any] | None:
        here = threading.current_thread()
        if self.thread not in (None, here):
            return None
        with self._lock:
            self.at -= 1
            if self.at != 0:
                return None
        if self.name == "instance_export_get":
            self.asked = ffi.unpack(arguments[2], arguments[3]).decode()
        self.happened.set()
        if self._trap:
            arguments[-1][0] = _new_trap()
            return (ffi.NULL,)
        return (False if self.name == "instance_export_get" else _new_error(),)


class CoreHalt(Led):
    """Block the first call on one of these threads until ``go``; ``reached`` says that it waits."""

    def __init__(self, name: str, threads: Iterable[threading.Thread], *, timeout: float) -> None:
        super().__init__(name)
        self.reached = threading.Event()
        self.go = threading.Event()
        self._threads = set(threads)
        self._timeout = timeout

    def before(self, arguments: tuple[Any, ...]) -> tuple[Any] | None:  # noqa: ARG002
        if threading.current_thread() in self._threads and not self.reached.is_set():
            self.reached.set()
            self.go.wait(self._timeout)
        return None


class CoreDelay(Led):
    """Calls ``pause`` before each call."""

    def __init__(self, name: str, pause: Callable[[], None]) -> None:
        super().__init__(name)
        self._pause = pause

    def before(self, arguments: tuple[Any, ...]) -> tuple[Any] | None:  # noqa: ARG002
        self._pause()
        return None
