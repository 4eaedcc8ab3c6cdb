"""Python functions while guests call them: recursion, failures inside, threads, lifetime."""

from __future__ import annotations

import gc
import signal
import threading
import time
import weakref
from typing import Any

import pytest
import wasmtime

import pylinker
from fields import MEMORY, SHARED, forward, wasm
from guests import DEADLINE, orderly
from pylinker.native import hostfuncs
from pylinker.runtime import callbacks


class TestInside:
    """Actions of a function while its guest waits for it."""

    def test_recursion(self, tmp_path):
        path = wasm(
            tmp_path / "lib.so",
            '(import "env" "f" (func $f (param i32) (result i32)))',
            '(func (export "go") (param i32) (result i32) '
            "(i32.add (i32.const 1) (call $f (i32.sub (local.get 0) (i32.const 1)))))",
        )
        depth = 60

        def function(rest):
            return library.go(rest) if rest > 0 else 0

        library = pylinker.CDLL(path, imports={"f": function})
        assert library.go(depth) == depth

    def test_an_inner_failure_may_be_caught(self, tmp_path):
        path = wasm(
            tmp_path / "lib.so",
            '(import "env" "f" (func $f (param i32) (result i32)))',
            '(func (export "go") (param i32) (result i32) (call $f (local.get 0)))',
            '(func (export "trap") unreachable)',
        )

        def function(what):
            if what == 1:
                raise ValueError("inner")
            if what == 2:
                with pytest.raises(ValueError, match="inner"):
                    library.go(1)
                with pytest.raises(wasmtime.Trap):
                    library.trap()
                return library.go(3)
            if what == 4:
                return library.go(1)
            return 10 + what

        library = pylinker.CDLL(path, imports={"f": function})
        assert library.go(2) == 13
        with pytest.raises(ValueError, match="inner"):
            library.go(4)
        assert library.go(0) == 10

    def test_it_may_open_and_close_libraries_and_read_memory(self, tmp_path):
        wasm(tmp_path / "other.so", '(func (export "seven") (result i32) (i32.const 7))')
        wasm(tmp_path / "lib.so", *forward("f", "i32", "i32"), MEMORY)

        def function(address):
            with program.dlopen("other.so") as other:
                program.memory.write(address, b"written")
                return other.seven() + len(program.libraries)

        with pylinker.Program(None, library_path=[tmp_path], imports={"f": function}) as program:
            library = program.dlopen("lib.so")
            assert library.go(128) == 9
            assert program.memory.read(128, 7) == b"written"
            assert len(program.libraries) == 1

    def test_it_may_close_the_library_that_calls_it(self, tmp_path):
        wasm(tmp_path / "lib.so", *forward("f", "", "i32"))
        opened = []

        def function():
            if opened:
                opened.pop().close()
            return 5

        with pylinker.Program(None, library_path=[tmp_path], imports={"f": function}) as program:
            opened.append(program.dlopen("lib.so"))
            library = opened[0]
            assert library.go() == 5
            with pytest.raises(pylinker.ClosedError):
                library.go()
            assert program.dlopen("lib.so").go() == 5

    def test_ctrl_c(self, tmp_path):
        path = wasm(tmp_path / "lib.so", *forward("f", "", "i32"))

        def function():
            signal.raise_signal(signal.SIGINT)
            return 1

        library = pylinker.CDLL(path, imports={"f": function})
        with pytest.raises(KeyboardInterrupt):
            library.go()


class TestThreads:
    """Any number of threads in the same function at once, while libraries come and go."""

    @pytest.fixture(autouse=True)
    def in_time(self):
        with orderly():
            yield

    @pytest.fixture
    def folder(self, tmp_path):
        wasm(
            tmp_path / "main.so",
            SHARED,
            '(import "env" "count" (func $count (param i32 i32) (result i32)))',
            '(import "env" "half" (func $half (param f64) (result f64)))',
            '(import "env" "mixed" (func $mixed (param i32 f32 i64) (result i64)))',
            '(import "env" "fail" (func $fail))',
            '(func (export "hammer") (param $times i32) (result i32) (local $sum i32)'
            " (loop $again"
            "  (local.set $sum (i32.add (local.get $sum) "
            "(call $count (local.get $times) (i32.const 1))))"
            "  (if (f64.ne (call $half (f64.convert_i32_s (local.get $times)))"
            "    (f64.div (f64.convert_i32_s (local.get $times)) (f64.const 2)))"
            "   (then unreachable))"
            "  (if (i64.ne (call $mixed (local.get $times) (f32.const 0.5) (i64.const 3)) "
            "(i64.extend_i32_s (local.get $times)))"
            "   (then unreachable))"
            "  (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))"
            " (local.get $sum))",
            '(func (export "failing") (call $fail))',
            '(func (export "id") (param i32) (result i32) (local.get 0))',
        )
        wasm(
            tmp_path / "comes.so",
            SHARED,
            *forward("count", "i32 i32", "i32"),
            '(import "GOT.func" "f" (global $p (mut i32)))',
            '(import "env" "f" (func))',
        )
        return tmp_path

    def functions(self, **more: Any) -> dict[str, Any]:
        return {
            "count": lambda _, value: value,
            "half": lambda value: value / 2,
            "mixed": lambda a, _b, _c: a,
            "fail": lambda: None,
            "f": lambda: None,
            **more,
        }

    def test_eight_threads_in_one_function(self, folder):
        lock = threading.Lock()
        together = threading.Barrier(8)
        total = 0

        def count(times_left, value):
            nonlocal total
            if times_left == times:
                together.wait(DEADLINE)  # all of them are in here at once
            with lock:
                total += value
            return value

        times = 400
        with pylinker.CDLL(
            "main.so", library_path=[folder], threads=True, imports=self.functions(count=count)
        ) as main:
            program = main.program
            threads = [program.spawn("hammer", times) for _ in range(8)]
            opened = 0
            while any(thread.is_alive for thread in threads) or not opened:
                with program.dlopen("comes.so") as library:
                    assert library.go(0, 5) == 5
                opened += 1
            assert [thread.join(DEADLINE) for thread in threads] == [times] * 8
            assert total == 8 * times + 5 * opened
            assert program.statistics().modules == 1

    def test_a_function_that_waits_holds_no_library_up(self, folder):
        """Its group is parked, so another thread's dlopen does not wait for it."""
        inside, leave = threading.Event(), threading.Event()

        def fail():
            inside.set()
            assert leave.wait(DEADLINE)

        with pylinker.CDLL(
            "main.so", library_path=[folder], threads=True, imports=self.functions(fail=fail)
        ) as main:
            thread = main.program.spawn("failing")
            assert inside.wait(DEADLINE)
            with main.program.dlopen("comes.so") as library:
                assert library.go(0, 3) == 3
            leave.set()
            assert thread.join(DEADLINE) is None

    def test_memory_and_recursion_on_a_guests_thread(self, folder):
        names = set()

        def count(address, value):
            memory = main.program.memory
            memory.write(1024 + 8 * address, value.to_bytes(4, "little"))
            names.add(threading.current_thread().name)
            return int.from_bytes(memory.read(1024 + 8 * address, 4), "little") + main.id(0)

        with pylinker.CDLL(
            "main.so", library_path=[folder], threads=True, imports=self.functions(count=count)
        ) as main:
            threads = [main.program.spawn("hammer", 50) for _ in range(4)]
            assert [thread.join(DEADLINE) for thread in threads] == [50] * 4
            assert main.hammer(50) == 50
            assert len(names) == 5

    @pytest.mark.parametrize("own_cause", [False, True])
    def test_an_exception_ends_the_program_as_the_trap_it_is(self, own_cause, folder):
        def fail():
            raise ValueError("mine") from (KeyError() if own_cause else None)

        with pylinker.CDLL(
            "main.so", library_path=[folder], threads=True, imports=self.functions(fail=fail)
        ) as main:
            with pytest.raises(ValueError, match="mine"):
                main.program.spawn("failing").join(DEADLINE)
            with pytest.raises(pylinker.SynchronizationAborted) as caught:
                main.id(5)
            assert isinstance(caught.value.__cause__, ValueError)

    def test_an_exception_of_python_that_no_guest_saw_ends_nothing(self, folder):
        def work():
            raise ValueError("mine")

        with pylinker.CDLL(
            "main.so", library_path=[folder], threads=True, imports=self.functions()
        ) as main:
            with pytest.raises(ValueError, match="mine"):
                main.program.spawn(work).join(DEADLINE)
            assert main.id(5) == 5

    def test_exceptions_of_threads_are_not_mixed_up(self, folder):
        def fail():
            raise ValueError(threading.get_ident())

        def work():
            for _ in range(100):
                with pytest.raises(ValueError, match=str(threading.get_ident())):
                    main.failing()
            return True

        with pylinker.CDLL(
            "main.so", library_path=[folder], threads=True, imports=self.functions(fail=fail)
        ) as main:
            threads = [main.program.spawn(work) for _ in range(6)]
            assert work()
            assert all(thread.join(DEADLINE) for thread in threads)

    def test_the_end_of_the_program_reaches_a_thread_that_comes_back(self, folder):
        inside, leave = threading.Event(), threading.Event()

        def fail():
            inside.set()
            assert leave.wait(DEADLINE)

        main = pylinker.CDLL(
            "main.so", library_path=[folder], threads=True, imports=self.functions(fail=fail)
        )
        thread = main.program.spawn("failing")
        assert inside.wait(DEADLINE)
        closer = threading.Thread(target=main.program.close)
        closer.start()
        while not main.program.closed:
            assert closer.is_alive()
        leave.set()
        closer.join(DEADLINE)
        with pytest.raises(pylinker.SynchronizationAborted):
            thread.join(DEADLINE)


class TestThreadsOfTheGuest:
    """Threads that the guest starts are none of Python's."""

    @pytest.fixture(autouse=True)
    def in_time(self):
        with orderly():
            yield

    @pytest.fixture
    def folder(self, tmp_path):
        wasm(
            tmp_path / "main.wasm",
            SHARED,
            '(import "env" "__memory_base" (global $base i32))',
            '(import "env" "f" (func $f (param i32 i32) (result i32)))',
            '(import "env" "pause" (func $pause))',
            '(import "wasi" "thread-spawn" (func $spawn (param i32) (result i32)))',
            '(func (export "wasi_thread_start") (param $tid i32) (param $times i32)'
            " (loop $again"
            "  (drop (call $f (local.get $tid) (local.get $times)))"
            "  (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))"
            " (drop (i32.atomic.rmw.add (global.get $base) (i32.const 1))))",
            '(func (export "_start") (local $count i32)'
            " (loop $again"
            "  (if (i32.lt_s (call $spawn (i32.const 100)) (i32.const 0)) (then unreachable))"
            "  (br_if $again (i32.lt_s (local.tee $count "
            "(i32.add (local.get $count) (i32.const 1))) (i32.const 8))))"
            " (loop $again"
            "  (call $pause)"
            "  (br_if $again (i32.ne (i32.atomic.load (global.get $base)) (i32.const 8)))))",
        )
        wasm(tmp_path / "comes.so", SHARED, *forward("f", "i32 i32", "i32"))
        return tmp_path

    def test_eight_of_them_in_one_function(self, folder):
        lock, together = threading.Lock(), threading.Barrier(8)
        calls: dict[int, list[int]] = {}
        idents = set()

        def f(tid, left):
            if left == 100:
                together.wait(DEADLINE)
            with lock:
                calls.setdefault(tid, []).append(left)
                idents.add(threading.get_ident())
            if left == 0:
                return 7
            program.memory.write(4096 + 4 * tid, left.to_bytes(4, "little"))
            if left == 50:
                with program.dlopen("comes.so") as library:
                    assert library.go(tid, 0) == 7
            assert program.memory.read(4096 + 4 * tid, 4) == left.to_bytes(4, "little")
            return 7

        given = {"f": f, "pause": lambda: time.sleep(0.001)}
        with pylinker.Program(folder / "main.wasm", threads=True, imports=given) as program:
            assert program.run() == 0
            assert sorted(calls) == list(range(1, 9))
            assert all(
                left == [*range(100, 49, -1), 0, *range(49, 0, -1)] for left in calls.values()
            )
            assert len(idents) == 8
            assert [each.name for each in program.libraries] == ["main.wasm"]

    def test_what_one_raises_comes_out_of_run(self, folder):
        error = ValueError("mine")

        def f(tid, left):
            if tid == 5 and left == 50:
                raise error from KeyError()
            return 7

        given = {"f": f, "pause": lambda: time.sleep(0.001)}
        with pylinker.Program(folder / "main.wasm", threads=True, imports=given) as program:
            with pytest.raises(ValueError, match="mine") as caught:
                program.run()
            assert caught.value is error

    def test_a_result_that_does_not_fit_does(self, folder):
        given = {"f": lambda tid, _: 2**32 if tid == 3 else 1, "pause": lambda: time.sleep(0.001)}
        with (
            pylinker.Program(folder / "main.wasm", threads=True, imports=given) as program,
            pytest.raises(OverflowError, match=r"^f\(i32, i32\) -> i32 returned"),
        ):
            program.run()


class TestLifetime:
    """The functions go with the program, also if they lead back to it."""

    @staticmethod
    def registered() -> tuple[int, int, int]:
        gc.collect()
        return len(callbacks._functions), len(callbacks._callbacks), len(hostfuncs._host_functions)

    def test_a_program_that_is_closed_lets_go(self, tmp_path):
        class Function:
            def __call__(self, value):
                return value

        wasm(tmp_path / "lib.so", *forward("f", "i32", "i32"))
        before = self.registered()
        function = Function()
        known = weakref.ref(function)
        gc.disable()
        try:
            library = pylinker.CDLL(tmp_path / "lib.so", imports={"f": function})
            go = library.go
            del function
            assert go(3) == 3
            assert known() is not None
            library.close()
            assert known() is None
        finally:
            gc.enable()
        with pytest.raises(pylinker.ClosedError):
            go(3)
        del go, library
        assert self.registered() == before

    @pytest.mark.parametrize("params", ["i32", "i32 f32"])
    def test_a_function_that_leads_back_to_its_program_keeps_nobody_alive(self, params, tmp_path):
        wasm(tmp_path / "lib.so", *forward("f", params, "i32"))
        before = self.registered()

        def make():
            def function(*_):
                return len(library.program.libraries)

            library = pylinker.CDLL(tmp_path / "lib.so", imports={"f": function})
            assert library.go(*[1] * len(params.split())) == 1
            return (
                weakref.ref(library.program),
                weakref.ref(function),
                weakref.ref(library.program._linker.group.store),
            )

        known = make()
        gc.collect()
        assert [each() for each in known] == [None] * 3
        assert self.registered() == before

    def test_opening_again_and_again_makes_no_more_of_them(self, tmp_path):
        wasm(tmp_path / "lib.so", *forward("f", "i32", "i32"))
        with pylinker.Program(
            None, library_path=[tmp_path], imports={"f": lambda value: value}
        ) as program:
            program.dlopen("lib.so").close()
            before = self.registered()
            for _ in range(20):
                with program.dlopen("lib.so") as library:
                    assert library.go(4) == 4
            assert self.registered() == before

    @pytest.mark.parametrize("params", ["i32", "f64", "i32 f64"])
    def test_a_call_after_the_function_is_gone_is_a_trap_and_no_crash(self, params, tmp_path):
        """As a thread may make that was left behind in a wait."""
        path = wasm(tmp_path / "lib.so", *forward("f", params, "f64" if params == "f64" else "i32"))
        library = pylinker.CDLL(path, imports={"f": lambda *_: 1})
        go = library.go
        arguments = [1] * len(params.split())
        assert go(*arguments) == 1
        library.program._linker.state.imports._callbacks.clear()
        gc.collect()
        with pytest.raises(pylinker.InternalError, match=r"freed|unloaded"):
            go(*arguments)
