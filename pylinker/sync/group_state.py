"""What a group is to the others: a receiver of both buses, with a safepoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

from pylinker.native.member import DEAD, PARKED, RUNNING, Member
from pylinker.native.shared import Shared

if TYPE_CHECKING:
    from pylinker.sync.log import OperationLog

__all__ = ["InstanceGroupState"]

Op = TypeVar("Op")


class InstanceGroupState(Generic[Op]):
    """A group's part in the rendezvous. Made and dropped under topology token and write lock.

    ``replay`` carries one operation out in the group, given its number; it runs on the group's own thread. Attributes: ``member`` (the
    native part), ``number`` (unique in the process).
    """

    def __init__(self, shared: Shared, log: OperationLog[Op], replay: Callable[[int, Op], None]) -> None:
        self._log = log
        self._replay = replay
        self.member = Member(shared, self)
        self.number = self.member.handle

    def __repr__(self) -> str:
        states = {PARKED: "parked", RUNNING: "running", DEAD: "dead"}
        return f"<InstanceGroupState {self.number} {states[self.member.state]}, replayed {self.member.applied}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an InstanceGroupState is neither copied nor pickled: a group subscribes once")

    def replay(self, first: int, last: int) -> None:
        """Carry out the operations with these numbers, in order. Called by the rendezvous under a read lock."""
        for number in range(first, last + 1):
            operation = self._log[number]
            if operation is not None:
                self._replay(number, operation)

    def check(self) -> None:
        """Let the interpreter handle signals; see :class:`pylinker.native.member.Participant`."""
