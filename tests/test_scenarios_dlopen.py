"""dlopen, dlsym, dlclose, dlerror and dladdr, from Python and from C."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime

import pylinker
from running import copies, lines, run, trace, used
from toolchain import Scenario

# One program built as every kind of main module.
KINDS = ["main.wasm", "own.wasm", pytest.param("plain.wasm", marks=pytest.mark.slow)]


def guest(
    scenario: Scenario, *commands: str, main: str = "main.wasm", **keywords: object
) -> list[str]:
    """Run the program of the dlfcn scenario with these commands and return the lines it printed."""
    outcome = run(
        scenario("dlfcn_plain" if main == "plain.wasm" else "dlfcn") / main, *commands, **keywords
    )
    assert (outcome.status, outcome.stderr) == (0, "")
    return outcome.stdout.splitlines()


class TestFromC:
    @pytest.mark.parametrize("main", KINDS)
    def test_a_plugin_is_opened_called_and_closed_by_every_kind_of_program(
        self, scenario: Scenario, main: str
    ) -> None:
        assert guest(
            scenario,
            "open:libplugin.so:l",
            "sym:0:plugin_add",
            "call:0:plugin_add:2:3",
            "data:0:plugin_value",
            "call:0:plugin_bump:4:5",
            "data:0:plugin_value",
            "close:0",
            main=main,
        ) == [
            "open libplugin.so: 0",
            "sym plugin_add: found",
            "call plugin_add: 5",
            "data plugin_value: 11",
            "call plugin_bump: 31",
            "data plugin_value: 31",
            "close: 0",
        ]

    @pytest.mark.parametrize("main", KINDS)
    def test_a_plugin_uses_the_programs_functions_and_data(
        self, scenario: Scenario, main: str
    ) -> None:
        assert guest(
            scenario,
            "open:libneedsmain.so:n",
            "call:0:through_main:5:2",
            "data:default:main_total",
            main=main,
        ) == [
            "open libneedsmain.so: 0",
            "call through_main: 517",
            "data main_total: 517",
        ]

    def test_opening_twice_gives_the_same_handle_and_closing_once_keeps_it(
        self, scenario: Scenario
    ) -> None:
        assert guest(
            scenario,
            "open:libplugin.so:lg",
            "call:0:plugin_bump:1:1",
            "open:libplugin.so:lg",
            "close:0",
            "data:0:plugin_value",
            "close:0",
            "open:libplugin.so:lg",
            "data:default:plugin_value",
        )[:-2] == [
            "open libplugin.so: 0",
            "call plugin_bump: 12",
            "open libplugin.so: 0",
            "close: 0",
            "data plugin_value: 12",
            "close: 0",
        ]

    def test_a_library_opened_again_after_its_last_close_starts_anew(
        self, scenario: Scenario
    ) -> None:
        commands = [
            "open:libplugin.so:lg",
            "call:0:plugin_bump:1:1",
            "close:0",
            "open:libplugin.so:lg",
            "data:default:plugin_value",
        ]
        assert guest(scenario, *commands)[-1] == "data plugin_value: 11"

    def test_a_missing_library_is_null_and_dlerror_names_it_once(self, scenario: Scenario) -> None:
        opened, error = guest(scenario, "open:libnowhere.so:l", "error")
        assert (
            opened.startswith("open libnowhere.so: null, ")
            and "libnowhere.so" in opened.split("null, ")[1]
        )
        assert error == "error: (none)"

    def test_dlerror_is_null_when_nothing_failed(self, scenario: Scenario) -> None:
        assert guest(scenario, "error", "open:libplugin.so:l", "error") == [
            "error: (none)",
            "open libplugin.so: 0",
            "error: (none)",
        ]

    def test_a_missing_symbol_is_null_and_dlerror_names_it_and_the_library(
        self, scenario: Scenario
    ) -> None:
        _, missed, found = guest(
            scenario, "open:libplugin.so:l", "sym:0:absent", "sym:0:plugin_add"
        )
        assert missed.startswith("sym absent: null, ")
        assert "absent" in missed.split("null, ")[1] and "libplugin.so" in missed
        assert found == "sym plugin_add: found"

    def test_a_bad_handle_is_an_error_and_not_a_trap(self, scenario: Scenario) -> None:
        symbol, closed, after = guest(
            scenario, "sym:bad:plugin_add", "close:bad", "open:libplugin.so:l"
        )
        assert (
            symbol.startswith("sym plugin_add: null, ") and symbol != "sym plugin_add: null, (none)"
        )
        assert closed.startswith("close: failed, ") and closed != "close: failed, (none)"
        assert after == "open libplugin.so: 0"

    def test_closing_a_closed_handle_is_an_error(self, scenario: Scenario) -> None:
        _, first, second = guest(scenario, "open:libplugin.so:l", "close:0", "close:0")
        assert first == "close: 0"
        assert second.startswith("close: failed, ")

    def test_rtld_default_searches_the_global_scope_only(self, scenario: Scenario) -> None:
        answers = guest(
            scenario,
            "sym:default:main_scale",
            "open:libplugin.so:lo",
            "sym:default:plugin_add",
            "open:libplugin.so:lg",
            "sym:default:plugin_add",
            "call:default:plugin_add:20:3",
        )
        assert answers[0] == "sym main_scale: found"
        assert answers[2].startswith("sym plugin_add: null, ")
        assert answers[3:] == [
            "open libplugin.so: 0",
            "sym plugin_add: found",
            "call plugin_add: 23",
        ]

    def test_rtld_next_finds_the_definition_after_the_callers_module(
        self, scenario: Scenario
    ) -> None:
        assert guest(
            scenario, "call:default:measure:6:7", preload=["libwrap.so", "libreal.so"]
        ) == ["call measure: 1042"]
        assert guest(
            scenario, "call:default:measure:6:7", preload=["libreal.so", "libwrap.so"]
        ) == ["call measure: 42"]
        assert guest(scenario, "call:default:measure:6:7", preload=["libwrap.so"]) == [
            "call measure: -1"
        ]

    def test_rtld_next_from_the_program_skips_its_own_definitions(self, scenario: Scenario) -> None:
        own, next_one = guest(scenario, "sym:default:main_scale", "sym:next:main_scale")
        assert own == "sym main_scale: found"
        assert next_one.startswith("sym main_scale: null, ")

    def test_dlopen_of_null_is_the_program_itself(self, scenario: Scenario) -> None:
        assert guest(
            scenario,
            "open::l",
            "sym:0:main_scale",
            "data:0:main_total",
            "close:0",
            "sym:0:main_scale",
        ) == [
            "open : 0",
            "sym main_scale: found",
            "data main_total: 500",
            "close: 0",
            "sym main_scale: found",
        ]

    def test_noload_only_finds_what_is_loaded(self, scenario: Scenario) -> None:
        answers = guest(
            scenario,
            "open:libplugin.so:lx",
            "open:libplugin.so:l",
            "open:libplugin.so:lx",
            "close:0",
            "close:0",
            "close:0",
        )
        assert answers[0].startswith("open libplugin.so: null, ")
        assert answers[1:5] == [
            "open libplugin.so: 0",
            "open libplugin.so: 0",
            "close: 0",
            "close: 0",
        ]
        assert answers[5].startswith("close: failed, ")

    def test_nodelete_keeps_the_library_and_its_state(self, scenario: Scenario) -> None:
        assert guest(
            scenario,
            "open:libplugin.so:ld",
            "call:0:plugin_bump:2:2",
            "close:0",
            "open:libplugin.so:l",
            "data:0:plugin_value",
        ) == [
            "open libplugin.so: 0",
            "call plugin_bump: 15",
            "close: 0",
            "open libplugin.so: 0",
            "data plugin_value: 15",
        ]

    def test_lazy_accepts_and_now_refuses_an_undefined_function(self, scenario: Scenario) -> None:
        now, lazy, called = guest(
            scenario, "open:liblacks.so:n", "open:liblacks.so:l", "call:0:lacks_fine:9:4"
        )
        assert now.startswith("open liblacks.so: null, ") and "absent_function" in now
        assert (lazy, called) == ("open liblacks.so: 0", "call lacks_fine: 5")

    def test_a_constructor_may_open_another_library(self, scenario: Scenario) -> None:
        assert guest(
            scenario, "open:libnest.so:l", "call:0:nested_add:1:2", "open:libplugin.so:lx"
        ) == [
            "open libnest.so: 0",
            "call nested_add: 103",
            "open libplugin.so: 1",
        ]

    def test_a_library_may_hold_another_from_constructor_to_destructor(
        self, scenario: Scenario
    ) -> None:
        assert guest(
            scenario,
            "open:libholder.so:l",
            "call:0:holder_add:1:2",
            "close:0",
            "open:libplugin.so:lx",
        )[:3] == [
            "open libholder.so: 0",
            "call holder_add: 3",
            "close: 0",
        ]
        with pylinker.Program(library_path=[scenario("dlfcn")]) as program:
            before = used(program)
            for _ in range(5):
                with program.dlopen("libholder.so") as holder:
                    assert holder.holder_add(2, 2) == 4
                    assert [each.name for each in program.libraries] == [
                        "libholder.so",
                        "libplugin.so",
                    ]
                assert used(program) == before

    def test_a_library_may_open_itself_in_its_constructor(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("dlfcn")]) as program:
            library = program.dlopen("libself.so")
            assert library.self_opened() == 1
            assert [(each.name, each.references) for each in program.libraries] == [
                ("libself.so", 2)
            ]
            assert library.self_close(1) == 77
            library.close()
            assert program.libraries == ()

    def test_a_library_that_closes_itself_runs_to_its_end(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("dlfcn")]) as program:
            library = program.dlopen("libself.so")
            assert library.self_close(2) == 77
            assert program.libraries == ()
            with pytest.raises(pylinker.ClosedError):
                library.self_opened()
            library.close()
            assert program.dlopen("libself.so").self_opened() == 1

    def test_a_library_opened_by_a_constructor_that_fails_goes_too(
        self, scenario: Scenario
    ) -> None:
        with pylinker.Program(library_path=[scenario("dlfcn")]) as program:
            before = used(program)
            for _ in range(3):
                with pytest.raises(pylinker.InitializationError):
                    program.dlopen("libnesttrap.so")
                assert used(program) == before

    def test_a_guest_path_goes_through_the_preopened_directories(self, scenario: Scenario) -> None:
        directory = scenario("dlfcn")
        assert guest(
            scenario,
            "open:/plugins/libplugin.so:l",
            "call:0:plugin_add:1:1",
            dirs={"/plugins": directory},
        ) == [
            "open /plugins/libplugin.so: 0",
            "call plugin_add: 2",
        ]

    def test_ld_library_path_of_the_guest_is_searched_in_its_own_names(
        self, scenario: Scenario, tmp_path: Path
    ) -> None:
        host = copies(scenario("dlfcn"), tmp_path / "elsewhere", "libplugin.so")
        main = copies(scenario("dlfcn"), tmp_path / "app", "main.wasm") / "main.wasm"
        command = ["open:libplugin.so:l"]
        found = run(
            main, *command, env={"LD_LIBRARY_PATH": "/nothing:/plugins"}, dirs={"/plugins": host}
        )
        assert found.stdout == "open libplugin.so: 0\n"
        hostile = run(main, *command, env={"LD_LIBRARY_PATH": str(host)})
        assert hostile.stdout.startswith("open libplugin.so: null, ")

    @pytest.mark.parametrize(
        "name",
        [
            "../secret/libplugin.so",
            "/plugins/../secret/libplugin.so",
            "./../secret/libplugin.so",
            "/etc/passwd",
            ".",
            "/",
        ],
    )
    def test_a_guest_cannot_open_outside_what_it_was_granted(
        self, scenario: Scenario, tmp_path: Path, name: str
    ) -> None:
        copies(scenario("dlfcn"), tmp_path / "secret", "libplugin.so")
        plugins = copies(scenario("dlfcn"), tmp_path / "plugins", "libreal.so")
        main = copies(scenario("dlfcn"), tmp_path / "app", "main.wasm") / "main.wasm"
        outcome = run(main, f"open:{name}:l", dirs={"/plugins": plugins}, library_path=[plugins])
        assert outcome.status == 0
        assert outcome.stdout.startswith(f"open {name}: null, ")

    def test_a_symbolic_link_out_of_the_granted_directory_is_refused(
        self, scenario: Scenario, tmp_path: Path
    ) -> None:
        secret = copies(scenario("dlfcn"), tmp_path / "secret", "libplugin.so")
        plugins = copies(scenario("dlfcn"), tmp_path / "plugins", "libreal.so")
        (plugins / "libplugin.so").symlink_to(secret / "libplugin.so")
        (plugins / "libsame.so").symlink_to("libreal.so")
        main = copies(scenario("dlfcn"), tmp_path / "app", "main.wasm") / "main.wasm"
        outcome = run(
            main,
            "open:libplugin.so:l",
            "open:/plugins/libplugin.so:l",
            dirs={"/plugins": plugins},
            library_path=[plugins],
        )
        assert [
            line.split(",")[0] for line in outcome.stdout.splitlines() if line.startswith("open")
        ] == [
            "open libplugin.so: null",
            "open /plugins/libplugin.so: null",
        ]
        inside = run(main, "open:libsame.so:l", "call:0:measure:2:3", library_path=[plugins])
        assert inside.stdout == lines("open libsame.so: 0", "call measure: 6")


class TestFromPython:
    def test_dlopen_calls_and_closes(self, scenario: Scenario) -> None:
        with pylinker.Program(scenario("dlfcn") / "main.wasm") as program:
            with program.dlopen("libplugin.so") as library:
                assert library.plugin_add(2, 3) == 5
                assert program.dlsym(library, "plugin_value") == library.address_of("plugin_value")
            with pytest.raises(pylinker.ClosedError):
                library.plugin_add(2, 3)
            with pytest.raises(pylinker.ClosedError):
                library.address_of("plugin_value")
            library.close()

    def test_references_are_counted(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("dlfcn")]) as program:
            first, second = program.dlopen("libplugin.so"), program.dlopen("libplugin.so")
            assert [(each.name, each.references) for each in program.libraries] == [
                ("libplugin.so", 2)
            ]
            first.plugin_bump(3, 3)
            first.close()
            assert [(each.name, each.references) for each in program.libraries] == [
                ("libplugin.so", 1)
            ]
            assert second.plugin_bump(0, 0) == 20
            second.close()
            assert program.libraries == ()

    def test_closing_one_handle_twice_gives_one_reference_back(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("dlfcn")]) as program:
            first, second = program.dlopen("libplugin.so"), program.dlopen("libplugin.so")
            first.close()
            first.close()
            assert second.plugin_add(1, 1) == 2

    def test_a_function_of_a_closed_library_cannot_be_called(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("dlfcn")]) as program:
            library = program.dlopen("libplugin.so")
            function = library.plugin_add
            assert function(1, 2) == 3
            library.close()
            with pytest.raises(pylinker.ClosedError):
                function(1, 2)

    def test_needed_libraries_go_with_the_last_that_needs_them(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("transitive")]) as program:
            empty = used(program)
            top, middle = program.dlopen("libtop.so"), program.dlopen("libmiddle.so")
            top.close()
            assert [each.name for each in program.libraries] == ["libmiddle.so", "libbase.so"]
            assert middle.middle(1) == 20
            middle.close()
            assert program.libraries == ()
            assert used(program) == empty

    def test_a_cycle_of_libraries_is_unloaded_together(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("cycle")]) as program:
            program.dlopen("libping.so").close()
            assert program.libraries == ()
            with program.dlopen("libpong.so") as again:
                assert again.pong(3) == 3

    def test_a_library_of_the_program_stays_when_a_handle_to_it_closes(
        self, scenario: Scenario
    ) -> None:
        with pylinker.Program(
            scenario("transitive") / "main.wasm", stdout=pylinker.CAPTURE
        ) as program:
            program.dlopen("libbase.so").close()
            assert program.run() == 0
            assert program.stdout == b"150\n"

    def test_a_library_that_another_is_bound_to_outlives_its_handle(
        self, scenario: Scenario
    ) -> None:
        with pylinker.Program(library_path=[scenario("interpose")]) as program:
            first = program.dlopen("libfirst.so", pylinker.RTLD_GLOBAL)
            user = program.dlopen("libuser.so")
            assert (user.ask(), user.ask_tag()) == (1, 1)
            first.close()
            assert (user.ask(), user.ask_tag()) == (1, 1)
            user.close()
            assert program.libraries == ()

    def test_noload_and_nodelete(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("dlfcn")]) as program:
            with pytest.raises(pylinker.LibraryNotFoundError):
                program.dlopen("libplugin.so", pylinker.RTLD_NOLOAD)
            program.dlopen("libplugin.so", pylinker.RTLD_LAZY | pylinker.RTLD_NODELETE).plugin_bump(
                1, 4
            )
            for each in (pylinker.RTLD_LAZY, pylinker.RTLD_NOLOAD):
                with program.dlopen("libplugin.so", each) as library:
                    assert library.plugin_bump(0, 0) == 15
            assert [each.name for each in program.libraries] == ["libplugin.so"]

    def test_nodelete_keeps_destructors_for_the_exit(self, scenario: Scenario) -> None:
        with pylinker.Program(scenario("order") / "main.wasm", stdout=pylinker.CAPTURE) as program:
            program.dlopen("libpriorities.so", pylinker.RTLD_LAZY | pylinker.RTLD_NODELETE).close()
            assert trace(program) == "IO123"
            program.run()
            assert trace(program) == "IO123M!mbaoi"

    def test_a_slot_of_a_closed_library_traps_until_it_is_given_away(
        self, scenario: Scenario
    ) -> None:
        with pylinker.CDLL(
            "libcalls.so", library_path=[scenario("calls"), scenario("dlfcn")]
        ) as calls:
            plugin = calls.program.dlopen("libplugin.so")
            slot = plugin["plugin_add"].slot
            assert calls.apply(slot, 3, 4) == 7
            plugin.close()
            with pytest.raises(wasmtime.Trap):
                calls.apply(slot, 3, 4)

    def test_opening_a_library_as_global_makes_what_it_needs_global(
        self, scenario: Scenario
    ) -> None:
        with pylinker.Program(library_path=[scenario("interpose")]) as program:
            lazy = program.dlopen("liblazy.so")
            program.dlopen("libneedsfirst.so", pylinker.RTLD_GLOBAL)
            assert program.statistics().scope == ("libneedsfirst.so", "libfirst.so")
            assert lazy.ask() == 1

    def test_noload_can_make_a_library_global(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("interpose")]) as program:
            lazy = program.dlopen("liblazy.so")
            program.dlopen("libfirst.so")
            assert program.statistics().scope == ()
            program.dlopen("libfirst.so", pylinker.RTLD_NOLOAD | pylinker.RTLD_GLOBAL)
            assert program.statistics().scope == ("libfirst.so",)
            assert lazy.ask() == 1

    def test_a_handle_of_another_program_is_refused(self, scenario: Scenario) -> None:
        path = [scenario("dlfcn")]
        with pylinker.Program(library_path=path) as one, pylinker.Program(library_path=path) as two:
            library = one.dlopen("libplugin.so")
            two.dlopen("libplugin.so")
            with pytest.raises(ValueError):
                two.dlsym(library, "plugin_add")

    def test_libraries_are_opened_after_the_program_has_run(self, scenario: Scenario) -> None:
        with pylinker.Program(scenario("dlfcn") / "main.wasm") as program:
            assert program.run() == 0
            assert program.dlopen("libneedsmain.so").through_main(1, 1) == 504

    def test_dlsym_with_a_handle_searches_the_library_and_what_it_needs(
        self, scenario: Scenario
    ) -> None:
        with pylinker.Program(library_path=[scenario("transitive")]) as program:
            top = program.dlopen("libtop.so")
            assert program.dlsym(top, "base") > 0
            assert top.base(1) == 2
            with pytest.raises(
                pylinker.SymbolNotFoundError, match=r"absent.*libtop\.so|libtop\.so.*absent"
            ):
                program.dlsym(top, "absent")
            with pytest.raises(pylinker.SymbolNotFoundError):
                program.dlsym(program.dlopen("libbase.so"), "top")

    def test_linker_symbols_are_no_symbols_of_a_library(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("data")]) as program:
            library = program.dlopen("libnumbers.so")
            for name in ("__wasm_call_ctors", "__wasm_apply_data_relocs"):
                with pytest.raises(pylinker.SymbolNotFoundError):
                    program.dlsym(library, name)

    def test_rtld_default_from_python_is_the_first_definition(self, scenario: Scenario) -> None:
        with pylinker.Program(
            library_path=[scenario("interpose")], preload=["libfirst.so", "libsecond.so"]
        ) as program:
            second = program.dlopen("libsecond.so")
            assert program.dlsym(pylinker.RTLD_DEFAULT, "tag") == program.dlopen(
                "libfirst.so"
            ).address_of("tag")
            assert second.who() == 2

    def test_dladdr_finds_the_module_and_symbol_of_an_address(self, scenario: Scenario) -> None:
        with pylinker.Program(scenario("data") / "main.wasm") as program:
            address = program.dlsym(pylinker.RTLD_DEFAULT, "block")
            base = next(
                each.memory_base for each in program.libraries if each.name == "libnumbers.so"
            )
            for offset in (0, 5):
                found = program.dladdr(address + offset)
                assert found is not None
                assert (found.module, found.base, found.symbol, found.value) == (
                    "libnumbers.so",
                    base,
                    "block",
                    address,
                )
            assert program.dladdr(0) is None
            assert program.dladdr(0xFFFF_FFF0) is None

    def test_dladdr_finds_the_module_and_symbol_of_a_table_slot(self, scenario: Scenario) -> None:
        with pylinker.Program(scenario("identity") / "main.wasm") as program:
            slot = program.dlsym(pylinker.RTLD_DEFAULT, "shared")
            found = program.dladdr(slot=slot)
            assert found is not None
            assert (found.module, found.symbol, found.value) == ("libowner.so", "shared", slot)
            assert program.dladdr(slot=0) is None
            assert program.dladdr(slot=10_000_000) is None

    def test_a_closed_program_refuses_everything(self, scenario: Scenario) -> None:
        program = pylinker.Program(library_path=[scenario("dlfcn")])
        library = program.dlopen("libplugin.so")
        program.close()
        program.close()
        for action in (
            lambda: program.dlopen("libplugin.so"),
            lambda: program.dlsym(pylinker.RTLD_DEFAULT, "plugin_add"),
            lambda: library.plugin_add(1, 2),
            lambda: program.memory.read(0, 1),
            program.run,
        ):
            with pytest.raises(pylinker.ClosedError):
                action()
