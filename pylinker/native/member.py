"""One group in a rendezvous (``csrc/group.h``, ``csrc/rendezvous.h``, ``csrc/safepoint.h``)."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from pylinker.errors import InternalError
from pylinker.native.core import ffi, lib
from pylinker.native.enums import DEAD, DELIVER_LATER
from pylinker.native.failures import keep_pending
from pylinker.native.hostfuncs import keep_host_error
from pylinker.native.scopes import Finalized
from pylinker.native.shared import Shared
from pylinker.native.sync import GroupBase

if TYPE_CHECKING:
    from pylinker._core import Pointer, pl_follower_p, pl_group_p, pl_instances_p

__all__ = [
    "Member",
    "current_member",
    "enter_thread",
    "pl_python_check",
    "pl_python_deliver",
    "pl_python_failed",
    "pl_python_interrupted",
    "pl_python_replay",
]


_members: dict[int, weakref.ref[Member]] = {}
_member_handles = itertools.count(1)


class Member(GroupBase, Finalized):
    """One group in a rendezvous: its safepoint and the operations it has replayed (``pl_group``).

    Create and free it under the write lock. A subclass implements :meth:`replay`.
    """

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.handle = next(_member_handles)
        self.failure: BaseException | None = None
        self._cell = ffi.cast("void *", self.place)  # a pl_group **
        self._pointer: pl_group_p = ffi.NULL
        self._last_applied = 0
        self._describe_error: Callable[[], BaseException] | None = None
        self._follower: pl_follower_p | None = None
        self._deliver: Callable[[], bool] | None = None

    def join(self) -> None:
        """Join the linker; :meth:`free` undoes it, also after an interrupt."""
        if not lib.pl_group_new_at(
            self._cell,
            self.shared.pointer,
            self.handle,
            lib.pl_python_replay,
            lib.pl_python_interrupted,
        ):
            raise MemoryError("no memory for a group")
        self._safepoint = lib.pl_group_safepoint(ffi.cast("pl_group *", self.address))
        _members[self.handle] = weakref.ref(self)
        self._pointer = ffi.cast("pl_group *", self.address)

    @property
    def pointer(self) -> pl_group_p:
        """The ``pl_group``; InternalError once it is freed."""
        if self._pointer == ffi.NULL:
            raise InternalError("a group without receivers takes part: it has left the linker")
        return self._pointer

    def replay(self, first: int, last: int) -> None:
        """Replay the operations with these numbers, both included. On the group's thread."""
        raise NotImplementedError

    def check(self) -> None:
        """Do nothing, on the group's thread; an exception of a signal handler stops the guest."""

    @property
    def state(self) -> int:
        """PARKED, RUNNING or DEAD."""
        return DEAD if self._pointer == ffi.NULL else lib.pl_safepoint_state(self._safepoint)

    @property
    def applied(self) -> int:
        """The newest operation that it has replayed."""
        return (
            self._last_applied if self._pointer == ffi.NULL else lib.pl_group_applied(self._pointer)
        )

    @property
    def is_replaying(self) -> bool:
        """Whether it is replaying."""
        return self._pointer != ffi.NULL and bool(lib.pl_group_is_replaying(self._pointer))

    @property
    def is_following(self) -> bool:
        """Whether it is following, and a signal handler of its wait runs."""
        return self._pointer != ffi.NULL and bool(lib.pl_group_is_following(self._pointer))

    @property
    def is_behind(self) -> bool:
        """Whether there are operations to replay before guest code may run."""
        return bool(lib.pl_group_is_behind(self.pointer))

    # Waits, and their interruption

    def on_nudge(self, deliver: Callable[[], bool]) -> None:
        """Set the function that is called on the group's thread after a :meth:`nudge`.

        It is called within a wait, or at the end of the next host call, and may run guest code. An
        exception of it stops the guest. It returns True if it cannot run now; then it is called
        again. To be set before the group's first nudge.
        """
        self._deliver = deliver
        lib.pl_group_on_nudge(self.pointer, lib.pl_python_deliver, self.handle)

    def deliver(self) -> bool:
        """Call the function for nudges."""
        return self._deliver is not None and self._deliver()

    def nudge(self) -> None:
        """Interrupt the group in a wait or guest code.

        Threads: any, while the group cannot be freed.
        """
        lib.pl_futex_nudge(
            lib.pl_shared_futex(self.shared.pointer), lib.pl_group_nudge(self.pointer)
        )

    def wait(self, key: int, cell: Pointer[int], expected: int) -> int:
        """Wait on a key of the host while a cell (``uint32_t *``) has the expected value.

        The group is parked meanwhile. Blocks, interruptibly.

        Returns:
            WOKEN, NOT_EQUAL, INTERRUPTED (an exception is kept for the guest's caller) or
            WAIT_CANCELLED.
        """
        return lib.pl_group_wait32(
            self.pointer, key, cell, expected, -1, lib.pl_python_check, self.handle
        )

    def follow_in_c(self, instances: pl_instances_p, describe: Callable[[], BaseException]) -> None:
        """Make C replay operations in a ``pl_instances``, without the GIL.

        ``describe`` returns the exception after a failure.
        """
        self._describe_error = describe
        log = lib.pl_shared_log(self.shared.pointer)
        self._follower = ffi.new(
            "pl_follower *",
            {
                "instances": instances,
                "log": log,
                "group": self.handle,
                "failed": lib.pl_python_failed,
            },
        )
        lib.pl_follower_install(self._follower)

    def note_failure(self, error: BaseException) -> None:
        """Keep the first failure of a replay, for the group's thread and as the linker's reason."""
        if self.failure is None:
            self.failure = error
            # Before C cancels the linker for it: then other threads read the reason.
            if self.shared.reason is None and not self.shared.cause:
                self.shared.reason = error

    def note_error(self) -> None:
        """Keep an error in C as the failure."""
        if self._describe_error is not None:
            error = self._describe_error()
            if not self.shared.cause:  # else the cancellation of the linker has stopped it
                self.note_failure(error)

    def die(self) -> None:
        """Leave every rendezvous for good."""
        if self._pointer != ffi.NULL:
            lib.pl_safepoint_die(self._safepoint)

    def free(self) -> None:
        """Leave the linker. Idempotent."""
        self._last_applied = self.applied
        self._pointer = ffi.NULL
        _members.pop(self.handle, None)
        lib.pl_group_free_at(self._cell)
        self._describe_error = self._deliver = self._follower = None  # break reference cycles

    def _drop(self) -> None:
        if hasattr(self, "_last_applied"):
            self.free()


def _member(handle: int) -> Member:
    member = _members[handle]()
    if member is None:
        raise InternalError("a group runs without its member")
    return member


def _keep(_kind: object, error: BaseException | None, traceback: TracebackType | None) -> int:
    """Keep the exception of a callback for the group's thread; the caller in C gets a 1."""
    handle = traceback.tb_frame.f_locals.get("handle") if traceback else None
    member = _members[handle]() if handle in _members else None
    if member is not None and error is not None:
        member.note_failure(error)
    return 1


@ffi.def_extern(error=1, onerror=_keep)
def pl_python_replay(handle: int, first: int, last: int) -> int:
    """Replay operations in the group behind ``handle``."""
    _member(handle).replay(first, last)
    return 0


@ffi.def_extern(error=1, onerror=keep_host_error)
def pl_python_check(handle: int) -> int:
    """Let the interpreter run pending signal handlers, which it does on the main thread only.

    Within guest code: an exception is raised by the call that entered the guest.
    """
    _member(handle).check()
    return 0


def _keep_interrupt(
    _kind: object, error: BaseException | None, traceback: TracebackType | None
) -> int:
    """Keep the exception of a signal handler within a rendezvous for the group's thread."""
    handle = traceback.tb_frame.f_locals.get("handle") if traceback else None
    member = _members[handle]() if handle in _members else None
    if member is not None and error is not None:
        # If the wait takes too long, C cancels the linker, and others read the reason.
        member.note_failure(error)
    return 1


@ffi.def_extern(error=1, onerror=_keep_interrupt)
def pl_python_interrupted(handle: int) -> int:
    """Do the same within a rendezvous: the thread stops when that is done."""
    _member(handle).check()
    return 0


@ffi.def_extern(error=1, onerror=_keep)
def pl_python_failed(handle: int) -> int:
    """Keep the reason of a replay's failure in C."""
    _member(handle).note_error()
    return 0


@ffi.def_extern(error=1, onerror=keep_host_error)
def pl_python_deliver(handle: int) -> int:
    """Run a group's function for nudges; the call that entered the guest raises its exception."""
    try:
        return DELIVER_LATER if _member(handle).deliver() else 0
    except BaseException as error:  # noqa: BLE001 - as in pl_python_host
        keep_pending(error)
        return 1


def current_member() -> int:
    """Return the handle of the member of the calling thread, 0 if there is none."""
    return lib.pl_handle_of_thread()


def enter_thread(member: Member | None) -> None:
    """Make the calling thread the thread of a member; None: of none."""
    lib.pl_group_enter_thread(member.pointer if member is not None else ffi.NULL)
