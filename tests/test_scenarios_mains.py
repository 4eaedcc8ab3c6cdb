"""Every kind of main module, and none."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import wasmtime

import pylinker
from running import lines, run, sizes, spawn
from toolchain import Scenario

EXPECTED = (
    "add 3",
    "read 33",
    "call 11",
    "apply 12",
    "identity 1",
    "pointer 10",
    "value 77",
    "value 77",
)

# A PIE names its libraries; a program that is not PIE has no dylink section to name them in.
KINDS = [
    ("mains/pie.wasm", ()),
    ("mains/own.wasm", ()),
    pytest.param("mains_plain/plain.wasm", ("libtool.so",), marks=pytest.mark.slow),
]


def built(scenario: Scenario, main: str) -> Path:
    """A program by its scenario and name."""
    folder, _, name = main.partition("/")
    return scenario(folder) / name


@pytest.mark.parametrize(("main", "preload"), KINDS)
@pytest.mark.parametrize("bind_now", [False, True])
def test_every_kind_of_program_shares_data_functions_and_pointers(
    scenario: Scenario, main: str, preload: tuple[str, ...], bind_now: bool
) -> None:
    outcome = run(built(scenario, main), preload=preload, bind_now=bind_now)
    assert outcome == (0, lines(*EXPECTED, "arguments 1"), "")


@pytest.mark.parametrize(("main", "preload"), KINDS)
def test_every_kind_of_program_has_arguments_and_an_exit_status(
    scenario: Scenario, main: str, preload: tuple[str, ...]
) -> None:
    outcome = run(built(scenario, main), "42", "x", preload=preload)
    assert outcome == (42, lines(*EXPECTED, "arguments 3"), "")


@pytest.mark.parametrize(("main", "preload"), KINDS)
def test_every_kind_of_program_is_a_library_to_python(
    scenario: Scenario, main: str, preload: tuple[str, ...]
) -> None:
    with pylinker.Program(built(scenario, main), preload=preload) as program:
        tool = program.dlopen("libtool.so")
        assert program.main.name == Path(main).name
        assert program.main.main_twice(21) == 42
        assert program.main["main_twice"].slot == tool.tool_main_pointer()
        address = program.main.address_of("main_value")
        assert program.memory.read(address, 4) == (33).to_bytes(4, "little")
        program.memory.write(address, (34).to_bytes(4, "little"))
        assert (tool.tool_read(), tool.tool_call(1)) == (34, 3)


def test_a_programs_heap_does_not_meet_a_library_opened_in_between(scenario: Scenario) -> None:
    main = scenario("dlfcn") / "main.wasm"
    with pylinker.Program(main) as program:
        malloc, free = program.main["malloc"], program.main["free"]
        first = malloc(100_000)
        program.memory.write(first, b"\xaa" * 100_000)
        plugin = program.dlopen("libplugin.so")
        second = malloc(1_000_000)
        program.memory.write(second, b"\xbb" * 1_000_000)
        assert plugin.plugin_bump(0, 0) == 11
        assert program.memory.read(first, 100_000) == b"\xaa" * 100_000
        with program.dlopen("libneedsmain.so") as other:
            assert other.through_main(1, 1) == 504
        assert program.memory.read(second, 1_000_000) == b"\xbb" * 1_000_000
        free(first)
        free(second)
        assert plugin.plugin_add(1, 2) == 3


@pytest.mark.slow
def test_a_static_program_runs_as_it_is(scenario: Scenario) -> None:
    main = scenario("mains_plain") / "static.wasm"
    assert run(main) == (0, "static -\n", "")
    assert run(main, "argument", "9") == (9, "static argument\n", "")
    with pylinker.Program(main) as program:
        assert [each.name for each in program.libraries] == ["static.wasm"]


@pytest.mark.slow
def test_a_static_program_cannot_have_libraries_and_says_why(scenario: Scenario) -> None:
    directory = scenario("mains_plain")
    with pylinker.Program(directory / "static.wasm") as program:
        with pytest.raises(pylinker.NotDynamicError, match=r"static\.wasm") as caught:
            program.dlopen("libtool.so")
        assert caught.value.module == "static.wasm"
        assert [each.name for each in program.libraries] == ["static.wasm"]
    with pytest.raises(pylinker.NotDynamicError, match=r"static\.wasm"):
        pylinker.Program(directory / "static.wasm", preload=["libtool.so"])


@pytest.mark.parametrize(
    ("main", "lacks"),
    [("fixed.wasm", "--growable-table"), ("stackless.wasm", "--export=__stack_pointer")],
)
@pytest.mark.slow
def test_a_program_that_lacks_what_libraries_need_says_what(
    scenario: Scenario, main: str, lacks: str
) -> None:
    path = [scenario("layout"), scenario("libc")]
    assert run(scenario("mains_plain") / main, "x") == (0, "static x\n", "")
    with pylinker.Program(scenario("mains_plain") / main, library_path=path) as program:
        for _ in range(2):
            with pytest.raises(
                pylinker.NotDynamicError, match=f"main module, {re.escape(main)},.*{lacks}"
            ) as caught:
                program.dlopen("libc.so")
            assert caught.value.module == main
            assert [each.name for each in program.libraries] == [main]


def test_a_program_that_keeps_its_memory_to_itself_says_so() -> None:
    with pylinker.Program(
        bytes(wasmtime.wat2wasm('(module (memory 1) (func (export "_start")))')), name="hermit"
    ) as program:
        with pytest.raises(pylinker.NotDynamicError, match=r"hermit.*--export-memory") as caught:
            program.memory.read(0, 1)
        assert caught.value.module == "hermit"


@pytest.mark.slow
def test_a_program_whose_memory_is_full_says_so_and_goes_on(scenario: Scenario) -> None:
    with pylinker.Program(
        scenario("mains_plain") / "full.wasm",
        preload=["libtool.so"],
        library_path=[scenario("zeroed")],
        stdout=pylinker.CAPTURE,
    ) as program:
        before = sizes(program)
        with pytest.raises(pylinker.LimitError):
            program.dlopen("libbss.so")
        assert sizes(program) == before
        assert program.main.main_twice(4) == 8


@pytest.mark.slow
def test_a_program_is_not_a_library(scenario: Scenario) -> None:
    with pylinker.Program(library_path=[scenario("mains_plain")]) as program:
        for name in ("static.wasm", "plain.wasm"):
            with pytest.raises(pylinker.NotDynamicError, match=name.replace(".", r"\.")):
                program.dlopen(name)
        assert program.libraries == ()


def test_a_library_is_not_a_program_to_run(scenario: Scenario) -> None:
    with pylinker.Program(scenario("transitive") / "libbase.so") as program:
        assert program.main.base(1) == 2
        with pytest.raises(pylinker.LinkError, match="_start"):
            program.run()


def test_without_a_main_module_there_is_nothing_to_run(scenario: Scenario) -> None:
    with pylinker.Program(library_path=[scenario("transitive")]) as program:
        assert program.libraries == ()
        with pytest.raises(pylinker.LinkError):
            program.run()
        assert program.dlopen("libtop.so").top(0) == 110


def test_the_global_scope_stands_in_for_a_missing_main_module(scenario: Scenario) -> None:
    with pylinker.Program(
        library_path=[scenario("transitive")], preload=["libmiddle.so"]
    ) as program:
        assert program.main.middle(2) == 30
        assert program.main.base(2) == 3
        assert "top" not in program.main
        program.dlopen("libtop.so", pylinker.RTLD_GLOBAL)
        assert "top" in program.main


@pytest.mark.parametrize("main", ["pie.wasm", "own.wasm"])
def test_a_missing_main_or_library_file_is_a_file_not_found_error(
    scenario: Scenario, tmp_path: Path, main: str
) -> None:
    with pytest.raises(pylinker.LibraryNotFoundError, match=r"nowhere\.wasm"):
        pylinker.Program(tmp_path / "nowhere.wasm")
    shutil.copyfile(scenario("mains") / main, tmp_path / main)
    with pytest.raises(FileNotFoundError, match=r"libtool\.so"):
        pylinker.Program(tmp_path / main)


def test_a_main_module_that_is_no_module_is_a_parse_error(tmp_path: Path) -> None:
    for content in (b"", b"#!/bin/sh\n", b"\0asm", b"\0asm\x0d\0\x01\0", b"\x7fELF" + bytes(100)):
        (tmp_path / "main.wasm").write_bytes(content)
        with pytest.raises(pylinker.ParseError, match=r"main\.wasm"):
            pylinker.Program(tmp_path / "main.wasm")


def test_a_program_can_run_in_another_interpreter_with_inherited_streams(
    scenario: Scenario, tmp_path: Path
) -> None:
    outcome = spawn(tmp_path, scenario("mains") / "pie.wasm", "5")
    assert outcome == (5, lines(*EXPECTED, "arguments 2"), "")
