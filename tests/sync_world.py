"""A linker without modules, for the tests of pylinker.sync.

The state is a dict, an operation is a string, a guest is a loop in Python.

What a test waits for is an event or a condition, never a time; :data:`DEADLINE` only bounds how
long a failing test takes. A :class:`World` is a context manager: leaving it gives up the linker,
releases every event and guest, and joins every thread. A test that is stuck in the linker is woken
by giving it up, too.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from pylinker._core import ffi, lib
from pylinker.errors import InternalError, SynchronizationAborted
from pylinker.native.enums import SEQ_CST, Cause
from pylinker.sync import InstanceGroupState, LinkerShared, ReadGuard, TopologyToken, WriteGuard

if TYPE_CHECKING:
    from typing import Self

DEADLINE = 60.0  # seconds

_stuck: list[object] = []  # what a thread that never ended may still touch


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until other threads have made ``condition`` true."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        time.sleep(0.0005)


def wait_for(event: threading.Event) -> None:
    """Wait for an event that another thread must set."""
    assert event.wait(DEADLINE), "an event the test waits for did not happen"


class Job:
    """A thread that runs one function."""

    def __init__(
        self, function: Callable[..., object], *arguments: object, **keywords: object
    ) -> None:
        self._value: object = None
        self._error: BaseException | None = None
        self._call = lambda: function(*arguments, **keywords)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:  # noqa: BLE001 - raised again by result()
            self._error = error

    @property
    def is_done(self) -> bool:
        return not self.thread.is_alive()

    def error(self) -> BaseException | None:
        """The exception of the function, once it has ended."""
        self.thread.join(DEADLINE)
        assert self.is_done, "a thread is stuck"
        return self._error

    def result(self) -> object:
        """The result of the function; raises its exception."""
        error = self.error()
        if error is not None:
            raise error
        return self._value


class Group:
    """An instance group whose table is ``replayed``: the operations it has carried out, in order.

    ``on_replay`` (number, operation) is called before one is carried out.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.replayed: list[tuple[int, str]] = []
        self.on_replay: Callable[[int, str], None] = lambda _number, _operation: None
        self.state: InstanceGroupState[str]

    def replay(self, number: int, operation: str) -> None:
        self.on_replay(number, operation)
        self.replayed.append((number, operation))

    @property
    def arrived(self) -> int:
        """The newest barrier it has come to."""
        return int(lib.pl_group_arrived(self.state.pointer))

    def running(self) -> AbstractContextManager[object]:
        """Be in guest code, as in the C core: RUNNING, a safepoint, the guest, and back."""
        return self.state.running()

    def parked(self) -> AbstractContextManager[object]:
        """Be in a blocking host function, as in the C core: PARKED, the function, a safepoint."""
        return self.state.parked()

    def open_barrier(self) -> int:
        """Put a barrier up, as a leader does first; returns its number."""
        return int(lib.pl_lead_open(self.state.pointer))

    def withdraw(self) -> None:
        """Withdraw the operation that was announced."""
        lib.pl_log_append(lib.pl_shared_log(self._world.native.pointer), ffi.NULL, ffi.NULL)
        assert lib.pl_lead_withdraw(self.state.pointer)

    def follow(self) -> None:
        self._world.shared.do_pending_link_operations_internal(self.state)

    def poll(self) -> None:
        """The safepoint inside guest code: follow if something is pending."""
        if self._world.shared.dl_operation_pending_load(SEQ_CST):
            self.follow()

    def poll_in_c(self) -> int:
        """The same as in guest code, without Python: returns the core's status, raises nothing."""
        return int(lib.pl_group_safepoint_poll(self.state.pointer))


class Guest(Job):
    """A thread in guest code: it reaches a safepoint on an interrupt, and leaves when told to."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self._bell = threading.Event()
        self._is_leaving = False
        entered = threading.Event()
        super().__init__(self._guest, entered)
        wait_until(lambda: entered.is_set() or self.is_done)

    def _guest(self, entered: threading.Event) -> None:
        with self.group.running():
            entered.set()
            while True:
                self._bell.wait()
                self._bell.clear()
                if self._is_leaving:
                    return
                self.group.poll()

    def ring(self) -> None:
        """Make it come to its safepoint."""
        self._bell.set()

    def tell_to_leave(self) -> None:
        self._is_leaving = True
        self._bell.set()

    def leave(self) -> None:
        """Have it leave guest code; raises what has ended it before."""
        self.tell_to_leave()
        self.result()


class World:
    """One universe with ``groups`` groups, all parked, and the threads of a test."""

    def __init__(self, groups: int = 1) -> None:
        self.state: dict[str, list[str]] = {"modules": []}
        self.shared: LinkerShared[dict[str, list[str]], str] = LinkerShared.new(self.state)
        self.native = self.shared._native
        self.groups: list[Group] = []
        self._jobs: list[Job] = []
        self._events: list[threading.Event] = []
        self._receivers: list[Any] = []
        self._was_stuck = False
        self._watchdog = threading.Timer(DEADLINE, self._bark)
        self._watchdog.daemon = True
        self._watchdog.start()
        for _ in range(groups):
            self.new_group()

    def __enter__(self) -> Self:
        return self

    def _bark(self) -> None:
        self._was_stuck = True
        self.native.cancel(Cause.CLOSED)

    def __exit__(self, *_exception: object) -> None:
        self._watchdog.cancel()
        self.native.cancel(Cause.CLOSED)
        for event in self._events:
            event.set()
        for guest in self.guests:
            guest.tell_to_leave()
        for job in self._jobs:
            job.thread.join(DEADLINE)
        if not all(job.is_done for job in self._jobs):
            _stuck.append(self)
            raise AssertionError("a thread of the test is stuck")
        assert not self._was_stuck, "the test was stuck in the linker"
        _leave_guards()

    # Parts

    @property
    def guests(self) -> list[Guest]:
        return [job for job in self._jobs if isinstance(job, Guest)]

    def subscribe(self, bus: Any) -> Any:
        """Add a receiver of no group to one of the buses."""
        receiver = ffi.new("pl_receiver *")
        lib.pl_bus_subscribe(bus, receiver)
        self._receivers.append(receiver)
        return receiver

    def new_group(self) -> Group:
        group = Group(self)
        if not self.groups:
            with self.shared.write_linker_state_alone() as guard:
                group.state = self.shared.subscribe(guard, group.replay)
        else:
            topology, guard = self.shared.write_linker_state_with_topology(self.groups[0].state)
            with topology, guard:
                group.state = self.shared.subscribe(guard, group.replay, topology)
        self.groups.append(group)
        return group

    def drop_group(self, group: Group) -> None:
        with self.shared.write_linker_state(group.state) as guard:
            self.shared.unsubscribe(guard, group.state)
        self.groups.remove(group)

    def event(self) -> threading.Event:
        """An event that is set at the end of the test, so that no thread waits for it longer."""
        event = threading.Event()
        self._events.append(event)
        return event

    def start(self, function: Callable[..., object], *arguments: object, **keywords: object) -> Job:
        """Run a function on a thread of its own."""
        job = Job(function, *arguments, **keywords)
        self._jobs.append(job)
        return job

    def run(self, function: Callable[..., object], *arguments: object) -> object:
        """Run a function on a thread of its own and return what it returns: it must not block."""
        return self.start(function, *arguments).result()

    def start_guest(self, group: Group) -> Guest:
        """Return a thread that is in guest code of ``group`` now."""
        guest = Guest(group)
        self._jobs.append(guest)
        return guest

    def wake(self) -> None:
        """The leader's interrupt of groups that make no host call."""
        for guest in self.guests:
            guest.ring()

    # What happens

    @property
    def is_pending(self) -> bool:
        return self.shared.dl_operation_pending_load(SEQ_CST)

    @property
    def pauses(self) -> int:
        """How often threads have paused since they found token or lock taken."""
        return self.shared.waits().paused

    @property
    def sleepers(self) -> int:
        """How many threads sleep in the C core."""
        shared = self.native.pointer
        events = (
            lib.pl_shared_event(shared),
            lib.pl_shared_barrier_event(shared),
            lib.pl_waiter_event(lib.pl_shared_waiter(shared)),
        )
        return sum(int(lib.pl_event_waiters(event)) for event in events)

    def lead(
        self,
        group: Group,
        operation: str,
        *,
        commit: Callable[[], None] | None = None,
        timeout: float | None = None,
        wake: Callable[[], None] | None = None,
    ) -> None:
        """Carry out an operation in ``group``, and have the others do the same."""
        topology, guard = self.shared.write_linker_state_with_topology(group.state)
        number = self.native.published + 1
        self.shared.synchronize_link_operation(
            topology,
            operation,
            guard,
            group.state,
            commit=commit,
            timeout=timeout,
            wake=wake or self.wake,
        )
        group.replayed.append((number, operation))

    def start_leading(
        self, group: Group, operation: str, *, wake_guests: bool = True, **keywords: object
    ) -> Job:
        """Lead on another thread; return once the barrier is up and, if wanted, groups nudged."""
        is_up = threading.Event()

        def wake() -> None:
            if wake_guests:
                self.wake()
            is_up.set()

        job = self.start(self.lead, group, operation, wake=wake, **keywords)
        wait_until(lambda: is_up.is_set() or job.is_done)
        return job

    def assert_untouched(self) -> None:
        """Token and lock are free, no barrier is up, and the linker works."""
        assert self.native.token == 0
        assert self.native.readers == 0
        assert not self.is_pending
        assert self.shared.cause == 0
        with self.shared.write_linker_state(self.groups[0].state):
            pass

    def is_poisoned(self) -> bool:
        try:
            guard = self.shared.try_write_linker_state()
        except SynchronizationAborted:
            return True
        if guard is not None:
            guard.release()
        return False


@contextmanager
def after_pauses(world: World, reaction: Callable[[], object], number: int = 1) -> Iterator[None]:
    """Call ``reaction`` on another thread after ``number`` pauses of waiters for token or lock."""
    is_over = threading.Event()
    last = world.pauses + number

    def react() -> None:
        wait_until(lambda: world.pauses >= last or is_over.is_set())
        if not is_over.is_set():
            reaction()

    job = world.start(react)
    try:
        yield
    finally:
        is_over.set()
        job.result()


def _leave_guards() -> None:
    """Allow guards and tokens that a test left to its world to be dropped without a warning."""
    for each in gc.get_objects():
        if isinstance(each, ReadGuard | WriteGuard | TopologyToken):
            each.is_given = False


def broken_invariant() -> None:
    raise InternalError("the test says so")
