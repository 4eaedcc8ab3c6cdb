"""Calls from Python after the end of the callee, from several threads, and from guest calls."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import pylinker
from guests import DEADLINE, Guest, orderly
from pylinker.linker.groups.link_state import LinkTransaction
from pylinker.linker.load.symbols import Symbols
from pylinker.linker.plan.state import LinkerState
from toolchain import Scenario

Way = Callable[[pylinker.Function], Callable[..., Any]]
WAYS: dict[str, Way] = {
    "function": lambda function: function,
    "bound": lambda function: function.bind(),
}


@pytest.fixture(autouse=True)
def rules() -> Iterator[None]:
    with orderly():
        yield


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> Way:
    """A way to call a function."""
    return WAYS[request.param]


@pytest.fixture(params=[False, True], ids=["first", "again"])
def used_before(request: pytest.FixtureRequest) -> bool:
    """Whether a function was called before its program ends: then the call is prepared."""
    return request.param


class TestAfterTheEnd:
    @pytest.fixture
    def program(self, scenario: Scenario) -> Iterator[pylinker.Program]:
        with pylinker.Program(
            scenario("dlfcn") / "main.wasm", library_path=[scenario("calls")]
        ) as program:
            yield program

    def test_of_its_library(self, program: pylinker.Program, way: Way, used_before: bool) -> None:
        library = program.dlopen("libplugin.so")
        call = way(library["plugin_add"])
        assert not used_before or call(2, 3) == 5
        library.close()
        for arguments in ((2, 3), (2, 3)):
            with pytest.raises(
                pylinker.ClosedError, match=r"library libplugin\.so is closed"
            ) as caught:
                call(*arguments)
            assert caught.value.module == "libplugin.so"
        with program.dlopen(
            "libplugin.so"
        ) as again:  # perhaps in the same place, with the same function
            assert again.plugin_add(1, 1) == 2
            with pytest.raises(pylinker.ClosedError):
                call(2, 3)

    def test_of_its_handle_while_the_library_stays(
        self, program: pylinker.Program, way: Way, used_before: bool
    ) -> None:
        first, second = program.dlopen("libplugin.so"), program.dlopen("libplugin.so")
        gone, stays = way(first["plugin_add"]), way(second["plugin_add"])
        assert not used_before or gone(2, 3) == stays(2, 3) == 5
        first.close()
        with pytest.raises(pylinker.ClosedError, match=r"library libplugin\.so is closed"):
            gone(2, 3)
        assert stays(2, 3) == 5

    def test_of_the_program(self, program: pylinker.Program, way: Way, used_before: bool) -> None:
        library = program.dlopen("libplugin.so")
        add, scale = way(library["plugin_add"]), way(program.main["main_scale"])
        assert not used_before or add(2, 3) == 5
        assert not used_before or scale(4) == scale(4)
        program.close()
        for _ in range(2):
            with pytest.raises(pylinker.ClosedError, match=r"program main\.wasm is closed"):
                add(2, 3)
            with pytest.raises(pylinker.ClosedError, match=r"program main\.wasm is closed"):
                scale(4)

    @pytest.mark.parametrize("library_from", ["path", "preload"])
    def test_of_a_cdll(
        self, scenario: Scenario, way: Way, used_before: bool, library_from: str
    ) -> None:
        keywords = {"preload": ["libpair.so"]} if library_from == "preload" else {}
        library = pylinker.CDLL("libcalls.so", library_path=[scenario("calls")], **keywords)
        call = way(library["add"])
        assert not used_before or call(2, 3) == 5
        library.close()
        with pytest.raises(pylinker.ClosedError):
            call(2, 3)

    def test_of_a_library_that_the_guest_has_closed(
        self, scenario: Scenario, way: Way, used_before: bool
    ) -> None:
        with Guest(scenario("threads"), threads=True) as guest:
            handle = guest.main.open_library("libtwice.so", 1)
            library = guest.program.dlopen("libtwice.so", pylinker.RTLD_NOLOAD)
            call = way(library["twice"])
            assert not used_before or call(4) == 8
            assert guest.main.close_library(handle) == 0
            assert call(5) == 10  # there is Python's handle yet
            assert (
                guest.main.close_library(library._module.number) == 0
            )  # which the guest closes, too
            for _ in range(2):
                with pytest.raises(
                    pylinker.ClosedError, match=r"library libtwice\.so was closed by the guest"
                ) as caught:
                    call(6)
                assert caught.value.module == "libtwice.so"
            assert guest.main.open_library("libtwice.so", 1) > 0  # another copy, in the same place
            with pytest.raises(pylinker.ClosedError):
                call(7)

    def test_of_a_library_that_another_thread_has_closed(
        self, scenario: Scenario, way: Way
    ) -> None:
        """The call finds out on its way in, when it follows."""
        with Guest(scenario("threads")) as guest:
            library = guest.program.dlopen("libtwice.so")
            call = way(library["twice"])
            assert call(4) == 8
            assert guest.program.spawn("close_library", library._module.number).join(DEADLINE) == 0
            with pytest.raises(pylinker.ClosedError, match=r"libtwice\.so was closed by the guest"):
                call(5)
            guest.still_works()

    def test_of_a_library_that_another_thread_closes_at_that_moment(
        self, scenario: Scenario, monkeypatch: pytest.MonkeyPatch, way: Way, used_before: bool
    ) -> None:
        """When the call has looked whether it is open, but does not follow yet."""
        with Guest(scenario("threads")) as guest:
            library = guest.program.dlopen("libtwice.so")
            function = library["twice"]
            call = way(function)
            assert not used_before or call(4) == 8
            catch_up = pylinker.linker.Linker.catch_up

            def close_first(linker: pylinker.linker.Linker) -> None:
                monkeypatch.undo()
                assert (
                    guest.program.spawn("close_library", library._module.number).join(DEADLINE) == 0
                )
                catch_up(linker)

            monkeypatch.setattr(pylinker.linker.Linker, "catch_up", close_first)
            with pytest.raises(pylinker.ClosedError, match=r"libtwice\.so was closed by the guest"):
                function._call_slowly((5,))
            with pytest.raises(pylinker.ClosedError, match=r"libtwice\.so was closed by the guest"):
                call(5)
            guest.still_works()


class TestLookups:
    """Of a library that the guest has closed under Python's handle."""

    WAYS = {  # noqa: RUF012
        "item": lambda library: library["twice"],
        "attribute": lambda library: library.again,
        "in": lambda library: "twice" in library,
        "address": lambda library: library.address_of("twice"),
        "dlsym": lambda library: library.program.dlsym(library, "twice"),
    }

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("used_before", [False, True], ids=["first", "again"])
    def test_are_refused(self, scenario: Scenario, way: str, used_before: bool) -> None:
        with Guest(scenario("threads")) as guest:
            library = guest.program.dlopen("libtwice.so")
            if used_before:
                assert "twice" in library
                assert guest.program.dlsym(library, "twice")
            assert guest.main.close_library(library._module.number) == 0
            for _ in range(2):
                with pytest.raises(
                    pylinker.ClosedError, match=r"library libtwice\.so was closed by the guest"
                ):
                    self.WAYS[way](library)
            guest.still_works()

    def test_a_commit_starts_a_generation(
        self, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Under the write lock: modules listed before the commit are stale once it is released."""
        with Guest(scenario("threads")) as guest:
            shared = guest.program._linker.context.shared
            generations = []
            add, leave = LinkerState.add, LinkTransaction.leave
            monkeypatch.setattr(
                LinkerState, "add", lambda *of: generations.append(shared.changes) or add(*of)
            )
            monkeypatch.setattr(
                LinkTransaction,
                "leave",
                lambda *of: generations.append(shared.changes) or leave(*of),
            )
            guest.program.dlopen("libtwice.so")
            committed, left = generations[-2:]
            assert left > committed

    def test_a_miss_does_not_list_the_modules_again(
        self, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Guest(scenario("threads")) as guest:
            library = guest.program.dlopen("libtwice.so")
            assert "nothing" not in library
            listed = []
            snapshot_of = Symbols.snapshot_of
            monkeypatch.setattr(
                Symbols, "snapshot_of", lambda *of: listed.append(of) or snapshot_of(*of)
            )
            assert "nothing" not in library
            assert not listed
            guest.program.dlopen("libplain2.so")
            assert "nothing" not in library
            assert len(listed) == 1


PLAIN = bytes(
    wasmtime.wat2wasm(
        """(module
  (import "env" "back" (func $back (param i32) (result i32)))
  (memory (export "memory") 1)
  (global $sp (export "__stack_pointer") (mut i32) (i32.const 4096))
  (func (export "id") (param i32) (result i32) local.get 0)
  (func (export "bump") (param i32) (result i32) (local $was i32)
    (local.set $was (i32.load (i32.const 8)))
    (loop $again (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (i32.store (i32.const 8) (i32.add (local.get $was) (i32.const 1)))
    (local.get $was))
  (func (export "down") (param i32) (result i32)
    (global.set $sp (i32.sub (global.get $sp) (i32.const 16)))
    (if (result i32) (local.get 0)
      (then (i32.add (call $back (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))
      (else (i32.const 0)))
    (global.set $sp (i32.add (global.get $sp) (i32.const 16))))
  (func (export "spin") (param i32) (result i32)
    (loop $again (br_if $again (i32.eqz (i32.load (i32.const 12))))) (i32.const 77)))"""
    )
)


class Plain:
    """A program whose guest calls ``back``."""

    def __init__(self) -> None:
        self.back: Callable[[int], int] = lambda number: number
        self.program = pylinker.Program(PLAIN, imports={"back": self._back})
        self.main = self.program.main

    def _back(self, number: int) -> int:
        return self.back(number)

    def at(self, address: int) -> int:
        return int.from_bytes(self.program.memory.read(address, 4), "little")

    @property
    def stack(self) -> int | None:
        return self.program._linker.group.stack_top


@pytest.fixture
def plain() -> Iterator[Plain]:
    plain = Plain()
    with plain.program:
        yield plain


def in_threads(*acts: Callable[[], object]) -> list[object]:
    """Results of these functions, each on a Python thread, in parallel."""
    results: list[object] = [None] * len(acts)
    everybody = threading.Barrier(len(acts), timeout=DEADLINE)

    def run(index: int, act: Callable[[], object]) -> None:
        everybody.wait()
        try:
            results[index] = act()
        except Exception as error:  # noqa: BLE001 - handed over
            results[index] = error

    threads = [threading.Thread(target=run, args=each) for each in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    return results


class TestPlainThreads:
    def test_take_turns(self, plain: Plain, way: Way) -> None:
        """The guest reads, waits, and writes: nothing is lost without interference."""
        bump, identity = way(plain.main["bump"]), way(plain.main["id"])

        def often() -> list[int]:
            seen = []
            for number in range(300):
                seen.append(bump(2000))
                assert identity(number) == number
            return seen

        results = in_threads(*[often] * 4)
        assert sorted(each for seen in results for each in seen) == list(range(1200))
        assert plain.at(8) == 1200
        assert all(seen == sorted(seen) for seen in results)

    def test_wait_for_one_that_waits_in_python(self, plain: Plain, way: Way) -> None:
        entered, leave, done = threading.Event(), threading.Event(), threading.Event()

        def wait(number: int) -> int:
            entered.set()
            assert leave.wait(DEADLINE)
            return number

        plain.back = wait
        down, identity = way(plain.main["down"]), way(plain.main["id"])
        assert identity(1) == 1

        def second() -> int:
            assert entered.wait(DEADLINE)
            result = identity(5)
            done.set()
            return result

        def third() -> bool:
            assert entered.wait(DEADLINE)
            early = done.wait(0.1)
            leave.set()
            return early

        assert in_threads(lambda: down(1), second, third) == [1, 5, False]

    def test_get_what_their_own_call_came_to(self, plain: Plain, way: Way) -> None:
        error = threading.local()

        def fail(number: int) -> int:
            error.value = LookupError(f"for {number}")
            raise error.value

        plain.back = fail
        down, identity = way(plain.main["down"]), way(plain.main["id"])
        assert identity(1) == 1

        def fails(number: int) -> None:
            for each in range(number, number + 200):
                with pytest.raises(LookupError, match=f"^'?for {each - 1}'?$") as caught:
                    down(each)
                assert caught.value is error.value

        def succeeds() -> None:
            for each in range(200):
                assert identity(each) == each

        assert in_threads(lambda: fails(1000), succeeds, lambda: fails(5000)) == [None, None, None]
        assert plain.stack == 4096

    def test_one_closes_what_another_calls(self, plain: Plain, way: Way) -> None:
        call = way(plain.main["id"])
        ready = threading.Event()

        def calls() -> int:
            for number in range(1 << 30):
                assert call(number) == number
                if number == 100:
                    ready.set()
            return 0

        def close() -> None:
            assert ready.wait(DEADLINE)
            plain.program.close()

        store = weakref.ref(plain.program._linker.group.store)
        results = in_threads(calls, calls, close)
        for ended in results[:2]:  # the call that was in progress, if there was one, is stopped
            assert type(ended) in (pylinker.ClosedError, pylinker.SynchronizationAborted)
        assert results[2] is None
        del results, ended
        gc.collect()
        assert store() is None


class TestRecursion:
    @pytest.mark.parametrize("depth", [1, 2, 30])
    def test_python_guest_python_guest(self, plain: Plain, way: Way, depth: int) -> None:
        down = way(plain.main["down"])
        plain.back = down
        for _ in range(3):
            assert down(depth) == depth
            assert plain.stack == 4096

    def test_a_failure_at_the_bottom_goes_up_through_all(self, plain: Plain, way: Way) -> None:
        down = way(plain.main["down"])
        error = LookupError("at the bottom")
        deepest = []

        def back(number: int) -> int:
            if number == 0:
                deepest.append(plain.stack)
                raise error
            return down(number)

        plain.back = back
        for _ in range(2):
            error.__cause__ = None
            with pytest.raises(LookupError) as caught:
                down(20)
            assert caught.value is error
            assert plain.stack == 4096
        assert deepest == [4096 - 20 * 16] * 2
        plain.back = down
        assert down(20) == 20

    def test_a_failure_that_is_caught_half_way_is_over(self, plain: Plain, way: Way) -> None:
        down = way(plain.main["down"])
        stacks = []

        def back(number: int) -> int:
            if number == 0:
                raise LookupError("at the bottom")
            if number != 5:
                return down(number)
            before = plain.stack
            with pytest.raises(LookupError):
                down(number)
            stacks.append((before, plain.stack))
            return 100

        plain.back = back
        assert down(10) == 105
        assert stacks == [(4096 - 5 * 16, 4096 - 5 * 16)]
        assert plain.stack == 4096

    def test_a_library_that_is_closed_out_of_a_call_of_it(self, tmp_path: Path, way: Way) -> None:
        """The guest goes on in its code, which stays, and calls what it is bound to."""
        text = """(module
  (@dylink.0 (mem-info (memory 0 0)))
  (import "env" "back" (func $back (param i32) (result i32)))
  (func (export "go") (param i32) (result i32)
    (i32.add (call $back (local.get 0)) (call $back (i32.const 10)))))"""
        calls: list[int] = []

        def back(number: int) -> int:
            calls.append(number)
            if len(calls) == 3:
                library.close()
                assert program.libraries == ()
            return number

        with pylinker.Program(imports={"back": back}) as program:
            path = tmp_path / "libgo.so"
            path.write_bytes(wasmtime.wat2wasm(text))
            library = program.dlopen(path)
            go = way(library["go"])
            assert go(1) == 11
            assert go(2) == 12
            assert calls == [1, 10, 2, 10]
            with pytest.raises(pylinker.ClosedError):
                go(3)


class TestGuestThreads:
    @pytest.fixture
    def guest(self, scenario: Scenario) -> Iterator[Guest]:
        with Guest(scenario("threads")) as guest:
            yield guest

    def test_call_in_their_own_group_what_was_made_on_the_main_thread(
        self, guest: Guest, way: Way
    ) -> None:
        """add_tls counts in the thread's own data, which begins at 7."""
        call = way(guest.main["add_tls"])
        assert call(1) == 8
        assert call(1) == 9

        def body() -> list[int]:
            return [call(1), call(2), guest.main.add_tls(3), guest.main["add_tls"].bind()(4)]

        for _ in range(2):
            assert guest.program.spawn(body).join(DEADLINE) == [8, 10, 13, 17]
        assert call(1) == 10

    def test_bind_for_themselves_and_others_use_it(self, guest: Guest) -> None:
        """Functions bound in a removed group work in the others, each in its own group."""
        bounds: list[Callable[..., int]] = []

        def body() -> int:
            bounds.append(guest.main["add_tls"].bind())
            return bounds[-1](1)

        for _ in range(2):
            assert guest.program.spawn(body).join(DEADLINE) == 8
        gc.collect()
        assert guest.main.add_tls(1) == 8
        assert bounds[0](1) == 9
        assert guest.program.spawn(lambda: bounds[0](1) + bounds[1](1)).join(DEADLINE) == 8 + 9
        assert bounds[1](1) == 10
        assert in_threads(lambda: bounds[0](1)) == [11]  # a plain thread is the main group's guest

    def test_call_what_was_opened_meanwhile(self, guest: Guest, way: Way) -> None:
        opened: list[Callable[..., int]] = []
        go = threading.Event()

        def body() -> int:
            assert go.wait(DEADLINE)
            return opened[0](21)

        thread = guest.program.spawn(body)
        library = guest.program.dlopen("libtwice.so")
        opened.append(way(library["twice"]))
        assert opened[0](1) == 2
        go.set()
        assert thread.join(DEADLINE) == 42
        library.close()
        with pytest.raises(pylinker.ClosedError):
            guest.program.spawn(opened[0], 1).join(DEADLINE)

    def test_call_at_once_with_the_main_thread(self, guest: Guest, way: Way) -> None:
        call = way(guest.main["add_tls"])

        def often(start: int) -> Callable[[], bool]:
            def run() -> bool:
                return all(call(1) == start + number for number in range(300))

            return run

        threads = [guest.program.spawn(often(8)) for _ in range(3)]
        assert often(8)()
        assert [thread.join(DEADLINE) for thread in threads] == [True] * 3

    def test_keep_nothing_of_libraries_that_are_closed(self, guest: Guest, way: Way) -> None:
        worked, followed = threading.Event(), threading.Event()

        def open_and_close(number: int) -> None:
            with guest.program.dlopen("libtwice.so") as library:
                assert way(library["twice"])(number) == 2 * number
                assert guest.main.add_tls(0) == 7

        def body() -> int:
            for number in range(20):
                open_and_close(number)
            worked.set()
            assert followed.wait(DEADLINE)
            open_and_close(20)  # all that others have followed is forgotten
            gc.collect()
            return len(guest.program._linker.group._prepared)

        thread = guest.program.spawn(body)
        assert worked.wait(DEADLINE)
        guest.main.nothing()
        followed.set()
        assert thread.join(DEADLINE) <= 3  # main's, and of what main has yet to follow

    def test_fail_with_their_own_failure(self, guest: Guest, way: Way) -> None:
        call = way(guest.main["work"])

        def body() -> str:
            with pytest.raises(wasmtime.Trap, match="unreachable"):
                call(5, 0)  # TRAP
            return "went on"

        assert guest.program.spawn(body).join(DEADLINE) == "went on"
        guest.still_works()


def test_a_function_keeps_a_program_that_is_dropped_but_not_one_that_is_closed(way: Way) -> None:
    gc.collect()
    gc.disable()  # nothing of this needs it
    try:
        for closed in (True, False):
            program = pylinker.Program(PLAIN, imports={"back": abs})
            call = way(program.main["id"])
            assert call(3) == 3
            store = weakref.ref(program._linker.group.store)
            if closed:
                program.close()
            del program
            assert (store() is None) == closed
            if closed:
                with pytest.raises(pylinker.ClosedError):
                    call(3)
            else:
                assert call(4) == 4
            del call
            assert store() is None
    finally:
        gc.enable()
