"""Many groups that do everything at random, with random delays inside the protocol.

At the end all tables are equal. ``PYLINKER_STRESS_SECONDS`` is the time for each number of groups
(10), ``PYLINKER_STRESS_SEED`` repeats a run as far as scheduling allows: each thread draws from a
generator of its own, made of the seed and the thread's name.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pylinker
from corefaults import CoreDelay
from guests import DEADLINE, RETURN, Guest, orderly
from pylinker.linker.groups.group import InstanceGroup
from pylinker.linker.load.linker import Linker
from pylinker.native.core import ffi
from pylinker.sync import LinkerShared, WriteGuard
from toolchain import Scenario

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("PYLINKER_STRESS_SECONDS", "10"))
SEED = int(os.environ.get("PYLINKER_STRESS_SEED", "0")) or random.SystemRandom().randrange(
    1, 1 << 32
)

PLACES = 16  # of the board in main.c
MOST_THREADS = 64

# What each library promises: a function of one int, and what it answers to 1000.
LIBRARIES = {
    "libplain1.so": {"id": 2000, "minus": 0, "unique1": 1001},
    "libplain2.so": {"id": 3000, "minus": 1000, "unique2": 1002},
    "libplain3.so": {"id": 4000, "minus": 2000, "unique3": 1003},
    "libplain4.so": {"id": 5000, "minus": 3000, "unique4": 1004, "below": 1005},
    "libplain5.so": {"id": 6000, "minus": 4000, "unique5": 1005, "below": 1007},
    "libtwice.so": {"twice": 2000},
    "libuser.so": {"user_twice": 2001},
    "libnest.so": {"nest": 1009},
    "libouter.so": {"id": 7000, "unique6": 1006},
}


class Delays:
    """Makes the steps of the protocol take some time, now and then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
        self.seed = seed
        self._local = threading.local()
        for owner, name in [
            (LinkerShared, "acquire_topology_token"),
            (LinkerShared, "do_pending_link_operations_internal"),
            (LinkerShared, "synchronize_link_operation"),
            (LinkerShared, "try_write_linker_state"),
            (LinkerShared, "write_linker_state_blocking_holding_topology"),
            (LinkerShared, "unsubscribe"),
            (InstanceGroup, "apply"),
            (InstanceGroup, "construct"),
            (Linker, "create_instance_group"),
            (Linker, "shutdown_instance_group"),
        ]:
            monkeypatch.setattr(owner, name, self._delayed(getattr(owner, name)))
        at_once = WriteGuard.take_both

        def sometimes(
            guard: Any, group: Any
        ) -> bool:  # so that token and lock are often taken one by one
            return self._choice().random() < 0.5 and at_once(guard, group)

        monkeypatch.setattr(WriteGuard, "take_both", sometimes)
        self._core = [
            CoreDelay(name, self.pause) for name in ("instance_new", "table_set")
        ]  # of what is carried out

    def __enter__(self) -> None:
        for delay in self._core:
            delay.__enter__()

    def __exit__(self, *exception: object) -> None:
        for delay in self._core:
            delay.__exit__(*exception)

    def _delayed(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def delayed(*arguments: Any, **keywords: Any) -> Any:
            self.pause()
            result = step(*arguments, **keywords)
            self.pause()
            return result

        # Under a name of the linker's: a function of others in the middle of an operation would be
        # taken for a signal handler.
        return types.FunctionType(
            delayed.__code__,
            {**globals(), "__name__": "pylinker.linker.delayed"},
            None,
            None,
            delayed.__closure__,
        )

    def _choice(self) -> random.Random:
        choice: random.Random | None = getattr(self._local, "random", None)
        if choice is None:
            choice = self._local.random = random.Random(
                f"{self.seed} delays {threading.current_thread().name}"
            )
        return choice

    def pause(self) -> None:
        """Sometimes let others run, rarely for longer than they would get by themselves."""
        choice = self._choice()
        dice = choice.random()
        if dice < 0.02:
            time.sleep(choice.random() / 200)
        elif dice < 0.2:
            time.sleep(0)


class Stress:
    """One run: ``groups`` threads of the guest, of which some end and are replaced."""

    def __init__(self, guest: Guest, groups: int, seed: int, *, preempt: bool) -> None:
        self.preempt = preempt
        self.guest = guest
        self.program = guest.program
        self.linker: Linker = guest.program._linker
        self.groups = groups
        self.seed = seed
        self.until = time.monotonic() + SECONDS / 2  # each size is tried with preempt and without
        self.done: Counter[str] = Counter()
        self.failures: list[BaseException] = []
        self._lock = threading.Lock()
        self._free = list(range(PLACES))  # unused places of the board
        self._names = iter(range(1 << 30))
        self._threads: list[pylinker.GuestThread] = []
        self._meeting = threading.Barrier(groups + 1, timeout=DEADLINE)
        self.tables: dict[str, tuple[object, ...]] = {}

    # One thread

    def start(self) -> None:
        """Start a thread, from whichever thread this is."""
        with self._lock:
            name = next(self._names)
        thread = self.linker.threads.start(lambda group: self._live(name, group), needs_stack=True)
        with self._lock:
            self._threads.append(thread)

    def _live(self, name: int, group: InstanceGroup) -> None:
        threading.current_thread().name = f"stress-{name}"
        choice = random.Random(f"{self.seed} thread {name}")
        try:
            replaced = self._work(choice)
        except BaseException as error:
            self._failed(error)
            raise
        if not replaced:
            self._meet(name, group)

    def _failed(self, error: BaseException) -> None:
        self.failures.append(error)
        self._meeting.abort()

    def _work(self, choice: random.Random) -> bool:
        acts = [
            self._open,
            self._open,
            self._present,
            self._present,
            self._browse,
            self._browse,
            self._churn,
            self._short,
            self._own,
        ]
        while time.monotonic() < self.until and not self.failures:
            act = choice.choice(acts)
            self.done[act.__name__] += 1
            act(choice)
            if choice.random() < 0.02:  # another thread continues
                self.done["exit"] += 1
                self.start()
                return True
        return False

    def _place(self, choice: random.Random) -> int | None:
        """Take an unused place of the board."""
        with self._lock:
            return self._free.pop(choice.randrange(len(self._free))) if self._free else None

    def _leave(self, place: int) -> None:
        with self._lock:
            self._free.append(place)

    def _open(self, choice: random.Random) -> None:
        """Open a library, offer a function of it to all, call those of others, and close it."""
        name = choice.choice(list(LIBRARIES))
        mode = choice.choice([pylinker.RTLD_LAZY, pylinker.RTLD_LAZY | pylinker.RTLD_GLOBAL, 0])
        with self.program.dlopen(name, mode) as library:
            symbol = choice.choice(list(LIBRARIES[name]))
            expected = LIBRARIES[name][symbol]
            slot = library.address_of(symbol)
            place = self._place(choice)
            if place is None:
                assert library[symbol](1000) == expected
                return
            main = self.guest.main
            main.offer(place, slot, expected)
            try:
                for _ in range(choice.randrange(4)):
                    self._browse(choice)
                assert main.call(slot, 1000) == expected
            except BaseException as error:
                self._failed(
                    error
                )  # before the library goes, and others call what is not withdrawn
                raise
            main.withdraw(place)
            self._leave(place)

    def _present(self, choice: random.Random) -> None:
        """The same out of the guest's own code."""
        name = choice.choice(list(LIBRARIES))
        symbol = choice.choice(list(LIBRARIES[name]))
        place = self._place(choice)
        if place is not None:
            assert (
                self.guest.main.present(
                    name, symbol, LIBRARIES[name][symbol], place, choice.randrange(30)
                )
                == 0
            )
            self._leave(place)

    def _browse(self, choice: random.Random) -> None:
        """Call function pointers that others have just found."""
        calls = self.guest.main.browse(
            choice.getrandbits(32), choice.randrange(200), not self.preempt or choice.random() < 0.5
        )
        assert calls >= 0, f"{-calls} calls through fresh pointers went wrong"
        self.done["fresh calls"] += calls

    def _churn(self, choice: random.Random) -> None:
        """Open, resolve, call and close without a pause."""
        name = choice.choice(["libplain1.so", "libplain4.so", "libplain5.so"])
        assert (
            self.guest.main.reopen(
                name, "minus", LIBRARIES[name]["minus"] + 979, choice.randrange(1, 4)
            )
            == 0
        )

    def _short(self, choice: random.Random) -> None:
        """A short-lived thread with a result."""
        if self.program._linker.context.shared.num_groups < MOST_THREADS:
            number = choice.randrange(1000)
            assert self.program.spawn("add_tls", number).join(DEADLINE) == number + 7

    def _own(self, choice: random.Random) -> None:
        """Stack and thread-local data are this thread's own."""
        assert self.guest.main.recurse(20, choice.randrange(1 << 20)) == 0
        assert self.guest.main.wide_is_right() == 1

    # The end

    def _meet(self, name: int, group: InstanceGroup) -> None:
        self._meeting.wait()  # no thread changes anything any more
        self.guest.main.nothing()  # entering guest code replays missed operations
        self._meeting.wait()
        self.tables[f"stress-{name}"] = self.snapshot(group)
        self._meeting.wait()

    def snapshot(self, group: InstanceGroup) -> tuple[object, ...]:
        """The state of a group: its operation number, its modules, and its table."""
        known = {}
        for module in self.linker.state.modules:
            for export in module.info.exports.values():
                definition = module.find(export.name) if export.kind.name == "FUNC" else None
                if definition is not None and definition.value is not None:
                    known[definition.value] = (module, export.name)
        table = []
        for slot in range(group.table_size):
            function = group.store.table_get(group.table, slot)
            if function is None:
                table.append(None)
            elif slot in known:
                module, name = known[slot]
                same = ffi.buffer(function)[:] == ffi.buffer(group.function(module, name))[:]
                table.append(f"{name}@{module.name}" if same else f"not {name}@{module.name}")
            else:
                table.append("another function")
        return (
            group.state.applied,
            sorted(module.name for module in self.linker.state.modules if group.has(module)),
            table,
        )

    def run(self) -> None:
        """Start all, wait for the end, and compare."""
        for _ in range(self.groups):
            self.start()
        try:
            self._meeting.wait(SECONDS + DEADLINE)
            self.guest.main.nothing()
            self._meeting.wait()
            self.tables["main"] = self.snapshot(self.linker.context.main_group)
            self._meeting.wait()
        except threading.BrokenBarrierError:
            if not self.failures:
                raise
        for failure in self.failures[:1]:
            raise failure
        for thread in self._threads:
            thread.join(DEADLINE)
        assert len(self.tables) == self.groups + 1
        first = self.tables["main"]
        assert not [each for each in first[2] if str(each).startswith("not ")]
        for name, table in self.tables.items():
            assert table == first, name


@pytest.fixture
def quiet() -> Iterator[None]:
    """Logging is not what is tested, and slow."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    yield
    logging.disable(before)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("preempt", [False, True], ids=["", "preempt"])
@pytest.mark.parametrize("groups", [2, 8, 32])
def test_groups_that_do_everything_at_random(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch, groups: int, preempt: bool
) -> None:
    print(f"PYLINKER_STRESS_SEED={SEED}")  # pytest shows it when the test fails
    with (
        orderly(SECONDS + 2 * DEADLINE),
        Guest(scenario("threads"), preempt=preempt, stack_size=1 << 17) as guest,
    ):
        guest["leave_constructor"] = 1
        before = guest.program.libraries
        stress = Stress(guest, groups, SEED, preempt=preempt)
        with Delays(monkeypatch, SEED):
            stress.run()
        print(dict(stress.done), guest.program.statistics())
        assert all(
            stress.done[each] for each in ("_open", "_present", "fresh calls", "_churn", "_short")
        )
        monkeypatch.undo()
        assert guest.program.libraries == before
        assert guest.program.statistics().groups == 1
        assert guest.program.spawn("work", RETURN, 3).join(DEADLINE) == 3
        guest.still_works()
