"""Every type and every way of calling across modules, and the parts of a module's start."""

from __future__ import annotations

import struct

import pytest
import wasmtime

import pylinker
from running import lines, run
from toolchain import Scenario


@pytest.mark.parametrize("lazy", [True, False])
def test_every_type_of_value_passes_between_modules(scenario: Scenario, lazy: bool) -> None:
    with pylinker.Program(library_path=[scenario("features")]) as program:
        order = ["libuser.so", "libprovider.so"] if lazy else ["libprovider.so", "libuser.so"]
        for name in order:
            program.dlopen(name, pylinker.RTLD_GLOBAL)
        for _ in range(3):  # the first call binds, the others are bound
            assert program.main.call() == (999.75, 102)


@pytest.mark.parametrize("lazy", [True, False])
def test_a_tail_call_passes_between_modules(scenario: Scenario, lazy: bool) -> None:
    with pylinker.Program(library_path=[scenario("features")]) as program:
        order = ["libuser.so", "libprovider.so"] if lazy else ["libprovider.so", "libuser.so"]
        for name in order:
            program.dlopen(name, pylinker.RTLD_GLOBAL)
        for _ in range(3):
            assert program.main.tail_call() == (4.0, 2)


@pytest.mark.parametrize("lazy", [True, False])
def test_an_exception_passes_between_modules_also_at_the_first_call(
    scenario: Scenario, lazy: bool
) -> None:
    with pylinker.Program(library_path=[scenario("features")]) as program:
        order = ["libcatcher.so", "libthrower.so"] if lazy else ["libthrower.so", "libcatcher.so"]
        for name in order:
            program.dlopen(name, pylinker.RTLD_GLOBAL)
        for value in (41, 1, 2):
            assert program.main.catching(value) == value + 1


def test_an_exception_that_nobody_catches_is_an_error_and_not_the_end(scenario: Scenario) -> None:
    with pylinker.Program(library_path=[scenario("features")]) as program:
        program.dlopen("libthrower.so", pylinker.RTLD_GLOBAL)
        catcher = program.dlopen("libcatcher.so")
        for _ in range(2):
            with pytest.raises((wasmtime.Trap, wasmtime.WasmtimeError)):
                catcher.throwing(1)
            assert catcher.catching(4) == 5


def test_start_then_relocations_then_constructors_run_once_each(scenario: Scenario) -> None:
    with pylinker.CDLL("libstarts.so", library_path=[scenario("features")]) as library:
        address = library.address_of("steps")
        assert struct.unpack("<i", library.program.memory.read(address, 4)) == (123,)


def test_constructors_that_initialize_calls_are_not_run_twice(scenario: Scenario) -> None:
    with pylinker.CDLL("libreactor.so", library_path=[scenario("features")]) as library:
        address = library.address_of("count")
        assert struct.unpack("<i", library.program.memory.read(address, 4)) == (1,)


def test_heap_and_stack_symbols_tell_where_they_are(scenario: Scenario) -> None:
    assert run(scenario("layout") / "main.wasm") == (0, lines("stack 1", "heap 1", "malloc 1"), "")
    with pylinker.CDLL(
        "liblayout.so", library_path=[scenario("layout")], stack_size=128 << 10
    ) as library:
        low, high = library.stack_low(), library.stack_high()
        assert high - low == 128 << 10
        assert low < library.stack_now() < high
        assert high <= library.heap_base() <= library.heap_end() <= library.program.memory.size


def test_the_stack_pointer_is_as_before_after_every_call(scenario: Scenario) -> None:
    with pylinker.CDLL("liblayout.so", library_path=[scenario("layout")]) as library:
        assert len({library.stack_now() for _ in range(100)}) == 1
