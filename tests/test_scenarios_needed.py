"""Programs with the libraries they need, and the libraries those need."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

import pylinker
from running import copies, lines, run
from toolchain import Scenario


def names(program: pylinker.Program) -> list[str]:
    return [library.name for library in program.libraries]


def test_a_needed_library_is_loaded_and_shares_data_functions_and_stdout(
    scenario: Scenario,
) -> None:
    outcome = run(scenario("needed") / "main.wasm", "world", "linker")
    assert outcome == (
        2,
        lines("hello, world", "13 characters", "hello, linker", "14 characters"),
        "",
    )


def test_the_exit_status_is_what_main_returns(scenario: Scenario) -> None:
    assert run(scenario("needed") / "main.wasm") == (0, "", "")


def test_the_same_program_runs_again_and_again_with_fresh_state(scenario: Scenario) -> None:
    main = scenario("needed") / "main.wasm"
    assert [run(main, "x").status for _ in range(3)] == [1, 1, 1]


def test_two_programs_in_one_process_share_nothing(scenario: Scenario) -> None:
    main = scenario("needed") / "main.wasm"
    first = pylinker.Program(main, args=["a"], stdout=pylinker.CAPTURE)
    second = pylinker.Program(main, args=["b", "c"], stdout=pylinker.CAPTURE)
    with first, second:
        assert (second.run(), first.run()) == (2, 1)
        assert first.stdout == b"hello, a\n9 characters\n"
        assert second.stdout == b"hello, b\n9 characters\nhello, c\n9 characters\n"


def test_libraries_needed_by_libraries_are_loaded(scenario: Scenario) -> None:
    assert run(scenario("transitive") / "main.wasm") == (0, "150\n", "")


def test_the_summary_of_libraries_tells_where_each_is_and_what_it_needs(scenario: Scenario) -> None:
    directory = scenario("transitive")
    with pylinker.Program(directory / "main.wasm") as program:
        summary = {library.name: library for library in program.libraries}
        assert list(summary) == ["main.wasm", "libtop.so", "libmiddle.so", "libbase.so"]
        assert summary["main.wasm"].needed == ("libtop.so",)
        assert summary["libtop.so"].needed == ("libmiddle.so",)
        assert summary["libbase.so"].needed == ()
        assert [str(summary[name].path) for name in summary] == [
            str(directory / name) for name in summary
        ]
        assert summary["main.wasm"].memory_base % 16 == 0
        assert summary["main.wasm"].memory_size > 0


def test_a_diamond_loads_its_base_once_for_both_sides(scenario: Scenario) -> None:
    outcome = run(scenario("diamond") / "main.wasm")
    assert outcome == (0, lines("same 1", "left 101", "right 111", "loads 1"), "")


def test_the_scope_is_breadth_first_from_the_main_module(scenario: Scenario) -> None:
    with pylinker.Program(scenario("diamond") / "main.wasm") as program:
        assert names(program) == ["main.wasm", "libleft.so", "libright.so", "libbase.so"]
        assert program.statistics().scope == (
            "main.wasm",
            "libleft.so",
            "libright.so",
            "libbase.so",
        )
        assert program.statistics().modules == 4


def test_two_libraries_that_need_each_other_call_and_point_into_each_other(
    scenario: Scenario,
) -> None:
    outcome = run(scenario("cycle") / "main.wasm")
    assert outcome == (0, lines("ping 9", "pong 4", "calls 7 8", "view 1", "started 1 1"), "")


def test_a_cycle_without_a_main_module_loads_from_either_end(scenario: Scenario) -> None:
    directory = scenario("cycle")
    for first, second in (("libping.so", "libpong.so"), ("libpong.so", "libping.so")):
        with pylinker.Program(library_path=[directory]) as program:
            library = program.dlopen(first)
            assert names(program) == [first, second]
            assert (library.ping(6), library.pong(3)) == (6, 3)


def test_a_library_and_its_program_call_each_other_recursively(scenario: Scenario) -> None:
    assert run(scenario("main_cycle") / "main.wasm") == (0, lines("9 is odd", "calls 5 5"), "")
    bound = run(scenario("main_cycle") / "main.wasm", bind_now=True)
    assert bound == (0, lines("9 is odd", "calls 5 5"), "")


@pytest.mark.slow
def test_a_program_with_a_chain_of_twenty_libraries(scenario: Scenario) -> None:
    main = scenario("many") / "main.wasm"
    assert run(main) == (0, f"{sum(range(1, 21)) + 20 * 1000}\n", "")
    with pylinker.Program(main) as program:
        assert names(program) == ["main.wasm", *(f"liblink{n}.so" for n in range(20, 0, -1))]


def test_modules_do_not_overlap_in_memory_or_table(scenario: Scenario) -> None:
    with pylinker.Program(scenario("callbacks") / "main.wasm") as program:
        areas = sorted(
            (each.memory_base, each.memory_base + each.memory_size) for each in program.libraries
        )
        assert all(end <= start for (_, end), (start, _) in pairwise(areas))
        slots = sorted(
            (each.table_base, each.table_base + each.table_size) for each in program.libraries
        )
        assert all(end <= start for (_, end), (start, _) in pairwise(slots))
        assert slots[0][0] >= 1  # slot 0 is the null function pointer


def test_a_main_module_given_as_bytes_finds_its_libraries_in_the_library_path(
    scenario: Scenario,
) -> None:
    directory = scenario("needed")
    outcome = run((directory / "main.wasm").read_bytes(), "x", library_path=[directory])
    assert outcome == (1, lines("hello, x", "9 characters"), "")


def test_paths_may_be_str_or_pathlike(scenario: Scenario) -> None:
    directory = scenario("transitive")
    with pylinker.Program(str(directory / "main.wasm"), stdout=pylinker.CAPTURE) as program:
        assert (program.run(), program.stdout) == (0, b"150\n")
    with pylinker.Program(library_path=[str(directory)]) as program:
        assert program.dlopen("libtop.so").top(1) == 120


def test_a_library_needed_by_name_and_opened_by_path_is_one_library(scenario: Scenario) -> None:
    directory = scenario("diamond")
    with pylinker.Program(directory / "main.wasm") as program:
        before = names(program)
        base = program.dlopen(str(directory / "libbase.so"))
        assert names(program) == before
        assert program.memory.read(base.address_of("shared"), 4) == (100).to_bytes(4, "little")


def test_the_files_of_loaded_libraries_are_not_read_again(
    scenario: Scenario, tmp_path: Path
) -> None:
    directory = copies(
        scenario("transitive"),
        tmp_path / "app",
        "main.wasm",
        "libtop.so",
        "libmiddle.so",
        "libbase.so",
    )
    with pylinker.Program(directory / "main.wasm", stdout=pylinker.CAPTURE) as program:
        for file in directory.iterdir():
            file.unlink()
        assert program.run() == 0
        assert program.dlopen("libbase.so").base(1) == 2
        assert program.stdout == b"150\n"
