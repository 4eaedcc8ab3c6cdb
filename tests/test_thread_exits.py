"""Destructors of threads: ``__cxa_thread_atexit``, keys, and libraries closed before they run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import pylinker
from fields import MEMORY, SHARED, TABLE, wasm
from guests import DEADLINE, orderly
from running import used

EAGAIN, THRD_ERROR = 6, 2

# A destructor that says its argument to the host; `again` registers itself once more, `traps`
# traps, `calls` uses another library.
LIBRARY = (
    '(import "env" "say" (func $say (param i32)))',
    '(import "env" "__cxa_thread_atexit" (func $register (param i32 i32 i32) (result i32)))',
    '(import "env" "__table_base" (global $table i32))',
    TABLE,
    "(elem (global.get $table) $destroy $again $traps)",
    "(func $destroy (param i32) (call $say (local.get 0)))",
    (
        "(func $again (param i32) (call $say (local.get 0))"
        " (drop (call $register (global.get $table) "
        "(i32.add (local.get 0) (i32.const 100)) (i32.const 0))))"
    ),
    "(func $traps (param i32) (call $say (local.get 0)) unreachable)",
    (
        '(func $keep (export "keep") (param i32 i32) (result i32)'
        " (call $register (i32.add (global.get $table) (local.get 0)) (local.get 1) (i32.const 0)))"
    ),
)


@pytest.fixture(autouse=True)
def rules() -> Iterator[None]:
    with orderly():
        yield


@pytest.fixture
def said() -> list[int]:
    return []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    wasm(tmp_path / "lib.so", SHARED, *LIBRARY, slots=3)
    wasm(tmp_path / "single.so", MEMORY, *LIBRARY, slots=3)
    wasm(tmp_path / "main.so", SHARED)
    wasm(
        tmp_path / "fails.so",
        SHARED,
        *LIBRARY,
        '(func (export "__wasm_call_ctors") '
        "(drop (call $keep (i32.const 0) (i32.const 77))) unreachable)",
        slots=3,
    )
    return tmp_path


def names(program: pylinker.Program) -> list[str]:
    return [each.name for each in program.libraries]


def until(condition: Callable[[], bool]) -> None:
    """Wait until something has come true; the deadline of the test ends it."""
    while not condition():
        time.sleep(0.001)


class TestThreadLocalDestructors:
    def test_they_run_at_the_end_of_the_thread_the_last_first(
        self, folder: Path, said: list[int]
    ) -> None:
        with pylinker.CDLL(
            "main.so", library_path=[folder], threads=True, imports={"say": said.append}
        ) as main:
            program = main.program
            library = program.dlopen("lib.so")

            def work() -> int:
                assert [library.keep(0, number) for number in (1, 2, 3)] == [0, 0, 0]
                return len(said)

            assert program.spawn(work).join(DEADLINE) == 0
            assert said == [3, 2, 1]
            library.close()
            assert names(program) == ["main.so"]

    def test_a_thread_of_a_native_function(self, folder: Path, said: list[int]) -> None:
        with pylinker.CDLL(
            "lib.so", library_path=[folder], threads=True, imports={"say": said.append}
        ) as library:
            assert library.program.spawn("keep", 0, 5).join(DEADLINE) == 0
            assert said == [5]

    def test_a_library_that_is_closed_before_stays_until_then(
        self, folder: Path, said: list[int]
    ) -> None:
        with pylinker.CDLL(
            "main.so", library_path=[folder], threads=True, imports={"say": said.append}
        ) as main:
            program = main.program
            program.dlopen("lib.so").close()
            before = used(program)

            def work() -> list[str]:
                library = program.dlopen("lib.so")
                library.keep(0, 8)
                library.close()
                return names(program)

            assert program.spawn(work).join(DEADLINE) == ["main.so", "lib.so"]
            assert said == [8]
            assert used(program) == before

    def test_each_thread_has_its_own(self, folder: Path, said: list[int]) -> None:
        with pylinker.CDLL(
            "main.so", library_path=[folder], threads=True, imports={"say": said.append}
        ) as main:
            program = main.program
            library = program.dlopen("lib.so")
            library.keep(0, 1)  # of the main thread
            for number in range(2, 6):
                assert program.spawn(library.keep, 0, number).join(DEADLINE) == 0
            assert said == [2, 3, 4, 5]
            library.close()
            assert names(program) == ["main.so", "lib.so"]
            assert program.dlopen("lib.so").keep(0, 6) == 0  # it is the same
        assert said == [2, 3, 4, 5, 6, 1]

    def test_what_a_destructor_registers_runs_too(self, folder: Path, said: list[int]) -> None:
        with pylinker.CDLL(
            "lib.so", library_path=[folder], threads=True, imports={"say": said.append}
        ) as library:
            library.program.spawn(lambda: (library.keep(0, 1), library.keep(1, 2))).join(DEADLINE)
            assert said == [2, 102, 1]

    def test_one_that_traps_ends_the_program_after_the_others_ran(
        self, folder: Path, said: list[int]
    ) -> None:
        with pylinker.CDLL(
            "lib.so", library_path=[folder], threads=True, imports={"say": said.append}
        ) as library:
            thread = library.program.spawn(lambda: (library.keep(0, 1), library.keep(2, 2)))
            with pytest.raises(wasmtime.Trap):
                thread.join(DEADLINE)
            assert said == [2, 1]

    def test_without_threads_they_run_when_the_program_ends(
        self, folder: Path, said: list[int]
    ) -> None:
        with pylinker.CDLL(
            "single.so", library_path=[folder], imports={"say": said.append}
        ) as library:
            program = library.program
            again = program.dlopen("single.so")
            again.keep(0, 1)
            again.keep(0, 2)
            again.close()
            assert said == []
        assert said == [2, 1]

    def test_a_failed_load_leaves_none(self, folder: Path, said: list[int]) -> None:
        with pylinker.CDLL(
            "main.so", library_path=[folder], threads=True, imports={"say": said.append}
        ) as main:
            program = main.program

            def work() -> None:
                before = used(program)
                for _ in range(2):
                    with pytest.raises(pylinker.InitializationError):
                        program.dlopen("fails.so")
                    assert used(program) == before

            program.spawn(work).join(DEADLINE)
            work()
        assert said == []

    def test_a_library_that_a_failed_load_takes_with_it_runs_them(
        self, folder: Path, said: list[int]
    ) -> None:
        """It needs the failing library, whose constructor has opened it."""
        wasm(
            folder / "outer.so",
            SHARED,
            '(import "env" "open" (func $open))',
            '(func (export "__wasm_call_ctors") (call $open) unreachable)',
        )
        wasm(folder / "inner.so", SHARED, *LIBRARY, slots=3, needed=("outer.so",))

        def open_inner() -> None:
            assert program.dlopen("inner.so").keep(0, 5) == 0

        given: dict[str, Any] = {"say": said.append, "open": open_inner}
        with pylinker.CDLL("main.so", library_path=[folder], threads=True, imports=given) as main:
            program = main.program
            before = used(program)
            for count in (1, 2):
                with pytest.raises(pylinker.InitializationError):
                    program.dlopen("outer.so")
                assert said == [5] * count
                assert used(program) == before
        assert said == [5, 5]

    def test_the_library_stays_while_a_destructor_runs(self, folder: Path) -> None:
        wasm(folder / "other.so", SHARED)
        seen: list[list[str]] = []

        def say(_: int) -> None:
            program.dlopen("other.so").close()  # collects what is not used
            seen.append(names(program))

        with pylinker.CDLL(
            "main.so", library_path=[folder], threads=True, imports={"say": say}
        ) as main:
            program = main.program

            def work() -> None:
                with program.dlopen("lib.so") as library:
                    library.keep(0, 1)
                    library.keep(0, 2)

            program.spawn(work).join(DEADLINE)
            assert seen == [["main.so", "lib.so"]] * 2
            assert names(program) == ["main.so"]

    def test_by_pointer_and_by_its_other_name(self, folder: Path, said: list[int]) -> None:
        fields = [
            each.replace('"env" "__cxa_thread_atexit"', '"env" "__cxa_thread_atexit_impl"')
            for each in LIBRARY
        ]
        wasm(folder / "impl.so", SHARED, *fields, slots=3)
        fields = [each for each in LIBRARY if "__cxa_thread_atexit" not in each]
        wasm(
            folder / "pointer.so",
            SHARED,
            '(import "GOT.func" "__cxa_thread_atexit" (global $p (mut i32)))',
            "(type $t (func (param i32 i32 i32) (result i32)))",
            "(func $register (param i32 i32 i32) (result i32)"
            " (call_indirect (type $t) (local.get 0) (local.get 1) (local.get 2) (global.get $p)))",
            *fields,
            slots=3,
        )
        with pylinker.CDLL(
            "main.so", library_path=[folder], threads=True, imports={"say": said.append}
        ) as main:
            program = main.program

            def work(name: str) -> list[str]:
                with program.dlopen(name) as library:
                    library.keep(0, 4)
                return names(program)

            for name in ("impl.so", "pointer.so"):
                assert program.spawn(work, name).join(DEADLINE) == ["main.so", name]
                assert names(program) == ["main.so"]
        assert said == [4, 4]


# A program whose guest starts its threads: `go` starts one, which opens a library, keeps a
# destructor in it and closes it.
SPAWNS = (
    SHARED,
    '(import "wasi" "thread-spawn" (func $spawn (param i32) (result i32)))',
    '(import "env" "__stack_pointer" (global $sp (mut i32)))',
    '(import "env" "host_thread" (func $host))',
    (
        '(func (export "wasi_thread_start") (param i32 i32) (global.set $sp (local.get 1)) '
        "(call $host))"
    ),
    '(func (export "go") (param i32) (result i32) (call $spawn (local.get 0)))',
    '(func (export "_start"))',
)


class TestThreadsOfTheGuest:
    def test_they_run_on_a_stack_of_their_own(self, folder: Path, said: list[int]) -> None:
        """The stack that the guest gave the thread may be another's by then."""
        fields = [
            *(each for each in LIBRARY if not each.startswith("(func $destroy")),
            '(import "env" "__stack_pointer" (global $sp (mut i32)))',
            "(func $destroy (param i32) (call $say (local.get 0)) (call $say (global.get $sp)))",
        ]
        wasm(folder / "lib.so", SHARED, *fields, slots=3)
        wasm(folder / "main.wasm", *SPAWNS)

        def host_thread() -> None:
            with program.dlopen("lib.so") as library:
                assert library.keep(0, 9) == 0

        given: dict[str, Any] = {"say": said.append, "host_thread": host_thread}
        with pylinker.Program(
            folder / "main.wasm", library_path=[folder], threads=True, imports=given
        ) as program:
            program.dlopen("lib.so").close()
            before = used(program)
            assert program.main.go(4096) > 0
            until(lambda: used(program) == before and len(said) == 2)
            stack_size = 1 << 20
            assert said[0] == 9
            assert said[1] > stack_size  # not that of the thread, nor that of the main thread

    def test_the_guests_own_list_runs_them_while_the_thread_is_whole(
        self, folder: Path, said: list[int]
    ) -> None:
        wasm(
            folder / "main.wasm",
            *(each for each in SPAWNS if "wasi_thread_start" not in each),
            TABLE,
            "(type $v (func (param i32)))",
            "(global $f (mut i32) (i32.const 0))",
            '(func (export "__cxa_thread_atexit") (param i32 i32 i32) (result i32) '
            "(global.set $f (local.get 0)) (i32.const 0))",
            '(import "env" "say" (func $say (param i32)))',
            '(func (export "wasi_thread_start") (param i32 i32) '
            "(global.set $sp (local.get 1)) (call $host)"
            " (call_indirect (type $v) (i32.const 0) (global.get $f)) (call $say (i32.const -1)))",
        )

        def host_thread() -> None:
            with program.dlopen("lib.so") as library:
                assert library.keep(0, 9) == 0

        given: dict[str, Any] = {"say": said.append, "host_thread": host_thread}
        with pylinker.Program(
            folder / "main.wasm", library_path=[folder], threads=True, imports=given
        ) as program:
            assert program.main.go(4096) > 0
            until(lambda: len(said) == 2 and names(program) == ["main.wasm"])
        assert said == [9, -1]


# A C library with two keys in miniature: `finish` does what it does at the end of a thread.
LIBC = (
    SHARED,
    TABLE,
    "(type $v (func (param i32)))",
    "(global $next (mut i32) (i32.const 0))",
    "(global $d0 (mut i32) (i32.const 0))",
    "(global $d1 (mut i32) (i32.const 0))",
    (
        '(func (export "pthread_key_create") (param i32 i32) (result i32)'
        " (if (global.get $next) (then (global.set $d1 (local.get 1))) "
        "(else (global.set $d0 (local.get 1))))"
        " (i32.store (local.get 0) (global.get $next)) "
        "(global.set $next (i32.add (global.get $next) (i32.const 1))) (i32.const 0))"
    ),
    (
        '(func (export "pthread_key_delete") (param i32) (result i32)'
        " (if (local.get 0) (then (global.set $d1 (i32.const 0))) "
        "(else (global.set $d0 (i32.const 0)))) (i32.const 0))"
    ),
    (
        '(func (export "finish")'
        " (if (global.get $d0) (then (call_indirect (type $v) (i32.const 10) (global.get $d0))))"
        " (if (global.get $d1) (then (call_indirect (type $v) (i32.const 11) (global.get $d1)))))"
    ),
)
KEYED = (
    SHARED,
    TABLE,
    '(import "env" "say" (func $say (param i32)))',
    '(import "env" "atexit" (func $atexit (param i32) (result i32)))',
    '(import "env" "pthread_key_create" (func $create (param i32 i32) (result i32)))',
    '(import "env" "pthread_key_delete" (func $delete (param i32) (result i32)))',
    '(import "env" "__memory_base" (global $memory i32))',
    '(import "env" "__table_base" (global $table i32))',
    "(elem (global.get $table) $destroy $bye $bye_and_delete)",
    "(func $destroy (param i32) (call $say (local.get 0)))",
    "(func $bye (call $say (i32.const 1)))",
    (
        "(func $bye_and_delete (call $say (i32.const 2)) "
        "(drop (call $delete (i32.load (global.get $memory)))))"
    ),
    '(func (export "make") (result i32) (call $create (global.get $memory) (global.get $table)))',
    '(func (export "plain") (result i32) (call $create (global.get $memory) (i32.const 0)))',
    '(func (export "key") (result i32) (i32.load (global.get $memory)))',
    '(func (export "forget") (param i32) (result i32) (call $delete (local.get 0)))',
    (
        '(func (export "leave") (param i32) (result i32) '
        "(call $atexit (i32.add (global.get $table) (local.get 0))))"
    ),
)


class TestKeys:
    @pytest.fixture
    def keys(self, tmp_path: Path) -> Path:
        wasm(tmp_path / "libc.so", *LIBC)
        wasm(tmp_path / "lib.so", *KEYED, slots=3)
        wasm(tmp_path / "other.so", *KEYED, slots=3)
        wasm(
            tmp_path / "fails.so",
            *KEYED,
            '(func (export "__wasm_call_ctors") '
            "(drop (call $create (global.get $memory) (global.get $table))) unreachable)",
            slots=3,
        )
        return tmp_path

    @pytest.mark.parametrize("threads", [False, True])
    def test_the_code_of_a_destructor_outlives_its_library(
        self, threads: bool, keys: Path, said: list[int]
    ) -> None:
        if not threads:
            wasm(keys / "libc.so", *(MEMORY, *LIBC[1:]))
            wasm(keys / "lib.so", *(MEMORY, *KEYED[1:]), slots=3)
        with pylinker.CDLL(
            "libc.so", library_path=[keys], threads=threads, imports={"say": said.append}
        ) as libc:
            program = libc.program
            library = program.dlopen("lib.so")
            assert library.make() == 0
            assert library.leave(1) == 0
            library.close()
            assert said == [1]  # it was closed: its destructors have run
            libc.finish()
            assert said == [1, 10]
            again = program.dlopen("lib.so")  # another copy
            assert names(program) == ["libc.so", "lib.so", "lib.so"]
            again.close()
            assert names(program) == ["libc.so", "lib.so"]

    def test_it_goes_with_the_key(self, keys: Path, said: list[int]) -> None:
        with pylinker.CDLL(
            "libc.so", library_path=[keys], threads=True, imports={"say": said.append}
        ) as libc:
            program = libc.program
            other = program.dlopen("other.so")
            program.dlopen("lib.so").close()
            before = used(program)
            library = program.dlopen("lib.so")
            assert library.make() == 0
            key = library.key()
            library.close()
            assert used(program) != before
            assert other.forget(key) == 0
            assert used(program) == before
            libc.finish()
            assert said == []

    def test_a_library_that_deletes_its_key_is_unloaded_at_once(
        self, keys: Path, said: list[int]
    ) -> None:
        with pylinker.CDLL(
            "libc.so", library_path=[keys], threads=True, imports={"say": said.append}
        ) as libc:
            library = libc.program.dlopen("lib.so")
            library.make()
            library.leave(2)
            library.close()
            assert said == [2]
            assert names(libc.program) == ["libc.so"]
            with libc.program.dlopen("lib.so") as library:
                library.plain()  # a key without a destructor keeps nothing
            assert names(libc.program) == ["libc.so"]

    def test_a_failed_load_deletes_its_key(self, keys: Path, said: list[int]) -> None:
        with pylinker.CDLL(
            "libc.so", library_path=[keys], threads=True, imports={"say": said.append}
        ) as libc:
            before = used(libc.program)
            for _ in range(2):
                with pytest.raises(pylinker.InitializationError):
                    libc.program.dlopen("fails.so")
                assert used(libc.program) == before
            libc.finish()
            assert said == []

    def test_a_c_library_that_comes_later(self, keys: Path, said: list[int]) -> None:
        with pylinker.CDLL(
            "other.so", library_path=[keys], threads=True, imports={"say": said.append}
        ) as other:
            program = other.program
            library = program.dlopen("lib.so")
            libc = program.dlopen("libc.so", pylinker.RTLD_GLOBAL)
            assert library.make() == 0
            library.close()
            libc.finish()
            assert said == [10]

    @pytest.mark.parametrize("call", ["$create", "$keep"])
    def test_a_module_that_is_just_being_loaded_may_not_call(
        self, call: str, keys: Path, folder: Path, said: list[int]
    ) -> None:
        """From its start function: its thread has the linker's lock already."""
        fields = KEYED if call == "$create" else LIBRARY
        memory = "" if call == "$create" else SHARED
        wasm(
            folder / "starts.so",
            *fields,
            *([memory] if memory else []),
            f"(func $start (drop (call {call} (i32.const 0) (i32.const 0))))",
            "(start $start)",
            slots=3,
        )
        with pylinker.CDLL(
            "libc.so", library_path=[keys], threads=True, imports={"say": said.append}
        ) as libc:
            before = used(libc.program)
            for _ in range(2):
                with pytest.raises(pylinker.LinkError, match="just being loaded"):
                    libc.program.dlopen("starts.so")
                assert used(libc.program) == before

    def test_without_a_c_library_the_functions_are_undefined(self, keys: Path) -> None:
        with pylinker.CDLL(
            "lib.so", library_path=[keys], threads=True, imports={"say": lambda _: None}
        ) as library:
            make = library.make
            with pytest.raises(pylinker.UndefinedSymbolError, match="pthread_key_create"):
                make()


# A program that exports none of __wasm_init_tls, __tls_base: each thread initialises its
# thread-local data, of 4 bytes, itself.
TLS = (
    SHARED,
    '(import "wasi" "thread-spawn" (func $spawn (param i32) (result i32)))',
    '(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))',
    "(global $tls_base (mut i32) (i32.const 0))",
    '(data $image "\\05\\00\\00\\00")',
    (
        "(func $init (param i32) (global.set $tls_base (local.get 0)) "
        "(memory.init $image (local.get 0) (i32.const 0) (i32.const 4)))"
    ),
    "(func $start (global.set $tls_base (i32.const 32)))",
    "(start $start)",
    (
        '(func (export "wasi_thread_start") (param i32 i32) (call $init (local.get 1))'
        " (i32.atomic.store (i32.const 64) "
        "(i32.add (i32.load (global.get $tls_base)) (i32.const 10))))"
    ),
    '(func (export "work") (result i32) (i32.const 1))',
    (
        '(func (export "_start") (call $init (i32.const 32)) '
        "(i32.store (global.get $tls_base) (i32.const 1))"
        " (if (i32.lt_s (call $spawn (i32.const 48)) (i32.const 0)) "
        "(then (call $exit (i32.const 9))))"
        " (loop $wait (br_if $wait (i32.eqz (i32.atomic.load (i32.const 64)))))"
        " (call $exit (i32.add (i32.atomic.load (i32.const 64)) "
        "(i32.load (global.get $tls_base)))))"
    ),
)


class TestThreadLocalDataOfTheGuest:
    """Case tls-by-guest: refused is only what needs the linker for it."""

    @pytest.mark.parametrize("dynamic", [False, True])
    def test_the_guest_starts_threads(self, dynamic: bool, tmp_path: Path) -> None:
        main = wasm(tmp_path / "main.wasm", *TLS, dynamic=dynamic)
        with pylinker.Program(main, threads=True) as program:
            assert program.run() == 16

    def test_the_host_starts_none(self, tmp_path: Path) -> None:
        main = wasm(tmp_path / "main.wasm", *TLS)
        with pylinker.Program(main, threads=True) as program:
            before = used(program)
            for _ in range(2):
                with pytest.raises(
                    pylinker.UnsupportedError,
                    match=r"main\.wasm has thread-local data but exports no way",
                ):
                    program.spawn("work")
                assert used(program) == before
            assert program.run() == 16

    def test_a_library_cannot_have_such_data(self, tmp_path: Path) -> None:
        main = wasm(tmp_path / "main.wasm", *TLS)
        base = '(import "env" "__memory_base" (global i32))'
        wasm(
            tmp_path / "lib.so",
            base,
            *(each for each in TLS if "_start" not in each and "$spawn" not in each),
        )
        with pylinker.Program(main, threads=True, library_path=[tmp_path]) as program:
            before = used(program)
            for _ in range(2):
                with pytest.raises(
                    pylinker.UnsupportedError, match=r"lib\.so has thread-local data"
                ):
                    program.dlopen("lib.so")
                assert used(program) == before
            assert program.run() == 16
        with pytest.raises(pylinker.UnsupportedError, match=r"lib\.so has thread-local data"):
            pylinker.Program(main, threads=True, library_path=[tmp_path], preload=["lib.so"])


class TestLimit:
    """``Limits.destructors`` counts destructors registered for the end of threads, and keys."""

    LIMITS = pylinker.Limits(destructors=5)

    def test_of_one_thread(self, folder: Path, said: list[int]) -> None:
        with pylinker.CDLL(
            "lib.so",
            library_path=[folder],
            threads=True,
            imports={"say": said.append},
            limits=self.LIMITS,
        ) as library:
            assert [library.keep(0, number) for number in range(7)] == [0] * 5 + [-1] * 2
        assert said == [4, 3, 2, 1, 0]

    def test_of_all_threads_together_until_they_end(self, folder: Path, said: list[int]) -> None:
        with pylinker.CDLL(
            "lib.so",
            library_path=[folder],
            threads=True,
            imports={"say": said.append},
            limits=self.LIMITS,
        ) as library:
            program = library.program

            def work() -> list[int]:
                mine = [library.keep(0, number) for number in (1, 2, 3)]
                return mine + program.spawn(
                    lambda: [library.keep(0, number) for number in (4, 5, 6)]
                ).join(DEADLINE)

            for _ in range(3):
                assert program.spawn(work).join(DEADLINE) == [0] * 5 + [-1]
            assert said == [5, 4, 3, 2, 1] * 3

    def test_a_destructor_that_registers_itself_again_has_room(
        self, folder: Path, said: list[int]
    ) -> None:
        with pylinker.CDLL(
            "lib.so",
            library_path=[folder],
            threads=True,
            imports={"say": said.append},
            limits=self.LIMITS,
        ) as library:
            assert (
                library.program.spawn(
                    lambda: [library.keep(0, 0) for _ in range(4)] + [library.keep(1, 7)]
                ).join(DEADLINE)
                == [0] * 5
            )
        assert said == [7, 107, 0, 0, 0, 0]

    def test_of_keys(self, tmp_path: Path) -> None:
        """A C library of the guest's own may say that it has made as many keys as it likes."""
        wasm(tmp_path / "libc.so", *LIBC)
        wasm(tmp_path / "lib.so", *KEYED, slots=3)
        keywords: dict[str, Any] = {
            "threads": True,
            "imports": {"say": print},
            "limits": self.LIMITS,
        }
        with pylinker.CDLL("libc.so", library_path=[tmp_path], **keywords) as libc:
            library = libc.program.dlopen("lib.so")
            for _ in range(2):
                keys = []
                for _ in range(5):
                    assert library.make() == 0
                    keys.append(library.key())
                assert library.make() == EAGAIN
                assert library.key() == keys[-1]  # the guest's function was not called
                assert library.leave(1) == -1
                assert library.plain() == 0  # which keeps nothing
                for key in keys:
                    assert library.forget(key) == 0
            assert library.leave(1) == 0
            assert [library.make() for _ in range(5)] == [0] * 4 + [EAGAIN]

    def test_of_keys_of_c11(self, tmp_path: Path) -> None:
        wasm(tmp_path / "libc.so", *(each.replace("pthread_key_", "tss_") for each in LIBC))
        wasm(
            tmp_path / "lib.so",
            *(each.replace("pthread_key_create", "tss_create") for each in KEYED),
            slots=3,
        )
        keywords: dict[str, Any] = {
            "threads": True,
            "imports": {"say": print},
            "limits": self.LIMITS,
        }
        with pylinker.CDLL("libc.so", library_path=[tmp_path], **keywords) as libc:
            library = libc.program.dlopen("lib.so")
            assert [library.make() for _ in range(6)] == [0] * 5 + [THRD_ERROR]
