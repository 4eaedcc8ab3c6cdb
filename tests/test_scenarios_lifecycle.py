"""Constructors, destructors, and loads that fail: a load happens as a whole or not at all."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import wasmtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pylinker
from binary import dylink
from running import copies, run, sizes, trace, used
from toolchain import Scenario


class TestOrder:
    def test_constructors_run_dependencies_first_and_the_mains_own_last(
        self, scenario: Scenario
    ) -> None:
        assert run(scenario("order") / "main.wasm").stdout == "IOM 2\n"

    def test_library_constructors_have_run_before_the_program_starts(
        self, scenario: Scenario
    ) -> None:
        with pylinker.Program(scenario("order") / "main.wasm") as program:
            assert trace(program) == "IO"

    @pytest.mark.parametrize(("arguments", "status"), [([], 3), (["exit"], 4)])
    def test_destructors_run_at_exit_in_reverse(
        self, scenario: Scenario, arguments: list[str], status: int
    ) -> None:
        with pylinker.Program(
            scenario("order") / "main.wasm", args=arguments, stdout=pylinker.CAPTURE
        ) as program:
            assert program.run() == status
            assert trace(program) == "IOM!moi"

    def test_a_library_opened_later_is_destroyed_first_at_exit(self, scenario: Scenario) -> None:
        main = scenario("order") / "main.wasm"
        with pylinker.Program(main, stdout=pylinker.CAPTURE) as program:
            program.dlopen("libpriorities.so")
            assert trace(program) == "IO123"
            program.run()
            assert trace(program) == "IO123M!mbaoi"

    def test_dlclose_runs_destructors_in_reverse(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("order")], preload=["libtrace.so"]) as program:
            outer = program.dlopen("libouter.so")
            assert (trace(program), outer.outer()) == ("IO", 2)
            outer.close()
            assert trace(program) == "IOoi"

    def test_a_library_in_use_by_another_is_not_destroyed(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("order")], preload=["libtrace.so"]) as program:
            inner = program.dlopen("libinner.so")
            outer = program.dlopen("libouter.so")
            inner.close()
            assert (trace(program), outer.outer()) == ("IO", 2)
            outer.close()
            assert trace(program) == "IOoi"

    def test_priorities_order_the_constructors_of_one_library(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("order")], preload=["libtrace.so"]) as program:
            program.dlopen("libpriorities.so").close()
            assert trace(program) == "123ba"

    def test_a_reopened_library_starts_again(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("order")], preload=["libtrace.so"]) as program:
            for _ in range(3):
                program.dlopen("libinner.so").close()
            assert trace(program) == "IiIiIi"

    def test_a_constructor_sees_the_relocations_of_modules_that_load_after_it(
        self, scenario: Scenario
    ) -> None:
        for first in ("libearly.so", "liblate.so"):
            with pylinker.Program(library_path=[scenario("order")]) as program:
                library = program.dlopen(first)
                # which constructor of a cycle runs first is open; whichever it was, both modules
                # were relocated by then
                assert (library.early(), library.late()) == (42, 42)

    def test_closing_the_program_runs_no_guest_code(self, scenario: Scenario) -> None:
        program = pylinker.Program(library_path=[scenario("order")], preload=["libtrace.so"])
        program.dlopen("libouter.so")
        program.close()
        with pytest.raises(pylinker.ClosedError):
            trace(program)


class TestMemoryReuse:
    def test_memory_and_slots_are_given_back_at_dlclose(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("zeroed")]) as program:
            program.dlopen("libbss.so").close()
            before = sizes(program)
            for _ in range(50):
                with program.dlopen("libbss.so") as library:
                    assert library.count() == 0
            assert sizes(program) == before

    def test_reused_memory_is_zeroed(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("zeroed")]) as program:
            first = program.dlopen("libbss.so")
            base = first.address_of("area")
            first.fill()
            assert first.count() == 20000
            first.close()
            other = program.dlopen("libother.so")
            assert other.other_count() == 0
            other.close()
            again = program.dlopen("libbss.so")
            assert (again.address_of("area"), again.count()) == (base, 0)

    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(data=st.data())
    def test_libraries_opened_and_closed_in_any_order_never_overlap(
        self, tmp_path: Path, data: st.DataObject
    ) -> None:
        sizes_ = st.tuples(st.integers(0, 200_000), st.integers(0, 12))
        slots = st.tuples(st.integers(0, 50), st.integers(0, 3))
        shapes = data.draw(st.lists(st.tuples(sizes_, slots), min_size=2, max_size=8))
        for n, (memory, table) in enumerate(shapes):
            (tmp_path / f"lib{n}.so").write_bytes(dylink(memory=memory, table=table))
        with pylinker.Program(library_path=[tmp_path], stack_size=64 << 10) as program:
            empty = used(program)
            handles: dict[int, pylinker.Library] = {}
            for n in data.draw(st.lists(st.integers(0, len(shapes) - 1), max_size=25)):
                if n in handles:
                    handles.pop(n).close()
                    continue
                handles[n] = program.dlopen(f"lib{n}.so")
                (size, align), (count, align_slots) = shapes[n]
                new = next(each for each in program.libraries if each.name == f"lib{n}.so")
                assert (new.memory_size, new.table_size) == (size, count)
                assert (
                    new.memory_base % (1 << align) == 0 and new.table_base % (1 << align_slots) == 0
                )
                assert program.memory.read(new.memory_base, size) == bytes(size)
                program.memory.write(new.memory_base, bytes([n + 1]) * size)
                areas = sorted(
                    (e.memory_base, e.memory_base + e.memory_size)
                    for e in program.libraries
                    if e.memory_size
                )
                assert all(end <= start for (_, end), (start, _) in pairwise(areas))
                slots_ = sorted(
                    (e.table_base, e.table_base + e.table_size)
                    for e in program.libraries
                    if e.table_size
                )
                assert all(end <= start for (_, end), (start, _) in pairwise(slots_))
            for each in program.libraries:
                mark = int(each.name[3:-3]) + 1
                assert (
                    program.memory.read(each.memory_base, each.memory_size)
                    == bytes([mark]) * each.memory_size
                )
            for handle in handles.values():
                handle.close()
            assert used(program) == empty

    def test_a_stack_overflow_traps_instead_of_eating_data(self, scenario: Scenario) -> None:
        with pylinker.CDLL(
            "libdeep.so", library_path=[scenario("stack")], stack_size=1 << 20
        ) as library:
            assert library.deep(100) == 101
            for _ in range(3):
                with pytest.raises(wasmtime.Trap):
                    library.deep(100_000)
                assert library.guard_sum() == 6
            assert library.deep(200) == 201

    def test_the_stack_has_the_size_that_was_asked_for(self, scenario: Scenario) -> None:
        path = [scenario("stack")]
        with pylinker.CDLL("libdeep.so", library_path=path, stack_size=64 << 10) as library:
            assert library.deep(10) == 11
            with pytest.raises(wasmtime.Trap):
                library.deep(20)
        with pylinker.CDLL("libdeep.so", library_path=path, stack_size=8 << 20) as library:
            assert library.deep(1000) == 1001


class TestTrapInAConstructor:
    def test_the_load_is_undone_and_fails_the_same_way_again(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("trap")]) as program:
            before, after = used(program), set()
            texts = set()
            for _ in range(3):
                with pytest.raises(pylinker.InitializationError) as caught:
                    program.dlopen("libtrapping.so")
                assert caught.value.module == "libtrapping.so"
                assert isinstance(caught.value.__cause__, wasmtime.Trap)
                texts.add(str(caught.value))
                after.add(sizes(program))
                assert used(program) == before
            assert len(texts) == len(after) == 1

    def test_the_next_load_works(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("trap")]) as program:
            with pytest.raises(pylinker.InitializationError):
                program.dlopen("libtrapping.so", pylinker.RTLD_GLOBAL)
            assert program.dlopen("libgood.so").good(4) == 5
            assert [each.name for each in program.libraries] == [
                "libgood.so",
                "libinner.so",
                "libtrace.so",
            ]

    def test_libraries_that_were_there_before_stay(self, scenario: Scenario) -> None:
        with pylinker.Program(
            library_path=[scenario("trap")], preload=["libtrace.so", "libinner.so"]
        ) as program:
            assert trace(program) == "I"
            before = used(program)
            with pytest.raises(pylinker.InitializationError):
                program.dlopen("libabove.so", pylinker.RTLD_GLOBAL)
            assert used(program) == before
            assert trace(program) == "IT"  # its memory is not the failed library's; `A` never ran
            assert program.dlopen("libgood.so").good(1) == 2

    def test_a_failed_library_is_not_found_by_noload(self, scenario: Scenario) -> None:
        with pylinker.Program(library_path=[scenario("trap")]) as program:
            with pytest.raises(pylinker.InitializationError):
                program.dlopen("libtrapping.so")
            with pytest.raises(pylinker.LibraryNotFoundError):
                program.dlopen("libtrapping.so", pylinker.RTLD_NOLOAD)
            with pytest.raises(pylinker.SymbolNotFoundError):
                program.dlsym(pylinker.RTLD_DEFAULT, "trapping")

    def test_a_program_whose_library_traps_is_not_created(self, scenario: Scenario) -> None:
        with pytest.raises(pylinker.InitializationError) as caught:
            pylinker.Program(scenario("trap") / "main.wasm")
        assert caught.value.module == "libtrapping.so"


class TestFailedLoads:
    """10,000 failing loads of each kind leave the program as it was, and it still works."""

    @pytest.mark.parametrize(
        ("folder", "name", "error"),
        [
            ("trap", "libnowhere.so", pylinker.LibraryNotFoundError),
            ("missing", "libdata.so", pylinker.UndefinedSymbolError),
            ("missing", "libpointer.so", pylinker.UndefinedSymbolError),
            ("trap", "libtrapping.so", pylinker.InitializationError),
            ("signature", "libuser.so", pylinker.SignatureMismatchError),
        ],
    )
    @pytest.mark.slow
    def test_ten_thousand_failing_loads_leave_every_size_unchanged(
        self, scenario: Scenario, folder: str, name: str, error: type[Exception]
    ) -> None:
        preload = {
            "signature": ["libdata.so"],
            "trap": ["libtrace.so"],
            "missing": ["liblater.so"],
        }[folder]
        if name == "libpointer.so":
            preload = []
        path = [scenario(folder), scenario("zeroed")]
        with pylinker.Program(library_path=path, preload=preload) as program:
            with pytest.raises(error):
                program.dlopen(name)
            before = sizes(program)
            for _ in range(10_000):
                try:
                    program.dlopen(name)
                except error:
                    continue
                pytest.fail("the load succeeded")
            assert sizes(program) == before
            with program.dlopen("libother.so") as library:
                assert library.other_count() == 0

    @pytest.mark.parametrize("damage", ["no module", "absent", "truncated"])
    def test_a_load_that_fails_in_a_needed_library_is_undone(
        self, scenario: Scenario, tmp_path: Path, damage: str
    ) -> None:
        source = scenario("transitive")
        directory = copies(
            source, tmp_path / "libraries", "libtop.so", "libmiddle.so", "libbase.so"
        )
        base = directory / "libbase.so"
        if damage == "absent":
            base.unlink()
        else:
            base.write_bytes(b"not wasm" if damage == "no module" else base.read_bytes()[:-1])
        with pylinker.Program(library_path=[directory]) as program:
            before = sizes(program)
            for _ in range(2):
                with pytest.raises(pylinker.LinkError, match=r"libbase\.so"):
                    program.dlopen("libtop.so")
                assert sizes(program) == before
            copies(source, directory, "libbase.so")
            assert program.dlopen("libtop.so").top(4) == 150

    def test_a_missing_needed_library_says_who_needs_it(
        self, scenario: Scenario, tmp_path: Path
    ) -> None:
        directory = copies(
            scenario("transitive"), tmp_path / "app", "main.wasm", "libtop.so", "libmiddle.so"
        )
        with pytest.raises(pylinker.LibraryNotFoundError) as caught:
            pylinker.Program(directory / "main.wasm")
        assert caught.value.module == "libbase.so"
        assert caught.value.requester == "libmiddle.so"
        assert "libbase.so" in str(caught.value) and "libmiddle.so" in str(caught.value)


def test_running_twice_is_refused(scenario: Scenario) -> None:
    with pylinker.Program(scenario("transitive") / "main.wasm", stdout=pylinker.CAPTURE) as program:
        assert program.run() == 0
        with pytest.raises(pylinker.AlreadyRunError):
            program.run()
        assert program.stdout == b"150\n"


def test_libraries_can_be_called_before_and_after_the_program_runs(scenario: Scenario) -> None:
    with pylinker.Program(scenario("transitive") / "main.wasm", stdout=pylinker.CAPTURE) as program:
        library = program.dlopen("libbase.so")
        assert library.base(1) == 2
        assert program.run() == 0
        assert library.base(2) == 3
