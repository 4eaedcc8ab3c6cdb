"""Threads from Python and from the guest: each has a stack and thread-local data in one memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest
import wasmtime

import pylinker
from guests import COMPUTE, DEADLINE, NAP, RETURN, SLEEP, TRAP, YIELD, Guest, orderly
from pylinker.native.threads import NativeThread
from running import sizes, used
from toolchain import Scenario


@pytest.fixture(autouse=True)
def rules() -> Iterator[None]:
    with orderly():
        yield


@pytest.fixture
def guest(scenario: Scenario) -> Iterator[Guest]:
    with Guest(scenario("threads"), preempt=True) as guest:
        yield guest


class TestSpawn:
    def test_arguments_go_in_and_the_result_comes_out_of_join(self, guest: Guest) -> None:
        assert guest.program.spawn("add_tls", 5).join(DEADLINE) == 12
        assert guest.program.spawn(guest.main.add_tls, -8).join(DEADLINE) == -1
        assert guest.program.spawn("nothing").join() == 0

    def test_text_is_an_argument_as_in_a_call(self, guest: Guest) -> None:
        assert guest.program.spawn("open_library", "libtwice.so", 2).join(DEADLINE) > 0
        assert "libtwice.so" in guest.libraries()
        path = "./" * 2000 + "nowhere/libtwice.so"  # too long for the stack
        assert guest.program.spawn("open_library", path, 2).join(DEADLINE) == 0

    def test_join_can_be_repeated_and_bounded(self, guest: Guest) -> None:
        (thread,) = guest.start(YIELD)
        with pytest.raises(TimeoutError, match=f"thread {thread.tid} has not ended"):
            thread.join(0.01)
        assert thread.is_alive
        assert guest.join([thread]) == [0]
        assert thread.join(0) == 0
        assert not thread.is_alive

    def test_each_thread_has_thread_local_data_of_its_own_and_aligned(self, guest: Guest) -> None:
        for _ in range(3):
            threads = [guest.program.spawn("add_tls", value) for value in range(8)]
            assert [thread.join(DEADLINE) for thread in threads] == [
                7 + value for value in range(8)
            ]
        assert guest.main.add_tls(0) == 7
        assert [guest.program.spawn("wide_is_right").join(DEADLINE) for _ in range(5)] == [1] * 5
        assert guest.main.wide_is_right() == 1

    def test_the_address_of_thread_local_data_is_another_in_each_thread(self, guest: Guest) -> None:
        own = guest.main.address_of("mine")
        assert own == guest.main.tls_address()
        held = [
            guest.program.spawn("call_after_stop", guest.main.tls_plus.slot, 0) for _ in range(6)
        ]
        guest.until("running", 6)  # all alive at once
        assert len({own, *guest.join(held)}) == 7

    def test_each_thread_has_a_stack_of_its_own(self, guest: Guest) -> None:
        threads = [guest.program.spawn("recurse", 200, 1000 * number) for number in range(12)]
        assert [thread.join(DEADLINE) for thread in threads] == [0] * 12
        assert guest.main.recurse(200, 5) == 0

    def test_the_stack_is_as_large_as_asked_for(self, scenario: Scenario) -> None:
        with Guest(scenario("threads"), stack_size=4 << 20) as guest:
            before = guest.program.statistics().memory_used
            (thread,) = guest.start(YIELD)
            assert guest.program.statistics().memory_used - before >= 4 << 20
            guest.join([thread])
            assert guest.program.spawn("recurse", 3_000, 1).join(DEADLINE) == 0  # 1 KiB a frame

    def test_all_threads_see_the_same_memory(self, guest: Guest) -> None:
        threads = guest.start(*[NAP] * 4)
        for index in range(4):
            guest.until("progress", guest.array("progress", 4)[index] + 2, index)
        assert guest.join(threads) == [0, 1, 2, 3]
        assert guest["done"] == 4

    def test_a_memory_that_grows_in_one_thread_has_grown_in_all(self, guest: Guest) -> None:
        threads = guest.start(YIELD, NAP)
        pages = guest.program.statistics().memory_pages
        many = [guest.program.spawn("work", YIELD, 9) for _ in range(8)]  # 8 stacks of 1 MiB
        guest.until("running", 10)
        assert guest.program.statistics().memory_pages >= pages + 8 * 16
        assert guest.join([*threads, *many]) == [0, 1, *[9] * 8]

    def test_what_a_thread_held_is_given_back(self, guest: Guest) -> None:
        for _ in range(3):
            guest.program.spawn("add_tls", 1).join(DEADLINE)
        before = sizes(guest.program)
        for _ in range(20):
            guest.program.spawn("add_tls", 1).join(DEADLINE)
        assert sizes(guest.program) == before
        assert guest.program.statistics().groups == 1

    def test_statistics_count_the_groups(self, guest: Guest) -> None:
        assert guest.program.statistics().groups == 1
        threads = guest.start(YIELD, COMPUTE, NAP)
        assert guest.program.statistics().groups == 4
        guest.join(threads)
        assert guest.program.statistics().groups == 1

    def test_threads_spawn_threads(self, guest: Guest) -> None:
        assert guest.program.spawn("start_threads", 0, 5, YIELD, 0).join(DEADLINE) == 5
        guest.until("running", 5)
        assert guest.program.spawn("start_threads", 5, 5, RETURN, 0).join(DEADLINE) == 5
        assert guest.main.finish(10) == 10

    def test_many_threads_spawn_at_once(self, guest: Guest) -> None:
        spawners = [
            guest.program.spawn("start_threads", 6 * number, 6, YIELD, 0) for number in range(8)
        ]
        assert [thread.join(DEADLINE) for thread in spawners] == [6] * 8
        guest.until("running", 48)
        assert len(set(guest.array("tids", 48))) == 48
        assert guest.main.finish(48) == 48

    def test_python_threads_spawn_at_once(self, guest: Guest) -> None:
        results: list[int] = []

        def spawn() -> None:
            results.extend(
                guest.program.spawn("add_tls", value).join(DEADLINE) for value in range(5)
            )

        pythons = [threading.Thread(target=spawn) for _ in range(6)]
        for python in pythons:
            python.start()
        for python in pythons:
            python.join()
        assert sorted(results) == sorted([7, 8, 9, 10, 11] * 6)


class TestNumbers:
    def test_numbers_are_positive_and_unique_for_the_life_of_the_program(
        self, guest: Guest
    ) -> None:
        tids = []
        for _ in range(60):
            thread = guest.program.spawn("nothing")
            tids.append(thread.tid)
            thread.join(DEADLINE)
        several = [guest.program.spawn("nothing") for _ in range(20)]
        tids += [thread.tid for thread in several]
        assert guest.main.start_threads(0, 20, RETURN, 0) == 20
        guest.until("done", 20)
        assert guest.array("tids", 20) == guest.array("told", 20)
        tids += guest.array("tids", 20)
        assert len(set(tids)) == 100
        assert all(0 < tid < 1 << 29 for tid in tids)
        for thread in several:
            thread.join(DEADLINE)

    def test_a_thread_tells_its_number_and_its_state(self, guest: Guest) -> None:
        (thread,) = guest.start(YIELD)
        assert repr(thread) == f"<GuestThread {thread.tid} running>"
        guest.join([thread])
        assert repr(thread) == f"<GuestThread {thread.tid} finished>"


class TestThreadsOfTheGuest:
    def test_each_has_its_number_its_stack_and_its_thread_local_data(self, guest: Guest) -> None:
        assert guest.main.start_threads(0, 30, YIELD, 0) == 30
        guest.until("running", 30)
        assert len(set(guest.array("tids", 30))) == 30
        assert guest.array("tls_of", 30) == [7] * 30
        assert len(set(guest.array("tls_at", 30))) == 30
        stacks = sorted(guest.array("stack_of", 30))
        assert all(8192 - 64 <= above - below <= 8192 + 64 for below, above in pairwise(stacks))
        assert guest.main.finish(30) == 30

    def test_dlsym_of_thread_local_data_gives_the_calling_threads(self, guest: Guest) -> None:
        guest.main.start_threads(0, 4, YIELD, 0)
        guest.until("running", 4)
        assert guest.array("symbol_at", 4) == guest.array("tls_at", 4)
        guest.main.finish(4)

    def test_a_thread_that_brings_its_own_thread_local_block(self, guest: Guest) -> None:
        # as wasi-libc does: pthread_create initialises a block, and the thread's first instructions
        # set __tls_base
        guest.main.start_threads(0, 4, YIELD, 1)
        guest.until("running", 4)
        assert guest.array("tls_of", 4) == [7] * 4
        assert len(set(guest.array("tls_at", 4))) == 4
        assert guest.array("symbol_at", 4) == guest.array("tls_at", 4)
        guest.main.finish(4)

    def test_a_program_of_threads_runs_to_its_end(self, scenario: Scenario) -> None:
        with Guest(scenario("threads"), "records", "8") as guest:
            assert guest.program.run() == 0
            assert len(set(guest.array("tids", 8))) == 8
            assert all(tid > 0 for tid in guest.array("tids", 8))

    def test_without_threads_no_thread_starts(self, scenario: Scenario) -> None:
        with (
            Guest(scenario("threads"), threads=False) as guest,
            pytest.raises(pylinker.UndefinedSymbolError, match="thread-spawn"),
        ):
            guest.main.start_threads(0, 1, RETURN, 0)


class TestErrors:
    def test_spawn_needs_a_threaded_program(self, scenario: Scenario) -> None:
        with Guest(scenario("threads"), threads=False) as guest:
            with pytest.raises(pylinker.UnsupportedError, match="threads=True"):
                guest.program.spawn("nothing")
            assert guest.main.add_tls(1) == 8

    def test_threads_need_a_shared_memory(self, scenario: Scenario) -> None:
        with pytest.raises(
            pylinker.UnsupportedError,
            match=r"single\.wasm.*threads=True needs a memory that is shared",
        ):
            pylinker.Program(scenario("threads") / "single.wasm", threads=True)
        with pytest.raises(pylinker.UnsupportedError, match="a memory that is shared"):
            pylinker.CDLL(scenario("threads") / "libsingle.so", threads=True)

    def test_a_function_that_is_not_there(self, guest: Guest) -> None:
        with pytest.raises(pylinker.SymbolNotFoundError, match="no_such_function"):
            guest.program.spawn("no_such_function")
        with pytest.raises(pylinker.SymbolNotFoundError, match="running is no function"):
            guest.program.spawn("running")
        assert guest.program.statistics().groups == 1

    @pytest.mark.parametrize("arguments", [(), (1, 2), (None,), (1.5,), ([],)])
    def test_wrong_arguments_start_no_thread(
        self, guest: Guest, arguments: tuple[object, ...]
    ) -> None:
        with pytest.raises(TypeError, match="add_tls"):
            guest.program.spawn("add_tls", *arguments)
        assert guest.program.statistics().groups == 1
        guest.still_works()

    def test_an_argument_that_does_not_fit(self, guest: Guest) -> None:
        with pytest.raises(OverflowError, match="add_tls"):
            guest.program.spawn("add_tls", 1 << 32)
        with pytest.raises(ValueError, match="null character"):
            guest.program.spawn("open_library", "a\0b", 0)
        guest.still_works()

    def test_a_function_of_another_program(self, guest: Guest, scenario: Scenario) -> None:
        with Guest(scenario("threads")) as other:
            with pytest.raises(ValueError, match="another program"):
                guest.program.spawn(other.main.nothing)
            other.still_works()

    def test_a_function_of_a_library_that_is_closed(self, guest: Guest) -> None:
        with guest.program.dlopen("libplain1.so") as library:
            function = library["id"]
            assert guest.program.spawn(function, 1).join(DEADLINE) == 1001
        with pytest.raises(pylinker.ClosedError):
            guest.program.spawn(function, 1).join(DEADLINE)

    def test_the_program_is_closed(self, scenario: Scenario) -> None:
        with Guest(scenario("threads")) as guest:
            function = guest.main.nothing
        with pytest.raises(pylinker.ClosedError):
            guest.program.spawn(function)
        with pytest.raises(pylinker.ClosedError):
            guest.program.spawn("nothing")

    def test_a_trap_ends_the_program_and_comes_out_of_join_each_time(self, guest: Guest) -> None:
        thread = guest.program.spawn("work", TRAP, 0)
        for _ in range(2):
            with pytest.raises(wasmtime.Trap, match="unreachable"):
                thread.join(DEADLINE)
        assert repr(thread) == f"<GuestThread {thread.tid} failed>"

    def test_the_limit_of_threads(self, scenario: Scenario) -> None:
        with Guest(scenario("threads"), limits=pylinker.Limits(threads=3)) as guest:
            threads = guest.start(YIELD, SLEEP, NAP)
            with pytest.raises(pylinker.LimitError, match="limit of 3 threads"):
                guest.program.spawn("nothing")
            assert (
                guest.main.start_threads(0, 2, RETURN, 0) == 0
            )  # wasi-threads: a negative number says it failed
            assert guest.array("told", 2) == [-1, -1]
            assert guest.program.statistics().groups == 4
            guest["stop"] = 1
            assert [threads[0].join(DEADLINE), threads[2].join(DEADLINE)] == [0, 2]
            guest.still_works()

    def test_no_memory_for_a_stack(self, scenario: Scenario) -> None:
        with Guest(scenario("threads"), stack_size=24 << 20) as guest:  # main may have 64 MiB
            (thread,) = guest.start(YIELD)
            before = sizes(guest.program)
            with pytest.raises(pylinker.LimitError):
                guest.program.spawn("nothing")
            assert sizes(guest.program) == before
            guest.join([thread])
            guest.still_works()


class TestLibrariesOfNewThreads:
    def test_a_new_thread_has_every_library_that_is_loaded(self, guest: Guest) -> None:
        names = ("libtwice.so", "libplain1.so", "libplain2.so", "libplain4.so", "libplain5.so")
        libraries = {name: guest.program.dlopen(name) for name in names}
        assert guest.program.spawn(libraries["libtwice.so"].twice, 21).join(DEADLINE) == 42
        assert guest.program.spawn(libraries["libplain2.so"]["id"], 1).join(DEADLINE) == 2001
        assert guest.program.spawn(libraries["libplain5.so"].below, 1).join(DEADLINE) == 8
        assert guest.program.spawn(libraries["libplain4.so"].below, 1).join(DEADLINE) == 6

    def test_and_after_others_were_closed(self, guest: Guest) -> None:
        libraries = {number: guest.program.dlopen(f"libplain{number}.so") for number in range(1, 6)}
        libraries[4].close()  # libplain1.so stays, it is open
        libraries[3].close()
        assert guest.program.spawn(libraries[1]["id"], 1).join(DEADLINE) == 1001
        libraries[2].close()  # stays: libplain5.so needs it
        assert guest.program.spawn(libraries[5].below, 1).join(DEADLINE) == 8
        twice = guest.program.dlopen("libtwice.so")
        libraries[3] = guest.program.dlopen("libplain3.so")
        slots = [
            libraries[1]["id"].slot,
            libraries[3]["id"].slot,
            libraries[5]["id"].slot,
            twice.twice.slot,
        ]
        for slot, expected in zip(slots, [1001, 3001, 5001, 2], strict=True):
            assert guest.program.spawn("call", slot, 1).join(DEADLINE) == expected
            assert guest.main.call(slot, 1) == expected

    def test_function_pointers_are_equal_in_all_threads(self, guest: Guest) -> None:
        library = guest.program.dlopen("libplain1.so")
        pointer = library.id_pointer()
        assert pointer == library["id"].slot
        assert [guest.program.spawn(library.id_pointer).join(DEADLINE) for _ in range(4)] == [
            pointer
        ] * 4
        assert [guest.program.spawn("call", pointer, 5).join(DEADLINE) for _ in range(4)] == [
            1005
        ] * 4
        assert guest.program.dladdr(slot=pointer) == (
            library.name,
            guest.program.libraries[-1].table_base,
            "id",
            pointer,
        )

    def test_data_of_a_library_is_shared_and_its_thread_local_data_is_not(
        self, guest: Guest
    ) -> None:
        library = guest.program.dlopen("libtwice.so")
        assert library.twice(1) == 2
        assert [library.get_calls(), guest.program.spawn(library.get_calls).join(DEADLINE)] == [
            101,
            100,
        ]
        assert library.aligned_is_right() == 1
        assert [guest.program.spawn(library.aligned_is_right).join(DEADLINE) for _ in range(5)] == [
            1
        ] * 5
        addresses = {
            guest.program.spawn(library.calls_address).join(DEADLINE),
            library.calls_address(),
        }
        assert len(addresses) == 2
        plain = guest.program.dlopen("libplain1.so")
        assert (
            guest.program.spawn(plain.base_address).join(DEADLINE)
            == plain.base_address()
            == plain.address_of("base1")
        )

    def test_a_thread_local_symbol_of_a_library_is_the_calling_threads(self, guest: Guest) -> None:
        library = guest.program.dlopen("libtwice.so")
        assert library.address_of("calls") == library.calls_address()
        handle = guest.main.open_library("libtwice.so", 2)
        held = guest.program.spawn("symbol", handle, "calls").join(DEADLINE)
        assert held not in (0, library.calls_address())

    def test_constructors_do_not_run_again_for_a_new_thread(self, guest: Guest) -> None:
        library = guest.program.dlopen("libtwice.so")
        assert [guest.program.spawn(library.twice, 1).join(DEADLINE) for _ in range(5)] == [2] * 5
        assert guest["constructions"] == 1

    def test_changed_data_is_not_initialised_again(self, guest: Guest) -> None:
        library = guest.program.dlopen("libplain1.so")
        guest.memory.write(library.address_of("base1"), (77).to_bytes(4, "little"))
        assert guest.program.spawn(library["id"], 1).join(DEADLINE) == 78
        assert library["id"](1) == 78

    def test_a_stale_value_of_freed_thread_local_data_is_not_seen(self, guest: Guest) -> None:
        for value in range(5):
            assert guest.program.spawn("put_mine", 500 + value).join(DEADLINE) == 500 + value
            assert guest.program.spawn("add_tls", 0).join(DEADLINE) == 7
            assert guest.program.spawn("wide_is_right").join(DEADLINE) == 1


class TestThreadLocalDataWithoutAWay:
    @pytest.mark.parametrize("which", [1, 2, 3])
    @pytest.mark.parametrize("name", ["", "-stripped"])
    def test_is_an_error_in_a_threaded_program(
        self, scenario: Scenario, which: int, name: str
    ) -> None:
        with Guest(scenario("threads")) as guest:
            before = used(guest.program)
            with pytest.raises(
                pylinker.UnsupportedError, match=rf"liblocal{which}{name}\.so.*__wasm_init_tls"
            ) as caught:
                guest.program.dlopen(f"liblocal{which}{name}.so")
            assert caught.value.module == f"liblocal{which}{name}.so"
            assert used(guest.program) == before
            guest.still_works()

    @pytest.mark.parametrize("which", [1, 2, 3])
    def test_is_told_to_the_guest(self, scenario: Scenario, which: int) -> None:
        with Guest(scenario("threads")) as guest:
            assert guest.main.open_library(f"liblocal{which}.so", 2) == 0
            assert b"thread-local data" in guest.memory.cstring(guest.address("message"))

    @pytest.mark.parametrize("which", [1, 2, 3])
    @pytest.mark.parametrize("name", ["", "-stripped"])
    def test_is_fine_in_a_program_of_one_thread(
        self, scenario: Scenario, which: int, name: str
    ) -> None:
        with Guest(scenario("threads"), threads=False) as guest:
            library = guest.program.dlopen(f"liblocal{which}{name}.so")
            assert [library.next_hidden(), library.next_hidden()] == (
                [1, 2] if which == 2 else [12, 13]
            )

    @pytest.mark.parametrize("name", ["libplain1.so", "libtrap.so"])
    def test_a_library_without_any_is_fine(self, guest: Guest, name: str) -> None:
        guest["leave_constructor"] = 1
        library = guest.program.dlopen(name)
        function = library["id"] if name == "libplain1.so" else library.trapping
        assert guest.program.spawn(function, 1).join(DEADLINE) == function(1)

    def test_a_library_for_another_kind_of_memory(self, guest: Guest) -> None:
        before = used(guest.program)
        with pytest.raises(pylinker.LinkError, match=r"libsingle\.so"):
            guest.program.dlopen("libsingle.so")
        assert used(guest.program) == before
        guest.still_works()


class TestInterruptedStart:
    """Ctrl-C may come when the thread runs already, before its starter knows."""

    @staticmethod
    def alone(guest: Guest) -> None:
        while guest.program.statistics().groups > 1:
            threading.Event().wait(0.001)
        assert not len(guest.program._linker.threads)

    @pytest.mark.parametrize("kind", [YIELD, RETURN])
    def test_of_a_thread_of_the_guests(
        self, guest: Guest, monkeypatch: pytest.MonkeyPatch, kind: int
    ) -> None:
        original = NativeThread.start

        def start(self: NativeThread, *arguments: int) -> None:
            original(self, *arguments)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(NativeThread, "start", start)
            with pytest.raises(KeyboardInterrupt):
                guest.main.start_threads(0, 1, kind, 0)
        guest.until("running", 1)
        guest["stop"] = 1
        self.alone(guest)
        guest.still_works()

    def test_of_a_thread_of_pythons(self, guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
        original = threading.Thread.start

        def start(self: threading.Thread) -> None:
            original(self)
            guest.until("running", 1)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(KeyboardInterrupt):
                guest.program.spawn("work", YIELD, 0)
        guest["stop"] = 1
        self.alone(guest)
        guest.still_works()

    @pytest.mark.parametrize("of_python", [False, True])
    def test_of_one_that_does_not_run(
        self, guest: Guest, monkeypatch: pytest.MonkeyPatch, *, of_python: bool
    ) -> None:
        before = used(guest.program)

        def start(*_arguments: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(
                *(
                    (threading.Thread, "start", start)
                    if of_python
                    else (NativeThread, "start", start)
                )
            )
            with pytest.raises(KeyboardInterrupt):
                guest.program.spawn("nothing") if of_python else guest.main.start_threads(
                    0, 1, RETURN, 0
                )
        self.alone(guest)
        assert used(guest.program) == before
        guest.still_works()

    def test_of_one_of_pythons_that_runs_late(
        self, guest: Guest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        late = []

        def start(self: threading.Thread) -> None:
            late.append(self)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(KeyboardInterrupt):
                guest.program.spawn("work", YIELD, 0)
        self.alone(guest)
        late[0].start()
        late[0].join(DEADLINE)
        assert guest["running"] == 0
        guest.still_works()
