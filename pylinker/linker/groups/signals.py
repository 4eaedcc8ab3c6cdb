"""Signals between the threads of a WASIX program.

A signal is posted to a thread and is pending until it is delivered: within a wait of the thread,
which continues afterwards, or at the end of its next host call. The handler is a function of the
main module, called on the thread.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final, Protocol

from pylinker.runtime.failures import GuestExit
from pylinker.wasm import FuncType

if TYPE_CHECKING:
    from collections.abc import Callable

    from pylinker.linker.modules.module import LoadedModule
    from pylinker.linker.plan.state import LinkerState
    from pylinker.sync import InstanceGroupState

__all__ = ["HANDLER", "KILL", "Signals"]

HANDLER = FuncType(("i32",), ())
"""The type of a handler."""

KILL: Final = 9

_ENDS: Final = {2: 27, 3: 0, 6: 134, KILL: 27, 13: 64}
"""The exit statuses of a program for signals without a handler.

They are those of WASIX programs under Wasmer. Other signals are ignored.
"""


class _Context(Protocol):
    """The state of the linker, as seen by a thread."""

    @property
    def may_call_linker(self) -> bool:
        """Whether the calling thread is outside all operations of the linker."""

    @property
    def state(self) -> LinkerState:
        """The state of the program."""


class _Group(Protocol):
    """The instance group of a thread."""

    @property
    def state(self) -> InstanceGroupState[Any]:
        """Its member of the rendezvous."""

    def function(self, module: LoadedModule, name: str, /) -> Any:
        """Return an exported function of a module."""

    @property
    def call(self) -> Callable[..., Any]:
        """Calls a function."""


class Signals:
    """The signals of one thread.

    Threads: any thread may call :meth:`post`; all other methods are for the thread of the group.
    """

    handler: str | None
    """The name of the handler function, None if there is none."""

    def __init__(self, context: _Context, group: _Group) -> None:
        # Weak: the group's member refers to this, and a dropped program must be freed at once.
        self._context = weakref.ref(context)
        self._group = weakref.ref(group)
        # In the order of their arrival; a signal that is pending already is not added again.
        self._pending: dict[int, None] = {}
        self._delivering: set[int] = set()  # the signals whose handlers are running
        self.handler = None
        group.state.on_nudge(self.deliver)

    @staticmethod
    def exit_status(signal: int) -> int | None:
        """Return the exit status for a signal without a handler; None if it is ignored."""
        return _ENDS.get(signal)

    def post(self, signal: int) -> None:
        """Post a signal to the thread, which must not exit meanwhile."""
        self._pending.setdefault(signal)
        group = self._group()
        if group is not None:
            group.state.nudge()

    def deliver(self) -> bool:
        """Deliver all pending signals to their handlers.

        A signal is not delivered again while its own handler runs.

        Returns:
            True if it is too early, since the thread is in a load.

        Raises:
            GuestExit: The signal ends the program.
            BaseException: The error of a handler.
        """
        context, group = self._context(), self._group()
        if context is None or group is None:
            return False
        # A list, since other threads post meanwhile.
        while (
            signal := next(
                (each for each in list(self._pending) if each not in self._delivering), None
            )
        ) is not None:
            if not context.may_call_linker:
                return True
            if self.handler is None and context.state.delivers_signals:
                return False  # pending until the thread has a handler
            del self._pending[signal]
            if self.handler is not None:
                self._handle(group, context, self.handler, signal)
            elif (status := self.exit_status(signal)) is not None:
                raise GuestExit(status)
        return False

    def _handle(self, group: _Group, context: _Context, handler: str, signal: int) -> None:
        main = context.state.main
        assert main is not None
        self._delivering.add(signal)
        try:
            group.call(group.function(main, handler), signal)
        finally:
            self._delivering.discard(signal)
