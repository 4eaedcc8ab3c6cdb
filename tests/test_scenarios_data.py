"""Symbols across modules: data, function pointers, weak symbols, interposition, types, thread-local storage."""

from __future__ import annotations

import struct
from pathlib import Path

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

    def test_the_same_data_symbol_has_one_address_from_every_handle(self, scenario: Scenario) -> None:
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
        with pylinker.Program(scenario("identity") / "main.wasm", stdout=pylinker.CAPTURE) as program:
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

    def test_a_slot_taken_in_python_is_a_function_pointer_for_the_guest(self, scenario: Scenario) -> None:
        with pylinker.CDLL("libcalls.so", library_path=[scenario("calls")]) as library:
            assert library.apply(library["add"].slot, 20, 22) == 42
            assert library["add"].slot == library.pointer_to_add()
            assert library["add"].slot == library["add"].slot > 0

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
        with pylinker.CDLL("libweak.so", library_path=[scenario("weak")], preload=["libprovider.so"]) as library:
            assert library.has_function() == library.has_data() == 1
            assert (library.call_if_there(6), library.call_anyway(6), library.read_if_there()) == (7, 7, 42)

    @pytest.mark.parametrize(("order", "answer"), [(("libweak.so", "libprovider.so"), 1), (("libprovider.so", "libweak.so"), 2)])
    def test_a_weak_definition_is_a_definition_the_first_in_scope_wins(
        self, scenario: Scenario, order: tuple[str, ...], answer: int
    ) -> None:
        with pylinker.Program(library_path=[scenario("weak")], preload=order) as program:
            user, weak = program.dlopen("libuser.so"), program.dlopen("libweak.so")
            assert user.ask() == user.ask_data() == answer
            slot = weak.pointer_to_chosen()
            assert slot == program.dlsym(pylinker.RTLD_DEFAULT, "chosen")
            assert i32(program, weak.pointer_to_data()) == answer


class TestInterposition:
    def test_the_first_definition_in_scope_order_wins_for_every_module(self, scenario: Scenario) -> None:
        directory = scenario("interpose")
        assert run(directory / "first.wasm").stdout == "1 1 1 1\n"
        assert run(directory / "second.wasm").stdout == "2 2 2 2\n"

    def test_a_preloaded_library_comes_before_the_needed_ones(self, scenario: Scenario) -> None:
        directory = scenario("interpose")
        for bind_now in (False, True):
            assert run(directory / "first.wasm", preload=["libsecond.so"], bind_now=bind_now).stdout == "2 2 2 2\n"
        with pylinker.Program(directory / "first.wasm", preload=["libsecond.so"]) as program:
            assert program.statistics().scope == ("first.wasm", "libsecond.so", "libuser.so", "libfirst.so")

    def test_preloaded_libraries_keep_their_order(self, scenario: Scenario) -> None:
        path = [scenario("interpose")]
        for first, second, answer in (("libfirst.so", "libsecond.so", 1), ("libsecond.so", "libfirst.so", 2)):
            with pylinker.Program(library_path=path, preload=[first, second]) as program:
                assert program.statistics().scope[:2] == (first, second)
                assert program.dlopen("libuser.so").ask() == answer

    def test_a_library_uses_the_interposed_symbol_instead_of_its_own(self, scenario: Scenario) -> None:
        path = [scenario("interpose")]
        with pylinker.CDLL("libowner.so", library_path=path) as library:
            assert (library.owner_by_pointer(), library.owner_tag()) == (9, 9)
        with pylinker.CDLL("libowner.so", library_path=path, preload=["libfirst.so"]) as library:
            assert (library.owner_by_pointer(), library.owner_tag()) == (1, 1)
            assert library.who() == 9  # asked for by handle, it is the library's own

    def test_a_local_library_is_not_visible_to_others(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("interpose")]) as program:
            program.dlopen("libfirst.so", pylinker.RTLD_LOCAL)
            lazy = program.dlopen("liblazy.so")
            with pytest.raises(pylinker.UndefinedSymbolError, match="who"):
                lazy.ask()
            with pytest.raises(pylinker.SymbolNotFoundError):
                program.dlsym(pylinker.RTLD_DEFAULT, "who")

    def test_a_local_library_is_visible_to_the_libraries_that_need_it(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("interpose")]) as program:
            needs = program.dlopen("libneedsfirst.so", pylinker.RTLD_LOCAL)
            other = program.dlopen("liblazy.so", pylinker.RTLD_LOCAL)
            assert needs.ask() == 1
            with pytest.raises(pylinker.UndefinedSymbolError):
                other.ask()

    def test_the_global_scope_comes_before_a_librarys_own(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("interpose")]) as program:
            program.dlopen("libsecond.so", pylinker.RTLD_GLOBAL)
            assert program.dlopen("libneedsfirst.so").ask() == 2

    def test_a_global_library_serves_functions_bound_after_it_was_opened(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("interpose")]) as program:
            lazy = program.dlopen("liblazy.so")
            with pytest.raises(pylinker.UndefinedSymbolError):
                lazy.ask()
            program.dlopen("libsecond.so", pylinker.RTLD_GLOBAL)
            assert lazy.ask() == 2
            program.dlopen("libfirst.so", pylinker.RTLD_GLOBAL)
            assert lazy.ask() == 2  # bound once, bound for good

    def test_opening_a_local_library_again_as_global_makes_it_visible(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("interpose")]) as program:
            lazy = program.dlopen("liblazy.so")
            program.dlopen("libfirst.so", pylinker.RTLD_LOCAL)
            program.dlopen("libfirst.so", pylinker.RTLD_LAZY | pylinker.RTLD_GLOBAL)
            assert lazy.ask() == 1
            assert program.statistics().scope.count("libfirst.so") == 1


class TestMissing:
    def test_a_missing_function_is_an_error_only_when_called_and_is_named(self, scenario: Scenario) -> None:
        with pylinker.CDLL("libfunction.so", library_path=[scenario("missing")]) as library:
            assert library.fine(1) == 2
            for _ in range(2):
                with pytest.raises(pylinker.UndefinedSymbolError) as caught:
                    library.call_absent(1)
                assert str(caught.value).startswith("libfunction.so: undefined symbol: absent_function (function)")
                assert isinstance(caught.value.__cause__, wasmtime.Trap)
            assert library.fine(2) == 3

    def test_a_missing_function_of_any_import_module_is_an_error_only_when_called(self, scenario: Scenario) -> None:
        with pylinker.CDLL("libforeign.so", library_path=[scenario("missing")]) as library:
            assert library.fine(1) == 2
            with pytest.raises(pylinker.UndefinedSymbolError, match="callback") as caught:
                library.call_callback(1)
            assert caught.value.symbol == "host.callback"

    def test_a_program_runs_up_to_the_call_of_a_missing_function(self, scenario: Scenario) -> None:
        main = scenario("missing") / "main.wasm"
        assert run(main) == (0, "before\n", "")
        with pylinker.Program(main, args=["call"], stdout=pylinker.CAPTURE) as program:
            with pytest.raises(pylinker.UndefinedSymbolError, match="absent_function") as caught:
                program.run()
            assert program.stdout == b"before\n"
            assert caught.value.module == "main.wasm"
            assert isinstance(caught.value.__cause__, wasmtime.Trap)
            assert "absent_function" in str(caught.value.__cause__)

    def test_a_missing_function_may_be_defined_later(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("missing")]) as program:
            library = program.dlopen("libfunction.so")
            with pytest.raises(pylinker.UndefinedSymbolError):
                library.call_absent(4)
            program.dlopen("liblater.so", pylinker.RTLD_GLOBAL)
            assert library.call_absent(4) == 40

    def test_a_missing_variable_fails_the_load_and_is_named(self, scenario: Scenario) -> None:
        with pytest.raises(pylinker.UndefinedSymbolError) as caught:
            pylinker.CDLL("libdata.so", library_path=[scenario("missing")])
        assert caught.value.undefined == (("libdata.so", "absent_data", "data"),)
        assert str(caught.value).startswith("libdata.so: undefined symbol: absent_data (data)")

    def test_a_missing_function_whose_address_is_taken_fails_the_load_and_is_named(self, scenario: Scenario) -> None:
        with pytest.raises(pylinker.UndefinedSymbolError) as caught:
            pylinker.CDLL("libpointer.so", library_path=[scenario("missing")])
        assert caught.value.undefined == (("libpointer.so", "absent_function", "function pointer"),)

    def test_bind_now_lists_every_missing_symbol_in_one_error(self, scenario: Scenario) -> None:
        everything = {
            ("libseveral.so", "absent_one", "function"),
            ("libseveral.so", "absent_two", "function"),
            ("libseveral.so", "absent_three", "function pointer"),
            ("libseveral.so", "absent_data", "data"),
        }
        path = [scenario("missing")]
        with pytest.raises(pylinker.UndefinedSymbolError) as caught:
            pylinker.CDLL("libseveral.so", library_path=path, bind_now=True)
        assert {tuple(each) for each in caught.value.undefined} == everything
        assert all(each[1] in str(caught.value) for each in everything)
        with pylinker.Program(library_path=path) as program:
            with pytest.raises(pylinker.UndefinedSymbolError) as caught:
                program.dlopen("libseveral.so", pylinker.RTLD_NOW)
            assert {tuple(each) for each in caught.value.undefined} == everything

    def test_without_bind_now_every_missing_pointer_is_listed(self, scenario: Scenario) -> None:
        with pytest.raises(pylinker.UndefinedSymbolError) as caught:
            pylinker.CDLL("libseveral.so", library_path=[scenario("missing")])
        assert {tuple(each) for each in caught.value.undefined} == {
            ("libseveral.so", "absent_three", "function pointer"),
            ("libseveral.so", "absent_data", "data"),
        }

    def test_rtld_now_accepts_what_the_needed_libraries_define(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("missing")]) as program:
            assert program.dlopen("libneedy.so", pylinker.RTLD_NOW).call_absent(3) == 30

    def test_bind_now_of_a_program_fails_before_it_runs(self, scenario: Scenario) -> None:
        with pytest.raises(pylinker.UndefinedSymbolError) as caught:
            pylinker.Program(scenario("missing") / "main.wasm", bind_now=True)
        assert caught.value.undefined == (("main.wasm", "absent_function", "function"),)


class TestTypes:
    def test_a_wrong_signature_fails_the_load_and_names_both(self, scenario: Scenario) -> None:
        with pytest.raises(pylinker.SignatureMismatchError) as caught:
            pylinker.CDLL("libuser.so", library_path=[scenario("signature")], preload=["libprovider.so"])
        error = caught.value
        assert (error.module, error.symbol, error.provider) == ("libuser.so", "area", "libprovider.so")
        assert (error.wanted, error.found) == ("(f64) -> i32", "(i32, i32) -> i32")
        for part in ("libuser.so", "area", "libprovider.so", "(f64) -> i32", "(i32, i32) -> i32"):
            assert part in str(error)

    def test_data_where_a_function_is_wanted_is_a_mismatch(self, scenario: Scenario) -> None:
        with pytest.raises(pylinker.SignatureMismatchError) as caught:
            pylinker.CDLL("libuser.so", library_path=[scenario("signature")], preload=["libdata.so"])
        assert (caught.value.provider, caught.value.wanted) == ("libdata.so", "(f64) -> i32")

    def test_a_wrong_signature_found_at_the_first_call_names_both(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("signature")]) as program:
            user = program.dlopen("libuser.so")
            program.dlopen("libprovider.so", pylinker.RTLD_GLOBAL)
            with pytest.raises(pylinker.SignatureMismatchError) as caught:
                user.ask(1.0)
            assert (caught.value.wanted, caught.value.found) == ("(f64) -> i32", "(i32, i32) -> i32")


class TestThreadLocal:
    def test_thread_local_variables_work_in_every_module(self, scenario: Scenario) -> None:
        with pylinker.Program(scenario("tls") / "main.wasm") as program:
            assert program.run() == 17

    def test_thread_local_blocks_are_aligned_apart_and_found_by_name(self, scenario: Scenario) -> None:
        with pylinker.Program(scenario("tls") / "main.wasm") as program:
            counter, block = program.dlopen("libcounter.so"), program.dlopen("libblock.so")
            assert counter.address_of("counter") == counter.counter_address()
            assert program.dlsym(pylinker.RTLD_DEFAULT, "counter") == counter.counter_address()
            assert block.address_of("block") == block.block_address()
            assert program.main.address_of("mine") == program.main.main_address()
            assert block.block_address() % 64 == 0
            assert program.memory.cstring(block.address_of("block")) == b"block"
            starts = sorted([counter.counter_address(), block.block_address(), program.main.main_address()])
            assert len(set(starts)) == 3

    def test_a_library_with_thread_local_storage_can_be_opened_later(self, scenario: Scenario) -> None:
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


def test_every_reason_of_the_suite_is_a_link_error(scenario: Scenario, tmp_path: Path) -> None:
    for error in (pylinker.UndefinedSymbolError, pylinker.SignatureMismatchError, pylinker.SymbolNotFoundError):
        assert issubclass(error, pylinker.LinkError)
    with pytest.raises(LookupError):
        pylinker.CDLL("libdata.so", library_path=[scenario("missing")])
    with pytest.raises(TypeError):
        pylinker.CDLL("libuser.so", library_path=[scenario("signature")], preload=["libprovider.so"])
    with pytest.raises(FileNotFoundError):
        pylinker.CDLL("libnowhere.so", library_path=[tmp_path])
