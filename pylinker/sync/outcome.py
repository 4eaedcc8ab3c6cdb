"""Results of the protocol's waits, as exceptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pylinker.errors import SynchronizationAborted
from pylinker.native.enums import ACQUIRED, CAUSE_STOPPED, SIGNALLED, Cause
from pylinker.native.shared import FORKED, Shared

if TYPE_CHECKING:
    from pylinker.native.member import Member

__all__ = ["aborted", "check_result", "give_up"]

_CAUSES: Final[dict[int, str]] = {
    Cause.CLOSED: "the program has ended",
    Cause.LEADER: "a thread failed while the others waited for its operation",
    Cause.REPLAY: "a thread could not carry out an operation of another",
    Cause.BUS: "the synchronization protocol was broken",
    Cause.INTERRUPTED: "a waiting thread was interrupted",
    Cause.FORKED: FORKED,
}


def give_up(shared: Shared, cause: int, reason: BaseException | None = None) -> bool:
    """Cancel a linker; True if this was the first cause.

    Args:
        shared: The linker.
        cause: A :class:`~pylinker.sync.Cause`.
        reason: The exception for others to find as ``__cause__``.
    """
    if reason is not None and shared.reason is None and shared.cause in (0, cause, CAUSE_STOPPED):
        shared.reason = reason
    return shared.cancel(cause)


def aborted(shared: Shared) -> BaseException:
    """Return the exception for a cancelled linker, or for a stopped call in progress."""
    cause = shared.cause
    if cause == CAUSE_STOPPED and (reason := shared.stopped()) is not None:
        return reason
    error = SynchronizationAborted(
        f"the linker was cancelled: {_CAUSES.get(cause, 'for another reason')}"
    )
    error.__cause__ = shared.reason
    return error


def check_result(shared: Shared, result: int, member: Member) -> None:
    """Raise the exception for the result of a group's wait (``enum pl_acquire``), if it failed.

    After SIGNALLED it is the exception of a signal handler, and the linker stays usable.
    """
    if result == ACQUIRED:
        return
    failure, member.failure = member.failure, None
    if failure is None:
        raise aborted(shared)
    if result == SIGNALLED:
        shared.forget(failure)
    else:
        give_up(shared, shared.cause or Cause.REPLAY, failure)
    raise failure
