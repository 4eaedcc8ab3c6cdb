"""WASIX in pylinker, call by call: unknown functions, pointers, threads, closures, signals.

The programs of ``tests/wasix`` are in test_wasix_oracle.py.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import wasmtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pylinker
from fields import SHARED, TABLE, wasm
from guests import DEADLINE, orderly
from pylinker.linker.guests import wasix
from pylinker.linker.guests.table import provided
from pylinker.linker.guests.wasix import Errno
from pylinker.wasm import WASI_PREVIEW1, FuncType, parse_module

PROVIDED = provided(wasix.WASIX)

if TYPE_CHECKING:
    from typing import Self

STACK = '(import "env" "__stack_pointer" (global $sp (mut i32)))'
OUTSIDE = 0xFFFFFFF0
PAGE = 1 << 16


@pytest.fixture(autouse=True)
def rules() -> Iterator[None]:
    with orderly():
        yield


def shown(type_: FuncType) -> str:
    return f"(param {' '.join(type_.params)}) (result {' '.join(type_.results)})"


def forwards(functions: dict[str, FuncType], module: str = wasix.WASIX) -> list[str]:
    """Imports of functions, and exported functions of the same names that call them."""
    fields = []
    for name, type_ in functions.items():
        gets = " ".join(f"(local.get {index})" for index in range(len(type_.params)))
        fields.append(f'(import "{module}" "{name}" (func $_{name} {shown(type_)}))')
        fields.append(f'(func (export "{name}") {shown(type_)} (call $_{name} {gets}))')
    return fields


THREAD = """(func (export "wasi_thread_start") (param i32 i32)
  (global.set $sp (i32.load (local.get 1)))
  (if (i32.load offset=8 (local.get 1)) (then
    (call_indirect (param i32) (i32.load offset=12 (local.get 1))
      (i32.load offset=8 (local.get 1))))))"""


# Threads that do nothing: one that traps would end the program.
HOSTILE = (
    '(func (export "wasi_thread_start") (param i32 i32))',
    '(func (export "f") (param i32 f64) (result i64) (i64.const 7))',
    '(func (export "hear") (param i32))',
)
ENDS = ("thread_exit", "proc_exit2")  # the program


def harmless(name: str, arguments: list[int]) -> list[int]:
    """The arguments, without those that would wait for ever or end the program."""
    if name == "futex_wait":
        arguments[2] = PAGE + 4096  # where it says: no time
    if name == "thread_sleep":
        arguments[0] %= 1000
    if name == "thread_join":
        arguments[0] |= 1 << 30
    if name == "thread_signal":
        arguments[1] = arguments[1] % 31 + 14 if arguments[1] % 31 + 14 <= 31 else 0
    return arguments


def is_answer(guest: Guest, name: str, arguments: list[int]) -> bool:
    """Whether a call with these unsigned arguments gives an error number, nothing, or a trap."""
    kinds = PROVIDED[name].params
    try:
        result = guest.main[name](
            *(
                each - 2**32 if kind == "i32" and each >> 31 else each
                for each, kind in zip(arguments, kinds, strict=True)
            )
        )
    except (wasmtime.Trap, wasmtime.WasmtimeError):
        return True  # call_dynamic of what traps
    return result is None or result in {int(each) for each in Errno}


class Guest:
    """A main module that forwards all of WASIX to its exports, with the additions of a test."""

    def __init__(
        self,
        folder: Path,
        *fields: str,
        functions: dict[str, FuncType] | None = None,
        slots: int = 0,
        **keywords: Any,
    ) -> None:
        functions = dict(PROVIDED) if functions is None else functions
        path = wasm(
            folder / "main.wasm", SHARED, TABLE, STACK, *forwards(functions), *fields, slots=slots
        )
        self.program = pylinker.Program(path, **keywords)
        self.main = self.program.main
        self.memory = self.program.memory
        self.data = 64 * 1024  # unused memory; below it is the stack

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.program.close()

    def __getattr__(self, name: str) -> Any:
        return self.main[name]

    def put(self, data: bytes, at: int = 0) -> int:
        """Write to the guest's memory, ``at`` bytes into what is free; returns the address."""
        self.memory.write(self.data + at, data)
        return self.data + at

    def word(self, at: int = 0) -> int:
        """Read a u32 from there."""
        return int.from_bytes(self.memory.read(self.data + at, 4), "little")

    def dlsym(self, name: str, handle: int = 0) -> tuple[int, int]:
        """Error number and value."""
        text = self.put(name.encode(), 100)
        error = self.main["dlsym"](handle, text, len(name), 0, 0, self.data)
        return error, self.word()

    def closure(self, function: int, params: bytes, results: bytes, environment: int = 0) -> int:
        """A prepared closure."""
        assert self.closure_allocate(self.data) == 0
        slot = self.word()
        lists = self.put(params + results, 8)
        error = self.closure_prepare(
            function, slot, lists, len(params), lists + len(params), len(results), environment
        )
        assert error == 0
        return slot

    def spawn(self, function: int, argument: int = 0, stack: int = 0) -> tuple[int, int]:
        """Error number and thread number."""
        start = self.put(
            struct.pack("<16I", stack or self.data + 60000, 0, function, argument, *[0] * 12), 200
        )
        return self.thread_spawn_v2(start, self.data), self.word()


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    with Guest(tmp_path) as guest:
        yield guest


@pytest.fixture(scope="module")
def shared_guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    with Guest(tmp_path_factory.mktemp("hostile"), *HOSTILE) as guest:
        yield guest


class TestWhatIsServed:
    UNKNOWN: ClassVar = {
        "port_dhcp_acquire": FuncType((), ("i32",)),
        "stack_checkpoint": FuncType(("i32", "i32"), ("i32",)),
        "nothing": FuncType((), ()),
        "noreturn": FuncType(("i64",), ()),
        "wide": FuncType(("f32", "f64"), ("i64",)),
        "sock_accept": FuncType(
            ("i32", "i32", "i32", "i32"), ("i32",)
        ),  # of another type than preview 1's
    }

    def test_anything_else_answers_that_it_is_not_there(self, tmp_path):
        with Guest(tmp_path, functions=self.UNKNOWN) as guest:
            assert guest.port_dhcp_acquire() == 58
            assert guest.stack_checkpoint(1, 2) == 58
            assert guest.nothing() is None
            assert guest.noreturn(1) is None
            assert guest.wide(1.5, 2.5) == 58
            assert guest.sock_accept(0, 0, 0, 0) == 58

    def test_it_is_listed(self, tmp_path):
        functions = {**self.UNKNOWN, "fd_write": WASI_PREVIEW1["fd_write"], **PROVIDED}
        path = wasm(
            tmp_path / "main.wasm",
            *forwards(functions),
            *forwards({"other": FuncType((), ())}, "env"),
        )
        assert wasix.unserved(parse_module(path.read_bytes())) == list(self.UNKNOWN)

    def test_it_is_undefined_with_bind_now(self, tmp_path):
        with pytest.raises(pylinker.UndefinedSymbolError, match=r"wasix_32v1\.nothing"):
            Guest(tmp_path, functions={"nothing": FuncType((), ())}, bind_now=True)
        with Guest(tmp_path, bind_now=True):
            pass

    def test_values_that_are_no_numbers_trap_when_it_is_called(self, tmp_path):
        call = '(func (export "go") (call $_strange (ref.null extern)))'
        guest = Guest(tmp_path, call, functions={"strange": FuncType(("externref",), ())})
        with guest, pytest.raises(pylinker.UndefinedSymbolError, match=r"wasix_32v1\.strange"):
            guest.go()

    @pytest.mark.parametrize("name", sorted(WASI_PREVIEW1))
    def test_all_of_preview_1_is_there(self, name, tmp_path):
        path = wasm(tmp_path / "lib.so", SHARED, *forwards({name: WASI_PREVIEW1[name]}))
        assert wasix.unserved(parse_module(path.read_bytes())) == []
        pylinker.CDLL(path).close()

    @pytest.mark.parametrize("name", sorted(PROVIDED))
    def test_of_another_type(self, name, tmp_path):
        with Guest(tmp_path, functions={name: FuncType(("f32",), ("f32",))}) as guest:
            call = guest.main[name]
            with pytest.raises(pylinker.SignatureMismatchError, match=f"{name}.*WASIX"):
                call(1.0)

    def test_the_user_comes_first(self, tmp_path):
        path = wasm(tmp_path / "lib.so", SHARED, *forwards({"proc_id": PROVIDED["proc_id"]}))
        assert (
            pylinker.CDLL(path, imports={(wasix.WASIX, "proc_id"): lambda out: out + 1}).proc_id(5)
            == 6
        )


class TestClocks:
    def test_one_program_sets_its_own_alone(self, tmp_path):
        functions = {
            name: (WASI_PREVIEW1 | PROVIDED)[name] for name in ("clock_time_get", "clock_time_set")
        }
        with (
            Guest(tmp_path, functions=functions) as one,
            Guest(tmp_path, functions=functions) as other,
        ):
            before = time.time_ns()
            assert one.clock_time_set(0, 10**18) == Errno.SUCCESS
            for guest in (one, other):
                assert guest.clock_time_get(0, 1, guest.data) == Errno.SUCCESS
            set_, untouched = (
                int.from_bytes(each.memory.read(each.data, 8), "little") for each in (one, other)
            )
            assert 0 <= set_ - 10**18 < 60 * 10**9
            assert before <= untouched <= time.time_ns()


class TestPointers:
    def test_a_pointer_out_of_the_memory_is_an_error_of_wasi_too(self, tmp_path):
        names = ("args_sizes_get", "fd_write", "random_get", "clock_time_get", "fd_seek")
        with Guest(tmp_path, functions={name: WASI_PREVIEW1[name] for name in names}) as guest:
            assert guest.args_sizes_get(OUTSIDE, 8) == Errno.MEMVIOLATION
            assert guest.fd_write(1, OUTSIDE, 1, 8) == Errno.MEMVIOLATION
            assert guest.random_get(OUTSIDE, 100) == Errno.MEMVIOLATION
            assert guest.clock_time_get(1, 1, OUTSIDE) == Errno.MEMVIOLATION
            assert guest.fd_seek(1, 0, 77, guest.data) == Errno.INVAL

    def test_buffers_of_numbers_must_be_aligned(self, tmp_path):
        names = ("args_sizes_get", "fd_write", "fd_fdstat_get", "poll_oneoff")
        with Guest(tmp_path, functions={name: WASI_PREVIEW1[name] for name in names}) as guest:
            odd = guest.data + 1
            assert (
                guest.args_sizes_get(odd, guest.data)
                == guest.args_sizes_get(guest.data, odd)
                == Errno.INVAL
            )
            assert (
                guest.fd_write(1, odd, 1, guest.data)
                == guest.fd_write(1, guest.data, 0, odd)
                == Errno.INVAL
            )
            assert (
                guest.fd_fdstat_get(1, odd)
                == guest.poll_oneoff(odd, guest.data, 1, guest.data)
                == Errno.INVAL
            )
            assert guest.args_sizes_get(guest.data, guest.data + 4) == Errno.SUCCESS

    def test_a_program_of_preview_1_traps_as_before(self, tmp_path):
        path = wasm(
            tmp_path / "lib.so",
            SHARED,
            *forwards({"random_get": WASI_PREVIEW1["random_get"]}, "wasi_snapshot_preview1"),
        )
        with pylinker.CDLL(path) as library, pytest.raises(wasmtime.Trap, match="WASI call failed"):
            library.random_get(OUTSIDE, 100)

    def test_a_name_may_be_as_long_as_the_memory(self, guest):
        size = guest.memory.size
        assert guest.main["dlsym"](0, 0, size, 0, 0, guest.data) in (Errno.UNKNOWN, Errno.INVAL)
        assert guest.main["dlsym"](0, 0, size + 1, 0, 0, guest.data) == Errno.MEMVIOLATION
        assert guest.main["dlopen"](8, size - 8, 0, 0, 0, 0, size, guest.data) in (
            Errno.UNKNOWN,
            Errno.INVAL,
        )

    def test_a_thread_whose_number_has_no_place_is_not_started(self, tmp_path):
        with Guest(tmp_path, THREAD) as guest:
            before = guest.program.statistics().groups
            start = guest.put(bytes(64))
            assert guest.thread_spawn_v2(start, OUTSIDE) == Errno.MEMVIOLATION
            assert guest.program.statistics().groups == before
            assert guest.thread_spawn_v2(guest.memory.size - 63, guest.data) == Errno.MEMVIOLATION

    def test_a_closure_whose_slot_has_no_place_is_not_lost(self, guest):
        assert guest.closure_allocate(guest.data) == 0
        assert guest.closure_allocate(OUTSIDE) == Errno.MEMVIOLATION
        first = guest.word()
        assert guest.closure_allocate(guest.data) == 0
        assert guest.word() == first + 1

    # In order of the arguments: any number, an address that is likely inside, a small number, one
    # that wraps.
    NUMBERS = st.one_of(
        st.integers(0, 2**32 - 1),
        st.integers(PAGE, 2 * PAGE),
        st.integers(0, 12),
        st.sampled_from([OUTSIDE, 2**31, 2**32 - 1, PAGE - 1]),
    )

    @given(data=st.data())
    @settings(
        max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    def test_no_arguments_crash_the_host(self, shared_guest, data):
        guest = shared_guest
        name = data.draw(st.sampled_from([name for name in sorted(PROVIDED) if name not in ENDS]))
        arguments = harmless(name, [data.draw(self.NUMBERS) for _ in PROVIDED[name].params])
        guest.put(b"\1" + bytes(15), 4096)
        assert is_answer(guest, name, arguments)

    def test_nor_do_those_of_threads_that_race(self, tmp_path):
        names = [name for name in sorted(PROVIDED) if name not in ENDS]
        numbers = (0, 1, 2, 8, 100, PAGE, PAGE + 8, PAGE + 100, 2 * PAGE, OUTSIDE, 2**32 - 1)
        with Guest(tmp_path, *HOSTILE, limits=pylinker.Limits(threads=12)) as guest:

            def race(seed: int) -> bool:
                random_ = random.Random(seed)
                for _ in range(300):
                    name = random_.choice(names)
                    guest.put(random_.randbytes(64), random_.randrange(0, 200))
                    guest.put(b"\1" + bytes(15), 4096)
                    if not is_answer(
                        guest,
                        name,
                        harmless(name, random_.choices(numbers, k=len(PROVIDED[name].params))),
                    ):
                        return False
                return True

            threads = [guest.program.spawn(race, seed) for seed in range(4)]
            assert all(thread.join(DEADLINE) for thread in threads)


class TestThreads:
    COUNT = """(func $count (export "count") (param i32)
      (drop (i32.atomic.rmw.add (i32.const 131072) (local.get 0))))"""

    def test_a_program_that_starts_threads_has_them(self, tmp_path):
        one = {"thread_spawn_v2": PROVIDED["thread_spawn_v2"]}
        for threads, expected in ((None, 0), (True, 0), (False, Errno.NOTSUP)):
            with Guest(tmp_path, THREAD, functions=one, threads=threads) as guest:
                assert guest.spawn(0)[0] == expected
        guest = Guest(tmp_path, functions={"proc_id": PROVIDED["proc_id"]})
        with guest, pytest.raises(pylinker.UnsupportedError, match="threads=True"):
            guest.program.spawn("proc_id")

    def test_numbers_begin_after_the_first_threads(self, tmp_path):
        with Guest(tmp_path, THREAD) as guest:
            assert [guest.spawn(0) for _ in range(3)] == [(0, 2), (0, 3), (0, 4)]
            assert guest.program.spawn("thread_id", guest.data).join() == 0
            assert guest.word() == 5
            assert guest.thread_id(guest.data) == 0
            assert guest.word() == 1

    def test_who_has_no_beginning_has_no_threads(self, guest):
        assert guest.spawn(0)[0] == Errno.NOTCAPABLE

    def test_the_limit_of_threads(self, tmp_path):
        with Guest(tmp_path, THREAD, limits=pylinker.Limits(threads=1)) as guest:
            sleeper = guest.program.spawn("thread_sleep", 10**18)
            assert guest.spawn(0)[0] == Errno.AGAIN
            assert sleeper.is_alive

    def test_a_thread_may_be_joined_by_many(self, tmp_path):
        with Guest(tmp_path, THREAD) as guest:
            waiting = guest.program.spawn(
                "futex_wait", guest.data + 8, 0, guest.put(bytes(16), 16), guest.data + 40
            )
            joins = [guest.program.spawn("thread_join", waiting.tid) for _ in range(4)]
            while waiting.is_alive:
                guest.futex_wake(guest.data + 8, guest.data + 41)
            assert [each.join(DEADLINE) for each in joins] == [0] * 4

    def test_the_end_of_the_program_ends_a_join(self, tmp_path):
        with Guest(tmp_path, THREAD) as guest:
            sleeper = guest.program.spawn("thread_sleep", 10**18)
            joins = [
                guest.program.spawn("thread_join", sleeper.tid),
                guest.program.spawn("thread_join", 3),
            ]
        for each in (sleeper, *joins):
            with pytest.raises(pylinker.SynchronizationAborted):
                each.join(DEADLINE)

    def test_thread_exit_ends_a_thread_of_python_as_well(self, tmp_path):
        with Guest(tmp_path, THREAD) as guest:
            assert guest.program.spawn("thread_exit", 5).join(DEADLINE) is None
            assert guest.thread_id(guest.data) == 0  # the program goes on

    def test_parallelism_is_what_this_process_may_use(self, guest):
        assert guest.thread_parallelism(guest.data) == 0
        assert guest.word() == (
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        )

    def test_preview_1_keeps_its_numbers(self, tmp_path):
        path = wasm(tmp_path / "lib.so", SHARED, '(func (export "f"))')
        with pylinker.CDLL(path, threads=True) as library:
            assert library.program.spawn("f").tid == 1


class TestThreadLocalData:
    # Each block has 16 bytes; the first is the module's own copy, at its base, and others are given
    # out behind it.
    LIBRARY = """
      (global $tls (mut i32) (i32.const 0))
      (func $init (param i32) (result i32) (global.set $tls (local.get 0))
        (i32.store (local.get 0) (i32.const 11)) (local.get 0))
      (func $start (if (i32.eqz (i32.atomic.rmw.cmpxchg (i32.add (global.get $base) (i32.const 12))
        (i32.const 0) (i32.const 1)))
        (then (drop (call $init (global.get $base))))))
      (func (export "__wasix_init_tls") (result i32) {make})
      (func (export "bump") (result i32)
        (i32.store (global.get $tls) (i32.add (i32.load (global.get $tls)) (i32.const 1)))
          (i32.load (global.get $tls)))
      (func (export "where") (result i32) (global.get $tls))
      (start $start)"""
    BASE = '(import "env" "__memory_base" (global $base i32))'
    LEND = '(import "env" "lend" (func $lend (result i32)))'
    LENDER = (
        '(func (export "lend") (result i32) (i32.add (i32.const 140000) '
        "(i32.atomic.rmw.add (i32.const 131072) (i32.const 16))))"
    )

    def test_a_library_may_make_its_blocks_itself(self, tmp_path):
        wasm(
            tmp_path / "libown.so",
            SHARED,
            self.BASE,
            self.LEND,
            self.LIBRARY.format(make="(call $init (call $lend))"),
        )
        with Guest(tmp_path, THREAD, self.LENDER, dirs={"/lib": tmp_path}) as guest:
            go, done = threading.Event(), threading.Event()

            def before() -> tuple[int, int, int]:
                go.wait(DEADLINE)
                return library.bump(), library.bump(), library.where()

            early = guest.program.spawn(before)
            library = guest.program.dlopen("libown.so")
            assert library.bump() == 12
            go.set()
            late = guest.program.spawn(lambda: (library.bump(), library.bump(), library.where()))
            results = [each.join(DEADLINE) for each in (early, late)]
            assert [each[:2] for each in results] == [(12, 13)] * 2
            assert len({each[2] for each in results} | {library.where()}) == 3
            assert library.bump() == 13
            done.set()

    def test_one_that_cannot_is_a_trap_of_who_starts_the_thread(self, tmp_path):
        wasm(tmp_path / "libown.so", SHARED, self.BASE, self.LIBRARY.format(make="unreachable"))
        with Guest(tmp_path, THREAD, dirs={"/lib": tmp_path}) as guest:
            guest.program.dlopen("libown.so")
            with pytest.raises(wasmtime.Trap, match="unreachable"):
                guest.spawn(0)
            assert guest.program.statistics().groups == 1


class TestLibraries:
    def test_closing(self, tmp_path):
        wasm(tmp_path / "libx.so", SHARED, '(func (export "f") (result i32) (i32.const 42))')
        with Guest(tmp_path, THREAD, dirs={"/lib": tmp_path}) as guest:
            name = guest.put(b"libx.so", 300)
            for _ in range(2):
                assert guest.main["dlopen"](name, 7, 0, 0, 0, 0, 0, guest.data) == 0
                handle = guest.word()
                assert guest.dl_invalid_handle(handle) == 0
                assert guest.dlclose(handle, 0, 0) == 0
                assert guest.dl_invalid_handle(handle) == Errno.NOEXEC
                assert guest.dlclose(handle, guest.data + 400, 5) == Errno.UNKNOWN
                assert guest.memory.read(guest.data + 400, 6) == b"hand\0\0"
            assert guest.dlclose(1, 0, 0) == 0
            assert [each.name for each in guest.program.libraries] == ["main.wasm"]

    def test_paths_of_the_host_are_not_told(self, tmp_path):
        (tmp_path / "lib").mkdir()
        with Guest(tmp_path, THREAD, dirs={"/lib": tmp_path / "lib"}) as guest:
            name = guest.put(b"absent.so", 300)
            assert (
                guest.main["dlopen"](name, 9, 0, guest.data + 400, 300, 0, 0, guest.data)
                == Errno.UNKNOWN
            )
            text = guest.memory.cstring(guest.data + 400)
            assert b"absent.so" in text
            assert str(tmp_path).encode() not in text


class TestClosures:
    BACK = """(func $back (export "back") (param i32 i32 i32)
        (i32.store (local.get 1) (i32.add (i32.load (local.get 0)) (local.get 2))))
      (func (export "call") (param i32 i32) (result i32)
        (call_indirect (param i32) (result i32) (local.get 1) (local.get 0)))"""

    @pytest.fixture
    def guest(self, tmp_path: Path) -> Iterator[Guest]:
        with Guest(tmp_path, self.BACK, THREAD) as guest:
            yield guest

    def back(self, guest: Guest) -> int:
        return guest.main.address_of("back")

    def test_it_is_in_threads_that_are_there_and_in_those_that_come(self, guest):
        go = threading.Event()
        slots: list[int] = []

        def before() -> int:
            go.wait(DEADLINE)
            return guest.call(slots[0], 1)

        early = guest.program.spawn(before)
        slots.append(guest.closure(self.back(guest), b"\0", b"\0", 41))
        go.set()
        assert early.join(DEADLINE) == 42
        assert guest.program.spawn("call", slots[0], 2).join(DEADLINE) == 43
        slot = guest.program.spawn(lambda: guest.closure(self.back(guest), b"\0", b"\0", 7)).join(
            DEADLINE
        )
        assert guest.call(slot, 1) == 8

    def test_one_that_changes_changes_for_all(self, guest):
        slot = guest.closure(self.back(guest), b"\0", b"\0", 1)
        lists = guest.put(b"\0\0\2", 8)
        started, go = threading.Event(), threading.Event()

        def other() -> tuple[int, int]:
            before = guest.call(slot, 1)
            started.set()
            go.wait(DEADLINE)
            return before, guest.call(slot, 1)

        thread = guest.program.spawn(other)
        started.wait(DEADLINE)
        assert guest.closure_prepare(self.back(guest), slot, lists, 1, lists, 1, 100) == 0
        go.set()
        assert thread.join(DEADLINE) == (2, 101)
        assert guest.closure_prepare(self.back(guest), slot, lists + 2, 1, lists, 1, 100) == 0
        with pytest.raises(wasmtime.Trap, match="type mismatch"):
            guest.call(slot, 1)

    def test_only_slots_that_were_given_out_are_filled(self, guest):
        assert guest.closure_allocate(guest.data) == 0
        slot, lists = guest.word(), guest.put(b"\0", 8)
        for other in (0, self.back(guest), slot + 1, 10**6, 2**31 - 1):
            assert (
                guest.closure_prepare(self.back(guest), other, lists, 1, lists, 1, 0) == Errno.INVAL
            )
        assert guest.closure_free(slot) == 0
        assert guest.closure_prepare(self.back(guest), slot, lists, 1, lists, 1, 0) == Errno.INVAL
        assert guest.main["back"](guest.data, guest.data, 5) is None

    def test_many_are_made_and_freed(self, guest):
        used = guest.program.statistics().table_used
        for round_ in range(3):
            slots = [
                guest.closure(self.back(guest), b"\0", b"\0", round_ + index)
                for index in range(100)
            ]
            assert len(set(slots)) == 100
            assert [guest.call(slot, 1) for slot in slots] == [
                round_ + index + 1 for index in range(100)
            ]
            for slot in slots:
                assert guest.closure_free(slot) == 0
        assert guest.program.statistics().table_used == used + 128

    def test_one_that_is_freed_while_it_is_prepared_is_not_prepared(self, guest, monkeypatch):
        linker = guest.program._linker
        closures, apply = linker.closures, type(linker.group).apply

        def meanwhile(group, operation):
            apply(group, operation)
            closures.free(operation.slot)

        slot = closures.allocate()
        with monkeypatch.context() as patch:
            patch.setattr(type(linker.group), "apply", meanwhile)
            assert closures.prepare(slot, FuncType(("i32",), ("i32",)), self.back(guest), 0)
        assert closures.allocate() == slot
        assert closures.type_of(slot) is None

    def test_too_many_values(self, guest):
        assert guest.closure_allocate(guest.data) == 0
        slot, lists = guest.word(), guest.put(bytes(2000), 8)
        assert (
            guest.closure_prepare(self.back(guest), slot, lists, 1001, lists, 0, 0) == Errno.INVAL
        )
        assert guest.closure_prepare(self.back(guest), slot, lists, 1000, lists, 0, 0) == 0

    def test_a_full_table(self, tmp_path):
        with Guest(tmp_path, limits=pylinker.Limits(table=100)) as guest:
            errors = [guest.closure_allocate(guest.data) for _ in range(100)]
            assert set(errors) == {0, Errno.NOMEM}

    def test_the_type_of_a_closure_is_known_to_all(self, guest):
        slot = guest.closure(self.back(guest), b"\0", b"\0", 1)
        values = guest.put(struct.pack("<i", 5), 500)

        def call() -> tuple[int, int]:
            return guest.call_dynamic(slot, values, 4, values + 8, 4, 1), guest.word(508)

        assert call() == (0, 6)
        assert guest.program.spawn(call).join(DEADLINE) == (0, 6)


class TestDynamicCalls:
    FUNCTIONS = """
      (table.set 0 (i32.const 0) (ref.null func))"""
    TRICK = """
      (elem declare func $wide $narrow)
      (func $wide (export "wide") (param i64 f64) (result f64) (local.get 1))
      (func $narrow (export "narrow") (param i32) (result i32) (local.get 0))
      (func (export "swap") (param i32) (table.set 0 (local.get 0) (ref.func $wide)))"""

    def test_what_the_guest_puts_there_itself_is_not_believed(self, tmp_path):
        """The linker knows the previous function: a call of another type would corrupt the host."""
        with Guest(tmp_path, self.TRICK) as guest:
            slot = guest.main.address_of("narrow")
            values = guest.put(struct.pack("<i", 5), 500)
            assert guest.call_dynamic(slot, values, 4, values + 8, 4, 1) == 0
            assert guest.word(508) == 5
            guest.swap(slot)
            with pytest.raises(wasmtime.Trap, match="type mismatch"):
                guest.call_dynamic(slot, values, 4, values + 8, 4, 1)

    def test_a_slot_that_is_nobodys(self, tmp_path):
        with Guest(tmp_path, self.TRICK) as guest:
            assert guest.closure_allocate(guest.data) == 0
            slot = guest.word()
            guest.swap(slot)
            assert guest.call_dynamic(slot, guest.data, 16, guest.data, 8, 1) == Errno.INVAL

    def test_references_are_not_numbers(self, tmp_path):
        fields = (
            '(func (export "takes") (param i32 externref))',
            '(func (export "gives") (result funcref) (ref.null func))',
            (
                '(func (export "lists") (param i64) (result i32 externref) (i32.const 1) '
                "(ref.null extern))"
            ),
        )
        with Guest(tmp_path, *fields) as guest:
            for name, counts in (("takes", (2, 0)), ("gives", (0, 1)), ("lists", (1, 2))):
                slot = guest.main.address_of(name)
                assert (
                    guest.call_dynamic(slot, guest.data, 100, guest.data + 200, 100, 0)
                    == Errno.INVAL
                )
                assert (
                    guest.reflect_signature(
                        slot, guest.data, 9, guest.data + 20, 9, guest.data + 40
                    )
                    == Errno.INVAL
                )
                assert struct.unpack("<BxHH", guest.memory.read(guest.data + 40, 6)) == (1, *counts)

    def test_a_function_of_python(self, tmp_path):
        fields = (
            '(import "env" "f" (func $f (param i32 f64) (result f64)))',
            '(import "GOT.func" "f" (global $slot (mut i32)))',
            '(func (export "slot") (result i32) (global.get $slot))',
        )
        with Guest(tmp_path, *fields, imports={"f": lambda number, real: number * real}) as guest:
            values = guest.put(struct.pack("<id", 3, 1.5), 500)
            assert guest.call_dynamic(guest.slot(), values, 12, values, 8, 1) == 0
            assert struct.unpack("<d", guest.memory.read(values, 8)) == (4.5,)

    def test_a_library_that_goes_is_forgotten(self, tmp_path):
        wasm(tmp_path / "libx.so", SHARED, '(func (export "f") (result i32) (i32.const 42))')
        with Guest(tmp_path, THREAD, library_path=[tmp_path]) as guest:
            library = guest.program.dlopen("libx.so")
            slot = library.address_of("f")
            assert guest.call_dynamic(slot, 0, 0, guest.data, 4, 1) == 0
            assert guest.word() == 42
            library.close()
            assert guest.call_dynamic(slot, 0, 0, guest.data, 4, 1) == Errno.INVAL

    def test_exit_and_trap_pass_through(self, tmp_path):
        fields = (
            '(func (export "trap") unreachable) '
            '(func (export "leave") (call $_proc_exit2 (i32.const 7)))'
        )
        with Guest(tmp_path, fields) as guest:
            with pytest.raises(wasmtime.Trap, match="unreachable"):
                guest.call_dynamic(guest.main.address_of("trap"), 0, 0, 0, 0, 1)
            with pytest.raises(wasmtime.ExitTrap) as exit_:
                guest.call_dynamic(guest.main.address_of("leave"), 0, 0, 0, 0, 1)
            assert exit_.value.code == 7


class TestLife:
    """A program that waits hears Ctrl-C, and one that is closed is freed."""

    WAITS: ClassVar = {
        "futex_wait": "(call $_futex_wait (i32.const 131072) (i32.const 0) (i32.const 131080) "
        "(i32.const 131100))",
        "thread_sleep": "(call $_thread_sleep (i64.const 1000000000000000000))",
        "thread_join": """(i32.store (i32.const 140000) (i32.const 200000))
          (i32.store (i32.const 140008) (global.get $nap))
          (drop (call $_thread_spawn_v2 (i32.const 140000) (i32.const 131104)))
            (call $_thread_join (i32.const 2))""",
        "atomic": "(memory.atomic.wait32 (i32.const 131072) (i32.const 0) (i64.const -1))",
    }

    @pytest.mark.parametrize("name", WAITS)
    def test_interrupt(self, name, tmp_path):
        ready = """(i32.store (i32.const 131200) (i32.const 131208))
          (i32.store (i32.const 131204) (i32.const 6))
          (i64.store (i32.const 131208) (i64.const 0x0a7964616572))
            (drop (call $_fd_write (i32.const 1) (i32.const 131200) (i32.const 1)
          (i32.const 131216)))"""
        path = wasm(
            tmp_path / "main.wasm",
            *(SHARED, TABLE, STACK, THREAD),
            '(import "env" "__table_base" (global $nap i32))',
            "(elem (global.get $nap) func $nap)",
            "(func $nap (param i32) (drop (call $_thread_sleep (i64.const 1000000000000000000))))",
            *forwards({**PROVIDED, "fd_write": WASI_PREVIEW1["fd_write"]}),
            f'(func (export "_start") {ready} (drop {self.WAITS[name]}))'
            if name != "thread_join"
            else f'(func (export "_start") {ready} {self.WAITS[name]} drop)',
            slots=1,
        )
        command = [sys.executable, "-m", "pylinker", "run", str(path)]
        with subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout.readline() == "ready\n", process.communicate()[1]
                process.send_signal(signal.SIGINT)
                assert process.wait(DEADLINE) == 130
                assert "Traceback" not in process.stderr.read()
            finally:
                process.kill()

    def test_one_that_is_closed_is_freed_at_once(self, tmp_path):
        gc.collect()
        gc.disable()
        try:
            guest = Guest(tmp_path, TestSignals.HANDLER, THREAD)
            guest.callback_signal(guest.put(b"hear"), 4)
            assert guest.thread_signal(1, 10) == 0
            guest.call_dynamic(guest.main.address_of("hear"), guest.put(bytes(4)), 4, 0, 0, 1)
            store = weakref.ref(guest.program._linker.group.store)
            guest.program.close()
            del guest
            assert store() is None
        finally:
            gc.enable()


class TestSignals:
    """Signals without a handler; the rest is in ``tests/wasix/signals.c``."""

    RUN = (
        '(func (export "_start") (drop (call $_thread_signal (i32.const {who}) '
        "(i32.const {signal}))) (call $_proc_exit2 (i32.const 3)))"
    )

    @pytest.mark.parametrize(
        ("signal", "status"),
        [(2, 27), (3, 0), (6, 134), (9, 27), (13, 64), (15, 3), (10, 3), (0, 3), (32, 3), (-1, 3)],
    )
    @pytest.mark.parametrize("who", [1, 0x3FFFFFFF])
    def test_of_the_first_thread(self, who, signal, status, tmp_path):
        with Guest(tmp_path, self.RUN.format(who=who, signal=signal), THREAD) as guest:
            assert guest.program.run() == status

    def test_of_another_one_that_waits(self, tmp_path):
        go = "(drop (call $_thread_signal (i32.const 2) (i32.const 6)))"
        start = (
            f'(func (export "_start") {go} (drop '
            f"(call $_thread_sleep (i64.const 1000000000000000))))"
        )
        with Guest(tmp_path, start, THREAD) as guest:
            thread = guest.program.spawn("thread_sleep", 10**18)
            assert thread.tid == 2
            assert guest.program.run() == 134
            with pytest.raises(pylinker.SynchronizationAborted):
                thread.join(DEADLINE)

    HANDLER = (
        '(func (export "hear") (param i32) (drop '
        "(i32.atomic.rmw.add (i32.const 131072) (local.get 0))))"
    )

    def heard(self, guest: Guest) -> int:
        return int.from_bytes(guest.memory.read(131072, 4), "little")

    def test_one_that_waits_for_a_handler(self, tmp_path):
        with Guest(tmp_path, self.HANDLER, THREAD) as guest:
            guest.callback_signal(guest.put(b"nothing"), 7)  # a handler that is not there
            guest.thread_signal(1, 10)
            guest.thread_signal(1, 10)  # it waits already
            guest.thread_signal(1, 12)
            assert self.heard(guest) == 0
            guest.callback_signal(guest.put(b"hear"), 4)
            assert self.heard(guest) == 22

    def test_a_handler_may_trap_and_exit(self, tmp_path):
        fields = (
            '(func (export "trap") (param i32) unreachable) '
            '(func (export "leave") (param i32) (call $_proc_exit2 (local.get 0)))'
        )
        with Guest(tmp_path, fields, THREAD) as guest:
            guest.callback_signal(guest.put(b"trap"), 4)
            with pytest.raises(wasmtime.Trap, match="unreachable"):
                guest.thread_signal(1, 10)
            guest.callback_signal(guest.put(b"leave"), 5)
            with pytest.raises(wasmtime.ExitTrap) as exit_:
                guest.thread_signal(1, 10)
            assert exit_.value.code == 10

    def test_a_handler_that_signals_itself_does_not_nest(self, tmp_path):
        again = (
            '(func (export "again") (param i32) '
            "(if (i32.lt_u (i32.atomic.rmw.add (i32.const 131072) (i32.const 1)) "
            "(i32.const 5000))"
        )
        again += " (then (drop (call $_thread_signal (i32.const 1) (local.get 0))))))"
        with Guest(tmp_path, again, THREAD) as guest:
            guest.callback_signal(guest.put(b"again"), 5)
            guest.thread_signal(1, 10)
            assert self.heard(guest) == 5001

    def test_a_wait_goes_on_after_it(self, tmp_path):
        with Guest(tmp_path, self.HANDLER, THREAD) as guest:
            name = guest.put(b"hear", 900)
            forever = guest.put(bytes(16), 16)

            def wait() -> int:
                guest.callback_signal(name, 4)
                return guest.futex_wait(guest.data + 8, 0, forever, guest.data + 40)

            thread = guest.program.spawn(wait)
            for signal in range(14, 20):
                before = self.heard(guest)
                while self.heard(guest) != before + signal:
                    guest.thread_signal(thread.tid, signal) if self.heard(guest) == before else None
                    while self.heard(guest) == before:
                        pass
            assert thread.is_alive
            while thread.is_alive:
                guest.futex_wake(guest.data + 8, guest.data + 41)
            assert thread.join(DEADLINE) == 0
