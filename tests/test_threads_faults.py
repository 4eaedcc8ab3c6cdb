"""A failure at each step of the protocol.

Afterwards all threads continue, or all have SynchronizationAborted; none hangs. What can
fail while an operation is carried out is in test_core_faults.py.
"""

from __future__ import annotations

import math
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import wasmtime

import pylinker
from corefaults import CoreHalt
from guests import (
    COMPUTE,
    DEADLINE,
    EXIT,
    NAP,
    SERVE,
    SLEEP,
    TRAP,
    YIELD,
    Guest,
    all_aborted,
    orderly,
)
from pylinker import SynchronizationAborted
from pylinker.errors import InternalError
from pylinker.linker.groups.group import InstanceGroup
from pylinker.linker.groups.groups import Groups
from pylinker.linker.load.linker import Linker
from pylinker.linker.plan.state import LinkerState
from pylinker.native.enums import SEQ_CST
from pylinker.native.threads import NativeThread
from pylinker.runtime.store import GuestStore
from pylinker.sync import LinkerShared, TopologyToken, WriteGuard
from running import used
from toolchain import Scenario


@pytest.fixture(autouse=True)
def rules() -> Iterator[None]:
    with orderly():
        yield


@pytest.fixture
def guest(scenario: Scenario) -> Iterator[Guest]:
    """Without preempt: who computes keeps a leader waiting."""
    with Guest(scenario("threads")) as guest:
        yield guest


class Injected(Exception):  # noqa: N818 - it says what it is
    pass


def passed(function: Callable[..., object]) -> Callable[..., object]:
    """Return the function as one of pylinker's own calls; any other counts as an interrupt."""
    code, names = function.__code__, {**function.__globals__, "__name__": "pylinker.tests"}
    return types.FunctionType(code, names, closure=function.__closure__)


class Fault:
    """Makes a method fail in one thread, once."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        owner: Any,
        name: str,
        error: BaseException | None = None,
    ) -> None:
        self.error = error or Injected(f"in {owner.__name__}.{name}")
        self.thread: threading.Thread | None = None  # None: in any
        self.spared: set[threading.Thread] = set()  # but not in these
        self.happened = threading.Event()
        original = getattr(owner, name)

        def failing(*arguments: object, **keywords: object) -> object:
            here = threading.current_thread()
            if (
                not self.happened.is_set()
                and self.thread in (None, here)
                and here not in self.spared
            ):
                self.happened.set()
                raise self.error
            return original(*arguments, **keywords)

        monkeypatch.setattr(owner, name, passed(failing))


class Halt:
    """Makes a method wait in one thread until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()
        original = getattr(owner, name)

        def waiting(*arguments: object, **keywords: object) -> object:
            if not self.reached.is_set():
                self.reached.set()
                self.go.wait(DEADLINE)
            return original(*arguments, **keywords)

        monkeypatch.setattr(owner, name, passed(waiting))


def until_pending(guest: Guest, published: float = math.inf) -> None:
    """Wait until a leader raised its barrier, or has ``published`` more than so many operations.

    A main group that computes on the main thread comes to a safepoint whenever signals are looked
    for, so the barrier may be down again.
    """
    shared = guest.program._linker.context.shared
    while not shared.dl_operation_pending_load(SEQ_CST) and shared.published <= published:
        time.sleep(0.001)


class TestLeader:
    def test_traps_in_a_constructor(self, guest: Guest) -> None:
        threads = guest.start(YIELD, NAP, SERVE)
        guest["trap_in_constructor"] = 1
        before = guest.program.statistics().modules
        leader = guest.program.spawn("open_library", "libtrap.so", 2)
        guest.until("in_constructor", 1)
        guest["leave_constructor"] = 1
        assert leader.join(DEADLINE) == 0
        assert guest.program.statistics().modules == before
        guest.still_works()
        assert guest.join(threads) == [0, 1, 2]

    @pytest.mark.parametrize("kind", [EXIT, TRAP])
    def test_is_cancelled_at_the_first_barrier(self, guest: Guest, kind: int) -> None:
        threads = guest.start(COMPUTE, YIELD, SLEEP)
        leader = guest.program.spawn("open_library", "libtwice.so", 2)
        until_pending(guest)
        guest.program._linker.threads.end(
            status=1
        ) if kind == EXIT else guest.program._linker.threads.end(failure=Injected())
        all_aborted(guest, [leader, *threads])

    def test_in_python_is_cancelled_at_the_first_barrier(self, guest: Guest) -> None:
        threads = guest.start(COMPUTE, YIELD)

        def end() -> None:
            until_pending(guest)
            guest.program._linker.threads.end(status=1)

        helper = threading.Thread(target=end)
        helper.start()
        with pytest.raises(SynchronizationAborted):
            guest.program.dlopen("libtwice.so")
        helper.join()
        all_aborted(guest, threads)

    def test_fails_between_the_barriers(
        self, guest: Guest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        threads = guest.start(YIELD, NAP, SLEEP)
        fault = Fault(
            monkeypatch,
            LinkerState,
            "add",
            pylinker.LimitError("what is no signal's exception is not tried again"),
        )
        with pytest.raises((pylinker.LimitError, SynchronizationAborted)) as caught:
            guest.program.dlopen("libtwice.so")
        assert fault.error in (caught.value, caught.value.__cause__)
        all_aborted(guest, threads)
        with pytest.raises(SynchronizationAborted) as later:
            guest.main.nothing()
        assert later.value.__cause__ is fault.error

    @pytest.mark.parametrize("name", ["apply", "relocate"])
    def test_fails_before_the_first_barrier(
        self, guest: Guest, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        threads = guest.start(YIELD, NAP)
        before = used(guest.program)
        fault = Fault(monkeypatch, InstanceGroup, name)
        with pytest.raises(Injected):
            guest.program.dlopen("libtwice.so")
        assert fault.happened.is_set()
        assert used(guest.program) == before
        guest.still_works()
        assert guest.join(threads) == [0, 1]


class TestFollower:
    @pytest.fixture
    def rendezvous(self, guest: Guest) -> Iterator[Callable[[], pylinker.GuestThread]]:
        """Start a leader, and return it when it waits at the first barrier."""

        def start() -> pylinker.GuestThread:
            leader = guest.program.spawn("open_library", "libtwice.so", 2)
            until_pending(guest)
            return leader

        return start

    def test_ends_during_the_rendezvous(
        self, guest: Guest, rendezvous: Callable[[], pylinker.GuestThread]
    ) -> None:
        threads = guest.start(COMPUTE, COMPUTE)
        leader = rendezvous()
        assert guest.join(threads) == [0, 1]
        assert leader.join(DEADLINE) > 0
        guest.still_works()

    def test_traps_during_the_rendezvous(
        self, guest: Guest, rendezvous: Callable[[], pylinker.GuestThread]
    ) -> None:
        threads = guest.start(YIELD, SLEEP)
        follower = guest.program.spawn("compute_and_call", 0, 0)
        guest.until("running", 3)
        leader = rendezvous()
        guest["stop"] = 1
        with pytest.raises(wasmtime.Trap):
            follower.join(DEADLINE)
        for thread in [leader, *threads]:
            with suppress(SynchronizationAborted):  # unless it was over before the end
                thread.join(DEADLINE)
        with pytest.raises(SynchronizationAborted) as caught:
            guest.main.nothing()
        assert isinstance(caught.value.__cause__, wasmtime.Trap)
        all_aborted(guest, [])

    def test_traps_in_a_call_from_python_during_the_rendezvous(self, guest: Guest) -> None:
        threads = guest.start(YIELD)
        leaders: list[pylinker.GuestThread] = []
        linker, library = guest.program._linker, b"libtwice.so\0"
        address = guest.address("message")
        guest.memory.write(address, library)

        def lead() -> None:
            guest.until(
                "running", 2
            )  # the main group computes now; spawn() would wait for its turn
            body = lambda group: group.call(group.function(linker.main, "open_library"), address, 2)  # noqa: E731
            leaders.append(linker.threads.start(body, needs_stack=True))
            until_pending(guest, published)
            guest["stop"] = 1

        published = linker.context.shared.published
        helper = threading.Thread(target=lead)
        helper.start()
        with pytest.raises(wasmtime.Trap):
            guest.main.compute_and_call(0, 0)
        helper.join()
        assert leaders[0].join(DEADLINE) > 0
        assert threads[0].join(DEADLINE) == 0
        guest.still_works()

    def test_exits_during_the_rendezvous(
        self, guest: Guest, rendezvous: Callable[[], pylinker.GuestThread]
    ) -> None:
        threads = guest.start(COMPUTE, YIELD)
        leader = rendezvous()
        guest.program._linker.threads.end(status=3)
        all_aborted(guest, [leader, *threads])

    def test_is_cancelled_between_the_barriers(
        self, guest: Guest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        threads = guest.start(YIELD, YIELD)
        halt = Halt(monkeypatch, LinkerState, "add")
        leader = guest.program.spawn("open_library", "libtwice.so", 2)
        assert halt.reached.wait(DEADLINE)
        guest.program._linker.threads.end(failure=Injected())
        for thread in threads:  # they do not wait for a leader that does not come back
            with pytest.raises(SynchronizationAborted) as caught:
                thread.join(DEADLINE)
            assert isinstance(caught.value.__cause__, Injected)
        halt.go.set()
        all_aborted(guest, [leader])

    @pytest.mark.parametrize("name", ["global_new", "instance_new", "table_set"])
    @pytest.mark.parametrize("follower", [COMPUTE, YIELD])
    def test_program_is_closed_while_one_replays(
        self, scenario: Scenario, name: str, follower: int
    ) -> None:
        with Guest(scenario("threads"), preempt=True) as guest:
            threads = guest.start(follower, COMPUTE, SLEEP)
            with CoreHalt(name, [threads[0].thread], timeout=DEADLINE) as halt:
                # This library has a start function, which the end of the program stops.
                leader = guest.program.spawn("open_library", "libplain1.so", 2)
                assert halt.reached.wait(DEADLINE)
                closer = threading.Thread(target=guest.program.close)
                closer.start()
                try:
                    with pytest.raises(SynchronizationAborted):
                        leader.join(DEADLINE)
                finally:
                    halt.go.set()
                    closer.join()
                for thread in threads:
                    with pytest.raises(SynchronizationAborted):
                        thread.join(DEADLINE)


class TestSpawnFailsHalfWay:
    @pytest.mark.parametrize(
        ("owner", "name"),
        [
            (LinkerShared, "subscribe_member"),
            (Groups, "_take_snapshot"),
            (LinkerState, "new_block"),
            (GuestStore, "__init__"),
            (InstanceGroup, "__init__"),
            (LinkerShared, "prepare_topology"),
            (TopologyToken, "take_as"),
            (LinkerShared, "take_blindly"),
            (Linker, "create_instance_group"),
            (Linker, "prepare_for_instance_group"),
            (threading.Thread, "start"),
        ],
        ids=lambda value: getattr(value, "__name__", value),
    )
    @pytest.mark.parametrize("error", [Injected, pylinker.LimitError])
    def test_and_leaves_nothing(
        self,
        guest: Guest,
        monkeypatch: pytest.MonkeyPatch,
        owner: Any,
        name: str,
        error: type[Exception],
    ) -> None:
        threads = guest.start(YIELD, NAP, SERVE)
        guest.program.dlopen("libtwice.so")
        library = guest.program.dlopen("libplain2.so")
        assert library["id"].slot
        before = used(guest.program)
        fault = Fault(monkeypatch, owner, name, error("half-way"))
        if name.startswith("take"):  # the lock is contended
            monkeypatch.setattr(WriteGuard, "take_both", lambda *_: False)
        fault.spared = {thread.thread for thread in threads}  # they may have something to replay
        with pytest.raises(error, match="half-way"):
            guest.program.spawn("nothing")
        assert fault.happened.is_set()
        assert guest.program.statistics().groups == 4
        assert used(guest.program) == before
        guest.still_works()
        assert guest.join(threads) == [0, 1, 2]

    def test_in_the_guest_gives_minus_one(
        self, guest: Guest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fault = Fault(
            monkeypatch, NativeThread, "start", MemoryError("no more threads can be started")
        )
        assert guest.main.start_threads(0, 3, YIELD, 0) == 2
        assert fault.happened.is_set()
        assert guest.array("told", 3)[0] == -1
        assert guest.main.finish(2) == 2
        guest.still_works()

    def test_a_broken_invariant_is_told_and_not_taken_for_a_lack_of_threads(
        self, guest: Guest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            Fault(patch, NativeThread, "start", InternalError("broken"))
            with pytest.raises(InternalError, match="broken"):
                guest.main.start_threads(0, 1, YIELD, 0)
        guest.still_works()

    def test_while_another_leads(self, guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
        threads = guest.start(YIELD)
        busy = [guest.program.spawn("reopen", "libplain1.so", "id", 1021, 30) for _ in range(3)]
        for _ in range(10):
            with monkeypatch.context() as patch:
                Fault(patch, InstanceGroup, "__init__")  # only new groups come here
                with pytest.raises(Injected):
                    guest.program.spawn("nothing")
        assert [thread.join(DEADLINE) for thread in busy] == [0, 0, 0]
        guest.still_works()
        assert guest.join(threads) == [0]


class TestShutdown:
    def test_a_thread_that_ends_while_another_leads(self, guest: Guest) -> None:
        busy = [
            guest.program.spawn("reopen", f"libplain{number}.so", "id", 1000 * number + 21, 40)
            for number in (1, 2, 3)
        ]
        for _ in range(40):
            assert guest.program.spawn("add_tls", 1).join(DEADLINE) == 8
        assert [thread.join(DEADLINE) for thread in busy] == [0, 0, 0]
        assert guest.program.statistics().groups == 1
        guest.still_works()

    def test_an_interrupted_leader(self, guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
        """All groups arrived, so the operation ran and was rolled back: nothing is open."""
        threads = guest.start(YIELD, NAP)
        before = guest.program.statistics().modules
        fault = Fault(monkeypatch, LinkerState, "add", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            guest.program.dlopen("libtwice.so")
        assert fault.happened.is_set()
        assert guest.program.statistics().modules == before
        guest.still_works()
        assert guest.join(threads) == [0, 1]
