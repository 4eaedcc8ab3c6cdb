"""Data, function pointers, weak symbols and thread-local storage across modules."""

from __future__ import annotations

import struct

import pytest
import wasmtime

import pylinker
from running import lines, run
from toolchain import Scenario


def i32(program: pylinker.Program, address: int) -> int:
    return int(struct.unpack("<i", program.memory.read(address, 4))[0])


class TestData:
    def test_variables_pointers_and_addends_agree_in_every_module(self, scenario: Scenario) -> None:
        assert run(scenario("data") / "main.wasm") == (
            0,
            lines(
                "zeroed 0",
                "ratio 2.50 wide 123456789abcdef0 title numbers",
                "block aligned 0",
                "counter 20 20 20",
                "same 1",
                "inside 5 6",
                "node 0",
                "node 1",
                "node 2",
                "total 1028",
            ),
            "",
        )

    def test_relocations_are_done_before_anything_runs(self, scenario: Scenario) -> None:
        with pylinker.Program(scenario("data") / "main.wasm") as program:
            address = program.dlsym(pylinker.RTLD_DEFAULT, "counter")
            for pointer in ("counter_pointer", "borrowed"):
                assert i32(program, program.dlsym(pylinker.RTLD_DEFAULT, pointer)) == address
            zeroed = program.dlsym(pylinker.RTLD_DEFAULT, "zeroed")
            assert i32(program, program.dlsym(pylinker.RTLD_DEFAULT, "inside")) == zeroed + 40

    def test_a_variable_lies_inside_its_module_with_its_alignment(self, scenario: Scenario) -> None:
        with pylinker.Program(scenario("data") / "main.wasm") as program:
            block = program.dlsym(pylinker.RTLD_DEFAULT, "block")
            summary = next(each for each in program.libraries if each.name == "libnumbers.so")
            assert block % 256 == 0
            assert summary.memory_base <= block < summary.memory_base + summary.memory_size

    def test_a_write_from_outside_is_seen_inside(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("data")]) as program:
            numbers = program.dlopen("libnumbers.so")
            program.memory.write(numbers.address_of("counter"), struct.pack("<i", 100))
            numbers.bump(-30)
            assert i32(program, numbers.address_of("counter")) == 70

    def test_the_same_data_symbol_has_one_address_from_every_handle(
        self, scenario: Scenario
    ) -> None:
        with pylinker.Program(scenario("data") / "main.wasm") as program:
            numbers, links = program.dlopen("libnumbers.so"), program.dlopen("liblinks.so")
            addresses = {
                numbers.address_of("counter"),
                links.address_of("counter"),  # through the library that liblinks.so needs
                program.main.address_of("counter"),
                program.dlsym(numbers, "counter"),
                program.dlsym(pylinker.RTLD_DEFAULT, "counter"),
            }
            assert len(addresses) == 1


class TestFunctionPointers:
    @pytest.mark.parametrize("bind_now", [False, True])
    def test_callbacks_go_through_three_modules(self, scenario: Scenario, bind_now: bool) -> None:
        assert run(scenario("callbacks") / "main.wasm", bind_now=bind_now) == (
            0,
            lines(
                "ascending 1 2 3 4",
                "descending 4 3 2 1",
                "apply -5",
                "table -10 pick -10",
                "table 20 pick 20",
                "table 17 pick 17",
            ),
            "",
        )

    def test_a_function_has_one_slot_in_the_whole_program(self, scenario: Scenario) -> None:
        outcome = run(scenario("identity") / "main.wasm")
        assert outcome.status == 0
        assert outcome.stdout.splitlines()[:3] == ["shared 1 1 1 1 1", "from_main 1", "calls 2 0"]

    def test_the_slot_is_the_same_from_the_guest_dlsym_and_python(self, scenario: Scenario) -> None:
        with pylinker.Program(
            scenario("identity") / "main.wasm", stdout=pylinker.CAPTURE
        ) as program:
            assert program.run() == 0
            shared, from_main = (int(word) for word in program.stdout.splitlines()[-1].split()[1:])
            owner, other = program.dlopen("libowner.so"), program.dlopen("libother.so")
            assert program.dlsym(pylinker.RTLD_DEFAULT, "shared") == shared
            assert program.dlsym(owner, "shared") == shared
            assert owner["shared"].slot == shared
            assert owner.owner_shared() == other.other_shared() == shared
            assert i32(program, owner.address_of("owner_static")) == shared
            assert i32(program, other.address_of("other_static")) == shared
            assert i32(program, program.main.address_of("main_static")) == shared
            assert program.main["from_main"].slot == other.other_from_main() == from_main

    def test_a_slot_taken_in_python_is_a_function_pointer_for_the_guest(
        self, scenario: Scenario
    ) -> None:
        with pylinker.CDLL("libcalls.so", library_path=[scenario("calls")]) as library:
            assert library.apply(library["add"].slot, 20, 22) == 42
            assert library["add"].slot == library.pointer_to_add()
            assert library["add"].slot == library["add"].slot > 0

    def test_two_names_of_one_function_have_one_slot(self, scenario: Scenario) -> None:
        with pylinker.CDLL("libalias.so", library_path=[scenario("identity")]) as library:
            assert library["original"].slot == library["other_name"].slot
            assert library.same_function() == library.same_variable() == 1
            assert library.address_of("variable") == library.address_of("other_variable")

    def test_calling_the_null_function_pointer_traps(self, scenario: Scenario) -> None:
        with pylinker.CDLL("libcalls.so", library_path=[scenario("calls")]) as library:
            with pytest.raises(wasmtime.Trap):
                library.apply(0, 1, 2)
            assert library.apply(library["add"].slot, 1, 2) == 3


class TestWeak:
    def test_an_undefined_weak_symbol_is_null(self, scenario: Scenario) -> None:
        with pylinker.CDLL("libweak.so", library_path=[scenario("weak")]) as library:
            assert library.has_function() == library.has_data() == 0
            assert library.call_if_there(1) == library.read_if_there() == -1

    def test_an_undefined_weak_symbol_is_no_error_with_bind_now(self, scenario: Scenario) -> None:
        with pylinker.CDLL("libweak.so", library_path=[scenario("weak")], bind_now=True) as library:
            assert library.has_function() == 0

    def test_calling_an_undefined_weak_function_names_it(self, scenario: Scenario) -> None:
        with pylinker.CDLL("libweak.so", library_path=[scenario("weak")]) as library:
            with pytest.raises(pylinker.UndefinedSymbolError, match="maybe_function") as caught:
                library.call_anyway(1)
            assert caught.value.symbol == "maybe_function"
            assert isinstance(caught.value.__cause__, wasmtime.Trap)

    def test_a_weak_reference_takes_a_definition_that_is_there(self, scenario: Scenario) -> None:
        with pylinker.CDLL(
            "libweak.so", library_path=[scenario("weak")], preload=["libprovider.so"]
        ) as library:
            assert library.has_function() == library.has_data() == 1
            assert (library.call_if_there(6), library.call_anyway(6), library.read_if_there()) == (
                7,
                7,
                42,
            )

    @pytest.mark.parametrize(
        ("order", "answer"),
        [(("libweak.so", "libprovider.so"), 1), (("libprovider.so", "libweak.so"), 2)],
    )
    def test_a_weak_definition_is_a_definition_the_first_in_scope_wins(
        self, scenario: Scenario, order: tuple[str, ...], answer: int
    ) -> None:
        with pylinker.Program(library_path=[scenario("weak")], preload=order) as program:
            user, weak = program.dlopen("libuser.so"), program.dlopen("libweak.so")
            assert user.ask() == user.ask_data() == answer
            slot = weak.pointer_to_chosen()
            assert slot == program.dlsym(pylinker.RTLD_DEFAULT, "chosen")
            assert i32(program, weak.pointer_to_data()) == answer


class TestThreadLocal:
    def test_thread_local_variables_work_in_every_module(self, scenario: Scenario) -> None:
        with pylinker.Program(scenario("tls") / "main.wasm") as program:
            assert program.run() == 17

    def test_thread_local_blocks_are_aligned_apart_and_found_by_name(
        self, scenario: Scenario
    ) -> None:
        with pylinker.Program(scenario("tls") / "main.wasm") as program:
            counter, block = program.dlopen("libcounter.so"), program.dlopen("libblock.so")
            assert counter.address_of("counter") == counter.counter_address()
            assert program.dlsym(pylinker.RTLD_DEFAULT, "counter") == counter.counter_address()
            assert block.address_of("block") == block.block_address()
            assert program.main.address_of("mine") == program.main.main_address()
            assert block.block_address() % 64 == 0
            assert program.memory.cstring(block.address_of("block")) == b"block"
            starts = sorted(
                [counter.counter_address(), block.block_address(), program.main.main_address()]
            )
            assert len(set(starts)) == 3

    def test_a_library_with_thread_local_storage_can_be_opened_later(
        self, scenario: Scenario
    ) -> None:
        with pylinker.CDLL("libplain.so", library_path=[scenario("tls")]) as plain:
            program = plain.program
            counter = program.dlopen("libcounter.so")
            block = program.dlopen("libblock.so")
            assert [counter.counter_next() for _ in range(3)] == [42, 43, 44]
            assert counter.counter_scratch() == 3
            assert program.memory.cstring(block.block_address()) == b"block"

    def test_reopened_thread_local_storage_starts_anew(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("tls")], preload=["libplain.so"]) as program:
            for _ in range(3):
                with program.dlopen("libcounter.so") as counter:
                    assert (counter.counter_next(), counter.counter_scratch()) == (42, 1)
