"""Python functions that guests import: types, results, exceptions, order, pointers, link errors."""

# ruff: noqa: ARG005 - the parameters of a lambda are what is tested

from __future__ import annotations

import functools
import gc
import math
import random
import struct
import threading
import traceback
from typing import Any

import pytest
import wasmtime

import pylinker
from fields import MEMORY, SHARED, TABLE, forward, library, wasm
from guests import DEADLINE, orderly
from pylinker.runtime import callbacks
from running import used
from toolchain import Scenario

VALUES: dict[str, list[Any]] = {
    "i32": [0, 1, -1, 2**31 - 1, -(2**31)],
    "i64": [0, 1, -1, 2**31, 2**63 - 1, -(2**63), -(2**63) + 1, -(2**63) + 2],
    "f32": [0.0, -0.5, 1.5, math.inf, -math.inf, 3.4028234663852886e38, 2.0**-149],
    "f64": [
        0.0,
        -0.5,
        0.1,
        math.inf,
        -math.inf,
        1.7976931348623157e308,
        callbacks.CALLBACK_FAILED_DOUBLE,
    ],
}


class TestValues:
    """Arguments and results."""

    @pytest.mark.parametrize("kind", VALUES)
    def test_one_value_there_and_back(self, kind, tmp_path):
        go = library(tmp_path, kind, kind, lambda value: value)
        for value in VALUES[kind]:
            assert go(value) == value
            assert type(go(value)) is type(value)
        assert math.isnan(library(tmp_path, "f64", "f64", lambda value: value)(math.nan))

    @pytest.mark.parametrize("count", range(10))
    @pytest.mark.parametrize(
        "kinds",
        [["i32"], ["i32", "i64"], ["f64"], ["f32", "f64"], ["i32", "f32", "i64", "f64"]],
        ids="-".join,
    )
    def test_any_number_of_arguments(self, kinds, count, tmp_path):
        """The same with several values: each arrives in its place, however its type is passed."""
        params = [kinds[index % len(kinds)] for index in range(count)]
        seen = []

        def function(*values):
            seen.append(values)
            return 42

        go = library(tmp_path, " ".join(params), kinds[0], function)
        for offset in range(3):
            values = tuple(
                VALUES[kind][(index + offset) % len(VALUES[kind])]
                for index, kind in enumerate(params)
            )
            assert go(*values) == 42
            assert seen.pop() == values

    def test_unsigned_results(self, tmp_path):
        assert library(tmp_path, "", "i32", lambda: 2**32 - 1)() == -1
        assert library(tmp_path, "", "i64", lambda: 2**64 - 2)() == -2
        assert library(tmp_path, "f32", "i64", lambda _: 2**64 - 2)(0) == -2
        assert library(tmp_path, "f32", "i32", lambda _: 2**31)(0) == -(2**31)

    def test_what_counts_as_a_number(self, tmp_path):
        class Index:
            def __index__(self):
                return 9

        class Real:
            def __float__(self):
                return 2.5

        for params in ("", "f32"):
            for result in ("i32", "i64"):
                assert (
                    library(tmp_path, params, result, lambda *_: True)(*[0.0] * len(params.split()))
                    == 1
                )
                assert (
                    library(tmp_path, params, result, lambda *_: Index())(
                        *[0.0] * len(params.split())
                    )
                    == 9
                )
        for params in ("f32", "i32"):
            for result in ("f32", "f64"):
                assert library(tmp_path, params, result, lambda _: 3)(0) == 3.0
                assert library(tmp_path, params, result, lambda _: Real())(0) == 2.5

    def test_i32_arguments_are_signed_whatever_the_upper_half_holds(self, tmp_path):
        path = wasm(
            tmp_path / "lib.so",
            '(import "env" "f" (func $f (param i32) (result i64)))',
            '(func (export "go") (param i64) (result i64) (call $f (i32.wrap_i64 (local.get 0))))',
        )
        go = pylinker.CDLL(path, imports={"f": lambda value: value}).go
        assert go(0x1234_5678_FFFF_FFFF) == -1
        assert go(-(2**63) + 5) == 5

    def test_random_signatures(self, tmp_path):
        seed = random.randrange(2**32)
        rng = random.Random(seed)
        for _ in range(40):
            params = rng.choices(list(VALUES), k=rng.randrange(9))
            results = rng.choices(list(VALUES), k=rng.randrange(4))
            sent = tuple(rng.choice(VALUES[kind]) for kind in params)
            back = tuple(rng.choice(VALUES[kind]) for kind in results)
            seen = []

            def function(*values, seen=seen, back=back):
                seen.append(values)
                return None if not back else back[0] if len(back) == 1 else back

            answer = library(tmp_path, " ".join(params), " ".join(results), function)(*sent)
            assert (seen, answer) == (
                [sent],
                None if not back else back[0] if len(back) == 1 else back,
            ), seed


class TestResultsThatDoNotFit:
    """TypeError and OverflowError name the function, come out of the call, and trap the guest."""

    CASES = (
        *[
            (params, result, value, TypeError)
            for params in ("", "f32")
            for result in ("i32", "i64")
            for value in (1.0, "1", None, (1,), b"1")
        ],
        *[
            (params, result, value, TypeError)
            for params in ("f64", "i32")
            for result in ("f32", "f64")
            for value in ("1", None, (1.0,), b"1", 1j)
        ],
        *[(params, "", value, TypeError) for params in ("", "f32", "i64") for value in (0, "", ())],
        *[
            ("", "i32 i32", value, TypeError)
            for value in (1, [1, 2], (1,), (1, 2, 3), None, (1, 2.5))
        ],
        *[
            (params, "i32", value, OverflowError)
            for params in ("", "f32")
            for value in (2**32, -(2**31) - 1, 2**63, -(2**63) - 1, 2**64, 2**200)
        ],
        *[
            (params, "i64", value, OverflowError)
            for params in ("", "f32")
            for value in (2**64, -(2**63) - 1, 2**200)
        ],
        *[
            (params, "f32", value, OverflowError)
            for params in ("f32", "i32")
            for value in (3.5e38, -1e300, 10**400)
        ],
        *[
            (params, "f64", value, OverflowError)
            for params in ("f32", "i32")
            for value in (10**400, -(10**400))
        ],
    )

    @pytest.mark.parametrize(("params", "results", "value", "error"), CASES)
    def test_wrong_results(self, params, results, value, error, tmp_path):
        answers = [value]
        go = library(tmp_path, params, results, lambda *_: answers[0])
        arguments = [0] * len(params.split())
        with pytest.raises(error, match=r"^f\(.*\) -> .*returned") as caught:
            go(*arguments)
        assert isinstance(caught.value.__cause__, wasmtime.Trap)
        assert "returned" in str(caught.value.__cause__)
        answers[0] = None if not results else (1, 2) if " " in results else 1
        assert go(*arguments) == answers[0]

    @pytest.mark.parametrize(
        "value", [callbacks.CALLBACK_FAILED, -callbacks.CALLBACK_FAILED, -(2**63), 2**63, 2**63 + 1]
    )
    def test_the_numbers_that_stand_for_a_failure_are_numbers(self, value, tmp_path):
        expected = value if value < 2**63 else value - 2**64
        assert library(tmp_path, "", "i64", lambda: value)() == expected

    def test_a_failure_that_was_meant_to_be_a_number_is_a_failure(self, tmp_path, monkeypatch):
        """An exception after the function marked its result as genuine, as of a signal handler."""
        go = library(
            tmp_path, "i32", "i64", lambda times: callbacks.CALLBACK_FAILED if times else 5
        )
        original = callbacks.confirm_result

        def interrupted():
            original()
            raise KeyboardInterrupt

        monkeypatch.setattr(callbacks, "confirm_result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            go(1)
        monkeypatch.undo()
        assert go(0) == 5
        assert go(1) == callbacks.CALLBACK_FAILED


class TestExceptions:
    """They come out of the call that entered the guest as they are."""

    class Odd(BaseException):
        pass

    SIGNATURES = (
        ("", "i32"),
        ("i32 i32", "i64"),
        ("i64", ""),
        ("f64", "f32"),
        ("f32", "i32"),
        ("", "i32 i32"),
    )

    @pytest.mark.parametrize(("params", "results"), SIGNATURES)
    @pytest.mark.parametrize(
        "error",
        [
            ValueError("no"),
            KeyError("k"),
            Odd(),
            SystemExit(3),
            OverflowError("mine"),
            StopIteration(),
        ],
        ids=repr,
    )
    def test_unchanged(self, params, results, error, tmp_path):
        raising = [error]

        def function(*_):
            if raising:
                raise raising.pop()
            return None if not results else (1, 2) if " " in results else 1

        go = library(tmp_path, params, results, function)
        arguments = [0] * len(params.split())
        with pytest.raises(type(error)) as caught:
            go(*arguments)
        assert caught.value is error
        assert isinstance(error.__cause__, wasmtime.Trap)
        assert "function" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        go(*arguments)

    def test_its_own_cause_stays(self, tmp_path):
        def function():
            try:
                raise KeyError("first")
            except KeyError as first:
                raise ValueError("second") from first

        with pytest.raises(ValueError, match="second") as caught:
            library(tmp_path, "", "", function)()
        assert isinstance(caught.value.__cause__, KeyError)

    def test_what_the_guest_would_have_done_next_is_not_done(self, tmp_path):
        path = wasm(
            tmp_path / "lib.so",
            '(import "env" "f" (func $f))',
            MEMORY,
            '(import "env" "__memory_base" (global $base i32))',
            '(import "env" "__stack_pointer" (global $sp (mut i32)))',
            '(func (export "go") (global.set $sp (i32.sub (global.get $sp) (i32.const 64)))'
            " (call $f) (i32.store8 (global.get $base) (i32.const 7)))",
            '(func (export "peek") (result i32) (i32.load8_u (global.get $base)))',
            '(func (export "sp") (result i32) (global.get $sp))',
        )

        def function():
            raise ValueError

        library = pylinker.CDLL(path, imports={"f": function})
        before = library.sp()
        with pytest.raises(ValueError):
            library.go()
        assert (library.peek(), library.sp()) == (0, before)

    def test_out_of_run(self, tmp_path):
        main = wasm(
            tmp_path / "main.wasm",
            '(import "env" "f" (func $f))',
            '(func (export "_start") (call $f))',
            dynamic=False,
        )

        def function():
            raise LookupError("mine")

        with (
            pylinker.Program(main, imports={"f": function}) as program,
            pytest.raises(LookupError, match="mine"),
        ):
            program.run()

    def test_out_of_a_constructor_and_the_load_is_undone(self, tmp_path):
        wasm(
            tmp_path / "bad.so",
            '(import "env" "f" (func $f))',
            '(func (export "__wasm_call_ctors") (call $f))',
        )
        raising = [True]

        def function():
            if raising:
                raise ValueError("constructor")

        with pylinker.Program(None, library_path=[tmp_path], imports={"f": function}) as program:
            before = used(program)
            with pytest.raises(ValueError, match="constructor"):
                program.dlopen("bad.so")
            assert used(program) == before
            raising.clear()
            program.dlopen("bad.so")

    def test_in_destructors_the_rest_runs_and_the_library_goes(self, tmp_path):
        wasm(
            tmp_path / "d.so",
            '(import "env" "f" (func $f (param i32)))',
            '(import "env" "__cxa_atexit" (func $atexit (param i32 i32 i32) (result i32)))',
            '(import "env" "__table_base" (global $table i32))',
            TABLE,
            "(func $destructor (param i32) (call $f (local.get 0)))",
            "(elem (global.get $table) $destructor)",
            '(func (export "__wasm_call_ctors")'
            " (drop (call $atexit (global.get $table) (i32.const 1) (i32.const 0)))"
            " (drop (call $atexit (global.get $table) (i32.const 2) (i32.const 0))))",
            slots=1,
        )
        seen = []

        def function(number):
            seen.append(number)
            raise ValueError(number)

        with pylinker.Program(None, library_path=[tmp_path], imports={"f": function}) as program:
            opened = program.dlopen("d.so")
            with pytest.raises(ValueError, match="2"):
                opened.close()
            assert seen == [2, 1]
            assert program.statistics().modules == 0


class TestWhoComesFirst:
    """``imports``, then what a module of the program defines, then what pylinker provides."""

    DEFINES = '(func (export "f") (result i32) (i32.const 1))'
    CALLS = (
        '(import "env" "f" (func $f (result i32)))',
        '(func (export "go") (result i32) (call $f))',
    )

    @pytest.mark.parametrize("bind_now", [False, True])
    def test_a_module_of_the_program(self, bind_now, tmp_path):
        wasm(tmp_path / "defines.so", self.DEFINES)
        wasm(tmp_path / "calls.so", *self.CALLS)
        given = {"f": lambda: 2}
        alone = pylinker.CDLL("calls.so", library_path=[tmp_path], imports=given, bind_now=bind_now)
        assert alone.go() == 2
        both = pylinker.CDLL(
            "calls.so",
            library_path=[tmp_path],
            preload=["defines.so"],
            imports=given,
            bind_now=bind_now,
        )
        assert both.go() == 2

    def test_a_module_that_is_needed_and_comes_later_in_a_cycle(self, tmp_path):
        wasm(tmp_path / "a.so", *self.CALLS, needed=("b.so",))
        wasm(tmp_path / "b.so", self.DEFINES, needed=("a.so",))
        for name in ("a.so", "b.so"):
            assert pylinker.CDLL(name, library_path=[tmp_path], imports={"f": lambda: 2}).go() == 2
            assert pylinker.CDLL(name, library_path=[tmp_path], imports={"g": lambda: 2}).go() == 1

    def test_a_library_of_a_main_module_at_fixed_addresses(self, tmp_path):
        """Such a main is instantiated before its libraries are."""
        fields = (
            '(memory (export "memory") 1)',
            '(table (export "__indirect_function_table") 1 funcref)',
            '(global (export "__stack_pointer") (mut i32) (i32.const 4096))',
            *self.CALLS,
        )
        main = wasm(tmp_path / "main.wasm", *fields, dynamic=False)
        wasm(tmp_path / "defines.so", self.DEFINES)
        assert pylinker.Program(main, imports={"f": lambda: 2}).main.go() == 2
        preloaded = pylinker.Program(
            main, preload=["defines.so"], library_path=[tmp_path], imports={"f": lambda: 2}
        )
        assert preloaded.main.go() == 2
        assert (
            pylinker.Program(
                main, preload=["defines.so"], library_path=[tmp_path], imports={"g": lambda: 2}
            ).main.go()
            == 1
        )
        assert [each.name for each in preloaded.libraries] == ["main.wasm", "defines.so"]

    def test_a_function_pointer(self, tmp_path):
        fields = (
            '(import "GOT.func" "f" (global $p (mut i32)))',
            *self.CALLS,
            '(func (export "slot") (result i32) (global.get $p))',
        )
        wasm(tmp_path / "calls.so", *fields)
        wasm(tmp_path / "defines.so", self.DEFINES)
        library = pylinker.CDLL(
            "calls.so", library_path=[tmp_path], preload=["defines.so"], imports={"f": lambda: 2}
        )
        slot = library.slot()
        assert slot != library.program.main["f"].slot
        assert library.program.dlsym(pylinker.RTLD_DEFAULT, "f") == slot
        assert library["go"]() == 2

    @pytest.mark.parametrize("threads", [False, True])
    def test_a_module_that_defines_it_itself(self, threads, tmp_path):
        """The module imports its own functions, for interposition; loaded at start, or later."""
        fields = (
            self.DEFINES,
            *self.CALLS,
            '(import "GOT.func" "f" (global $p (mut i32)))',
            '(import "GOT.mem" "f_data" (global $d (mut i32)))',
            '(global (export "f_data") i32 (i32.const 4))',
            "(type $t (func (result i32)))",
            '(func (export "slot") (result i32) (global.get $p))',
            '(func (export "by_pointer") (result i32) (call_indirect (type $t) (global.get $p)))',
            *([SHARED] if threads else []),
            TABLE,
        )
        wasm(tmp_path / "own.so", *fields)
        wasm(tmp_path / "other.so", *fields)
        wasm(tmp_path / "empty.so", *([SHARED] if threads else []))
        given = {"f": lambda: 2, "f_data": lambda: 9}
        with pylinker.CDLL(
            "empty.so", library_path=[tmp_path], imports=given, threads=threads
        ) as empty:
            program = empty.program
            own, other = program.dlopen("own.so", pylinker.RTLD_GLOBAL), program.dlopen("other.so")
            assert [own.go(), own.by_pointer(), other.go(), other.by_pointer()] == [2] * 4
            assert own.slot() == other.slot() == program.dlsym(pylinker.RTLD_DEFAULT, "f")
            assert own.f() == 1  # asked for by handle, it is the module's
            if threads:
                assert program.spawn(lambda: (own.go(), other.by_pointer())).join(DEADLINE) == (
                    2,
                    2,
                )
            before = used(program)
            other.close()
            assert program.dlopen("other.so").by_pointer() == 2
            assert used(program) == before

    def test_the_users_dlopen_comes_before_pylinkers(self, tmp_path):
        asked = []

        def dlopen(name, mode):
            asked.append((program.memory.cstring(name), mode))
            return 99

        path = wasm(
            tmp_path / "lib.so",
            MEMORY,
            '(import "env" "__memory_base" (global $base i32))',
            '(import "env" "dlopen" (func $dlopen (param i32 i32) (result i32)))',
            '(import "env" "dlerror" (func $dlerror (result i32)))',
            '(data (global.get $base) "libx.so\\00")',
            '(func (export "go") (result i32) (call $dlopen (global.get $base) (i32.const 2)))',
            '(func (export "error") (result i32) (call $dlerror))',
        )
        library = pylinker.CDLL(path, imports={"dlopen": dlopen})
        program = library.program
        assert library.go() == 99
        assert asked == [(b"libx.so", 2)]
        assert library.error() == 0
        assert pylinker.CDLL(path).go() == 0

    def test_wasi(self, tmp_path):
        path = wasm(
            tmp_path / "lib.so",
            MEMORY,
            '(import "wasi_snapshot_preview1" "random_get" '
            "(func $random (param i32 i32) (result i32)))",
            '(import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))',
            '(func (export "go") (result i32) (call $random (i32.const 16) (i32.const 4)))',
            '(func (export "yield") (result i32) (call $yield))',
        )

        def random_get(address, count):
            library.program.memory.write(address, b"4" * count)
            return 0

        library = pylinker.CDLL(
            path, imports={("wasi_snapshot_preview1", "random_get"): random_get}
        )
        assert library.go() == 0
        assert library.program.memory.read(16, 4) == b"4444"
        assert library["yield"]() == 0

    def test_an_import_of_wasi_may_have_another_type_then(self, tmp_path):
        path = wasm(
            tmp_path / "lib.so", *forward("fd_write", "i64", "f64", module="wasi_snapshot_preview1")
        )
        with pytest.raises(pylinker.SignatureMismatchError, match="WASI preview 1 defines it as"):
            pylinker.CDLL(path).go(3)
        with pytest.raises(pylinker.SignatureMismatchError):
            pylinker.CDLL(path, bind_now=True)
        assert (
            pylinker.CDLL(
                path, imports={("wasi_snapshot_preview1", "fd_write"): lambda value: value / 2}
            ).go(3)
            == 1.5
        )

    def test_a_str_is_a_name_in_env_and_no_other_module(self, tmp_path):
        one = forward("f", "", "i32", export="env")
        other = forward("f", "", "i32", module="host", export="host")
        path = wasm(tmp_path / "lib.so", one[0], other[0], one[1], other[1])
        library = pylinker.CDLL(path, imports={"f": lambda: 1, ("host", "f"): lambda: 2})
        assert (library.env(), library.host()) == (1, 2)
        with pytest.raises(pylinker.UndefinedSymbolError, match=r"host\.f"):
            pylinker.CDLL(path, imports={"f": lambda: 1}).host()

    def test_what_an_unrelated_library_defines_does_not_count(self, tmp_path):
        """It is not in the scope of the importer."""
        wasm(tmp_path / "defines.so", self.DEFINES)
        wasm(tmp_path / "calls.so", *self.CALLS)
        with pylinker.Program(None, library_path=[tmp_path], imports={"f": lambda: 2}) as program:
            program.dlopen("defines.so")
            assert program.dlopen("calls.so").go() == 2


class TestPointers:
    """A function pointer to a Python function: one slot for all modules and groups."""

    TYPED = '(import "env" "f" (func $f (param i32) (result i32)))'
    POINTER = '(import "GOT.func" "f" (global $p (mut i32)))'
    SLOT = '(func (export "slot") (result i32) (global.get $p))'
    CALL = (
        TABLE,
        "(type $t (func (param i32) (result i32)))",
        (
            '(func (export "call") (param i32 i32) (result i32) '
            "(call_indirect (type $t) (local.get 1) (local.get 0)))"
        ),
    )

    @pytest.fixture
    def folder(self, tmp_path):
        wasm(tmp_path / "typed.so", self.TYPED, self.POINTER, self.SLOT, *self.CALL)
        wasm(tmp_path / "typed2.so", self.TYPED, self.POINTER, self.SLOT, *self.CALL)
        wasm(tmp_path / "only.so", self.POINTER, self.SLOT, *self.CALL)
        wasm(tmp_path / "calls.so", *forward("f", "i32", "i32"))
        wasm(tmp_path / "otherwise.so", *forward("f", "i64"), self.POINTER, self.SLOT)
        wasm(
            tmp_path / "twice.so",
            '(import "env" "f" (func (param i32)))',
            '(import "env" "f" (func (param i64)))',
            self.POINTER,
        )
        return tmp_path

    def test_equal_in_all_modules_and_callable(self, folder):
        with pylinker.Program(
            None, library_path=[folder], imports={"f": lambda value: value + 1}
        ) as program:
            first, second = program.dlopen("typed.so"), program.dlopen("typed2.so")
            slot = first.slot()
            assert slot > 0
            assert second.slot() == slot
            assert program.dlopen("only.so").slot() == slot
            assert first.call(slot, 5) == 6
            assert second.call(slot, 6) == 7
            assert program.dladdr(slot=slot) is None

    @pytest.mark.parametrize("names", [["only.so", "calls.so"], ["calls.so", "only.so"]])
    def test_the_type_may_be_told_by_another_module(self, names, folder):
        wasm(folder / "both.so", needed=tuple(names))
        with pylinker.Program(
            None, library_path=[folder], imports={"f": lambda value: value + 1}
        ) as program:
            program.dlopen("both.so")
            only = program.dlopen("only.so")
            assert only.call(only.slot(), 5) == 6
        with pylinker.Program(
            None, library_path=[folder], imports={"f": lambda value: value + 1}
        ) as program:
            program.dlopen("calls.so")
            only = program.dlopen("only.so")
            assert only.call(only.slot(), 5) == 6

    def test_nobody_tells_the_type(self, folder):
        with pylinker.Program(
            None, library_path=[folder], imports={"f": lambda value: value}
        ) as program:
            before = used(program)
            with pytest.raises(
                pylinker.UndefinedSymbolError,
                match="the type of a pointer to it is unknown: no module calls it",
            ) as caught:
                program.dlopen("only.so")
            assert [tuple(each) for each in caught.value.undefined] == [
                ("only.so", "f", "function pointer")
            ]
            assert used(program) == before

    def test_one_module_with_two_types(self, folder):
        with pytest.raises(pylinker.UndefinedSymbolError, match="with 2 types"):
            pylinker.CDLL("twice.so", library_path=[folder], imports={"f": lambda value: None})

    def test_another_type_than_the_first(self, folder):
        with pylinker.Program(
            None, library_path=[folder], imports={"f": lambda value: value}
        ) as program:
            program.dlopen("typed.so")
            before = used(program)
            with pytest.raises(pylinker.SignatureMismatchError) as caught:
                program.dlopen("otherwise.so")
            assert (caught.value.module, caught.value.symbol) == ("otherwise.so", "f")
            assert (caught.value.wanted, caught.value.found) == ("(i64) -> ()", "(i32) -> i32")
            assert used(program) == before

    def test_a_pointer_outlives_the_module_that_took_it(self, folder):
        with pylinker.Program(
            None, library_path=[folder], imports={"f": lambda value: value + 1}
        ) as program:
            other = program.dlopen("calls.so")
            first = program.dlopen("typed.so")
            slot = first.slot()
            first.close()
            used = program.statistics().table_used
            for _ in range(5):
                again = program.dlopen("typed2.so")
                assert (again.slot(), again.call(slot, 1), other.go(2)) == (slot, 2, 3)
                again.close()
            assert program.statistics().table_used == used

    def test_a_failed_load_gives_the_slot_back(self, folder):
        wasm(
            folder / "broken.so",
            self.TYPED,
            self.POINTER,
            '(import "GOT.mem" "nobody" (global (mut i32)))',
        )
        wasm(
            folder / "traps.so",
            self.TYPED,
            self.POINTER,
            "(func $start unreachable)",
            "(start $start)",
        )
        with pylinker.Program(
            None, library_path=[folder], imports={"f": lambda value: value + 1}
        ) as program:
            program.dlopen("typed2.so")
            before = used(program)
            for name in ("broken.so", "traps.so"):
                with pytest.raises(pylinker.LinkError):
                    program.dlopen(name)
                assert used(program) == before
        with pylinker.Program(
            None, library_path=[folder], imports={"f": lambda value: value + 1}
        ) as program:
            before = used(program)
            for name in ("broken.so", "traps.so"):
                with pytest.raises(pylinker.LinkError):
                    program.dlopen(name)
                assert used(program) == before
            typed = program.dlopen("typed.so")
            assert typed.call(typed.slot(), 1) == 2

    def test_the_same_slot_in_threads_old_and_new(self, folder):
        for path in list(folder.iterdir()):
            path.unlink()
        wasm(folder / "typed.so", SHARED, self.TYPED, self.POINTER, self.SLOT, *self.CALL)
        wasm(folder / "main.so", SHARED, *self.CALL)
        go, come = threading.Event(), threading.Event()
        given = {"f": lambda value: value + threading.get_ident() * 0 + 1}
        with (
            orderly(),
            pylinker.CDLL("main.so", library_path=[folder], threads=True, imports=given) as main,
        ):
            program = main.program

            def old():
                come.set()
                assert go.wait(DEADLINE)
                return main.call(slot, 10), program.dlopen("typed.so").slot()

            thread = program.spawn(old)
            assert come.wait(DEADLINE)
            slot = program.dlopen("typed.so").slot()
            go.set()
            assert thread.join(DEADLINE) == (11, slot)
            assert program.spawn("call", slot, 20).join(DEADLINE) == 21
            assert main.call(slot, 30) == 31

    def test_functions_of_c(self, scenario: Scenario):
        """Of compare, libsort.so has only the address: libother.so tells its type.

        A weak function is there if it is given.
        """
        directory = scenario("imports")
        seen = []

        def number(address):
            return struct.unpack("<i", program.memory.read(address, 4))[0]

        def compare(left, right):
            seen.append((number(left), number(right)))
            return (seen[-1][0] > seen[-1][1]) - (seen[-1][0] < seen[-1][1])

        given = {"compare": compare, "log2": math.log2}
        with pylinker.Program(None, library_path=[directory], imports=given) as program:
            library = program.dlopen("libother.so")
            numbers = library.address_of("numbers")
            program.memory.write(numbers, struct.pack("<5i", 5, -3, 9, 0, -8))
            library.sort(numbers, 5)
            assert struct.unpack("<5i", program.memory.read(numbers, 20)) == (-8, -3, 0, 5, 9)
            assert len(seen) > 5
            assert library.pointer() == library.comparator() > 0
            assert library.is_equal(7) == 1
            assert library.bits(8.0) == 3.0
            assert library["try"](5) == -1
        with pylinker.Program(
            None, library_path=[directory], imports={**given, "perhaps": lambda x: x + 1}
        ) as program:
            with pytest.raises(pylinker.UndefinedSymbolError, match="compare"):
                program.dlopen("libsort.so")
            assert program.dlopen("libother.so")["try"](5) == 6


class TestLinkErrors:
    """Functions that cannot be called are link errors."""

    @pytest.mark.parametrize(
        "function",
        [lambda: 1, lambda a: 1, lambda a, b, c: 1, lambda a, b, *, c: 1, lambda a, *, b: 1],
    )
    def test_a_function_that_takes_another_number_of_arguments(self, function, tmp_path):
        path = wasm(tmp_path / "lib.so", *forward("f", "i32 i32", "i32"))
        with pytest.raises(
            pylinker.SignatureMismatchError,
            match=r"lib\.so: symbol f: wanted \(i32, i32\) -> i32, but imports defines it as",
        ) as caught:
            pylinker.CDLL(path, imports={"f": function})
        assert (caught.value.module, caught.value.symbol, caught.value.provider) == (
            "lib.so",
            "f",
            "imports",
        )
        assert isinstance(caught.value, (pylinker.LinkError, TypeError))

    @pytest.mark.parametrize(
        "function",
        [
            lambda a, b: 1,
            lambda *a: 1,
            lambda a, b, c=0, *d, e=1, **f: 1,
            functools.partial(lambda x, a, b: 1, 5),
            max,
            pow,
            type("Callable", (), {"__call__": lambda self, a, b: 1})(),
            type("Slotted", (), {"__slots__": (), "__call__": lambda self, a, b: 1})(),
            type("Bound", (), {"method": lambda self, a, b: 1})().method,
        ],
    )
    def test_functions_that_do(self, function, tmp_path):
        path = wasm(tmp_path / "lib.so", *forward("f", "i32 i32", "i32"))
        library = pylinker.CDLL(path, imports={"f": function})
        del function
        gc.collect()
        assert library.go(1, 1) == 1

    def test_it_is_named_with_its_module(self, tmp_path):
        path = wasm(tmp_path / "lib.so", *forward("f", "i32", module="host"))
        with pytest.raises(pylinker.SignatureMismatchError, match=r"symbol host\.f"):
            pylinker.CDLL(path, imports={("host", "f"): lambda: None})

    def test_only_what_is_imported_is_looked_at(self, tmp_path):
        path = wasm(tmp_path / "lib.so", *forward("f", "i32"))
        pylinker.CDLL(path, imports={"f": print, "g": lambda a, b, c: None, ("x", "y"): lambda: 1})

    @pytest.mark.parametrize(
        ("params", "results"),
        [
            ("v128", ""),
            ("i32", "v128"),
            ("funcref", ""),
            ("", "externref"),
            ("i32 externref", "i32"),
        ],
    )
    def test_types_that_cannot_be_passed(self, params, results, tmp_path):
        path = wasm(
            tmp_path / "lib.so", f'(import "env" "f" (func (param {params}) (result {results})))'
        )
        with pytest.raises(
            pylinker.UnsupportedError, match=r"lib\.so: f is .* cannot be passed to Python"
        ) as caught:
            pylinker.CDLL(path, imports={"f": lambda *_: None})
        assert caught.value.symbol == "f"

    def test_each_import_has_its_own_type(self, tmp_path):
        one = forward("f", "i32", "i32", export="one")
        two = forward("f", "i64 f64", "f64", export="two")
        path = wasm(tmp_path / "lib.so", one[0], two[0], one[1], two[1])
        library = pylinker.CDLL(path, imports={"f": lambda *values: sum(values)})
        assert (library.one(5), library.two(2, 0.5)) == (5, 2.5)

    def test_a_failed_load_changes_nothing(self, tmp_path):
        wasm(tmp_path / "good.so", *forward("f", "i32", "i32"))
        wasm(tmp_path / "bad.so", *forward("f", "i32 i32"))
        with pylinker.Program(None, library_path=[tmp_path], imports={"f": lambda a: a}) as program:
            good = program.dlopen("good.so")
            before = used(program)
            with pytest.raises(pylinker.SignatureMismatchError):
                program.dlopen("bad.so")
            assert used(program) == before
            assert good.go(3) == 3

    @pytest.mark.parametrize(
        ("given", "error"),
        [
            ({5: print}, TypeError),
            ({("a",): print}, TypeError),
            ({("a", "b", "c"): print}, TypeError),
            ({("a", 5): print}, TypeError),
            ({b"f": print}, TypeError),
            ({"f": 5}, TypeError),
            ({"f": None}, TypeError),
            ({"f": print, ("env", "f"): max}, ValueError),
        ],
    )
    def test_what_is_no_mapping_of_functions(self, given, error):
        with pytest.raises(error, match="imports"):
            pylinker.Program(None, imports=given)

    def test_the_mapping_is_read_once(self, tmp_path):
        given = {"f": lambda: 1}
        wasm(tmp_path / "lib.so", *forward("f", "", "i32"))
        with pylinker.Program(None, library_path=[tmp_path], imports=given) as program:
            given["f"] = lambda: 2
            assert program.dlopen("lib.so").go() == 1
