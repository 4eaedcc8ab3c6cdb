"""Which definition a symbol gets, and what happens when there is none or the wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime

import pylinker
from running import run, used
from toolchain import Scenario


class TestInterposition:
    def test_the_first_definition_in_scope_order_wins_for_every_module(
        self, scenario: Scenario
    ) -> None:
        directory = scenario("interpose")
        assert run(directory / "first.wasm").stdout == "1 1 1 1\n"
        assert run(directory / "second.wasm").stdout == "2 2 2 2\n"

    def test_a_preloaded_library_comes_before_the_needed_ones(self, scenario: Scenario) -> None:
        directory = scenario("interpose")
        for bind_now in (False, True):
            assert (
                run(directory / "first.wasm", preload=["libsecond.so"], bind_now=bind_now).stdout
                == "2 2 2 2\n"
            )
        with pylinker.Program(directory / "first.wasm", preload=["libsecond.so"]) as program:
            assert program.statistics().scope == (
                "first.wasm",
                "libsecond.so",
                "libuser.so",
                "libfirst.so",
            )

    def test_preloaded_libraries_keep_their_order(self, scenario: Scenario) -> None:
        path = [scenario("interpose")]
        for first, second, answer in (
            ("libfirst.so", "libsecond.so", 1),
            ("libsecond.so", "libfirst.so", 2),
        ):
            with pylinker.Program(library_path=path, preload=[first, second]) as program:
                assert program.statistics().scope[:2] == (first, second)
                assert program.dlopen("libuser.so").ask() == answer

    def test_a_library_uses_the_interposed_symbol_instead_of_its_own(
        self, scenario: Scenario
    ) -> None:
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

    def test_a_local_library_is_visible_to_the_libraries_that_need_it(
        self, scenario: Scenario
    ) -> None:
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

    def test_a_global_library_serves_functions_bound_after_it_was_opened(
        self, scenario: Scenario
    ) -> None:
        with pylinker.Program(library_path=[scenario("interpose")]) as program:
            lazy = program.dlopen("liblazy.so")
            with pytest.raises(pylinker.UndefinedSymbolError):
                lazy.ask()
            program.dlopen("libsecond.so", pylinker.RTLD_GLOBAL)
            assert lazy.ask() == 2
            program.dlopen("libfirst.so", pylinker.RTLD_GLOBAL)
            assert lazy.ask() == 2  # bound once, bound for good

    def test_opening_a_local_library_again_as_global_makes_it_visible(
        self, scenario: Scenario
    ) -> None:
        with pylinker.Program(library_path=[scenario("interpose")]) as program:
            lazy = program.dlopen("liblazy.so")
            program.dlopen("libfirst.so", pylinker.RTLD_LOCAL)
            program.dlopen("libfirst.so", pylinker.RTLD_LAZY | pylinker.RTLD_GLOBAL)
            assert lazy.ask() == 1
            assert program.statistics().scope.count("libfirst.so") == 1


class TestMissing:
    def test_a_missing_function_is_an_error_only_when_called_and_is_named(
        self, scenario: Scenario
    ) -> None:
        with pylinker.CDLL("libfunction.so", library_path=[scenario("missing")]) as library:
            assert library.fine(1) == 2
            for _ in range(2):
                with pytest.raises(pylinker.UndefinedSymbolError) as caught:
                    library.call_absent(1)
                assert str(caught.value).startswith(
                    "libfunction.so: undefined symbol: absent_function (function)"
                )
                assert isinstance(caught.value.__cause__, wasmtime.Trap)
            assert library.fine(2) == 3

    def test_a_missing_function_of_any_import_module_is_an_error_only_when_called(
        self, scenario: Scenario
    ) -> None:
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

    def test_a_missing_function_whose_address_is_taken_fails_the_load_and_is_named(
        self, scenario: Scenario
    ) -> None:
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
    def test_a_call_with_a_wrong_signature_traps_and_names_both(self, scenario: Scenario) -> None:
        with pylinker.CDLL(
            "libuser.so", library_path=[scenario("signature")], preload=["libprovider.so"]
        ) as user:
            for _ in range(2):
                with pytest.raises(pylinker.SignatureMismatchError) as caught:
                    user.ask(1.0)
                error = caught.value
                assert (error.module, error.symbol, error.provider) == (
                    "libuser.so",
                    "area",
                    "libprovider.so",
                )
                assert (error.wanted, error.found) == ("(f64) -> i32", "(i32, i32) -> i32")
                assert isinstance(error.__cause__, wasmtime.Trap)
                for part in (
                    "libuser.so",
                    "area",
                    "libprovider.so",
                    "(f64) -> i32",
                    "(i32, i32) -> i32",
                ):
                    assert part in str(error)
                    assert part in str(error.__cause__)

    def test_bound_at_once_a_wrong_signature_fails_the_load_and_names_both(
        self, scenario: Scenario
    ) -> None:
        path = [scenario("signature")]
        with pytest.raises(pylinker.SignatureMismatchError) as caught:
            pylinker.CDLL(
                "libuser.so", library_path=path, preload=["libprovider.so"], bind_now=True
            )
        assert (caught.value.wanted, caught.value.found) == ("(f64) -> i32", "(i32, i32) -> i32")
        with pylinker.Program(library_path=path, preload=["libprovider.so"]) as program:
            before = used(program)
            for _ in range(2):
                with pytest.raises(pylinker.SignatureMismatchError):
                    program.dlopen("libuser.so", pylinker.RTLD_NOW)
                assert used(program) == before
            with pytest.raises(pylinker.SignatureMismatchError):
                program.dlopen("libuser.so").ask(1.0)

    def test_data_where_a_function_is_wanted_is_a_mismatch(self, scenario: Scenario) -> None:
        with pytest.raises(pylinker.SignatureMismatchError) as caught:
            pylinker.CDLL(
                "libuser.so", library_path=[scenario("signature")], preload=["libdata.so"]
            )
        assert (caught.value.provider, caught.value.wanted) == ("libdata.so", "(f64) -> i32")

    def test_a_wrong_signature_found_at_the_first_call_names_both(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("signature")]) as program:
            user = program.dlopen("libuser.so")
            program.dlopen("libprovider.so", pylinker.RTLD_GLOBAL)
            with pytest.raises(pylinker.SignatureMismatchError) as caught:
                user.ask(1.0)
            assert (caught.value.wanted, caught.value.found) == (
                "(f64) -> i32",
                "(i32, i32) -> i32",
            )


def test_every_reason_of_the_suite_is_a_link_error(scenario: Scenario, tmp_path: Path) -> None:
    for error in (
        pylinker.UndefinedSymbolError,
        pylinker.SignatureMismatchError,
        pylinker.SymbolNotFoundError,
    ):
        assert issubclass(error, pylinker.LinkError)
    with pytest.raises(LookupError):
        pylinker.CDLL("libdata.so", library_path=[scenario("missing")])
    with pytest.raises(TypeError):
        pylinker.CDLL(
            "libuser.so",
            library_path=[scenario("signature")],
            preload=["libprovider.so"],
            bind_now=True,
        )
    with pytest.raises(FileNotFoundError):
        pylinker.CDLL("libnowhere.so", library_path=[tmp_path])
