"""A recursive mutex (``csrc/recursive.h``)."""

from __future__ import annotations

from collections.abc import Callable

from pylinker.native.core import ffi, lib
from pylinker.native.enums import SLICE
from pylinker.native.scopes import Scope

__all__ = ["RecursiveMutex", "Taken", "thread_identity"]


class RecursiveMutex:
    """A recursive mutex (``csrc/recursive.h``)."""

    def __init__(self) -> None:
        self.pointer = ffi.gc(lib.pl_recursive_new(), lib.pl_recursive_free)
        if self.pointer == ffi.NULL:
            raise MemoryError("no memory for a mutex")

    @property
    def depth(self) -> int:
        """How often the calling thread has it."""
        return lib.pl_recursive_depth(self.pointer)

    def restore(self, depth: int) -> None:
        """Give it back until the calling thread has it ``depth`` times.

        A second time does nothing.
        """
        lib.pl_recursive_restore(self.pointer, depth)

    def take(self, give_up: Callable[[], None] | None) -> None:
        """Take the mutex, within a :class:`Scope` that restores the depth. Blocks.

        Signals are handled meanwhile, and ``give_up`` is called now and then, which may raise.
        """
        if not lib.pl_recursive_try(self.pointer):
            while not lib.pl_recursive_wait(self.pointer, SLICE):
                if give_up is not None:
                    give_up()

    def taken(self, give_up: Callable[[], None] | None = None) -> Taken:
        """Return a context manager that takes the mutex as :meth:`take` does."""
        return Taken(self, give_up)

    @property
    def is_elsewhere(self) -> bool:
        """Whether another thread has the mutex; it may have given it back meanwhile."""
        return self.holder not in (0, thread_identity())

    @property
    def holder(self) -> int:
        """The :func:`thread_identity` of the thread that has the mutex, 0 if there is none."""
        return lib.pl_recursive_holder(self.pointer)


class Taken(Scope):
    """A mutex that is held, from entering to leaving."""

    __slots__ = ("_depth", "_give_up", "_mutex")

    def __init__(self, mutex: RecursiveMutex, give_up: Callable[[], None] | None) -> None:
        self._mutex = mutex
        self._give_up = give_up
        self._depth = mutex.depth

    def enter(self) -> None:
        """Take it."""
        self._mutex.take(self._give_up)

    def leave(self, _error: BaseException | None) -> None:
        """Give it back."""
        self._mutex.restore(self._depth)


def thread_identity() -> int:
    """Return what tells the calling thread from all others that live, as :attr:`RecursiveMutex.holder` does."""
    return lib.pl_recursive_self()
