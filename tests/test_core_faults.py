"""A failure at each step of a replay in the C core: in the leader, a follower, a new group.

The steps are the core's calls of wasmtime. Each of them fails in turn, until one try gets through
without reaching its failure.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wasmtime

import pylinker
from corefaults import TEXT, CoreFault
from guests import COMPUTE, DEADLINE, NAP, ORDINARY, SERVE, YIELD, Guest, all_aborted, orderly
from pylinker import SynchronizationAborted
from pylinker.errors import InternalError
from running import used
from toolchain import Scenario

# libtwice.so has thread-local data, liblazy.so trampolines, libplain4.so another library and a
# relocation.
LOADS = ["libtwice.so", "liblazy.so", "libplain4.so"]
LAZY = 1
MAKING = ["instance_new", "global_new", "table_set"]
FOLLOWING = [*MAKING, "table_grow", "instance_export_get", "func_call_unchecked"]
NOT_NEEDED = {
    ("func_call_unchecked", "liblazy.so"),
    ("func_call_unchecked", "libplain4.so"),
}  # no thread-local data to initialise

# An exported import gets its table slot when it is asked for, by an operation of its own.
LATE = """(module
  (@dylink.0 (mem-info (memory 0 0)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $pause (result i32)))
  (export "pause" (func $pause)))"""

# A start function that does something the second time it runs: not in the leader, but in the first
# follower.
TWICE = """(module
  (@dylink.0 (mem-info (memory 4 2)))
  (import "env" "memory" (memory 1 1024 shared))
  (import "env" "__memory_base" (global $base i32))
  (import "env" "dlopen" (func $dlopen (param i32 i32) (result i32)))
  (func $start (if (i32.atomic.rmw.add (global.get $base) (i32.const 1)) (then {})))
  (start $start))"""


@pytest.fixture(autouse=True)
def rules() -> Iterator[None]:
    with orderly():
        yield


@pytest.fixture
def late(tmp_path: Path) -> str:
    path = tmp_path / "liblate.so"
    path.write_bytes(wasmtime.wat2wasm(LATE))
    return str(path)


def scene(scenario: Scenario) -> Guest:
    """A program with something that stays."""
    guest = Guest(scenario("threads"), preempt=True)
    guest.program.dlopen("libplain2.so")
    return guest


def failure_of(act: Callable[[], object]) -> Exception | None:
    """The error of an attempt, or None."""
    try:
        act()
    except (pylinker.LinkError, InternalError, wasmtime.Trap, wasmtime.WasmtimeError) as error:
        return error
    return None


def poisoned(guest: Guest, threads: list[pylinker.GuestThread]) -> bool:
    """No thread gets the lock after a broken invariant; threads that do not need it continue.

    False if nothing was broken: the failure came when the lock was not held.
    """
    broken = False
    if failure_of(lambda: guest.program.dlopen("libtwice.so")) is not None:
        for attempt in (
            lambda: guest.program.dlopen("libtwice.so"),
            lambda: guest.program.spawn("nothing"),
        ):
            with pytest.raises(SynchronizationAborted):
                attempt()
        broken = True
    assert guest.join(threads) == list(range(len(threads)))
    return broken


class TestLeader:
    @pytest.mark.parametrize("library", LOADS)
    @pytest.mark.parametrize(
        ("name", "trap"),
        [
            *((name, False) for name in (*MAKING, "table_grow", "func_call_unchecked")),
            ("instance_new", True),
            ("func_call_unchecked", True),
        ],
    )
    def test_a_load_that_fails_is_undone_and_the_next_works(
        self, scenario: Scenario, name: str, trap: bool, library: str
    ) -> None:
        with Guest(scenario("threads")) as guest:
            threads = guest.start(YIELD, NAP, SERVE)
            before = used(guest.program)
            for at in itertools.count(1):
                opened: list[pylinker.Library] = []
                with CoreFault(name, at, thread=threading.current_thread(), trap=trap) as fault:
                    error = failure_of(lambda: opened.append(guest.program.dlopen(library)))  # noqa: B023 - called at once
                assert fault.happened.is_set() == (error is not None)
                if error is None:
                    break
                assert TEXT in str(error)
                assert isinstance(error, pylinker.InitializationError) == trap
                assert (
                    isinstance(error, pylinker.LinkError) or name == "func_call_unchecked"
                )  # wasmtime's own, out of a constructor
                assert used(guest.program) == before
            assert at > 1
            assert opened[0].name == library
            opened[0].close()
            assert used(guest.program) == before
            guest.still_works()
            assert guest.join(threads) == [0, 1, 2]

    def test_an_export_that_is_not_there_is_an_internal_error(self, scenario: Scenario) -> None:
        outcomes = []
        for at in itertools.count(1):
            with scene(scenario) as guest:
                threads = guest.start(YIELD)
                with CoreFault(
                    "instance_export_get", at, thread=threading.current_thread()
                ) as fault:
                    error = failure_of(lambda: guest.program.dlopen("libtwice.so"))
                assert fault.happened.is_set() == (error is not None), fault.asked
                if error is None:
                    break
                assert isinstance(error, InternalError) and "libtwice.so" in str(error)
                assert guest.libraries() == ["main.wasm", "libplain2.so"]
                outcomes.append((poisoned(guest, threads), fault.asked))
        assert {(True, "twice"), (False, "__wasm_call_ctors")} <= set(outcomes)

    @pytest.mark.parametrize("name", ["table_set", "table_grow"])
    def test_a_slot_that_cannot_be_given_out_is_taken_back(
        self, scenario: Scenario, late: str, name: str
    ) -> None:
        with Guest(scenario("threads")) as guest:
            threads = guest.start(YIELD, NAP)
            library = guest.program.dlopen(late)
            before = used(guest.program)
            with (
                CoreFault(name, thread=threading.current_thread()) as fault,
                pytest.raises(pylinker.NotDynamicError, match=TEXT),
            ):
                library.address_of("pause")
            assert fault.happened.is_set()
            assert used(guest.program) == before
            assert library.address_of("pause") > 0
            guest.still_works()
            assert guest.join(threads) == [0, 1]


class TestFollower:
    """A follower that fails ends the program: its tables would differ from those of the others."""

    @pytest.mark.parametrize("library", LOADS)
    @pytest.mark.parametrize("name", FOLLOWING)
    def test_that_runs(self, scenario: Scenario, name: str, library: str) -> None:
        for at in itertools.count(1):
            with scene(scenario) as guest:
                threads = guest.start(
                    COMPUTE, COMPUTE, YIELD, NAP, SERVE
                )  # the first is never parked: the leader waits for it
                number = guest.number(threads[0])
                with CoreFault(name, at, thread=threads[0].thread) as fault:
                    leader = guest.program.spawn("open_library", library, LAZY)
                    aborted = failure_of(leader.join)
                assert fault.happened.is_set() == (aborted is not None), fault.asked
                if aborted is None:
                    assert leader.join() > 0
                    assert guest.join(threads) == [0, 1, 2, 3, 4]
                    guest.still_works()
                    break
                error = failure_of(threads[0].join)
                check(error, number, fault)
                assert isinstance(aborted, SynchronizationAborted) and aborted.__cause__ is error
                all_aborted(guest, threads[1:])
        assert at > 1 or (name, library) in NOT_NEEDED

    @pytest.mark.parametrize("library", LOADS)
    @pytest.mark.parametrize("name", FOLLOWING)
    def test_that_was_parked_and_catches_up(
        self, scenario: Scenario, name: str, library: str
    ) -> None:
        for at in itertools.count(1):
            with scene(scenario) as guest:
                threads = guest.start(YIELD, NAP)
                assert guest.program.spawn("open_library", library, LAZY).join(DEADLINE) > 0
                with CoreFault(name, at, thread=threading.current_thread()) as fault:
                    error = failure_of(guest.program._linker.catch_up)
                assert fault.happened.is_set() == (error is not None), fault.asked
                if error is None:
                    assert guest.join(threads) == [0, 1]
                    guest.still_works()
                    break
                check(error, guest.number(), fault)
                all_aborted(guest, threads)
        assert at > 1 or (name, library) in NOT_NEEDED

    def test_that_gets_a_slot(self, scenario: Scenario, late: str) -> None:
        with scene(scenario) as guest:
            library = guest.program.dlopen(late)
            threads = guest.start(COMPUTE, YIELD)
            number = guest.number(threads[0])
            with (
                CoreFault("table_set", thread=threads[0].thread) as fault,
                pytest.raises(SynchronizationAborted) as aborted,
            ):
                library.address_of("pause")
            error = failure_of(threads[0].join)
            check(error, number, fault)
            assert aborted.value.__cause__ is error
            all_aborted(guest, threads[1:])

    def test_that_gets_in_a_call_what_it_cannot_follow(self, scenario: Scenario) -> None:
        with scene(scenario) as guest:
            threads = guest.start(YIELD)
            nothing = guest.main.nothing  # looking it up would follow, too
            assert guest.program.spawn("open_library", "libtwice.so", 2).join(DEADLINE) > 0
            with CoreFault("instance_new", thread=threading.current_thread()) as fault:
                error = failure_of(nothing)
            check(error, guest.number(), fault)
            all_aborted(guest, threads)

    def test_whose_start_function_traps(self, scenario: Scenario, tmp_path: Path) -> None:
        (tmp_path / "libtwice.so").write_bytes(wasmtime.wat2wasm(TWICE.format("unreachable")))
        with scene(scenario) as guest:
            (thread,) = guest.start(COMPUTE)
            number = guest.number(thread)
            with pytest.raises(SynchronizationAborted) as aborted:
                guest.program.dlopen(tmp_path / "libtwice.so")
            with pytest.raises(
                pylinker.LinkError, match=rf"group {number} cannot follow: .*unreachable"
            ) as caught:
                thread.join(DEADLINE)
            assert isinstance(caught.value.__cause__, wasmtime.Trap)
            assert aborted.value.__cause__ is caught.value
            all_aborted(guest, [])

    @pytest.mark.parametrize(
        "error",
        [KeyboardInterrupt(), MemoryError("no room")],
        ids=lambda error: type(error).__name__,
    )
    def test_whose_start_function_calls_a_host_function_that_fails(
        self,
        scenario: Scenario,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        error: BaseException,
    ) -> None:
        (tmp_path / "libtwice.so").write_bytes(
            wasmtime.wat2wasm(TWICE.format("(drop (call $dlopen (i32.const 0) (i32.const 1)))"))
        )

        def fail(*_arguments: object) -> None:
            raise error

        monkeypatch.setattr("pylinker.linker.calls.dlfcn._guarded", fail)
        with scene(scenario) as guest:
            (thread,) = guest.start(COMPUTE)
            with pytest.raises(SynchronizationAborted) as aborted:
                guest.program.dlopen(tmp_path / "libtwice.so")
            with pytest.raises((type(error), pylinker.LinkError)) as caught:
                thread.join(DEADLINE)
            # An interrupt comes out as it is, a failure as the reason why the group cannot follow.
            assert error is (
                caught.value if isinstance(error, KeyboardInterrupt) else caught.value.__cause__
            )
            assert aborted.value.__cause__ is caught.value
            all_aborted(guest, [])


def check(error: Exception | None, group: int, fault: CoreFault) -> None:
    """The error says which group could not follow, and why."""
    assert fault.happened.is_set()
    assert type(error) is (InternalError if fault.asked else pylinker.LinkError)
    assert f"group {group} cannot follow: " in str(error)
    if not fault.asked:
        assert TEXT in str(error)
        assert isinstance(error.__cause__, wasmtime.WasmtimeError)


class TestSpawn:
    """A group that is just made: nothing is left of it, and the others go on."""

    @pytest.mark.parametrize("name", [*MAKING, "table_new"])
    def test_that_fails_half_way(self, scenario: Scenario, late: str, name: str) -> None:
        with scene(scenario) as guest:
            threads = guest.start(YIELD, NAP, SERVE)
            guest.program.dlopen("liblazy.so")
            assert guest.program.dlopen(late)["pause"].slot > 0
            before = used(guest.program)
            for at in itertools.count(1):
                spawned: list[pylinker.GuestThread] = []
                with CoreFault(name, at, thread=threading.current_thread()) as fault:
                    error = failure_of(lambda: spawned.append(guest.program.spawn("add_tls", 1)))  # noqa: B023 - called at once
                assert fault.happened.is_set() == (error is not None)
                if error is None:
                    break
                assert isinstance(error, pylinker.LinkError)
                assert TEXT in str(error)
                assert guest.program.statistics().groups == 4
                assert used(guest.program) == before
            assert at > (1 if name == "table_new" else 4)
            assert spawned[0].join(DEADLINE) == 8
            guest.still_works()
            assert guest.join(threads) == [0, 1, 2]

    @pytest.mark.parametrize("trap", [False, True], ids=["error", "trap"])
    def test_whose_thread_local_data_cannot_be_made(self, scenario: Scenario, trap: bool) -> None:
        with scene(scenario) as guest:
            threads = guest.start(YIELD, NAP)
            guest.program.dlopen("libtwice.so")
            before = used(guest.program)
            for at in (1, 2):  # main's, and libtwice.so's
                with CoreFault(
                    "func_call_unchecked", at, thread=threading.current_thread(), trap=trap
                ) as fault:
                    error = failure_of(lambda: guest.program.spawn("nothing"))
                assert fault.happened.is_set()
                assert type(error) is (
                    wasmtime.Trap if trap else wasmtime.WasmtimeError
                ) and TEXT in str(error)
                assert used(guest.program) == before
            guest.still_works()
            assert guest.join(threads) == [0, 1]

    def test_that_lacks_an_export_is_an_internal_error(self, scenario: Scenario) -> None:
        for at in itertools.count(1):
            with scene(scenario) as guest:
                threads = guest.start(YIELD)
                with CoreFault(
                    "instance_export_get", at, thread=threading.current_thread()
                ) as fault:
                    error = failure_of(lambda: guest.program.spawn(int))
                assert fault.happened.is_set() == (error is not None), fault.asked
                if error is None:
                    break
                assert isinstance(error, InternalError)
                assert poisoned(guest, threads)
        assert at > 4

    def test_whose_table_comes_with_main_and_cannot_grow(self) -> None:
        with pylinker.Program(
            bytes(wasmtime.wat2wasm(ORDINARY)), name="ordinary", threads=True
        ) as program:
            answer = program.main["answer"].slot
            with (
                CoreFault("table_grow") as fault,
                pytest.raises(pylinker.NotDynamicError, match=rf"ordinary.*{TEXT}"),
            ):
                program.spawn("answer")
            assert fault.happened.is_set()
            assert program.statistics().groups == 1
            assert program.spawn("call", answer).join(DEADLINE) == 42
