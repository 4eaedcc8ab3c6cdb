"""Libraries opened, looked up and closed by any thread while others run: all see the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import wasmtime

import pylinker
from guests import COMPUTE, DEADLINE, NAP, ORDINARY, READ, SERVE, SLEEP, WAIT, YIELD, Guest, orderly
from pylinker.errors import InternalError
from pylinker.native.enums import SEQ_CST
from running import used
from toolchain import Scenario

KINDS = {
    "yielding": YIELD,
    "napping": NAP,
    "sleeping": SLEEP,
    "computing": COMPUTE,
    "serving": SERVE,
}

# An exported import is a function of another module: it gets a slot at its first lookup.
REEXPORTING = r"""(module
  (@dylink.0 (mem-info (memory 0 0)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $pause (result i32)))
  (import "env" "memory" (memory 1 1024 shared))
  (import "env" "__indirect_function_table" (table 0 funcref))
  (type $plain (func (result i32)))
  (export "pause" (func $pause))
  (func (export "through") (param i32) (result i32) (call_indirect (type $plain) (local.get 0))))"""


@pytest.fixture(autouse=True)
def rules() -> Iterator[None]:
    with orderly():
        yield


@pytest.fixture
def guest(scenario: Scenario) -> Iterator[Guest]:
    with Guest(scenario("threads"), preempt=True) as guest:
        yield guest


def deliver(guest: Guest, index: int, slot: int) -> int:
    """Hand a function pointer to a serving thread; what it answered to 100 plus its index."""
    guest.store("mail", index, slot)
    while guest.array("mail", index + 1)[index]:
        pass
    return guest.array("answers", index + 1)[index]


class TestWhileOthersRun:
    @pytest.mark.parametrize("kind", KINDS)
    def test_python_opens_resolves_and_closes(self, guest: Guest, kind: str) -> None:
        guest.start(*[KINDS[kind]] * 4)
        before = used(guest.program)
        for _ in range(20):
            with guest.program.dlopen("libtwice.so") as library:
                assert library.twice(21) == 42
                assert guest.main.call(library.twice.slot, 5) == 10
                with pytest.raises(pylinker.SymbolNotFoundError):
                    library.address_of("absent")
            assert used(guest.program) == before
        assert guest["constructions"] == 20

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_thread_opens_resolves_and_closes(self, guest: Guest, kind: str) -> None:
        guest.start(*[KINDS[kind]] * 4)
        before = used(guest.program)
        assert guest.program.spawn("reopen", "libtwice.so", "twice", 42, 20).join(DEADLINE) == 0
        assert guest.main.reopen("libtwice.so", "twice", 42, 20) == 0  # and the group of main
        assert used(guest.program) == before
        assert guest["constructions"] == 40

    def test_threads_of_the_guest_do(self, guest: Guest) -> None:
        guest.main.start_threads(0, 8, SERVE, 0)
        guest.until("running", 8)
        library = guest.program.dlopen("libplain1.so")
        for index in range(8):
            assert deliver(guest, index, library["id"].slot) == 1100 + index

    def test_many_at_once(self, guest: Guest) -> None:
        others = guest.start(YIELD, NAP, COMPUTE, SERVE)
        before = used(guest.program)
        work = [
            ("libtwice.so", "twice", 42),
            ("libplain1.so", "id", 1021),
            ("libplain4.so", "below", 26),
            ("libplain5.so", "id", 5021),
        ]
        threads = [guest.program.spawn("reopen", *work[number % 4], 25) for number in range(12)]
        assert [thread.join(DEADLINE) for thread in threads] == [0] * 12
        assert guest.join(others) == [0, 1, 2, 3]
        after = used(guest.program)
        assert after[0] == before[0]
        assert after[2] == before[2]

    def test_an_idle_group_holds_nobody_up_and_has_replayed_when_it_is_used(
        self, guest: Guest
    ) -> None:
        handle = guest.program.spawn("open_library", "libplain1.so", 2).join(
            DEADLINE
        )  # the group of main is idle
        slot = guest.program.spawn("symbol", handle, "id").join(DEADLINE)
        assert guest.main.call(slot, 1) == 1001
        assert guest.program.spawn("close_library", handle).join(DEADLINE) == 0
        with pytest.raises(wasmtime.Trap):
            guest.main.call(slot, 1)

    def test_what_a_thread_opened_for_all_is_found_by_the_idle_group(self, guest: Guest) -> None:
        assert (
            guest.program.spawn("open_library", "libplain2.so", 2 | pylinker.RTLD_GLOBAL).join(
                DEADLINE
            )
            > 0
        )
        assert guest.program.statistics().modules == 2
        assert guest.main["id"](1) == 2001
        assert (
            guest.program.spawn("open_library", "libtwice.so", 2 | pylinker.RTLD_GLOBAL).join(
                DEADLINE
            )
            > 0
        )
        address = guest.main.address_of("calls")
        assert int.from_bytes(guest.memory.read(address, 4), "little") == 100
        assert address == guest.main.calls_address()

    def test_threads_that_wait_for_input_hold_nobody_up(self, scenario: Scenario) -> None:
        with Guest(scenario("threads"), stdin=b"some input") as guest:
            threads = guest.start(READ, READ)
            assert guest.program.dlopen("libtwice.so").twice(4) == 8
            assert sorted(thread.join(DEADLINE) for thread in threads) == [0, 10]

    def test_other_threads_go_on_meanwhile(self, guest: Guest) -> None:
        threads = guest.start(YIELD, NAP, COMPUTE)
        for _ in range(10):
            guest.program.dlopen("libtwice.so").close()
        for index, now in enumerate(guest.array("progress", 3)):
            guest.until("progress", now + 1, index)
        assert guest.join(threads) == [0, 1, 2]


class TestFreshPointers:
    @pytest.mark.parametrize("preempt", [False, True])
    def test_every_thread_calls_what_another_has_just_opened(
        self, scenario: Scenario, preempt: bool
    ) -> None:
        with Guest(scenario("threads"), preempt=preempt) as guest:
            threads = guest.start(*[SERVE] * 6)
            for turn in range(10):
                number = turn % 3 + 1
                with guest.program.dlopen(f"libplain{number}.so") as library:
                    slot = library["id"].slot
                    for index in range(6):
                        guest.store("mail", index, slot)  # all at once
                    guest.until("letters", 6 * (turn + 1))
                    assert guest.array("answers", 6) == [
                        1000 * number + 100 + index for index in range(6)
                    ]
            assert guest.join(threads) == list(range(6))

    def test_a_function_that_gets_its_slot_late(self, guest: Guest) -> None:
        guest.start(*[SERVE] * 4)
        library = guest.program.dlopen("libplain1.so")
        minus = library.minus.slot
        for index in range(4):
            assert deliver(guest, index, minus) == 900 - index
        assert library.address_of("minus") == minus

    def test_pointers_that_a_thread_found_go_to_all_others(self, guest: Guest) -> None:
        guest.start(*[SERVE] * 4)
        handle = guest.program.spawn("open_library", "libplain5.so", 2).join(DEADLINE)
        names = ["id", "minus", "below", "unique5"]
        slots = [guest.program.spawn("symbol", handle, name).join(DEADLINE) for name in names]
        assert [guest.main.symbol(handle, name) for name in names] == slots
        assert len(set(slots)) == 4
        for index in range(4):
            x = 100 + index
            assert [deliver(guest, index, slot) for slot in slots] == [
                x + 5000,
                5000 - x,
                x + 7,
                x + 5,
            ]

    def test_threads_resolve_the_same_functions_at_once(self, guest: Guest) -> None:
        handle = guest.main.open_library("libplain4.so", 2)
        for name in ("id", "minus", "below", "unique4"):
            threads = [guest.program.spawn("symbol", handle, name) for _ in range(8)]
            found = {thread.join(DEADLINE) for thread in threads}
            assert len(found) == 1
            assert found == {guest.main.symbol(handle, name)}
            assert found != {0}

    @pytest.mark.parametrize("caller", [0, 1, 2, "main", "new"])
    def test_a_stale_pointer_traps_in_every_thread(self, guest: Guest, caller: int | str) -> None:
        threads = guest.start(SERVE, SERVE, SERVE)
        library = guest.program.dlopen("libplain1.so")
        slot = library["id"].slot
        assert [deliver(guest, index, slot) for index in range(3)] == [1100, 1101, 1102]
        library.close()
        if caller == "main":
            with pytest.raises(wasmtime.Trap, match="uninitialized element"):
                guest.main.call(slot, 1)
            assert guest.join(threads) == [0, 1, 2]
        elif caller == "new":
            with pytest.raises(wasmtime.Trap, match="uninitialized element"):
                guest.program.spawn("call", slot, 1).join(DEADLINE)
        else:
            guest.store("mail", caller, slot)
            with pytest.raises(wasmtime.Trap, match="uninitialized element"):
                threads[caller].join(DEADLINE)

    def test_a_slot_is_used_again_by_all(self, guest: Guest) -> None:
        guest.start(SERVE, SERVE, SERVE)
        seen = set()
        for number in [1, 3, 1, 3, 1]:
            with guest.program.dlopen(f"libplain{number}.so") as library:
                seen.add(library["id"].slot)
                assert [deliver(guest, index, library["id"].slot) for index in range(3)] == [
                    1000 * number + 100 + x for x in range(3)
                ]
        assert len(seen) == 1


class TestLazyBinding:
    def test_each_thread_binds_for_itself(self, guest: Guest) -> None:
        library = guest.program.dlopen(
            "liblazy.so"
        )  # needs nothing: who provides `twice` is decided when it is called
        others = guest.start(SERVE, SERVE)
        guest.program.dlopen("libtwice.so", pylinker.RTLD_GLOBAL)
        threads = [guest.program.spawn(library.user_twice, number) for number in range(8)]
        assert [thread.join(DEADLINE) for thread in threads] == [
            2 * number + 1 for number in range(8)
        ]
        before = guest.program.statistics().resolver_entries
        assert [library.user_twice(1), library.user_twice(2)] == [3, 5]
        assert guest.program.statistics().resolver_entries == before + 1
        slot = library.user_twice.slot
        assert [deliver(guest, index, slot) for index in (0, 1, 0, 1)] == [201, 203, 201, 203]
        guest.join(others)

    def test_after_the_provider_was_opened_again(self, guest: Guest) -> None:
        guest.start(SERVE)
        for _ in range(5):
            with guest.program.dlopen("libuser.so") as library:
                assert deliver(guest, 0, library.user_twice.slot) == 201
                assert library.user_twice(0) == 1

    def test_an_undefined_function_is_an_error_of_the_thread_that_calls_it(
        self, guest: Guest
    ) -> None:
        library = guest.program.dlopen("libuser.so")
        guest.start(YIELD)
        with pytest.raises(pylinker.UndefinedSymbolError, match="nobody_defines_this") as caught:
            library.user_undefined(1)
        assert isinstance(caught.value.__cause__, wasmtime.Trap)
        guest.still_works()
        with pytest.raises(pylinker.UndefinedSymbolError, match="nobody_defines_this") as caught:
            guest.program.spawn(library.user_undefined, 1).join(DEADLINE)
        assert isinstance(caught.value.__cause__, wasmtime.Trap)


class TestConstructors:
    def test_the_same_library_opened_by_16_threads_at_once(self, guest: Guest) -> None:
        before = guest.program.statistics().modules
        threads = [guest.program.spawn("open_after_stop", "libtwice.so", 2) for _ in range(16)]
        guest.until("running", 16)
        handles = guest.join(threads)
        assert len(set(handles)) == 1
        assert handles[0] > 0
        assert guest["constructions"] == 1
        assert guest.program.statistics().modules == before + 1
        assert guest.program.libraries[-1].references == 16
        slots = [guest.program.spawn("symbol", handles[0], "twice") for _ in range(16)]
        assert len({thread.join(DEADLINE) for thread in slots}) == 1
        closers = [guest.program.spawn("close_library", handles[0]) for _ in range(16)]
        assert [thread.join(DEADLINE) for thread in closers] == [0] * 16
        assert guest.program.statistics().modules == before

    def test_nobody_gets_a_library_before_its_constructor_is_done(self, guest: Guest) -> None:
        first = guest.program.spawn("open_library", "libtrap.so", 2)
        guest.until("in_constructor", 1)
        second = guest.program.spawn("open_library", "libtrap.so", 2)
        with pytest.raises(TimeoutError):
            second.join(0.2)
        guest["leave_constructor"] = 1
        assert first.join(DEADLINE) == second.join(DEADLINE) > 0
        assert guest["constructions"] == guest["in_constructor"] == 1

    def test_nobody_gets_a_library_whose_constructor_traps(self, guest: Guest) -> None:
        before = used(guest.program)
        guest["trap_in_constructor"] = 1
        first = guest.program.spawn("open_library", "libtrap.so", 2)
        guest.until("in_constructor", 1)
        second = guest.program.spawn("open_library", "libtrap.so", 2)
        with pytest.raises(TimeoutError):
            second.join(0.2)
        guest["leave_constructor"] = 1
        assert [first.join(DEADLINE), second.join(DEADLINE)] == [0, 0]
        assert used(guest.program)[:3] == before[:3]
        guest.still_works()

    def test_a_constructor_runs_while_others_go_on(self, guest: Guest) -> None:
        threads = guest.start(YIELD, COMPUTE)
        opener = guest.program.spawn("open_library", "libtrap.so", 2)
        guest.until("in_constructor", 1)
        now = guest.array("progress", 2)
        for index in range(2):
            guest.until("progress", now[index] + 1, index)
        assert guest.program.spawn("add_tls", 1).join(DEADLINE) == 8  # and threads can be started
        guest["leave_constructor"] = 1
        assert opener.join(DEADLINE) > 0
        assert guest.join(threads) == [0, 1]

    def test_one_that_traps_leaves_no_trace_and_everyone_goes_on(self, guest: Guest) -> None:
        threads = guest.start(YIELD, COMPUTE, NAP, SERVE)
        guest["leave_constructor"] = guest["trap_in_constructor"] = 1
        assert guest.main.open_library("libtrap.so", 2) == 0  # dlerror has its buffer now
        before = used(guest.program)
        for _ in range(5):
            with pytest.raises(pylinker.InitializationError, match=r"libtrap\.so"):
                guest.program.dlopen("libtrap.so")
            assert used(guest.program) == before
            assert guest.program.spawn("open_library", "libtrap.so", 2).join(DEADLINE) == 0
            assert b"libtrap.so" in guest.memory.cstring(guest.address("message"))
            assert used(guest.program)[:3] == before[:3]
            guest.still_works()
        guest["trap_in_constructor"] = 0
        library = guest.program.dlopen("libtrap.so")
        assert deliver(guest, 3, library.trapping.slot) == 108
        assert guest.join(threads) == [0, 1, 2, 3]

    def test_one_that_opens_another_library(self, guest: Guest) -> None:
        threads = guest.start(YIELD, COMPUTE, SERVE)
        library = guest.program.dlopen("libnest.so")
        assert (guest["nested"], guest["constructions"]) == (42, 1)
        assert deliver(guest, 2, library.nest.slot) == 111
        assert guest.libraries() == ["main.wasm", "libnest.so", "libtwice.so"]
        assert guest.program.spawn("open_library", "libnest.so", 2).join(DEADLINE) > 0
        assert guest.join(threads) == [0, 1, 2]

    def test_several_threads_open_what_opens_another(self, guest: Guest) -> None:
        threads = [
            guest.program.spawn("open_after_stop", name, 1)
            for name in ("libnest.so", "libtwice.so", "libuser.so") * 4
        ]
        guest.until("running", 12)
        assert all(handle > 0 for handle in guest.join(threads)), guest.memory.cstring(
            guest.address("message")
        )
        assert (guest["nested"], guest["constructions"]) == (42, 1)


class TestDestructors:
    def test_run_once_in_the_thread_that_closes(self, guest: Guest) -> None:
        threads = guest.start(YIELD, COMPUTE, NAP)
        handle = guest.program.spawn("open_library", "libslow.so", 2).join(DEADLINE)
        closer = guest.program.spawn("close_library", handle)
        guest.until("in_constructor", 1)
        with pytest.raises(TimeoutError):
            closer.join(0.1)
        guest["leave_constructor"] = 1
        assert closer.join(DEADLINE) == 0
        assert (guest["nested"], guest["in_constructor"]) == (100, 1)
        assert guest.libraries() == ["main.wasm"]
        assert guest.join(threads) == [0, 1, 2]

    def test_one_that_closes_a_library_which_another_needs_that_is_closed_with_it(
        self, guest: Guest
    ) -> None:
        handle = guest.program.spawn("open_library", "libouter.so", 2).join(DEADLINE)
        assert guest.libraries() == [
            "main.wasm",
            "libouter.so",
            "libslow.so",
            "libnest.so",
            "libtwice.so",
        ]
        closer = guest.program.spawn("close_library", handle)
        guest.until(
            "in_constructor", 1
        )  # libnest.so has closed libtwice.so, libslow.so is about to call it
        assert guest.program.spawn("add_tls", 1).join(DEADLINE) == 8
        guest["leave_constructor"] = 1
        assert closer.join(DEADLINE) == 0
        assert guest["nested"] == 100
        assert guest.libraries() == ["main.wasm"]
        guest.still_works()


class TestErrors:
    def test_each_thread_has_its_own_dlerror(self, guest: Guest) -> None:
        threads = [guest.program.spawn("own_error", index) for index in range(16)]
        guest.until("running", 16)
        assert guest.join(threads) == [1] * 16

    def test_each_of_16_threads_gets_the_exception_of_its_own_host_call(
        self, guest: Guest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        everybody = threading.Barrier(16, timeout=DEADLINE)

        def fail(_self: object, name: str, *_arguments: object, **_keywords: object) -> object:
            everybody.wait()
            raise InternalError(f"of {name} in {threading.current_thread().name}")

        monkeypatch.setattr("pylinker.linker.load.linker.Linker.load_module", fail)
        threads = [
            guest.program.spawn("open_library", f"lib{number}.so", 2) for number in range(16)
        ]
        for number, thread in enumerate(threads):
            with pytest.raises(
                InternalError, match=rf"of lib{number}\.so in {thread.thread.name}$"
            ) as caught:
                thread.join(DEADLINE)
            assert isinstance(caught.value.__cause__, wasmtime.Trap)

    def test_each_of_16_threads_gets_its_own_undefined_symbol(
        self, guest: Guest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        library = guest.program.dlopen("libuser.so")
        everybody = threading.Barrier(16, timeout=DEADLINE)
        resolve = pylinker.linker.load.symbols.Symbols.resolve_trampoline

        def together(self: object, module: object, index: int) -> None:
            everybody.wait()
            resolve(self, module, index)

        monkeypatch.setattr("pylinker.linker.load.symbols.Symbols.resolve_trampoline", together)
        threads = [guest.program.spawn(library.user_undefined, number) for number in range(16)]
        caught = []
        for thread in threads:
            with pytest.raises(
                (pylinker.UndefinedSymbolError, pylinker.SynchronizationAborted)
            ) as one:
                thread.join(DEADLINE)
            caught.append(one.value)
        assert len({id(error) for error in caught}) == 16
        assert any(isinstance(error, pylinker.UndefinedSymbolError) for error in caught)


class TestOrdinaryMain:
    def test_a_thread_has_all_slots_though_its_table_comes_with_main_and_is_small(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "libyield.so").write_bytes(wasmtime.wat2wasm(REEXPORTING))
        with pylinker.Program(
            bytes(wasmtime.wat2wasm(ORDINARY)), threads=True, preload=[tmp_path / "libyield.so"]
        ) as program:
            library = program.dlopen("libyield.so")
            answer, pause = program.main["answer"].slot, library["pause"].slot
            assert len({answer, pause, library["through"].slot, 0}) == 4
            for slot, result in ((answer, 42), (pause, 0)):
                assert (
                    library.through(slot)
                    == program.spawn(library.through, slot).join(DEADLINE)
                    == result
                )


class TestThreadsThatDoNotCome:
    @pytest.fixture
    def slow(self, scenario: Scenario) -> Iterator[Guest]:
        """Without preempt a thread that computes is no safepoint."""
        with Guest(scenario("threads"), rendezvous_timeout=0.2) as guest:
            yield guest

    def test_dlopen_times_out_and_nothing_has_changed(self, slow: Guest) -> None:
        (thread,) = slow.start(COMPUTE)
        before = used(slow.program)
        for _ in range(3):
            with pytest.raises(pylinker.RendezvousTimeout, match=r"0\.2 seconds") as caught:
                slow.program.dlopen("libtwice.so")
            assert caught.value.thread == thread.tid
            assert used(slow.program) == before
        assert slow["constructions"] == 0
        assert slow.join([thread]) == [0]
        assert slow.program.dlopen("libtwice.so").twice(3) == 6
        slow.still_works()

    def test_the_guest_is_told(self, slow: Guest) -> None:
        (thread,) = slow.start(COMPUTE)
        assert slow.main.open_library("libtwice.so", 2) == 0
        assert b"0.2 seconds" in slow.memory.cstring(slow.address("message"))
        slow.join([thread])
        assert slow.main.open_library("libtwice.so", 2) > 0

    def test_dlsym_of_a_function_that_was_never_asked_for_needs_nobody(self, slow: Guest) -> None:
        library = slow.program.dlopen("libplain1.so")
        (thread,) = slow.start(COMPUTE)
        published = slow.program._linker.context.shared._native.published
        slot = library.address_of("minus")
        assert (
            slot == library["minus"].slot == slow.main.symbol(library._module.number, "minus") > 0
        )
        assert slow.main.call(slot, 1) == 999
        assert slow.program._linker.context.shared._native.published == published
        slow.join([thread])
        assert slow.program.spawn("call", slot, 1).join(DEADLINE) == 999

    def test_dlsym_of_a_function_without_a_slot_times_out(
        self, slow: Guest, tmp_path: Path
    ) -> None:
        (tmp_path / "libyield.so").write_bytes(wasmtime.wat2wasm(REEXPORTING))
        library = slow.program.dlopen(tmp_path / "libyield.so")
        assert (
            slow.main.symbol(library._module.number, "absent") == 0
        )  # dlerror has its memory from now on
        (thread,) = slow.start(COMPUTE)
        before = used(slow.program)
        for ask in (lambda: library["pause"].slot, lambda: library.address_of("pause")):
            with pytest.raises(pylinker.RendezvousTimeout) as caught:
                ask()
            assert caught.value.thread == thread.tid
        assert slow.main.symbol(library._module.number, "pause") == 0
        assert b"0.2 seconds" in slow.memory.cstring(slow.address("message"))
        assert used(slow.program) == before
        slow.join([thread])
        slot = library.address_of("pause")
        slow["stop"] = 0
        (thread,) = slow.start(COMPUTE)
        assert library["pause"].slot == slot  # it has one
        slow.join([thread])
        assert library.through(slot) == 0
        assert slow.program.spawn(library.through, slot).join(DEADLINE) == 0

    def test_dlsym_of_a_function_of_an_ordinary_main_times_out(self) -> None:
        main = bytes(wasmtime.wat2wasm(ORDINARY))
        with pylinker.Program(main, threads=True, rendezvous_timeout=0.2) as program:
            library = program.main
            thread = program.spawn("compute")
            while not program.memory.read(1028, 1)[0]:
                pass
            before = used(program)
            with pytest.raises(pylinker.RendezvousTimeout) as caught:
                library.address_of("answer")
            assert caught.value.thread == thread.tid
            assert used(program) == before
            program.memory.write(1024, b"\1")
            thread.join(DEADLINE)
            slot = library.address_of("answer")
            assert library.call(slot) == program.spawn("call", slot).join(DEADLINE) == 42

    def test_dlclose_is_made_up_for_later(self, slow: Guest) -> None:
        library = slow.program.dlopen("libplain1.so")
        (thread,) = slow.start(COMPUTE)
        library.close()
        with pytest.raises(pylinker.ClosedError):
            library["id"]
        slow.join([thread])
        with slow.program.dlopen("libplain1.so") as library:  # a fresh copy
            assert library["id"](1) == 1001
        assert slow.libraries() == ["main.wasm"]
        slow.still_works()

    def test_others_that_did_come_go_on(self, slow: Guest) -> None:
        threads = slow.start(COMPUTE, YIELD, SERVE, NAP)
        for _ in range(3):
            with pytest.raises(pylinker.RendezvousTimeout):
                slow.program.dlopen("libtwice.so")
        now = slow.array("progress", 4)
        for index in (1, 3):
            slow.until("progress", now[index] + 1, index)
        assert slow.join(threads) == [0, 1, 2, 3]
        slow.still_works()

    def test_a_thread_in_an_atomic_wait_that_was_left_as_it_is(self, scenario: Scenario) -> None:
        with Guest(
            scenario("threads"), rendezvous_timeout=0.2, preempt=True, rewrite_waits=False
        ) as guest:
            threads = guest.start(WAIT, WAIT)
            with pytest.raises(pylinker.RendezvousTimeout):
                guest.program.dlopen("libtwice.so")
            guest["stop"] = 1
            while any(thread.is_alive for thread in threads):
                guest.main.wake()
            assert guest.join(threads) == [0, 1]
            guest.still_works()

    def test_a_thread_is_reached_once_it_makes_a_call(self, scenario: Scenario) -> None:
        with Guest(scenario("threads")) as guest:  # no timeout
            (thread,) = guest.start(COMPUTE)
            opener = guest.program.spawn("open_library", "libtwice.so", 2)
            while not guest.program._linker.context.shared.dl_operation_pending_load(SEQ_CST):
                pass
            with pytest.raises(TimeoutError):
                opener.join(0.1)
            assert guest.join([thread]) == [0]
            assert opener.join(DEADLINE) > 0

    def test_preempt_reaches_every_one_of_many(self, guest: Guest) -> None:
        threads = guest.start(*[COMPUTE] * 16)
        for _ in range(5):
            guest.still_works()
        assert guest.join(threads) == list(range(16))


class TestSafepoint:
    """``pylinker.safepoint``, for a guest that computes and makes no other call."""

    LOOP = """(module
      (@dylink.0 (mem-info (memory 8 2)))
      (import "env" "memory" (memory 1 1024 shared))
      (import "env" "__memory_base" (global $base i32))
      (import "pylinker" "safepoint" (func $safepoint))
      (func (export "compute") (result i32)
        (loop $again
          (call $safepoint)
          (drop (i32.atomic.rmw.add offset=4 (global.get $base) (i32.const 1)))
          (br_if $again (i32.eqz (i32.atomic.load (global.get $base)))))
        (i32.atomic.load offset=4 (global.get $base)))
      (func (export "turns") (result i32) (i32.atomic.load offset=4 (global.get $base)))
      (func (export "halt") (i32.atomic.store (global.get $base) (i32.const 1))))"""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "libloop.so"
        path.write_bytes(wasmtime.wat2wasm(self.LOOP))
        return path

    @staticmethod
    def start(guest: Guest, path: Path) -> tuple[pylinker.Library, pylinker.GuestThread]:
        """The library, and a thread that is in its loop."""
        library = guest.program.dlopen(path)
        thread = guest.program.spawn(library.compute)
        while not library.turns():
            pass
        return library, thread

    def test_whoever_passes_one_follows(self, scenario: Scenario, path: Path) -> None:
        with Guest(scenario("threads"), rendezvous_timeout=DEADLINE / 4) as guest:
            library, thread = self.start(guest, path)
            for _ in range(3):
                guest.still_works()
            library.halt()
            assert thread.join(DEADLINE) > 0

    def test_the_end_of_the_program_reaches_it(self, scenario: Scenario, path: Path) -> None:
        with Guest(scenario("threads")) as guest:
            _, thread = self.start(guest, path)
        with pytest.raises(pylinker.SynchronizationAborted):
            thread.join(DEADLINE)

    def test_a_program_without_threads_has_it_too(self, path: Path) -> None:
        path.write_bytes(wasmtime.wat2wasm(self.LOOP.replace("1 1024 shared", "1")))
        with pylinker.CDLL(path) as library:
            library.halt()
            assert library.compute() == 1

    def test_of_another_type(self, path: Path) -> None:
        path.write_bytes(
            wasmtime.wat2wasm(
                '(module (@dylink.0 (mem-info)) (import "pylinker" "safepoint" (func (param i32))))'
            )
        )
        with pytest.raises(
            pylinker.SignatureMismatchError,
            match=r"safepoint: wanted \(i32\) -> \(\), but pylinker defines it as \(\) -> \(\)",
        ):
            pylinker.CDLL(path, bind_now=True)
