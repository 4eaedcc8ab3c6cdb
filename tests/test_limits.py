"""Limits of a program: each has a clear error, and exceeding it leaves the program as it was."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from wasmtime import wat2wasm

import pylinker
from binary import dylink
from fields import MEMORY, SHARED, wasm
from guests import orderly
from pylinker import LimitError, Limits, TimeoutExpired
from running import used

LOOP = '(func (export "spin") (loop $again (br $again)))'
WAIT = (
    '(func (export "sleep") (drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) '
    "(i64.const -1))))"
)
SUBSCRIPTION = (
    bytes(16) + b"\1" + bytes(7) + bytes(5) + b"\xff\xff\0" + bytes(16)
)  # the monotonic clock, days from now
POLL = (
    (
        '(import "wasi_snapshot_preview1" "poll_oneoff" '
        "(func $poll (param i32 i32 i32 i32) (result i32)))"
    ),
    f'(data (i32.const 128) "{"".join(f"{chr(92)}{each:02x}" for each in SUBSCRIPTION)}")',
    (
        '(func (export "nap") (drop (call $poll (i32.const 128) (i32.const 256) (i32.const 1) '
        "(i32.const 512))))"
    ),
)
OK = '(func (export "ok") (result i32) (i32.const 7))'


@pytest.fixture(autouse=True)
def in_time():
    with orderly():
        yield


def program(*folders: Path, **limits: int) -> pylinker.Program:
    return pylinker.Program(library_path=folders, limits=Limits(**limits), cache=False)


def refused(program: pylinker.Program, name: str, says: str) -> LimitError:
    """The error that a load gives; the program is as it was before, and of use."""
    before = used(program)
    with pytest.raises(LimitError, match=says) as caught:
        program.dlopen(name)
    assert used(program) == before
    assert caught.value.module
    return caught.value


@pytest.fixture(autouse=True)
def honest(tmp_path: Path) -> Path:
    return wasm(tmp_path / "libhonest.so", OK)


class TestCounts:
    def test_memory(self, tmp_path: Path) -> None:
        (tmp_path / "libbig.so").write_bytes(dylink(memory=(40 << 16, 4)))
        with program(tmp_path, memory=32 << 16) as limited:
            refused(limited, "libbig.so", "memory")
            assert limited.dlopen("libhonest.so").ok() == 7

    def test_memory_that_the_guest_asks_for(self, tmp_path: Path) -> None:
        grow = '(func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))'
        wasm(tmp_path / "libgrow.so", MEMORY, grow)
        with program(tmp_path, memory=32 << 16) as limited:
            library = limited.dlopen("libgrow.so")
            assert library.grow(32) == -1
            assert library.grow(1) > 0
            assert limited.memory.size <= 32 << 16

    def test_table(self, tmp_path: Path) -> None:
        (tmp_path / "libtable.so").write_bytes(dylink(table=(200, 0)))
        with program(tmp_path, table=100) as limited:
            refused(limited, "libtable.so", "table")
            assert limited.dlopen("libhonest.so").ok() == 7

    def test_modules(self, tmp_path: Path) -> None:
        for number in range(4):
            (tmp_path / f"lib{number}.so").write_bytes(dylink())
        with program(tmp_path, modules=3) as limited:
            libraries = [limited.dlopen(f"lib{number}.so") for number in range(3)]
            refused(limited, "lib3.so", "limit of 3 modules")
            libraries[0].close()
            limited.dlopen("lib3.so").close()

    def test_library_size(self, tmp_path: Path) -> None:
        (tmp_path / "liblong.so").write_bytes(dylink() + b"\0\xff\x01" + bytes(10_000))
        with program(tmp_path, library_size=10_000) as limited:
            refused(limited, "liblong.so", "10000|10,000")

    def test_library_size_of_what_is_given_as_bytes(self, tmp_path: Path) -> None:
        main = bytes(wat2wasm('(module (memory (export "memory") 1) (func (export "_start")))'))
        (tmp_path / "main.wasm").write_bytes(main)
        enough, short = Limits(library_size=len(main)), Limits(library_size=len(main) - 1)
        for given in (main, tmp_path / "main.wasm"):
            pylinker.Program(given, limits=enough, cache=False).close()
            with pytest.raises(LimitError, match=f"main.*{short.library_size}"):
                pylinker.Program(given, limits=short, cache=False)

    def test_path_length(self, tmp_path: Path) -> None:
        with program(tmp_path, path_length=20) as limited:
            for name in ("lib" + "x" * 18, "x/" * 11):
                with pytest.raises(pylinker.LibraryNotFoundError, match="too long"):
                    limited.dlopen(name)

    @pytest.mark.parametrize(("allowed", "loads"), [(4, True), (3, False)])
    def test_needed_depth(self, tmp_path: Path, allowed: int, loads: bool) -> None:
        for number in range(5):
            needed = [f"lib{number + 1}.so"] if number < 4 else []
            (tmp_path / f"lib{number}.so").write_bytes(dylink(needed=needed))
        with program(tmp_path, needed_depth=allowed) as limited:
            if loads:
                limited.dlopen("lib0.so").close()
            else:
                refused(limited, "lib0.so", "chain of more than 3")
            assert limited.dlopen("libhonest.so").ok() == 7

    def test_cycles_have_no_depth(self, tmp_path: Path) -> None:
        names = [f"lib{number}.so" for number in range(3)]
        for name in names:  # each needs all
            (tmp_path / name).write_bytes(dylink(needed=names))
        with program(tmp_path, needed_depth=1) as limited:
            limited.dlopen("lib0.so").close()


def threaded(path: Path, *fields: str, **keywords: object) -> pylinker.CDLL:
    wasm(path / "libtime.so", '(import "env" "__memory_base" (global i32))', *fields)
    return pylinker.CDLL(path / "libtime.so", cache=False, **keywords)


def ended(program: pylinker.Program, call: object) -> None:
    """The program is as one that was killed."""
    assert callable(call)
    with pytest.raises(pylinker.SynchronizationAborted) as caught:
        call()
    assert isinstance(caught.value.__cause__, TimeoutExpired)
    program.close()


class TestTime:
    @pytest.mark.parametrize("threads", [False, True])
    @pytest.mark.parametrize("how", ["spin", "nap"])
    def test_a_call(self, tmp_path: Path, how: str, threads: bool) -> None:
        library = threaded(
            tmp_path, SHARED if threads else MEMORY, LOOP, OK, *POLL, threads=threads
        )
        text = (
            f"^libtime.so: not done after 0.05 "
            f"seconds{'; the program was ended' if threads else ''}$"
        )
        with pytest.raises(TimeoutExpired, match=text) as caught, library.program.time_limit(0.05):
            library[how]()
        assert caught.value.timeout == 0.05
        assert isinstance(caught.value, TimeoutError)
        if threads:
            ended(library.program, library.ok)
        else:
            assert library.ok() == 7
            library.close()

    def test_a_wait(self, tmp_path: Path) -> None:
        library = threaded(tmp_path, SHARED, WAIT, OK, threads=True)
        with pytest.raises(TimeoutExpired), library.program.time_limit(0.05):
            library.sleep()
        ended(library.program, library.ok)

    def test_threads(self, tmp_path: Path) -> None:
        library = threaded(tmp_path, SHARED, WAIT, LOOP, OK, threads=True)
        threads = [library.program.spawn(name) for name in ("sleep", "spin", "spin")]
        with pytest.raises(TimeoutExpired), library.program.time_limit(0.05):
            library.spin()
        for thread in threads:
            with pytest.raises(pylinker.SynchronizationAborted):
                thread.join()
        ended(library.program, library.ok)

    def test_a_thread_that_is_not_the_main_one(self, tmp_path: Path) -> None:
        library = threaded(tmp_path, MEMORY, LOOP, OK)
        seen: list[BaseException] = []

        def work() -> None:
            try:
                with library.program.time_limit(0.05):
                    library.spin()
            except TimeoutExpired as error:
                seen.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert seen
        assert library.ok() == 7
        library.close()

    def test_a_load(self, tmp_path: Path) -> None:
        wasm(tmp_path / "libspin.so", MEMORY, LOOP.replace("spin", "__wasm_call_ctors"))
        with program(tmp_path) as limited:
            with pytest.raises(TimeoutExpired), limited.time_limit(0.05):
                limited.dlopen("libspin.so")
            ended(limited, lambda: limited.dlopen("libspin.so"))
        with pytest.raises(TimeoutExpired):
            pylinker.CDLL(tmp_path / "libspin.so", load_timeout=0.05, cache=False)

    @pytest.mark.parametrize("threads", [False, True])
    def test_run(self, tmp_path: Path, threads: bool) -> None:
        main = wasm(
            tmp_path / "main.wasm",
            SHARED if threads else MEMORY,
            LOOP.replace("spin", "_start"),
            OK,
        )
        with pylinker.Program(main, threads=threads, cache=False) as limited:
            with pytest.raises(TimeoutExpired):
                limited.run(timeout=0.05)
            ended(limited, limited.main.ok) if not threads else None

    def test_what_was_written_stays(self, tmp_path: Path) -> None:
        write = (
            '(import "wasi_snapshot_preview1" "fd_write" '
            "(func $write (param i32 i32 i32 i32) (result i32)))"
        )
        text = '(data (i32.const 128) "\\88\\00\\00\\00\\03\\00\\00\\00out")'
        start = (
            '(func (export "_start") (drop (call $write (i32.const 1) (i32.const 128) '
            "(i32.const 1) (i32.const 256))) (loop (br 0)))"
        )
        own = '(memory (export "memory") 1)'
        main = wasm(tmp_path / "main.wasm", write, own, text, start, dynamic=False)
        with pylinker.Program(main, stdout=pylinker.CAPTURE, cache=False) as limited:
            with pytest.raises(TimeoutExpired):
                limited.run(timeout=0.2)
            assert limited.stdout == b"out"

    def test_what_is_done_in_time_is_not_disturbed(self, tmp_path: Path) -> None:
        library = threaded(tmp_path, MEMORY, OK)
        with (
            library.program.time_limit(1000),
            library.program.time_limit(None),
            library.program.time_limit(1e300),
        ):
            assert library.ok() == 7
        with library.program.time_limit(1000), pytest.raises(ValueError, match="mine"):
            raise ValueError("mine")
        assert library.ok() == 7
        library.close()

    def test_the_shortest_of_several_counts(self, tmp_path: Path) -> None:
        library = threaded(tmp_path, MEMORY, LOOP)
        with (
            pytest.raises(TimeoutExpired) as caught,
            library.program.time_limit(1000),
            library.program.time_limit(0.05),
        ):
            library.spin()
        assert caught.value.timeout == 0.05

    def test_python_that_the_guest_calls_is_waited_for(self, tmp_path: Path) -> None:
        done = []

        def slow() -> None:
            while not library.program._linker.context.expired:  # type: ignore[union-attr]
                time.sleep(0)
            done.append(None)

        wasm(
            tmp_path / "libslow.so",
            '(import "env" "slow" (func $slow))',
            '(func (export "go") (call $slow))',
        )
        library = pylinker.CDLL(tmp_path / "libslow.so", imports={"slow": slow}, cache=False)
        with pytest.raises(TimeoutExpired), library.program.time_limit(0.05):
            library.go()
        assert done

    @pytest.mark.parametrize(
        ("seconds", "error"),
        [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (True, TypeError)],
    )
    def test_what_is_no_time(self, tmp_path: Path, seconds: object, error: type[Exception]) -> None:
        with program(tmp_path) as limited:
            with pytest.raises(error, match="timeout="), limited.time_limit(seconds):  # type: ignore[arg-type]
                pass
            with pytest.raises(error):
                limited.run(timeout=seconds)  # type: ignore[arg-type]
            with pytest.raises(error):
                pylinker.Program(load_timeout=seconds)  # type: ignore[arg-type]
            assert limited.dlopen("libhonest.so").ok() == 7

    @pytest.mark.parametrize(
        ("arguments", "after"),
        [(["main.wasm"], "; the program was ended"), (["--invoke", "spin", "main.wasm"], "")],
    )
    def test_the_command_line(self, tmp_path: Path, arguments: list[str], after: str) -> None:
        wasm(tmp_path / "main.wasm", MEMORY, LOOP.replace("spin", "_start"), LOOP)
        command = [sys.executable, "-m", "pylinker", "run", "--timeout", "0.2", *arguments]
        result = subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
            env={**os.environ},
        )
        assert result.returncode == 124
        assert result.stderr == f"pylinker: main.wasm: not done after 0.2 seconds{after}\n"
