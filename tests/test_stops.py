"""A guest is stopped from outside, repeatedly: signals, limits, ``interrupt()``, ``close()``."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wasmtime

import pylinker
from binary import dylink
from fields import BASE, MEMORY, SHARED, TABLE, wasm
from pylinker import Interrupted, SynchronizationAborted, TimeoutExpired

pytestmark = pytest.mark.usefixtures("in_time")

TIMES = 10
LOOP = '(func (export "spin") (loop $again (br $again)))'
OK = '(func (export "ok") (result i32) (i32.const 7))'
ECHO = '(func (export "echo") (param i32) (result i32) (local.get 0))'
DEEP = """
(import "env" "__stack_pointer" (global $top (mut i32)))
(func (export "deep") (global.set $top (i32.sub (global.get $top) (i32.const 4096)))
  (loop $again (br $again)))
(func (export "top") (result i32) (global.get $top))
"""
WAIT = (
    '(global $go (mut i32) (i32.const 1))(func (export "wait") '
    "(loop $again (br_if $again (global.get $go))))"
    '(func (export "done") (global.set $go (i32.const 0)))'
)
OPEN = (
    (
        '(import "wasi_snapshot_preview1" "path_open" '
        "(func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))"
    ),
    '(data (i32.const 128) "file")',
    (
        '(func (export "open") (result i32) '
        "(call $open (i32.const 3) (i32.const 0) (i32.const 128) (i32.const 4)"
        " (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 512)))"
    ),
)
SUBSCRIPTION = "".join(
    f"{chr(92)}{each:02x}" for each in bytes(16) + b"\1" + bytes(12) + b"\xff\xff\0\0"
)  # a clock, days from now
NAP = (
    (
        '(import "wasi_snapshot_preview1" "poll_oneoff" '
        "(func $poll (param i32 i32 i32 i32) (result i32)))"
    ),
    f'(data (i32.const 128) "{SUBSCRIPTION}")',
    (
        '(func (export "nap") (drop (call $poll (i32.const 128) (i32.const 256) (i32.const 1) '
        "(i32.const 512))))"
    ),
)
CALL = (
    '(import "env" "call" (func $call))(func (export "go") (call $call) (loop $again (br $again)))'
)


def library(folder: Path, *fields: str, **keywords: object) -> pylinker.CDLL:
    wasm(folder / "libstop.so", BASE, *fields)
    return pylinker.CDLL(folder / "libstop.so", cache=False, **keywords)  # type: ignore[arg-type]


def until(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.001)


def is_running(program: pylinker.Program) -> bool:
    linker = program._linker
    return linker is not None and linker.context.shared._native.call != 0


class Caller:
    """A thread that makes one call; ``result`` is what it returned, or raised."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.result: object = None
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._call()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.result = error

    def join(self) -> object:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.result


@contextlib.contextmanager
def on_alarm(
    handler: Callable[[int, object], object],
) -> Iterator[Callable[[Callable[[], object]], object]]:
    """Handle SIGALRM; yields what calls a function with the alarm set."""
    before = signal.signal(signal.SIGALRM, handler)

    def alarmed(call: Callable[[], object]) -> object:
        signal.setitimer(
            signal.ITIMER_REAL, 0.05
        )  # here, so that it comes to a caller that expects it
        return call()

    try:
        yield alarmed
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def interrupt_soon(program: pylinker.Program) -> None:
    """Interrupt the call; again in a moment if it has not begun."""
    if not program.interrupt():
        signal.setitimer(signal.ITIMER_REAL, 0.05)


def interrupting(*_: object) -> None:
    raise KeyboardInterrupt


class TestAgainAndAgain:
    def test_signals(self, tmp_path: Path) -> None:
        guest = library(tmp_path, MEMORY, LOOP, OK)
        with on_alarm(interrupting) as alarmed:
            for _ in range(TIMES):
                with pytest.raises(KeyboardInterrupt):
                    alarmed(guest.spin)
        assert guest.ok() == 7
        guest.close()

    @pytest.mark.parametrize("how", ["spin", "nap"])
    def test_time_limits(self, tmp_path: Path, how: str) -> None:
        guest = library(tmp_path, MEMORY, LOOP, OK, *NAP)
        with on_alarm(interrupting) as alarmed:
            for turn in range(TIMES):
                with pytest.raises(TimeoutExpired), guest.program.time_limit(0.05):
                    guest[how]()
                if turn % 3 == 0:
                    with pytest.raises(KeyboardInterrupt):
                        alarmed(guest.spin)
                assert guest.ok() == 7
        guest.close()

    @pytest.mark.parametrize("how", ["spin", "nap"])
    def test_interrupts(self, tmp_path: Path, how: str) -> None:
        guest = library(tmp_path, MEMORY, LOOP, OK, *NAP)
        for _ in range(TIMES):
            caller = Caller(guest[how])
            until(lambda: is_running(guest.program))
            assert guest.program.interrupt()
            assert isinstance(caller.join(), Interrupted)
            assert guest.ok() == 7
        guest.close()

    def test_close(self, tmp_path: Path) -> None:
        for turn in range(TIMES):
            guest = library(tmp_path, MEMORY, LOOP, OK)
            with on_alarm(interrupting) as alarmed, pytest.raises(KeyboardInterrupt):
                alarmed(guest.spin)
            caller = Caller(guest.spin)
            until(lambda guest=guest: is_running(guest.program))  # type: ignore[misc]
            (guest if turn % 2 else guest.program).close()
            assert isinstance(caller.join(), SynchronizationAborted)
            with pytest.raises(pylinker.ClosedError):
                guest.ok()

    def test_a_time_limit_works_after_a_signal(self, tmp_path: Path) -> None:
        guest = library(tmp_path, MEMORY, LOOP)
        with on_alarm(interrupting) as alarmed, pytest.raises(KeyboardInterrupt):
            alarmed(guest.spin)
        with pytest.raises(TimeoutExpired), guest.program.time_limit(0.05):
            guest.spin()
        guest.close()

    def test_preemption(self, tmp_path: Path) -> None:
        guest = library(tmp_path, SHARED, LOOP, OK, threads=True, preempt=True)
        wasm(tmp_path / "libother.so", BASE, '(func (export "other") (result i32) (i32.const 8))')
        program = guest.program

        def others() -> None:
            until(lambda: program._linker.context.main_group.native.is_running)  # type: ignore[union-attr]
            for _ in range(3):
                with program.dlopen(tmp_path / "libother.so") as other:
                    assert other.other() == 8
            os.kill(os.getpid(), signal.SIGALRM)

        with on_alarm(interrupting):
            for _ in range(TIMES):
                thread = program.spawn(others)
                with pytest.raises(KeyboardInterrupt):
                    guest.spin()
                thread.join()
        guest.close()


class TestHandlers:
    """Guest code that a signal handler calls, from within the look of other guest code."""

    def test_signals(self, tmp_path: Path) -> None:
        guest = library(tmp_path, MEMORY, LOOP, OK)
        depth = 0

        def handler(*_: object) -> None:
            nonlocal depth
            depth += 1
            if depth % 3 == 0:
                raise KeyboardInterrupt
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            guest.spin()

        with on_alarm(handler) as alarmed:
            for turn in range(TIMES):
                with pytest.raises(KeyboardInterrupt):
                    alarmed(guest.spin)
                assert depth == 3 * turn + 3
        assert guest.ok() == 7
        guest.close()

    def test_time_limits(self, tmp_path: Path) -> None:
        guest = library(tmp_path, MEMORY, LOOP, OK)
        seen = []

        def handler(*_: object) -> None:
            stack.enter_context(
                guest.program.time_limit(0.05)
            )  # now: it cannot be over before the signal comes
            try:
                guest.spin()
            except BaseException as error:  # noqa: BLE001 - the stop comes again
                seen.append(error)

        with on_alarm(handler) as alarmed:
            for _ in range(TIMES):
                with pytest.raises(TimeoutExpired) as caught, contextlib.ExitStack() as stack:
                    alarmed(guest.spin)
                assert seen.pop() is caught.value
                assert not seen
        assert guest.ok() == 7
        guest.close()

    def test_that_return_let_the_guest_go_on(self, tmp_path: Path) -> None:
        guest = library(tmp_path, MEMORY, WAIT)
        with on_alarm(lambda *_: guest.done()) as alarmed:
            alarmed(guest.wait)
        guest.close()

    def test_a_guest_goes_on_after_a_handler_that_opened_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("text")
        guest = library(tmp_path, *OPEN, MEMORY, WAIT, dirs={"/": tmp_path})
        opened = []

        def handler(*_: object) -> None:
            opened.append(guest.open())
            guest.done()

        with on_alarm(handler) as alarmed:
            alarmed(guest.wait)
        assert opened == [0]
        guest.close()


class TestInterrupt:
    def test_nothing_happens_where_nothing_runs(self, tmp_path: Path) -> None:
        guest = library(tmp_path, MEMORY, OK)
        assert not guest.program.interrupt()
        assert guest.ok() == 7
        program = guest.program
        guest.close()
        assert not program.interrupt()

    def test_the_stack_is_as_it_was(self, tmp_path: Path) -> None:
        guest = library(tmp_path, MEMORY, DEEP)
        before = guest.top()
        for _ in range(TIMES):
            caller = Caller(guest.deep)
            until(lambda: is_running(guest.program))
            assert guest.program.interrupt()
            assert isinstance(caller.join(), Interrupted)
            assert guest.top() == before
        guest.close()

    def test_from_a_signal_handler(self, tmp_path: Path) -> None:
        guest = library(tmp_path, MEMORY, LOOP, OK)
        with on_alarm(lambda *_: interrupt_soon(guest.program)) as alarmed:
            for _ in range(3):
                with pytest.raises(Interrupted, match=r"^libstop\.so was interrupted$"):
                    alarmed(guest.spin)
        assert guest.ok() == 7
        guest.close()

    def test_from_python_that_the_guest_calls(self, tmp_path: Path) -> None:
        def program() -> pylinker.Program:
            return guest.program

        guest = library(tmp_path, MEMORY, CALL, OK, imports={"call": lambda: program().interrupt()})
        for _ in range(3):
            with pytest.raises(Interrupted):
                guest.go()
            assert guest.ok() == 7
        guest.close()

    def test_calls_within_calls_stop_together(self, tmp_path: Path) -> None:
        seen: list[BaseException] = []

        def call() -> None:
            for _ in range(2):  # the second is not even begun
                try:
                    guest.spin()
                except BaseException as error:  # noqa: BLE001 - looked at below
                    seen.append(error)

        guest = library(tmp_path, MEMORY, LOOP, CALL, OK, imports={"call": call})
        for _ in range(3):
            caller = Caller(guest.go)
            until(lambda: is_running(guest.program))
            assert guest.program.interrupt()
            error = caller.join()
            assert isinstance(error, Interrupted)
            assert seen == [error, error]
            seen.clear()
            assert guest.ok() == 7
        guest.close()

    def test_an_exception_of_the_users_own_does_not_hide_it(self, tmp_path: Path) -> None:
        def call() -> None:
            guest.program.interrupt()
            raise ValueError("mine")

        guest = library(tmp_path, MEMORY, CALL, OK, imports={"call": call})
        with pytest.raises(Interrupted):
            guest.go()
        assert guest.ok() == 7
        guest.close()

    def test_run_raises_it_and_the_program_goes_on(self, tmp_path: Path) -> None:
        main = wasm(tmp_path / "main.wasm", MEMORY, LOOP.replace("spin", "_start"), OK)
        with pylinker.Program(main, cache=False) as program:
            caller = Caller(program.run)
            until(lambda: is_running(program))
            assert program.interrupt()
            assert isinstance(caller.join(), Interrupted)
            assert program.main.ok() == 7

    def test_a_program_with_threads_ends(self, tmp_path: Path) -> None:
        guest = library(tmp_path, SHARED, LOOP, OK, threads=True)
        assert not guest.program.interrupt()
        assert guest.ok() == 7
        thread = guest.program.spawn("spin")
        assert guest.program.interrupt()
        with pytest.raises(SynchronizationAborted):
            thread.join()
        with pytest.raises(SynchronizationAborted) as caught:
            guest.ok()
        assert isinstance(caught.value.__cause__, Interrupted)
        guest.program.close()

    @pytest.mark.parametrize("where", ["__wasm_call_ctors", "start"])
    @pytest.mark.parametrize("by", ["host", "guest"])
    def test_inside_the_linker_the_program_ends(self, tmp_path: Path, where: str, by: str) -> None:
        spin = (
            '(import "env" "call" (func $call))(func $spin (export "spin") (call $call) '
            "(loop $again (br $again)))"
        )
        wasm(
            tmp_path / "libbad.so",
            BASE,
            f"{spin}(start $spin)" if where == "start" else spin.replace('"spin"', f'"{where}"'),
        )
        opens = (
            MEMORY,
            '(import "env" "dlopen" (func $dlopen (param i32 i32) (result i32)))',
            '(data (i32.const 64) "libbad.so\\00")',
            '(func (export "open") (result i32) (call $dlopen (i32.const 64) (i32.const 1)))',
        )
        inside = threading.Event()
        guest = library(
            tmp_path,
            *opens,
            OK,
            library_path=[tmp_path],
            dirs={"/lib": tmp_path},
            env={"LD_LIBRARY_PATH": "/lib"},
            imports={"call": inside.set},
        )
        program = guest.program
        caller = Caller(
            guest.open if by == "guest" else lambda: program.dlopen(tmp_path / "libbad.so")
        )
        assert inside.wait(30)
        assert program.interrupt()
        assert isinstance(caller.join(), Interrupted)
        with pytest.raises(SynchronizationAborted) as caught:
            guest.ok()
        assert isinstance(caught.value.__cause__, Interrupted)
        program.close()

    def test_a_program_that_is_dropped_is_freed_at_once(self, tmp_path: Path) -> None:
        held = [library(tmp_path, MEMORY, LOOP)]
        with (
            on_alarm(lambda *_: interrupt_soon(held[0].program)) as alarmed,
            pytest.raises(Interrupted),
        ):
            alarmed(held[0].spin)
        gone = weakref.ref(held[0].program)
        gc.disable()
        try:
            held.clear()
            assert gone() is None
        finally:
            gc.enable()

    def test_it_never_hits_the_next_call_and_none_is_lost(self, tmp_path: Path) -> None:
        """Short and endless calls from several threads, interrupted from several others."""
        guest = library(tmp_path, MEMORY, LOOP, ECHO)
        program = guest.program
        stop = threading.Event()
        accepted = 0
        counted = threading.Lock()

        def interrupt(seed: int) -> None:
            nonlocal accepted
            chance = random.Random(seed)
            while not stop.is_set():
                if program.interrupt():
                    with counted:
                        accepted += 1
                time.sleep(chance.choice((0, 0, 0.0001, 0.002)))

        interrupters = [threading.Thread(target=interrupt, args=(seed,)) for seed in range(2)]
        for each in interrupters:
            each.start()
        interrupted = 0
        try:
            for turn in range(300):
                if turn % 10 == 0:
                    with pytest.raises(Interrupted):  # nothing else ends it
                        guest.spin()
                    interrupted += 1
                for number in range(20):
                    try:
                        assert guest.echo(number) == number
                    except Interrupted:
                        interrupted += 1
        finally:
            stop.set()
            for each in interrupters:
                each.join()
        assert interrupted <= accepted
        for number in range(1000):  # a late stop has hit nothing
            assert guest.echo(number) == number
        guest.close()


class TestSeveralPrograms:
    """A stop of one program in a load, close or destructor of another affects the one alone."""

    @staticmethod
    def stopped(guest: pylinker.CDLL, how: str) -> None:
        if how == "limit":
            with guest.program.time_limit(0.05):
                guest.spin()
        else:
            guest.go()

    @pytest.fixture
    def other(self, tmp_path: Path) -> Iterator[pylinker.CDLL]:
        def call() -> None:
            guest.program.interrupt()

        (tmp_path / "other").mkdir()
        guest = library(tmp_path / "other", MEMORY, LOOP, CALL, OK, imports={"call": call})
        with guest.program:
            yield guest

    @pytest.mark.parametrize("how", ["limit", "interrupt"])
    def test_load(self, tmp_path: Path, other: pylinker.CDLL, how: str) -> None:
        guest = library(tmp_path, MEMORY, OK, imports={"call": lambda: self.stopped(other, how)})
        wasm(
            tmp_path / "libbad.so",
            BASE,
            '(import "env" "call" (func $call))(func (export "__wasm_call_ctors") (call $call))',
        )
        for _ in range(2):
            with pytest.raises((TimeoutExpired, Interrupted)):
                guest.program.dlopen(tmp_path / "libbad.so")
            assert guest.ok() == 7
            assert other.ok() == 7
            assert len(guest.program.libraries) == 1
        guest.close()

    @pytest.mark.parametrize("how", ["limit", "interrupt"])
    def test_destructors(self, tmp_path: Path, other: pylinker.CDLL, how: str) -> None:
        calls = []

        def call() -> None:
            calls.append(how)
            self.stopped(other, how)

        guest = library(tmp_path, MEMORY, TABLE, OK, imports={"call": call})
        register = (
            "(drop (call $register (i32.add (global.get $slots) (i32.const {})) (i32.const 0) "
            "(i32.const 0)))"
        )
        fields = (
            '(import "env" "__cxa_atexit" (func $register (param i32 i32 i32) (result i32)))',
            '(import "env" "__table_base" (global $slots i32))(import "env" "call" (func $call))',
            "(func $first (param i32) (call $call))(func $second (param i32) (call $call))",
            "(elem (global.get $slots) $first $second)",
            f'(func (export "__wasm_call_ctors") {register.format(0)} {register.format(1)})',
        )
        wasm(tmp_path / "libexit.so", TABLE, BASE, *fields, slots=2)
        opened = guest.program.dlopen(tmp_path / "libexit.so")
        with pytest.raises((TimeoutExpired, Interrupted)):
            opened.close()
        assert len(calls) == 2
        assert guest.ok() == 7
        assert len(guest.program.libraries) == 1
        guest.close()


class TestTimeLimits:
    def test_calls_of_other_threads_go_on(self, tmp_path: Path) -> None:
        guest = library(tmp_path, MEMORY, LOOP, OK)
        other = Caller(guest.spin)
        until(lambda: is_running(guest.program))
        with pytest.raises(TimeoutExpired), guest.program.time_limit(0.05):
            guest.ok()  # the other thread holds the main lock
        assert is_running(guest.program)
        assert guest.program.interrupt()
        assert isinstance(other.join(), Interrupted)
        assert guest.ok() == 7
        guest.close()

    def test_many_short_calls(self, tmp_path: Path) -> None:
        guest = library(tmp_path, MEMORY, OK)

        def calls() -> None:
            while True:
                guest.ok()

        with pytest.raises(TimeoutExpired), guest.program.time_limit(0.05):
            calls()
        assert guest.ok() == 7
        guest.close()

    def test_a_call_that_begins_too_late(self, tmp_path: Path) -> None:
        guest = library(tmp_path, MEMORY, LOOP, OK)

        def late() -> None:
            until(lambda: guest.program._linker.context.expired)  # type: ignore[union-attr]
            guest.spin()

        with pytest.raises(TimeoutExpired), guest.program.time_limit(0.01):
            late()
        assert guest.ok() == 7
        assert not guest.program._linker.context.expired  # type: ignore[union-attr]
        guest.close()

    def test_from_several_threads(self, tmp_path: Path) -> None:
        guest = library(tmp_path, MEMORY, LOOP, OK)
        program = guest.program

        def limited() -> None:
            with program.time_limit(0.05):
                guest.spin()

        for _ in range(3):
            callers = [Caller(limited) for _ in range(4)]
            assert [type(each.join()) for each in callers] == [TimeoutExpired] * 4
            assert guest.ok() == 7
        guest.close()

    def test_bound_the_destructors_of_a_close(self, tmp_path: Path) -> None:
        """The library is closed all the same, and how does not matter: its program is over."""
        fields = (
            MEMORY,
            TABLE,
            '(import "env" "__table_base" (global $slot i32))',
            '(import "env" "__cxa_atexit" (func $atexit (param i32 i32 i32) (result i32)))',
            "(elem (global.get $slot) $endless)",
            "(func $endless (param i32) (loop (br 0)))",
            (
                '(func (export "register") (drop (call $atexit (global.get $slot) '
                "(i32.const 0) (i32.const 0))))"
            ),
        )
        for _ in range(2):
            guest = pylinker.CDLL(wasm(tmp_path / "libguest.so", *fields, slots=1), cache=False)
            guest.register()
            with pytest.raises(TimeoutExpired), guest.program.time_limit(0.05):
                guest.close()
            assert guest.program.closed
            guest.close()


class TestClose:
    @pytest.mark.parametrize("how", ["spin", "nap"])
    @pytest.mark.parametrize("whole", [False, True])
    def test_stops_the_call_of_another_thread(self, tmp_path: Path, how: str, whole: bool) -> None:
        guest = library(tmp_path, MEMORY, LOOP, OK, *NAP)
        caller = Caller(guest[how])
        until(lambda: is_running(guest.program))
        (guest.program if whole else guest).close()
        error = caller.join()
        assert isinstance(error, SynchronizationAborted)
        assert isinstance(error.__cause__, pylinker.ClosedError)
        assert guest.program.closed

    def test_a_library_that_is_closed_runs_its_destructors(self, tmp_path: Path) -> None:
        told: list[int] = []
        fields = (
            '(import "env" "tell" (func $tell (param i32)))(import "env" "atexit" '
            "(func $atexit (param i32) (result i32)))"
            '(import "env" "__table_base" (global $base i32))'
            '(import "env" "__indirect_function_table" (table 1 funcref))'
            "(elem (global.get $base) $bye)(func $bye (call $tell (i32.const 3)))"
            '(func (export "__wasm_call_ctors") (drop (call $atexit (global.get $base))))'
        )
        guest = library(tmp_path, MEMORY, LOOP, fields, imports={"tell": told.append})
        caller = Caller(guest.spin)
        until(lambda: is_running(guest.program))
        guest.close()
        assert isinstance(caller.join(), SynchronizationAborted)
        assert told == [3]


def test_a_thread_ends_with_what_stopped_its_call(tmp_path: Path) -> None:
    """The exception that no code of the thread handles is printed as any other."""
    wasm(tmp_path / "libstop.so", MEMORY, LOOP)
    script = textwrap.dedent("""
        import sys, threading, time, pylinker
        library = pylinker.CDLL(sys.argv[1], cache=False)
        thread = threading.Thread(target=library.spin, daemon=True)
        thread.start()
        while not library.program.interrupt():
            time.sleep(0.01)
        thread.join()
        print("joined")
    """)
    command = [sys.executable, "-c", script, str(tmp_path / "libstop.so")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0
    assert result.stdout == "joined\n"
    assert "Interrupted" in result.stderr  # the thread's own traceback


ATEXIT = (
    '(import "env" "__cxa_atexit" (func $atexit (param i32 i32 i32) (result i32)))'
    '(import "env" "__table_base" (global $base i32))'
    '(import "env" "__indirect_function_table" (table 1 funcref))'
    "(elem (global.get $base) $bye)"
)
REGISTER = """
(func (export "register") (param i32) (result i32) (local i32)
  (loop $again
    (local.set 1 (i32.add (local.get 1) (call $atexit (global.get $base) (i32.const 0)
      (i32.const 0))))
    (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
  (local.get 1))
"""


class TestLoopsOfTheLinker:
    """Their length is the guest's choice, so they look whether they are to end."""

    @pytest.mark.parametrize("by", ["limit", "signal", "interrupt"])
    def test_destructors(self, tmp_path: Path, by: str) -> None:
        # Each registers itself again, so that there is no end to them.
        again = (
            f"(func $bye (param i32) (drop (call $atexit (global.get $base) (i32.const 0) "
            f"(i32.const 0)))){REGISTER}"
        )
        guest = library(tmp_path, MEMORY, OK, ATEXIT, again)
        assert guest.register(3) == 0
        program = guest.program
        with on_alarm(interrupting) as alarmed:
            if by == "limit":
                with pytest.raises(TimeoutExpired), program.time_limit(0.1):
                    guest.close()
            elif by == "signal":
                with pytest.raises(KeyboardInterrupt):
                    alarmed(guest.close)
            else:
                caller = Caller(guest.close)
                while not caller.result:
                    program.interrupt()
                    time.sleep(0.001)
                assert isinstance(caller.join(), Interrupted)
        assert program.closed

    def test_destructors_of_a_library_that_is_closed(self, tmp_path: Path) -> None:
        again = (
            f"(func $bye (param i32) (drop (call $atexit (global.get $base) (i32.const 0) "
            f"(i32.const 0)))){REGISTER}"
        )
        wasm(tmp_path / "libagain.so", BASE, ATEXIT, again)
        guest = library(tmp_path, MEMORY, OK)
        program = guest.program
        other = program.dlopen(tmp_path / "libagain.so")
        assert other.register(1) == 0
        with pytest.raises(TimeoutExpired), program.time_limit(0.1):
            other.close()
        with pytest.raises(SynchronizationAborted):  # it was stopped inside the linker
            guest.ok()
        program.close()

    def test_no_destructor_runs_after_the_time_is_over(self, tmp_path: Path) -> None:
        """The loop looks by itself: a destructor is too short to be met by the watcher."""
        told: list[int] = []
        tell = (
            '(import "env" "tell" (func $tell (param i32)))(func $bye (param i32) '
            "(call $tell (i32.const 3)))"
        )
        guest = library(
            tmp_path, MEMORY, OK, ATEXIT + tell + REGISTER, imports={"tell": told.append}
        )
        assert guest.register(1000) == 0

        def late() -> None:
            until(lambda: guest.program._linker.context.expired)  # type: ignore[union-attr]
            guest.program._linker.unloader.finalize_all()  # type: ignore[union-attr]

        with pytest.raises(TimeoutExpired), guest.program.time_limit(0.01):
            late()
        assert not told
        guest.close()
        assert len(told) == 1000

    @pytest.mark.parametrize("threads", [False, True])
    def test_needed_libraries(self, tmp_path: Path, threads: bool) -> None:
        """A library with many names for itself, each of which is looked up."""
        names = tuple(f"{'./' * 20}{'/' * number}libmany.so" for number in range(900))
        wasm(tmp_path / "libmany.so", needed=names)
        guest = library(
            tmp_path, SHARED if threads else MEMORY, OK, threads=threads, dirs={".": tmp_path}
        )
        locator = guest.program._linker.locator  # type: ignore[union-attr]
        finds = locator.find
        found: list[object] = []

        def find(*arguments: object, **keywords: object) -> object:
            found.append(arguments)
            if len(found) == 5:
                until(lambda: context.expired if not threads else context.shared.cause)
            return finds(*arguments, **keywords)

        context = guest.program._linker.context  # type: ignore[union-attr]
        locator.find = find  # type: ignore[method-assign, assignment]
        with pytest.raises(TimeoutExpired), guest.program.time_limit(1):
            guest.program.dlopen(tmp_path / "libmany.so")
        assert len(found) == 5
        guest.program.close()


class TestWhatALoopHolds:
    def test_destructors(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        guest = library(
            tmp_path,
            MEMORY,
            OK,
            ATEXIT,
            f"(func $bye (param i32)){REGISTER}",
            limits=pylinker.Limits(destructors=10),
        )
        assert guest.register(7) == 0
        assert guest.register(10) == -7
        assert guest.register(1) == -1
        assert [record.getMessage() for record in caplog.records] == [
            "the limit of 10 destructors is reached: raise Limits(destructors=...)"
        ]
        guest.program._linker.unloader.finalize_all()  # type: ignore[union-attr]
        assert guest.register(12) == -2
        guest.close()

    def test_a_constructor_that_traps_for_them_says_so(self, tmp_path: Path) -> None:
        atexit = '(import "env" "atexit" (func $atexit (param i32) (result i32)))'
        constructor = (
            '(func (export "__wasm_call_ctors") '
            "(loop (br_if 0 (i32.eqz (call $atexit (i32.const 1))))) unreachable)"
        )
        trapping = wasm(
            tmp_path / "libtrap.so", TABLE, '(func (export "__wasm_call_ctors") unreachable)'
        )
        path = wasm(tmp_path / "libmany.so", TABLE, atexit, constructor)
        with pylinker.Program(limits=pylinker.Limits(destructors=3), cache=False) as program:
            for _ in range(2):
                with pytest.raises(
                    pylinker.InitializationError,
                    match=r"limit of 3 destructors is reached: raise Limits\(destructors=",
                ) as caught:
                    program.dlopen(path)
                assert isinstance(caught.value.__cause__, wasmtime.Trap)
                with pytest.raises(pylinker.InitializationError, match=r"instruction executed$"):
                    program.dlopen(trapping)

    def test_the_default_is_enough_for_large_programs_and_no_more(self, tmp_path: Path) -> None:
        guest = library(tmp_path, MEMORY, ATEXIT, f"(func $bye (param i32)){REGISTER}")
        assert guest.register(100_003) == -3
        guest.program.close()

    def test_runtime_paths(self, tmp_path: Path) -> None:
        (tmp_path / "libfar.so").write_bytes(
            dylink(needed=["libaway.so"], runtime_path=["$ORIGIN"] * 12)
        )
        wasm(tmp_path / "libaway.so", OK)
        says = r"libfar\.so: a runtime path of 12 directories; the limit is 11"
        program = pylinker.Program(
            limits=pylinker.Limits(runtime_path=11), cache=False, dirs={"/": tmp_path}
        )
        with program, pytest.raises(pylinker.LimitError, match=says):
            program.dlopen(tmp_path / "libfar.so")
        with pylinker.Program(
            limits=pylinker.Limits(runtime_path=12), cache=False, dirs={"/": tmp_path}
        ) as program:
            program.dlopen(tmp_path / "libfar.so")

    def test_needed_libraries(self, tmp_path: Path) -> None:
        (tmp_path / "libmany.so").write_bytes(
            dylink(needed=[f"lib{number}.so" for number in range(6)])
        )
        says = r"libmany\.so: needs 6 libraries; the limit is 5 modules"
        program = pylinker.Program(limits=pylinker.Limits(modules=5), cache=False)
        with program, pytest.raises(pylinker.LimitError, match=says):
            program.dlopen(tmp_path / "libmany.so")

    def test_libraries_that_a_constructor_opens_and_closes(self, tmp_path: Path) -> None:
        """The record for a rollback does not grow with the number of calls."""
        wasm(tmp_path / "libplain.so", OK)
        loop = (
            '(import "env" "dlopen" (func $dlopen (param i32 i32) (result i32)))'
            '(import "env" "dlclose" (func $dlclose (param i32) (result i32)))'
            '(import "env" "look" (func $look))(data (i32.const 64) "libplain.so\\00")'
            '(func (export "__wasm_call_ctors") (local i32) (local.set 0 (i32.const 1000))'
            "(loop $again (drop (call $dlopen (i32.const 64) (i32.const 1)))"
            "(drop (call $dlclose (call $dlopen (i32.const 64) (i32.const 1))))"
            "(br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))) (call $look))"
        )
        seen = []

        def look() -> None:
            linker = program._linker
            assert linker is not None
            [[opened]] = linker.unloader.nested_opens.values()
            seen.append(dict(opened))

        wasm(tmp_path / "libloop.so", BASE, MEMORY, loop)
        with pylinker.Program(
            imports={"look": look},
            cache=False,
            dirs={"/lib": tmp_path},
            env={"LD_LIBRARY_PATH": "/lib"},
        ) as program:
            program.dlopen(tmp_path / "libloop.so")
            [held] = seen
            assert list(held.values()) == [1000]
