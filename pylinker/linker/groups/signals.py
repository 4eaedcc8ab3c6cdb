"""Signals between the threads of a WASIX program.

A signal is posted to a thread and waits there until the thread hears it: within a wait of its own,
which goes on afterwards, or at the end of its next host call. The thread's handler is a function of
the main module, called on the thread.
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
"""What the program exits with if nobody hears a signal, as WASIX programs see it under Wasmer; others are ignored then."""


class _Context(Protocol):
    """What a thread may do at the moment, and the linker's state."""

    @property
    def may_call_linker(self) -> bool:
        """Whether the calling thread is outside all operations of the linker."""

    @property
    def state(self) -> LinkerState:
        """The program's."""


class _Group(Protocol):
    """The instance group of a thread."""

    @property
    def state(self) -> InstanceGroupState[Any]:
        """Its part of the synchronization."""

    def function(self, module: LoadedModule, name: str, /) -> Any:
        """Return an exported function of a module."""

    @property
    def call(self) -> Callable[..., Any]:
        """Call it."""


class Signals:
    """The signals of one thread: those that wait for it, and ``handler``, the name of the function that hears them (None: there is none).

    Anybody may post; everything else is for the group's thread.
    """

    def __init__(self, context: _Context, group: _Group) -> None:
        # Weakly: the group's member leads here, and a program that is dropped is freed at once.
        self._context = weakref.ref(context)
        self._group = weakref.ref(group)
        self._pending: dict[
            int, None
        ] = {}  # in the order they came; one that waits already does not wait twice
        self._delivering: set[int] = set()  # those whose handlers are running
        self.handler: str | None = None
        group.state.on_nudge(self.deliver)

    @staticmethod
    def exit_status(signal: int) -> int | None:
        """Return what the program exits with for a signal that nobody hears; None: it goes on."""
        return _ENDS.get(signal)

    def post(self, signal: int) -> None:
        """Have the thread hear a signal soon; it must not end meanwhile."""
        self._pending.setdefault(signal)
        group = self._group()
        if group is not None:
            group.state.nudge()

    def deliver(self) -> bool:
        """Hear all that waits, each with its handler; a signal is not heard again while its own handler runs.

        True: it is too early, the thread is in the middle of a load. Raises GuestExit for a signal
        that ends the program, and what a handler raises.
        """
        context, group = self._context(), self._group()
        if context is None or group is None:
            return False
        # A list of them: others post meanwhile.
        while (
            signal := next(
                (each for each in list(self._pending) if each not in self._delivering), None
            )
        ) is not None:
            if not context.may_call_linker:
                return True
            if self.handler is None and context.state.delivers_signals:
                return False  # until the thread has a handler
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
