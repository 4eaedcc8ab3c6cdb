"""The part of a group in the rendezvous: a receiver of both buses, with a safepoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NoReturn, TypeVar

from pylinker.errors import InternalError
from pylinker.native.enums import DEAD, PARKED, RUNNING
from pylinker.native.member import Member
from pylinker.native.shared import Shared
from pylinker.sync.outcome import check_result

__all__ = ["InstanceGroupState"]

Op = TypeVar("Op")


class InstanceGroupState(Member, Generic[Op]):
    """The part of a group in the rendezvous, from :meth:`LinkerShared.subscribe`.

    It belongs to one thread at a time. It is PARKED at first: leaders do not wait for it, and it
    replays the operations that it missed when it runs again. In the block of :meth:`running` it is
    RUNNING: every leader waits until it reaches a :meth:`safepoint` or leaves the block.

        with group.running():
            while there_is_work():
                work()
                group.safepoint()

    ``state`` is PARKED, RUNNING or DEAD; ``applied`` is the newest operation that it has replayed.
    """

    number: int
    """Number of the group, unique in the process."""

    def __init__(self, shared: Shared, replay: Callable[[int, Op], None]) -> None:
        super().__init__(shared)
        self._replay = replay
        self.number = self.handle

    def __repr__(self) -> str:
        states = {PARKED: "parked", RUNNING: "running", DEAD: "dead"}
        return f"<InstanceGroupState {self.number} {states[self.state]}, replayed {self.applied}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an InstanceGroupState is neither copied nor pickled: a group subscribes once"
        )

    def replay(self, first: int, last: int) -> None:
        """Replay a range of operations, in order; called by the rendezvous under a read lock.

        Args:
            first: Number of the first operation.
            last: Number of the last one.
        """
        for number in range(first, last + 1):
            operation = self.shared.operation(number)
            if operation is not None:
                self._replay(number, operation)

    def follow(self) -> None:
        """Take part in the pending operation, and replay all that is published.

        Blocks: until the leader has published.

        Raises:
            SynchronizationAborted: The linker is cancelled.
            InternalError: The group is unsubscribed, or the calling thread holds the write lock:
                its leader would wait for itself.
        """
        if self.shared.is_written_here:
            raise InternalError(
                "a thread follows under its own write lock; it has replayed all operations"
            )
        check_result(self.shared, self.follow_pending(), self)
