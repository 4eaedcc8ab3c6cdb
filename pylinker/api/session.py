"""The session of a program: its linker while it is open, and how threads enter and end it.

Program, libraries and functions share one session and do not know each other, so that dropping
them frees the program at once.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from pylinker.api.statistics import log_statistics
from pylinker.errors import ClosedError, SynchronizationAborted
from pylinker.native.enums import Cause
from pylinker.native.recursive import RecursiveMutex, Taken
from pylinker.native.scopes import Finalized, Scope
from pylinker.runtime.engine import bump_epoch
from pylinker.sync.reentry import begin_operation, end_operation

if TYPE_CHECKING:
    from pylinker.api.tracefile import TraceFile
    from pylinker.linker import Linker
    from pylinker.runtime.wasi import WasiProcess

__all__ = ["Session"]


class Session(Finalized):
    """A program between its start and its end.

    Threads: any. Threads without a group of their own take turns with the main group.
    """

    name: str
    """The name of the program."""
    linker: Linker | None
    """The linker, or None before the start has succeeded and after the program was closed."""
    process: WasiProcess
    """The process of the guest."""
    main_lock: RecursiveMutex
    """The lock of the main group."""

    def __init__(self, name: str, process: WasiProcess, trace: TraceFile | None) -> None:
        self.name = name
        self.process = process
        self.linker = None
        self._trace = trace
        # The linker of a program that was closed within a call of its own guest.
        self._ending: Linker | None = None

    def begin(self, linker: Linker) -> None:
        """Open the session: the program was started."""
        self.main_lock = linker.context.main_lock
        self.linker = linker

    def give_up(self, linker: Linker) -> None:
        """Release a program that could not be started."""
        linker.threads = None
        self.process.close()
        self._write_trace()

    def entered(self, *, operates: bool = True) -> AbstractContextManager[Linker]:
        """Take the calling thread's group, and check that the program is open.

        A thread of the guest has a group of its own; all others take turns with the main group.

        Blocks: for the main lock.

        Args:
            operates: Whether the caller begins an operation of the linker. A call of the guest is
                none, and always possible.

        Raises:
            ClosedError: The program is closed.
            LinkError: The thread is in the middle of another operation, and ``operates``.
            SynchronizationAborted: This process is a fork; the program belongs to its parent.
        """
        linker = self.linker
        if linker is not None and linker.context.shared.cause == Cause.FORKED:
            raise linker.context.shared.aborted()
        return _Entered(self, operates)

    def taken_over(self) -> AbstractContextManager[Linker | None]:
        """Take the program for closing it; the value is None if another thread has closed it.

        Calls of the guest that other threads make meanwhile are stopped.
        """
        linker = self.linker
        if linker is not None and linker.context.is_guest_thread:
            return self.entered()
        return _TakenOver(self, linker)

    @property
    def running(self) -> Linker | None:
        """The linker, also while the guest of a closed program finishes; None once it has."""
        return self.linker or self._ending

    @property
    def is_gone(self) -> bool:
        """Whether there is nothing to unload: the program is closed, or a fork left it behind."""
        linker = self.linker
        return linker is None or linker.context.shared.cause == Cause.FORKED

    def close(self) -> None:
        """End the program and release it, as :meth:`pylinker.Program.close` does."""
        linker = self.linker
        if linker is not None and linker.context.shared.cause == Cause.FORKED:
            self.linker = None  # all else is the parent's
            return
        if linker is not None and linker.threads is not None:
            # Before any wait: the main thread may be in the guest.
            linker.threads.end(status=0)
            if linker.context.is_guest_thread:
                return  # this thread ends, too; run(), or the next close, cleans up

        def stop() -> None:
            """Stop calls of the guest that other threads make, for good."""
            if linker is None or linker.threads is not None:
                return
            if self.main_lock.is_elsewhere:
                linker.context.shared.cancel(
                    Cause.CLOSED, ClosedError(f"program {self.name} is closed", module=self.name)
                )
                bump_epoch()
                linker.context.check_in_time()

        stop()
        with self.main_lock.taken(stop):  # again, if another call has begun
            # The program may be closed by a Python function that its guest calls: the guest goes
            # on when that returns. The rest is released by the next close, or with the program.
            ending = self.running
            runs = ending is not None and ending.context.main_group.native.is_running
            self._ending = ending if runs else None
            self.linker = None
            if linker is not None:
                log_statistics(linker, self.name)
                linker.context.main_group.close_prepared()
            if linker is not None and linker.threads is not None:
                linker.threads.join_all()
                linker.threads = None
            self.process.close()
            self._write_trace()

    def _drop(self) -> None:
        linker: Linker | None = getattr(self, "linker", None)
        if (
            linker is not None
            and linker.threads is not None
            and linker.context.shared.cause != Cause.FORKED
        ):
            linker.threads.abandon()

    def _write_trace(self) -> None:
        trace, self._trace = self._trace, None
        if trace is not None:
            trace.write(self.name)


class _Entered(Scope):
    """The main lock of an open program; a thread of the guest does not need it."""

    __slots__ = ("_begun", "_depth", "_operates", "_session")

    def __init__(self, session: Session, operates: bool) -> None:  # noqa: FBT001
        self._session = session
        self._operates = operates
        self._begun = False
        self._depth = session.main_lock.depth

    def enter(self) -> Linker:
        """Take the main lock."""
        self._begun = self._operates and begin_operation()
        session = self._session
        # The main lock of a closed program is not waited for: the closing thread holds it while it
        # waits for the guest's threads.
        linker = session.linker
        if linker is not None and not linker.context.is_guest_thread:
            session.main_lock.take(linker.context.check_in_time)
            linker = session.linker
        if linker is None:
            raise ClosedError(f"program {session.name} is closed", module=session.name)
        return linker

    def leave(self, _error: BaseException | None) -> None:
        """Release the main lock."""
        self._session.main_lock.restore(self._depth)
        end_operation(self._begun)


class _TakenOver(Taken):
    """The main lock of a program that is to be closed, unless another thread closes it first.

    Calls of the guest that other threads make are stopped. A program with threads stops them when
    it ends.
    """

    __slots__ = ("_begun", "_linker", "_reason", "_session")

    def __init__(self, session: Session, linker: Linker | None) -> None:
        super().__init__(session.main_lock, None)
        self._session = session
        self._linker = linker
        self._begun = False
        self._reason = SynchronizationAborted("the program has ended")
        self._reason.__cause__ = ClosedError(
            f"program {session.name} is closed", module=session.name
        )

    def _stop(self) -> None:
        linker = self._linker
        if linker is not None and self._session.main_lock.is_elsewhere:
            if linker.threads is None:
                linker.context.stop_call(self._reason)
            linker.context.check_in_time()

    def enter(self) -> Linker | None:  # type: ignore[override]
        """Take the main lock; None if the program is closed."""
        self._begun = begin_operation()
        if self._session.linker is None:
            return None
        self._stop()
        self._mutex.take(self._stop)  # and again, if another call has begun
        return self._session.linker

    def leave(self, error: BaseException | None) -> None:
        """Release the main lock."""
        super().leave(error)
        end_operation(self._begun)
