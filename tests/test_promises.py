"""Statements of README, docs and docstrings without another test; each test names its own."""

from __future__ import annotations

import inspect
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
import wasmtime
from click.testing import CliRunner

import pylinker
import pylinker.cli.app
import pylinker.cli.run
from fields import BASE, MEMORY, SHARED, TABLE, forward, wasm
from guests import orderly
from pylinker import RTLD_DEFAULT, RTLD_NEXT, Interrupted, SynchronizationAborted, demo
from pylinker.cli.app import COMMANDS, app

if TYPE_CHECKING:
    from typing import Self

ONE = '(func (export "one") (result i32) (i32.const 1))'
TWO = '(func (export "one") (result i32) (i32.const 2))'
BOOM = '(func (export "boom") unreachable)'
READY = '(import "env" "ready" (func $ready))'
SPIN = '(func (export "spin") (call $ready) (loop $again (br $again)))'
RUNS = '(func (export "_start") (call $ready) (loop $again (br $again)))'
ORDINARY = (
    '(memory (export "memory") 1)',
    '(table (export "__indirect_function_table") 1 funcref)',
    '(global (export "__stack_pointer") (mut i32) (i32.const 1024))',
)
EXIT = '(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))'


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    with orderly():
        yield


class AtReady:
    """A host function ``ready``: another thread does ``action`` when a guest has called it."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action
        self._called = threading.Event()
        self._was_called = False
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()

    def __call__(self) -> None:
        self._was_called = True
        self._called.set()

    def _wait(self) -> None:
        self._called.wait()
        if self._was_called:
            self._action()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._called.set()
        self._thread.join()


def ctrl_c() -> AtReady:
    return AtReady(lambda: os.kill(os.getpid(), signal.SIGINT))


def library(path: Path, *fields: str, **keywords: Any) -> Path:
    return wasm(path, BASE, *fields, **keywords)


class TestAfterTheEnd:
    """A program that has ended, until it is closed."""

    @pytest.fixture(params=["a library without threads", "with threads"])
    def ended(
        self, request: pytest.FixtureRequest, tmp_path: Path
    ) -> Iterator[tuple[pylinker.Program, pylinker.Library, str]]:
        threads = request.param == "with threads"
        memory = SHARED if threads else MEMORY
        bad = library(
            tmp_path / "libbad.so", memory, READY, SPIN.replace("spin", "__wasm_call_ctors")
        )
        good = library(
            tmp_path / "libgood.so",
            memory,
            ONE,
            BOOM,
            '(global (export "datum") i32 (i32.const 4))',
        )

        def ready() -> None:
            """Let a limit of time be over within the linker: without threads the program ends."""
            linker = program._linker
            assert linker is not None
            with program.time_limit(0.02):
                while not linker.context.shared.cause:
                    time.sleep(0.001)

        with pylinker.Program(
            preload=[good],
            threads=threads,
            imports={"ready": ready},
            stdout=pylinker.CAPTURE,
            cache=False,
        ) as program:
            opened = program.dlopen(good)
            if threads:
                with pytest.raises(wasmtime.Trap):
                    program.spawn("boom").join()
            else:
                with pytest.raises(pylinker.TimeoutExpired):
                    program.dlopen(bad)
            yield program, opened, "Trap" if threads else "TimeoutExpired"

    def test_what_can_be_read(self, ended: tuple[pylinker.Program, pylinker.Library, str]) -> None:
        program, opened, _ = ended
        assert program.memory.read(0, 4) == bytes(4)
        assert program.libraries[0].name == "libgood.so"
        assert program.statistics().modules == len(program.libraries)
        assert program.stdout == b""
        assert "one" in opened and opened.address_of("datum")
        assert not program.interrupt()

    @pytest.mark.parametrize("what", ["call", "dlopen", "spawn"])
    def test_what_is_refused_and_why(
        self, ended: tuple[pylinker.Program, pylinker.Library, str], what: str, tmp_path: Path
    ) -> None:
        program, opened, reason = ended
        uses: dict[str, Callable[[], object]] = {
            "call": opened.one,
            "dlopen": lambda: program.dlopen(tmp_path / "libgood.so"),
            "spawn": lambda: program.spawn("one").join(),
        }
        if what == "spawn" and reason == "TimeoutExpired":
            with pytest.raises(pylinker.UnsupportedError):
                uses[what]()
            return
        for _ in range(2):
            with pytest.raises(SynchronizationAborted) as caught:
                uses[what]()
            assert type(caught.value.__cause__).__name__ == reason

    def test_closing_a_library_hides_no_exception(
        self, ended: tuple[pylinker.Program, pylinker.Library, str]
    ) -> None:
        program, opened, _ = ended
        with pytest.raises(ZeroDivisionError), opened:
            raise ZeroDivisionError
        opened.close()
        with pytest.raises(pylinker.ClosedError):
            opened["one"]
        assert len(program.libraries) >= 1


class TestCtrlC:
    """Ctrl-C raises KeyboardInterrupt from the call, also in the linker; the program goes on."""

    @pytest.mark.parametrize("threads", [False, True])
    @pytest.mark.parametrize(
        "where", ["a constructor", "a constructor of a library that the guest opens"]
    )
    def test_a_load_is_undone(self, tmp_path: Path, threads: bool, where: str) -> None:
        memory = SHARED if threads else MEMORY
        library(tmp_path / "libbad.so", memory, READY, SPIN.replace("spin", "__wasm_call_ctors"))
        opens = (
            '(import "env" "dlopen" (func $dlopen (param i32 i32) (result i32)))',
            '(data (i32.const 64) "libbad.so\\00")',
            '(func (export "open") (drop (call $dlopen (i32.const 64) (i32.const 1))))',
        )
        good = wasm(tmp_path / "libgood.so", BASE, memory, ONE, *opens)
        with (
            ctrl_c() as ready,
            pylinker.Program(
                library_path=[tmp_path],
                preload=[good],
                threads=threads,
                imports={"ready": ready},
                cache=False,
            ) as program,
        ):
            with pytest.raises(KeyboardInterrupt):
                program.dlopen("libbad.so") if where == "a constructor" else program.main.open()
            assert [each.name for each in program.libraries] == ["libgood.so"]
            assert program.main.one() == 1

    def test_a_destructor_stops_and_the_library_goes(self, tmp_path: Path) -> None:
        good = library(tmp_path / "libgood.so", MEMORY, ONE)
        bad = library(
            tmp_path / "libbad.so",
            MEMORY,
            TABLE,
            READY,
            '(import "env" "__table_base" (global $table i32))',
            '(import "env" "atexit" (func $atexit (param i32) (result i32)))',
            "(func $spin (call $ready) (loop $again (br $again)))",
            "(elem (global.get $table) $spin)",
            '(func (export "__wasm_call_ctors") (drop (call $atexit (global.get $table))))',
            slots=1,
        )
        with (
            ctrl_c() as ready,
            pylinker.Program(preload=[good], imports={"ready": ready}, cache=False) as program,
        ):
            opened = program.dlopen(bad)
            with pytest.raises(KeyboardInterrupt):
                opened.close()
            assert [each.name for each in program.libraries] == ["libgood.so"]
            assert program.main.one() == 1

    def test_run_without_threads_leaves_the_program_as_a_call_does(self, tmp_path: Path) -> None:
        main = wasm(tmp_path / "main.wasm", *ORDINARY, READY, RUNS, ONE, dynamic=False)
        with (
            ctrl_c() as ready,
            pylinker.Program(main, imports={"ready": ready}, cache=False) as program,
        ):
            with pytest.raises(KeyboardInterrupt):
                program.run()
            assert program.main.one() == 1
            with pytest.raises(pylinker.AlreadyRunError):
                program.run(timeout=10)

    def test_it_is_not_the_cause_of_a_later_end(self, tmp_path: Path) -> None:
        good = library(tmp_path / "libgood.so", SHARED, READY, SPIN, ONE, BOOM)
        with (
            ctrl_c() as ready,
            pylinker.Program(
                preload=[good], threads=True, imports={"ready": ready}, cache=False
            ) as program,
        ):
            with pytest.raises(KeyboardInterrupt):
                program.main.spin()
            assert program.main.one() == 1
            with pytest.raises(wasmtime.Trap):
                program.spawn("boom").join()
            with pytest.raises(SynchronizationAborted) as caught:
                program.main.one()
            assert isinstance(caught.value.__cause__, wasmtime.Trap)


class TestInterruptWithThreads:
    @pytest.mark.parametrize("how", ["call", "run"])
    def test_a_call_is_aborted_with_it_as_the_cause_and_run_raises_it(
        self, tmp_path: Path, how: str
    ) -> None:
        main = wasm(tmp_path / "main.wasm", SHARED, READY, SPIN, RUNS)
        programs: list[pylinker.Program] = []

        def interrupt() -> None:
            assert programs[0].interrupt()

        with (
            AtReady(interrupt) as ready,
            pylinker.Program(main, threads=True, imports={"ready": ready}, cache=False) as program,
        ):
            programs.append(program)
            if how == "run":
                with pytest.raises(Interrupted):
                    program.run()
            else:
                with pytest.raises(SynchronizationAborted) as caught:
                    program.main.spin()
                assert isinstance(caught.value.__cause__, Interrupted)


class TestRun:
    @pytest.mark.parametrize(
        ("code", "status"), [(0, 0), (255, 255), (256, 0), (300, 44), (-1, 255)]
    )
    def test_a_status_is_between_0_and_255(self, tmp_path: Path, code: int, status: int) -> None:
        main = wasm(
            tmp_path / "main.wasm",
            *ORDINARY,
            EXIT,
            f'(func (export "_start") (call $exit (i32.const {code})))',
            dynamic=False,
        )
        with pylinker.Program(main, cache=False) as program:
            assert program.run() == status

    def test_a_trap_without_threads_leaves_the_program_as_one_of_a_call_does(
        self, tmp_path: Path
    ) -> None:
        main = wasm(
            tmp_path / "main.wasm",
            *ORDINARY,
            '(func (export "_start") unreachable)',
            ONE,
            dynamic=False,
        )
        good = library(tmp_path / "libgood.so", MEMORY, TWO)
        with pylinker.Program(main, cache=False) as program:
            with pytest.raises(wasmtime.Trap):
                program.run()
            assert (program.main.one(), program.dlopen(good).one()) == (1, 2)


class TestSpawn:
    """Ways in which a thread of the guest exits, and those that end the program."""

    @pytest.fixture
    def program(self, tmp_path: Path) -> Iterator[pylinker.Program]:
        exits = '(func (export "exit") (call $exit (i32.const 3)))'
        good = library(tmp_path / "libgood.so", SHARED, ONE, BOOM, EXIT, exits, *forward("fail"))
        with pylinker.Program(
            preload=[good], threads=True, imports={"fail": self.fail}, cache=False
        ) as program:
            yield program

    @staticmethod
    def fail() -> None:
        raise ZeroDivisionError

    def test_an_exception_of_the_python_function_comes_out_of_join_alone(
        self, program: pylinker.Program
    ) -> None:
        with pytest.raises(ZeroDivisionError):
            program.spawn(self.fail).join()
        assert program.main.one() == 1

    def test_a_trap_that_it_catches_ends_nothing(self, program: pylinker.Program) -> None:
        def catch() -> str:
            with pytest.raises(wasmtime.Trap):
                program.main.boom()
            return "caught"

        assert program.spawn(catch).join() == "caught"
        assert program.main.one() == 1

    @pytest.mark.parametrize("name", ["boom", "exit", "go"])
    @pytest.mark.parametrize("by", ["the guest", "Python"])
    def test_a_trap_an_exit_and_an_exception_through_the_guest_end_the_program(
        self, program: pylinker.Program, name: str, by: str
    ) -> None:
        function = program.main[name]
        thread = program.spawn(function if by == "the guest" else function.__call__)
        with pytest.raises(
            (wasmtime.Trap, ZeroDivisionError, SynchronizationAborted, wasmtime.WasmtimeError)
        ):
            thread.join()
        with pytest.raises(SynchronizationAborted):
            program.main.one()


class TestClosing:
    def test_memory_that_was_got_before_can_be_read(self, tmp_path: Path) -> None:
        good = library(tmp_path / "libgood.so", MEMORY, ONE)
        program = pylinker.Program(preload=[good], stdout=pylinker.CAPTURE, cache=False)
        memory, one = program.memory, program.main.one
        memory.write(64, b"kept")
        program.close()
        assert (program.closed, memory.read(64, 4)) == (True, b"kept")
        uses: list[Callable[[], object]] = [
            one,
            lambda: program.memory,
            lambda: program.libraries,
            lambda: program.main,
            lambda: program.stdout,
            program.statistics,
            program.run,
            lambda: program.dlopen(good),
            lambda: program.dlsym(RTLD_DEFAULT, "one"),
            lambda: program.dladdr(64),
            lambda: program.spawn("one"),
            lambda: program.time_limit(1).__enter__(),
        ]
        for use in uses:
            with pytest.raises(pylinker.ClosedError):
                use()
        assert not program.interrupt()
        program.close()

    def test_a_thread_of_the_guest_ends_its_program_and_another_releases_it(
        self, tmp_path: Path
    ) -> None:
        program = pylinker.Program(
            preload=[library(tmp_path / "libgood.so", SHARED, ONE)], threads=True, cache=False
        )
        program.spawn(program.close).join()
        assert not program.closed
        with pytest.raises(SynchronizationAborted):
            program.main.one()
        program.close()
        assert program.closed

    def test_the_program_as_a_library_unloads_nothing(self, tmp_path: Path) -> None:
        good = library(tmp_path / "libgood.so", MEMORY, ONE)
        main = wasm(tmp_path / "main.wasm", MEMORY, '(func (export "_start"))')
        for first in (None, main):
            with pylinker.Program(first, preload=[good], cache=False) as program:
                before = program.libraries
                program.main.close()
                assert program.libraries == before
                assert program.main.one() == 1


class TestArguments:
    def test_files_that_cannot_be_opened(self, tmp_path: Path) -> None:
        absent = tmp_path / "absent" / "file"
        for main in (absent, tmp_path):
            with pytest.raises(pylinker.LibraryNotFoundError):
                pylinker.Program(main, cache=False)
        streams = ("stdin", "stdout", "stderr", "trace")
        arguments: list[dict[str, Any]] = [
            {"dirs": {"/data": absent}},
            *({each: absent} for each in streams),
        ]
        for keywords in arguments:
            with pytest.raises(OSError, match="absent"):
                pylinker.Program(cache=False, **keywords)

    @pytest.mark.parametrize(
        "memory",
        [
            '(memory (export "memory") i64 1)',
            '(import "env" "memory" (memory i64 1))',
            "(memory i64 1)",
        ],
    )
    @pytest.mark.parametrize(
        "fields",
        [(), (EXIT,), ('(import "GOT.mem" "x" (global (mut i32)))',)],
        ids=["static", "WASI", "GOT"],
    )
    def test_a_program_with_a_memory_of_64_bits_is_refused(
        self, tmp_path: Path, memory: str, fields: tuple[str, ...]
    ) -> None:
        main = wasm(
            tmp_path / "main.wasm", memory, *fields, '(func (export "_start"))', dynamic=False
        )
        for _ in range(2):
            with pytest.raises(pylinker.UnsupportedError, match=r"main\.wasm: 64-bit memories"):
                pylinker.Program(main, cache=False)

    def test_the_guest_gets_its_name_and_nothing_else(self, tmp_path: Path) -> None:
        main = wasm(
            tmp_path / "main.wasm",
            *ORDINARY,
            *forward(
                "args_sizes_get", "i32 i32", "i32", module="wasi_snapshot_preview1", export="args"
            ),
            *forward(
                "environ_sizes_get", "i32 i32", "i32", module="wasi_snapshot_preview1", export="env"
            ),
            *forward(
                "fd_prestat_get",
                "i32 i32",
                "i32",
                module="wasi_snapshot_preview1",
                export="directory",
            ),
            *forward(
                "random_get", "i32 i32", "i32", module="wasi_snapshot_preview1", export="random"
            ),
            *forward(
                "clock_time_get",
                "i32 i64 i32",
                "i32",
                module="wasi_snapshot_preview1",
                export="clock",
            ),
            dynamic=False,
        )
        with pylinker.Program(main, cache=False) as program:
            assert program.main.args(64, 68) == program.main.env(72, 76) == 0
            assert program.memory.read(64, 16) == b"\x01\0\0\0" + b"\x0a\0\0\0" + bytes(
                8
            )  # "main.wasm" and its zero
            assert program.main.directory(3, 64) == 8  # no such descriptor
            assert program.main.random(64, 8) == program.main.clock(0, 0, 64) == 0


class TestLibraries:
    def test_the_name_is_that_of_the_first_load(self, tmp_path: Path) -> None:
        library(tmp_path / "libreal.so", MEMORY, ONE)
        (tmp_path / "libalias.so").symlink_to("libreal.so")
        with pylinker.Program(library_path=[tmp_path], cache=False) as program:
            opened = [program.dlopen(each) for each in (tmp_path / "libalias.so", "libreal.so")]
            assert [each.name for each in opened] == ["libalias.so", "libalias.so"]
            assert [each.path for each in opened] == [str(tmp_path.resolve() / "libreal.so")] * 2

    def test_rtld_next_is_what_comes_after_the_main_module(self, tmp_path: Path) -> None:
        preload = [library(tmp_path / f"lib{number}.so", MEMORY, ONE) for number in (1, 2)]
        main = wasm(tmp_path / "main.wasm", MEMORY, ONE, '(func (export "_start"))')
        with pylinker.Program(main, preload=preload, cache=False) as program:
            assert program.dlsym(RTLD_DEFAULT, "one") == program.main["one"].slot
            assert (
                program.dlsym(RTLD_NEXT, "one")
                == program.dlopen(preload[0])["one"].slot
                != program.main["one"].slot
            )
        with pylinker.Program(preload=preload, cache=False) as program:
            assert (
                program.dlsym(RTLD_DEFAULT, "one")
                == program.dlsym(RTLD_NEXT, "one")
                == program.dlopen(preload[0])["one"].slot
            )

    def test_what_is_defined_already_is_imported_directly(self, tmp_path: Path) -> None:
        library(tmp_path / "libone.so", MEMORY, ONE)
        absent = '(import "env" "absent" (func))'
        user = wasm(
            tmp_path / "libuser.so", *forward("one", results="i32"), absent, needed=("libone.so",)
        )
        with pylinker.CDLL(user, library_path=[tmp_path], cache=False) as opened:
            assert opened.go() == 1
            seen = opened.program.statistics()
            assert (seen.trampolines, seen.trampolines_bound, seen.resolver_entries) == (
                1,
                0,
                0,
            )  # of absent

    def test_kinds_of_undefined_symbols(self, tmp_path: Path) -> None:
        imports = {
            "function": '(import "env" "f" (func))',
            "data": '(import "GOT.mem" "d" (global (mut i32)))',
            "function pointer": '(import "GOT.func" "p" (global (mut i32)))',
            "global": '(import "env" "g" (global i32))',
            "table": '(import "env" "t" (table 1 funcref))',
            "memory": '(import "env" "m" (memory 1))',
            "tag": '(import "env" "e" (tag))',
        }
        with pytest.raises(pylinker.UndefinedSymbolError) as caught:
            pylinker.CDLL(
                wasm(tmp_path / "libbad.so", MEMORY, *imports.values()), bind_now=True, cache=False
            )
        assert {each.kind for each in caught.value.undefined} == set(imports)
        kinds = re.findall(r'``"([a-z ]+)"``', inspect.getsource(pylinker.UndefinedSymbol))
        assert set(kinds) == set(imports)

    def test_a_view_lacks_what_the_memory_has_grown_by(self, tmp_path: Path) -> None:
        grow = '(func (export "grow") (result i32) (memory.grow (i32.const 1)))'
        with pylinker.CDLL(library(tmp_path / "libgrow.so", MEMORY, grow), cache=False) as opened:
            memory = opened.program.memory
            view = memory.view()
            assert opened.grow() > 0
            view[0] = 7
            assert memory.read(0, 1) == b"\x07"
            assert memory.size == len(memory.view()) == len(view) + 65536

    def test_a_constructor_calls_a_function_that_needs_the_memory_of_a_program_made_before(
        self, tmp_path: Path
    ) -> None:
        constructor = '(func (export "__wasm_call_ctors") (call $go (i32.const 8)))'
        path = library(tmp_path / "libmade.so", MEMORY, *forward("report", "i32"), constructor)
        texts: list[bytes] = []
        imports = {"report": lambda address: texts.append(program.memory.cstring(address))}
        with pylinker.Program(None, imports=imports, cache=False) as program:
            program.dlopen(path)
            assert texts == [b""]

    def test_modes_are_wasi_libcs(self) -> None:
        header = files("ziglang").joinpath("lib/libc/include/wasm-wasi-musl/dlfcn.h").read_text()
        for name in ("LAZY", "NOW", "NOLOAD", "NODELETE", "GLOBAL"):
            (value,) = re.findall(rf"#define RTLD_{name} +(\d+)", header)
            assert getattr(pylinker, f"RTLD_{name}") == int(value)
        assert re.findall(r"#define RTLD_LOCAL +(\d+)", header) == [
            "0",
            str(pylinker.RTLD_LOCAL),
        ]  # musl's, wasi-libc's
        assert "RTLD_NEXT    ((void *)-1)" in header and (RTLD_NEXT, RTLD_DEFAULT) == (-1, 0)
        own = (demo.DIRECTORY / "dlfcn.h").read_text()
        values = dict(re.findall(r"#define RTLD_(\w+) (\d+)", own))
        assert values == {
            name: str(getattr(pylinker, f"RTLD_{name}"))
            for name in ("LAZY", "NOW", "NOLOAD", "LOCAL", "GLOBAL", "NODELETE")
        }
        assert (
            "RTLD_NEXT ((void *)-1)" in own
            and "RTLD_DEFAULT ((void *)0)" in own
            and "include_next" not in own
        )


class TestThreads:
    def test_what_needs_no_rendezvous(self, tmp_path: Path) -> None:
        good = library(tmp_path / "libgood.so", SHARED, ONE)
        library(
            tmp_path / "liblate.so", SHARED, '(func (export "late") (result i32) (i32.const 5))'
        )
        user = library(tmp_path / "libuser.so", SHARED, *forward("late", results="i32"))
        with pylinker.Program(
            preload=[good], library_path=[tmp_path], threads=True, cache=False
        ) as program:
            go_on = threading.Event()
            thread = program.spawn(go_on.wait)
            handle, opened = program.dlopen(good), program.dlopen(user)
            program.dlopen("liblate.so", pylinker.RTLD_GLOBAL)
            before = program.statistics()
            assert program.dlopen(good).one() == 1  # open already
            handle.close()  # not the last
            assert program.dlsym(RTLD_DEFAULT, "one") == program.main["one"].slot
            assert opened.go() == 5  # bound at its first call
            after = program.statistics()
            assert (after.operations, after.waits.rendezvous) == (
                before.operations,
                before.waits.rendezvous,
            )
            assert after.trampolines_bound == before.trampolines_bound + 1
            go_on.set()
            thread.join()

    def test_calls_of_two_programs_run_at_the_same_time(self, tmp_path: Path) -> None:
        entered, go_on = threading.Event(), threading.Event()
        stayed = []

        def stay() -> None:
            entered.set()
            stayed.append(go_on.wait(10))

        user = library(tmp_path / "libuser.so", MEMORY, ONE, *forward("stay"))
        with (
            pylinker.CDLL(user, imports={"stay": stay}, cache=False) as first,
            pylinker.CDLL(user, imports={"stay": stay}, cache=False) as second,
        ):
            thread = threading.Thread(target=first.go)
            thread.start()
            entered.wait(30)
            assert second.one() == 1
            go_on.set()
            thread.join()
        assert stayed == [True]

    @pytest.mark.parametrize(
        ("beginning", "why"),
        [
            ("", "no function wasi_thread_start"),
            (
                (
                    '(func (export "wasi_thread_start") (param i32 i32) '
                    "(memory.atomic.wait32 PARAM) drop)"
                ),
                "limit of 1 threads",
            ),
        ],
    )
    def test_the_guest_gets_minus_one_and_the_log_says_why(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, beginning: str, why: str
    ) -> None:
        spawns = forward("thread-spawn", "i32", "i32", module="wasi", export="start")
        waits = beginning.replace("PARAM", "(i32.const 64) (i32.const 0) (i64.const -1)")
        main = wasm(tmp_path / "main.wasm", SHARED, *spawns, waits)
        with pylinker.Program(
            main, threads=True, limits=pylinker.Limits(threads=1), cache=False
        ) as program:
            if "limit" in why:
                assert program.main.start(0) == 1
            assert program.main.start(0) == -1
        (record,) = caplog.records
        assert (record.name, record.levelname) == ("pylinker.linker", "WARNING")
        assert why in record.getMessage()


class TestCommandLine:
    @pytest.mark.parametrize("command", ["run", "bench"])
    def test_the_page_has_the_options_that_there_are(self, command: str) -> None:
        page = (Path(__file__).parent.parent / "docs" / "cli.md").read_text(encoding="utf-8")
        section = page.partition(f"## pylinker {command}\n")[2].partition("\n## ")[0]
        rows = " ".join(row.split("|")[1] for row in section.splitlines() if row.startswith("| `"))
        stated = set(re.findall(r"(?<!-)(-{1,2}[A-Za-z][a-z-]*)", rows))
        options = {
            name
            for each in app.get_command(click.Context(app), command).params  # type: ignore[union-attr]
            for name in (*each.opts, *each.secondary_opts)
            if name[0] == "-"
        }
        assert stated == options - {"--traceback", "--help"}

    @pytest.mark.parametrize(
        "command",
        [[], *([each] for each in sorted(COMMANDS)), ["bench", "leaks"], ["bench", "soak"]],
    )
    def test_every_command_has_help(self, command: list[str]) -> None:
        done = CliRunner().invoke(app, [*command, "--help"])
        assert (done.exit_code, done.output[:7]) == (0, "Usage: ")

    @pytest.mark.parametrize(
        ("arguments", "status"),
        [
            (["--invoke", "one", "main.wasm"], 0),
            (["--invoke", "exit", "main.wasm"], 3),
            (["--preload", "./libexit.so", "main.wasm"], 3),
            (["main.wasm"], 134),
            (["--timeout", "nan", "main.wasm"], 2),
            (["main.wasm", "\udcff"], 2),
            (["--env", "NAME=\udcff", "main.wasm"], 2),
            (["--dir", ".::/\udcff", "main.wasm"], 2),
            (["--timeout", "0", "main.wasm"], 124),
            (["--trace", "absent/file", "main.wasm"], 127),
            (["--preload", "absent.so", "main.wasm"], 127),
            (["--invoke", "absent", "main.wasm"], 127),
            (["absent.wasm"], 127),
        ],
    )
    def test_exit_statuses_of_run(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
        arguments: list[str],
        status: int,
    ) -> None:
        exits = '(func (export "exit") (call $exit (i32.const 259)))'
        wasm(
            tmp_path / "main.wasm",
            *ORDINARY,
            EXIT,
            ONE,
            exits,
            '(func (export "_start") unreachable)',
            dynamic=False,
        )
        library(
            tmp_path / "libexit.so", MEMORY, EXIT, exits.replace('"exit"', '"__wasm_call_ctors"')
        )
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["pylinker", "run", *arguments])
        with pytest.raises(SystemExit) as caught:
            pylinker.cli.app.main()
        assert caught.value.code == status
        error = capfd.readouterr().err
        assert error.count("\n") == (0 if status in (0, 3) else 1)
        assert "please report" not in error

    @pytest.mark.parametrize("command", ["run", "check", "nm", "inspect", "ldd", "graph"])
    @pytest.mark.parametrize("file", ["fifo", "/dev/zero"])
    def test_only_regular_files_are_read(self, tmp_path: Path, command: str, file: str) -> None:
        os.mkfifo(tmp_path / "fifo")
        done = CliRunner().invoke(app, [command, str(tmp_path / file)])
        assert done.exit_code == 2 or isinstance(done.exception, pylinker.LibraryNotFoundError)
        assert "is not a regular file" in f"{done.output}{done.exception}"

    @pytest.mark.parametrize(
        ("option", "keyword"),
        [
            ("--no-threads", {"threads": False}),
            ("--threads", {"threads": True}),
            ("--preempt", {"preempt": True}),
            ("--no-rewrite-waits", {"rewrite_waits": False}),
            ("--bind-now", {"bind_now": True}),
            ("--stack-size=131072", {"stack_size": 131072}),
            ("--timeout=7", {"load_timeout": 7}),
        ],
    )
    def test_options_of_run_are_keywords_of_program(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        option: str,
        keyword: dict[str, object],
    ) -> None:
        given: dict[str, Any] = {}

        class Recorded(pylinker.Program):
            def __init__(self, *arguments: Any, **keywords: Any) -> None:
                given.update(keywords)
                super().__init__(*arguments, **keywords)

        monkeypatch.setattr(pylinker.cli.run, "Program", Recorded)
        main = wasm(tmp_path / "main.wasm", SHARED, '(func (export "_start"))')
        assert CliRunner().invoke(app, ["run", option, str(main)]).exit_code == 0
        assert keyword.items() <= given.items()
        usual = {
            "threads": True,
            "preempt": False,
            "rewrite_waits": True,
            "bind_now": False,
            "stack_size": 1 << 20,
            "load_timeout": None,
        }
        assert {**usual, **keyword}.items() <= given.items()
