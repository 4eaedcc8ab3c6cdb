"""C++ exceptions in threads: each has tags of its own, the same in all its modules.

Compiled code with LLVM's runtime.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import wasmtime

import pylinker
from guests import DEADLINE, orderly
from pylinker import SynchronizationAborted
from toolchain import Scenario

pytestmark = pytest.mark.slow

INT = 1  # enum kind of thrown.h


@pytest.fixture(autouse=True)
def rules() -> Iterator[None]:
    with orderly():
        yield


@pytest.fixture(params=[False, True], ids=["", "preempt"])
def program(scenario: Scenario, request: pytest.FixtureRequest) -> Iterator[pylinker.Program]:
    with pylinker.Program(
        scenario("exceptions_threads") / "main.wasm", threads=True, preempt=request.param
    ) as program:
        yield program


def number(program: pylinker.Program, name: str, value: int | None = None) -> int:
    """A variable of the program, set to ``value`` if there is one."""
    address = program.main.address_of(name)
    if value is not None:
        program.memory.write(address, value.to_bytes(4, "little"))
    return int.from_bytes(program.memory.read(address, 4), "little")


def reaches(program: pylinker.Program, name: str, value: int) -> None:
    """Wait until a variable of the program is as large as ``value``."""
    while number(program, name) < value:
        time.sleep(0.001)


def test_every_thread_catches_its_own_exceptions(program: pylinker.Program) -> None:
    program.dlopen("libcatcher.so", pylinker.RTLD_GLOBAL)
    threads = [program.spawn("work", index, 100) for index in range(4)]
    assert program.main.work(9, 100) == 0
    assert [thread.join(DEADLINE) for thread in threads] == [0] * 4


def test_threads_that_throw_catch_through_a_library_that_is_opened_meanwhile(
    program: pylinker.Program,
) -> None:
    threads = [program.spawn("work_on", index) for index in range(3)]
    reaches(program, "running", 3)
    program.dlopen("libcatcher.so", pylinker.RTLD_GLOBAL)
    reaches(program, "turns", number(program, "turns") + 30)
    number(program, "stop", 1)
    assert [thread.join(DEADLINE) for thread in threads] == [0] * 3


def test_an_exception_comes_out_of_a_closure_in_every_thread(program: pylinker.Program) -> None:
    program.dlopen("libcatcher.so", pylinker.RTLD_GLOBAL)
    closure = program.main.throwing_closure()
    assert closure
    for value in (1, 2):
        assert program.main.call_and_catch(closure, value) == INT * 1000 + 1000 + value
        assert (
            program.spawn("call_and_catch", closure, value).join(DEADLINE)
            == INT * 1000 + 1000 + value
        )


def test_an_exception_comes_out_of_call_dynamic(program: pylinker.Program) -> None:
    for value in (1, 2):
        assert program.main.catch_through_call_dynamic(value) == 10 + value
        assert program.spawn("catch_through_call_dynamic", value).join(DEADLINE) == 10 + value


def test_an_exception_that_leaves_a_signals_handler_is_a_trap(program: pylinker.Program) -> None:
    with pytest.raises(wasmtime.Trap, match=r"(?s)on_signal.*thrown Wasm exception"):
        program.main.catch_from_handler()
    assert program.main.catch_through_call_dynamic(1) == 11


def test_jumps_cross_modules_in_every_thread(program: pylinker.Program) -> None:
    early = program.spawn("work_on", 0)
    land = program.dlopen("libland.so", pylinker.RTLD_GLOBAL)
    program.dlopen("libleap.so", pylinker.RTLD_GLOBAL)
    threads = [
        program.spawn(lambda: [land.land(3), land.land_far(4), land.stack_kept(50)])
        for _ in range(3)
    ]
    assert [thread.join(DEADLINE) for thread in threads] == [[103, 204, 0]] * 3
    program.dlopen("libcatcher.so", pylinker.RTLD_GLOBAL)
    number(program, "stop", 1)
    assert early.join(DEADLINE) == 0


def test_what_nobody_catches_in_a_thread_ends_the_program_as_a_trap_does(
    program: pylinker.Program,
) -> None:
    thread = program.spawn("throw_up", 5)
    with pytest.raises(wasmtime.Trap, match=r"(?s)throw_up.*thrown Wasm exception"):
        thread.join(DEADLINE)
    with pytest.raises(SynchronizationAborted) as caught:
        program.main.work(1, 1)
    assert "thrown Wasm exception" in str(caught.value.__cause__)
