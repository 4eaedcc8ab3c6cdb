"""Calls of the linker in the middle of what it does on the same thread: by a signal handler, a finalizer, or a function that observes it.

CPython runs signal handlers and finalizers between any two instructions of the linker's, while its
thread has locks that it cannot take a second time, or lists that are half changed. So an operation
of the linker refuses to begin there. A guest that the linker runs (a constructor, say), and a
Python function that such a guest calls, may begin one: the linker has called them itself, where
that is right.

The thread's stack says which of the two it is: there is no guest between an operation and one that
it has interrupted. A record could be wrong, if an interrupt came before it was put right; the stack
cannot. It is only looked at where a record says that the thread may be in an operation.

    begun = begin_operation()  # LinkError
    try: ...
    finally: end_operation(begun)

Blocking: never. Threads: any; each has its own stack.
"""

from __future__ import annotations

import contextlib
import sys
from threading import get_ident
from typing import TYPE_CHECKING, Final

from pylinker.errors import LinkError
from pylinker.native.hostfuncs import pl_python_host
from pylinker.native.instances import Instances
from pylinker.native.prepared import PreparedCall

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["begin_operation", "check_not_interrupting", "end_operation", "interrupting"]

_operating: dict[int, int] = {}
"""Threads in an operation, with the identity of the frame outside pylinker that the outermost one is called from.

What is above that frame was in no operation then, and holds nothing: a handler that came before an
operation was noted, or after, may begin one. A thread that an interrupt has left here costs its
next operation a look at the stack.
"""

_LINKER: Final = (
    "pylinker.linker.",
    "pylinker.sync.",
    "pylinker.runtime.",
    "pylinker.api.statistics",
)
_HARMLESS: Final = frozenset(
    {
        "pylinker.linker.load.deadline",
        "pylinker.linker.groups.group",  # what it calls is within what its caller does
        "pylinker.linker.groups.threads",  # but for starting one
        "pylinker.runtime.failures",
        "pylinker.runtime.memory",
        "pylinker.runtime.store",
    }
)
_PASSED: Final = frozenset(
    each.__code__
    for each in (
        contextlib._GeneratorContextManager.__enter__,
        contextlib._GeneratorContextManager.__exit__,
    )
)
"""Functions of the standard library by which functions of the linker call one another.

Its other functions call for others.
"""
_FROM_GUEST: Final = "pylinker.runtime.callbacks"
_INTO_GUEST: Final = frozenset(
    each.__code__ for each in (pl_python_host, Instances.call, Instances.run, PreparedCall.raw)
)


def begin_operation(*, check: bool = True) -> bool:
    """Note that the calling thread begins an operation; returns what :func:`end_operation` gets.

    With ``check`` as :func:`check_not_interrupting`.
    """
    thread = get_ident()
    if thread in _operating and (not check or _check()):
        return False
    _operating[thread] = id(_caller())
    return True


def end_operation(begun: bool) -> None:  # noqa: FBT001
    """Note that the operation is over."""
    if begun:
        _operating.pop(get_ident(), None)


def check_not_interrupting() -> None:
    """Raise LinkError if the calling thread has interrupted an operation of its own."""
    if get_ident() in _operating:
        _check()


def interrupting() -> LinkError:
    """Return the error for a call in the middle of an operation of the same thread."""
    return LinkError(
        "the linker was called in the middle of what it does on the same thread (loads or closes a library, looks up a symbol, starts a "
        "thread): by a signal handler, a finalizer or a function that observes it. Have it done later, or by another thread"
    )


def _caller() -> FrameType | None:
    """Return the innermost frame that is none of pylinker's."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and (
        frame.f_globals.get("__name__", "").startswith("pylinker.") or frame.f_code in _PASSED
    ):
        frame = frame.f_back
    return frame


def _check() -> bool:
    """Look at the stack of a thread that is in an operation, and raise LinkError if it has interrupted one.

    Returns False if it is in none: an interrupt has left it among those that are.
    """
    outermost = _operating.get(get_ident())
    is_called = True  # by the linker or a guest, and not by others
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if id(frame) == outermost:
            return True
        name = frame.f_globals.get("__name__", "")
        if name == _FROM_GUEST or frame.f_code in _INTO_GUEST:
            is_called = True
        elif name.startswith("pylinker.api.") and not name.startswith(_LINKER):
            is_called = False  # the linker calls none of it
        elif name.startswith("pylinker."):
            starts_thread = (
                name == "pylinker.linker.groups.threads" and frame.f_code.co_name == "start"
            )
            if (
                not is_called
                and name.startswith(_LINKER)
                and (name not in _HARMLESS or starts_thread)
            ):
                raise interrupting()
        elif frame.f_code not in _PASSED:
            is_called = False
        frame = frame.f_back
    return False
