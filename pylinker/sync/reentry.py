"""Detection of linker calls that interrupt an operation of the linker on the same thread.

Such a call comes from a signal handler, a finalizer, or a function that observes the linker.
CPython runs signal handlers and finalizers between any two instructions of the linker, while its
thread holds locks that are not recursive, or lists are half changed. So an operation of the linker
refuses to begin there. A guest that the linker runs (a constructor, say), and a Python function
that such a guest calls, may begin one: the linker calls them at points where that is safe.

The thread's stack distinguishes the two: there is no guest between an operation and a call that
interrupted it. A record could be wrong, if an interrupt came before its update; the stack cannot.
The stack is inspected only where a record says that the thread may be in an operation.

    begun = begin_operation()  # LinkError
    try: ...
    finally: end_operation(begun)

Blocks: never. Threads: any; each has its own stack.
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
"""Threads in an operation; the value identifies the frame outside pylinker that called the first.

Code above that frame was in no operation then, and holds nothing: a handler that runs before an
operation is noted, or after it, may begin one. An entry that an interrupt has left here costs the
next operation of its thread an inspection of the stack.
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
        "pylinker.linker.groups.group",  # its calls belong to the operation of its caller
        "pylinker.linker.groups.threads",  # except for starting one
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
"""Functions of the standard library through which functions of the linker call one another.

Other functions of the standard library call on behalf of others.
"""
_FROM_GUEST: Final = "pylinker.runtime.callbacks"
_INTO_GUEST: Final = frozenset(
    each.__code__ for each in (pl_python_host, Instances.call, Instances.run, PreparedCall.raw)
)


def begin_operation(*, check: bool = True) -> bool:
    """Note that the calling thread begins an operation.

    Args:
        check: Whether to check as :func:`check_not_interrupting` does.

    Returns:
        The argument for :func:`end_operation`.

    Raises:
        LinkError: The call interrupts an operation of the same thread.
    """
    thread = get_ident()
    if thread in _operating and (not check or _check()):
        return False
    _operating[thread] = id(_caller())
    return True


def end_operation(begun: bool) -> None:  # noqa: FBT001
    """Note the end of an operation."""
    if begun:
        _operating.pop(get_ident(), None)


def check_not_interrupting() -> None:
    """Raise LinkError if the call interrupts an operation of the same thread."""
    if get_ident() in _operating:
        _check()


def interrupting() -> LinkError:
    """Return the error for a call that interrupts an operation of the same thread."""
    return LinkError(
        "a signal handler, a finalizer or a function that observes the linker called the linker "
        "while the same thread was in a linker operation (load or unload of a library, symbol "
        "lookup, thread start). Defer the call, or make it from another thread"
    )


def _caller() -> FrameType | None:
    """Return the innermost frame outside pylinker."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and (
        frame.f_globals.get("__name__", "").startswith("pylinker.") or frame.f_code in _PASSED
    ):
        frame = frame.f_back
    return frame


def _check() -> bool:
    """Inspect the stack of a thread with an entry in ``_operating``.

    Returns:
        False if the thread is in no operation: an interrupt has left the entry.

    Raises:
        LinkError: The call interrupts an operation.
    """
    outermost = _operating.get(get_ident())
    is_called = True  # by the linker or a guest, not by other code
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
