"""C++ exceptions and longjmp across modules, with LLVM's own runtime as one of the libraries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import wasmtime

import pylinker
from fields import wasm
from pylinker import InitializationError, SignatureMismatchError, UnsupportedError
from pylinker.runtime.compat import VERSION
from pylinker.runtime.failures import summary
from running import lines, run, used
from toolchain import Scenario

pytestmark = pytest.mark.slow

INT, BASE, DERIVED, OTHER = range(1, 5)  # enum kind of thrown.h


@pytest.fixture(params=["dlopen", "preload"])
def program(scenario: Scenario, request: pytest.FixtureRequest) -> Iterator[pylinker.Program]:
    """The program with the catcher opened by dlopen before the thrower or after it."""
    with pylinker.Program(scenario("exceptions") / "main.wasm") as program:
        names = ["libcatcher.so", "libthrower.so"]
        for name in names if request.param == "dlopen" else reversed(names):
            program.dlopen(name, pylinker.RTLD_GLOBAL)
        yield program


@pytest.mark.parametrize("bind_now", [False, True])
def test_what_is_thrown_in_one_module_is_caught_in_another(
    scenario: Scenario, bind_now: bool
) -> None:
    assert run(scenario("exceptions") / "main.wasm", bind_now=bind_now) == (
        0,
        lines(
            "main caught 1",
            "library caught 7",  # nothing was thrown
            "library caught 1007",  # an int
            "library caught 2007",  # a base class
            "library caught 2007",  # by its base class
            "library caught 4000",  # by catch (...)
            "library caught 2008 from main",
            "main caught 10 again",  # thrown, changed and thrown on by two libraries
            "main caught 10, 1 destroyed",
        ),
        "",
    )


def test_functions_called_from_python_catch_at_the_first_call_and_later(
    program: pylinker.Program,
) -> None:
    for code in range(3):
        assert program.main.catching(INT, code) == INT * 1000 + code
        assert program.main.catching(DERIVED, code) == BASE * 1000 + code
        assert program.main.catching(OTHER, code) == OTHER * 1000


def test_exceptions_pass_through_function_pointers_and_destroy_what_lies_between(
    program: pylinker.Program,
) -> None:
    main = program.main
    thrower = main["raise_int"].slot
    assert main.catching_call(thrower, 6) == INT * 1000 + 6
    assert main.catch_in_main(thrower, 7) == 7
    before = program.memory.read(main.address_of("destroyed"), 4)
    assert main.catching_through(thrower, 8) == INT * 1000 + 8
    assert (
        int.from_bytes(program.memory.read(main.address_of("destroyed"), 4), "little")
        == int.from_bytes(before, "little") + 1
    )


def test_the_stack_pointer_is_right_after_exceptions_that_were_caught(
    program: pylinker.Program,
) -> None:
    assert program.main.stack_kept(500) == 0


def test_what_nobody_catches_says_so_and_leaves_the_program_usable(
    program: pylinker.Program,
) -> None:
    main = program.main
    before = main.stack_now()
    where = (
        "raise_int" if VERSION.partition(".")[0] != "45" else "thrown"
    )  # which gives such a trap no backtrace
    for _ in range(3):
        with pytest.raises(wasmtime.Trap, match=where) as caught:
            main.raise_int(5)
        assert summary(caught.value) == "thrown Wasm exception"
        assert main.catching(BASE, 4) == BASE * 1000 + 4
        assert main.stack_now() == before


@pytest.mark.parametrize("swallowed", [False, True])
def test_a_frame_of_python_between_two_of_guests_ends_an_exception(
    scenario: Scenario, swallowed: bool
) -> None:
    """The exception is an error of Python's call, and may propagate as Python's exceptions do."""

    def ask(number: int) -> int:
        try:
            return int(thrower.raise_int(number))
        except wasmtime.Trap:
            if not swallowed:
                raise
            return number + 1

    with pylinker.Program(scenario("exceptions") / "main.wasm", imports={"ask": ask}) as program:
        thrower = program.dlopen("libthrower.so", pylinker.RTLD_GLOBAL)
        catcher = program.dlopen("libcatcher.so")
        asking = program.dlopen("libasker.so")["asking"].slot
        for _ in range(2):
            if swallowed:
                assert catcher.catching_call(asking, 5) == 6
            else:
                with pytest.raises(wasmtime.Trap, match="thrown Wasm exception"):
                    catcher.catching_call(asking, 5)
            assert catcher.catching(BASE, 4) == BASE * 1000 + 4


def test_a_constructor_that_throws_undoes_the_load(scenario: Scenario) -> None:
    with pylinker.Program(scenario("exceptions") / "main.wasm") as program:
        program.dlopen("libcatcher.so")
        before = used(program)
        for _ in range(2):
            with pytest.raises(
                InitializationError,
                match=r"libconstructor\.so: __wasm_call_ctors trapped: thrown Wasm exception",
            ):
                program.dlopen("libconstructor.so")
            assert used(program) == before
        assert program.main.opens("libconstructor.so") == 0
        assert used(program) == before
        assert program.main.opens("libthrower.so") == 1


def test_a_jump_crosses_modules(scenario: Scenario) -> None:
    with pylinker.Program(scenario("exceptions") / "main.wasm") as program:
        program.dlopen("libland.so", pylinker.RTLD_GLOBAL)
        program.dlopen(
            "libleap.so", pylinker.RTLD_GLOBAL
        )  # later: the first jump goes through a trampoline that is not bound
        main = program.main
        for value in (3, 4):
            assert main.land(value) == 100 + value
            assert main.land_far(value) == 200 + value
        assert main.land(0) == 101  # as C says
        assert main.stack_kept(100) == 0


def test_a_jump_to_nowhere_is_an_error(scenario: Scenario) -> None:
    with pylinker.Program(scenario("exceptions") / "main.wasm") as program:
        leap = program.dlopen("libleap.so", pylinker.RTLD_GLOBAL)
        land = program.dlopen("libland.so")
        room = program.main.malloc(160)
        with pytest.raises(wasmtime.Trap, match="thrown Wasm exception"):
            leap.leap(room, 1)
        assert land.land(9) == 109


def test_legacy_exceptions_are_refused_by_name(scenario: Scenario) -> None:
    with pylinker.Program(scenario("exceptions") / "main.wasm") as program:
        before = used(program)
        with pytest.raises(
            UnsupportedError,
            match=r"liblegacy\.so: wasmtime has no legacy exception "
            r"handling.*wasm-use-legacy-eh=false",
        ) as caught:
            program.dlopen("liblegacy.so")
        assert caught.value.module == "liblegacy.so"
        assert used(program) == before
        program.dlopen("libcatcher.so")


def test_a_tag_carries_an_address(scenario: Scenario, tmp_path: Path) -> None:
    library = wasm(tmp_path / "libwide.so", '(import "env" "__cpp_exception" (tag (param i64)))')
    with pylinker.Program(scenario("exceptions") / "main.wasm") as program:
        with pytest.raises(
            SignatureMismatchError,
            match=r"libwide\.so: symbol __cpp_exception: wanted \(i64\).*\(i32\)",
        ):
            program.dlopen(library)
        assert program.dlopen("libcatcher.so").catching(INT, 1) == INT * 1000 + 1


@pytest.mark.parametrize("threads", [False, True])
def test_a_tag_that_a_program_defines_is_that_of_its_libraries(
    tmp_path: Path, threads: bool
) -> None:
    """As older toolchains have it: pylinker's own tag is for programs that define none."""
    memory = (
        '(import "env" "memory" (memory 1 1024 shared))'
        if threads
        else '(memory (export "memory") 1)'
    )
    main = wasm(
        tmp_path / "main.wasm",
        memory,
        '(table (export "__indirect_function_table") 1 funcref)',
        '(global (export "__stack_pointer") (mut i32) (i32.const 65536))',
        '(tag $thrown (export "__cpp_exception") (param i32))',
        '(func (export "toss") (param i32) (throw $thrown (local.get 0)))',
        '(func (export "_start"))',
        dynamic=False,
    )
    catch = (
        "(block $caught (result i32) (try_table (catch $thrown $caught) "
        "(call $toss (local.get 0))) (i32.const -1))"
    )
    wasm(
        tmp_path / "libcatcher.so",
        '(import "env" "__cpp_exception" (tag $thrown (param i32)))',
        '(import "env" "toss" (func $toss (param i32)))',
        f'(func (export "catching") (param i32) (result i32) {catch})',
    )
    with pylinker.Program(main, library_path=[tmp_path], threads=threads) as program:
        library = program.dlopen("libcatcher.so")
        assert library.catching(5) == 5
        if threads:
            assert program.spawn(lambda: library.catching(6)).join(60) == 6
