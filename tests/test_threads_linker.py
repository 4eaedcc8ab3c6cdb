"""The linker's interface for threads: closure slots, pending operations, disagreeing tables."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wasmtime

import pylinker
from guests import COMPUTE, DEADLINE, YIELD, Guest
from pylinker.errors import InternalError
from pylinker.linker.groups.group import InstanceGroup
from pylinker.native.enums import SEQ_CST
from pylinker.sync import LinkerShared
from toolchain import Scenario


@pytest.fixture
def guest(scenario: Scenario) -> Iterator[Guest]:
    with Guest(scenario("threads")) as guest:
        yield guest


class Idle:
    """A guest thread that waits in Python for commands; its group is PARKED in between."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self._orders: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self._answers: queue.Queue[object] = queue.Queue()
        self.thread = guest.program._linker.threads.start(self._live, needs_stack=True)
        group = self._answers.get(timeout=DEADLINE)
        assert isinstance(group, InstanceGroup)
        self.group = group

    def _live(self, group: InstanceGroup) -> None:
        self._answers.put(group)
        while (order := self._orders.get(timeout=DEADLINE)) is not None:
            self._answers.put(order())
        self.guest.main.nothing()  # on its way into the guest it replays what it has missed

    def do(self, order: Callable[[], object]) -> object:
        """Have the thread call something, and return what that returns."""
        self._orders.put(order)
        return self._answers.get(timeout=DEADLINE)

    def leave(self) -> None:
        """Have the thread enter the guest once more and end."""
        self._orders.put(None)
        self.thread.join(DEADLINE)


class TestClosureSlots:
    def test_are_free_in_every_group_and_come_in_blocks(self, guest: Guest) -> None:
        linker = guest.program._linker
        idle = Idle(guest)
        published = linker.context.shared._native.published
        slots = [linker.closures.allocate() for _ in range(64)]
        assert len(set(slots)) == 64
        assert (
            linker.context.shared._native.published == published + 1
        )  # one rendezvous for the block
        linker.closures.allocate()
        assert linker.context.shared._native.published == published + 2
        idle.leave()
        for group in (linker.context.main_group, idle.group):
            assert group.table_size > max(slots)
            assert [group.store.table_get(group.table, slot) for slot in slots] == [None] * 64

    def test_are_reused(self, guest: Guest) -> None:
        linker = guest.program._linker
        slot = linker.closures.allocate()
        used = guest.program.statistics().table_used
        for _ in range(1000):
            linker.closures.free(slot)
            assert linker.closures.allocate() == slot
        assert guest.program.statistics().table_used == used

    def test_exist_in_groups_that_come_later(self, guest: Guest) -> None:
        slot = guest.program._linker.closures.allocate()
        idle = Idle(guest)
        assert idle.group.table_size > slot
        idle.leave()


class TestPendingOperations:
    @pytest.mark.parametrize("fast", [False, True])
    def test_nothing_pending_returns_at_once(self, guest: Guest, *, fast: bool) -> None:
        guest.program._linker.do_pending_link_operations(fast=fast)

    def test_a_pending_one_is_carried_out(self, guest: Guest) -> None:
        linker = guest.program._linker
        (busy,) = guest.start(COMPUTE)
        leader = guest.program.spawn("open_library", "libtwice.so", 2)
        while not linker.context.shared.dl_operation_pending_load(SEQ_CST):
            pass  # the leader waits for the thread that computes
        guest["stop"] = 1
        linker.do_pending_link_operations(fast=False)
        names = [
            module.name for module in linker.state.modules if linker.context.main_group.has(module)
        ]
        assert names == ["main.wasm", "libtwice.so"]
        assert leader.join(DEADLINE) > 0
        busy.join(DEADLINE)


def test_a_table_that_disagrees_ends_the_program_and_says_which(guest: Guest) -> None:
    linker = guest.program._linker
    idle = Idle(guest)
    with guest.program.dlopen("libtwice.so") as library:
        slot = library.address_of("twice")
    idle.do(guest.main.nothing)  # it has carried out all of that
    group = idle.group
    assert group.store.table_get(group.table, slot) is None
    group.store.table_set(group.table, slot, group.function(linker.main, "nothing"))
    library = guest.program.dlopen("libtwice.so")
    assert library.address_of("twice") == slot
    with pytest.raises(
        InternalError, match=rf"slot {slot} is free in the leader's table, but taken in group"
    ):
        idle.leave()
    with pytest.raises(pylinker.SynchronizationAborted) as caught:
        library.twice(1)
    assert isinstance(caught.value.__cause__, InternalError)


def test_a_group_that_is_behind_catches_up_before_it_is_looked_at(guest: Guest) -> None:
    (other,) = guest.start(YIELD)
    assert guest.program.spawn("open_library", "libtwice.so", 2).join(DEADLINE) > 0
    assert guest.program.statistics().modules == 2
    library = guest.program.dlopen("libtwice.so", pylinker.RTLD_NOLOAD)
    assert library.twice(21) == 42
    guest.join([other])


def test_a_thread_that_is_started_before_the_leader_has_returned_has_the_library(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The changes of an operation are visible as soon as it is published."""
    linker = guest.program._linker
    idle = Idle(guest)
    found: list[object] = []
    synchronize = LinkerShared.synchronize_link_operation

    def then_spawn(*arguments: object, **keywords: object) -> None:
        synchronize(*arguments, **keywords)
        library = linker.state.modules[-1]
        found.append(
            idle.do(lambda: guest.program.spawn(lambda: linker.group.has(library)).join(DEADLINE))
        )

    guest.program.spawn(int).join(DEADLINE)  # a group knows by now what there is
    monkeypatch.setattr(LinkerShared, "synchronize_link_operation", then_spawn)
    library = guest.program.dlopen("libtwice.so")
    monkeypatch.undo()
    assert found == [True]
    library.close()
    idle.leave()


# A library that opens another while it is instantiated: in the leader under the write lock, in a
# follower while it replays.
IMPATIENT = r"""(module
  (@dylink.0 (mem-info (memory 20 2)))
  (import "env" "memory" (memory 1 1024 shared))
  (import "env" "dlopen" (func $dlopen (param i32 i32) (result i32)))
  (import "env" "__memory_base" (global $base i32))
  (data (global.get $base) "libtwice.so\00")
  (func $start (i32.store offset=16 (global.get $base)
    (call $dlopen (global.get $base) (i32.const 2))))
  (func (export "handle") (result i32) (i32.load offset=16 (global.get $base)))
  (func (export "forget") (i32.store offset=16 (global.get $base) (i32.const 77)))
  (start $start))"""


def test_a_start_function_that_opens_a_library_is_refused_in_every_group(
    guest: Guest, tmp_path: Path
) -> None:
    path = tmp_path / "libimpatient.so"
    path.write_bytes(wasmtime.wat2wasm(IMPATIENT))
    idle = Idle(guest)
    library = guest.program.dlopen(path)
    assert library.handle() == 0
    library.forget()
    assert idle.do(library["handle"]) == 0
    assert guest.libraries() == ["main.wasm", "libimpatient.so"]
    idle.leave()
    guest.still_works()


FORKING = IMPATIENT.replace(
    '"env" "dlopen" (func $dlopen (param i32 i32)', '"wasi" "thread-spawn" (func $spawn (param i32)'
).replace("(call $dlopen (global.get $base) (i32.const 2))", "(call $spawn (i32.const 0))")


def test_a_start_function_that_starts_a_thread_is_refused_in_every_group(
    guest: Guest, tmp_path: Path
) -> None:
    path = tmp_path / "libforking.so"
    path.write_bytes(wasmtime.wat2wasm(FORKING))
    idle = Idle(guest)
    library = guest.program.dlopen(path)
    assert library.handle() == -1
    library.forget()
    assert idle.do(library["handle"]) == -1
    idle.leave()
    guest.still_works()
