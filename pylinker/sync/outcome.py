"""How a wait of the protocol has ended, as exceptions."""

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
    """Give up a linker for good, for a reason that others find; True if this was the first cause."""
    if reason is not None and shared.reason is None and shared.cause in (0, cause, CAUSE_STOPPED):
        shared.reason = reason
    return shared.cancel(cause)


def aborted(shared: Shared) -> BaseException:
    """Return the exception for a linker that was given up, or for the call in progress if that was stopped."""
    cause = shared.cause
    if cause == CAUSE_STOPPED and (reason := shared.stopped()) is not None:
        return reason
    error = SynchronizationAborted(
        f"the linker was given up: {_CAUSES.get(cause, 'for another reason')}"
    )
    error.__cause__ = shared.reason
    return error


def check_result(shared: Shared, result: int, member: Member) -> None:
    """Raise what a wait of a group came to (``enum pl_acquire``).

    SIGNALLED: what a signal handler has raised, and the linker goes on.
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
