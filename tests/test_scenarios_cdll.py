"""Libraries without a program: CDLL, calls from Python, guest memory, and one libc for all."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import pytest
import wasmtime

import pylinker
from running import lines, run
from toolchain import Scenario


@pytest.fixture
def library(scenario: Scenario) -> Iterator[pylinker.Library]:
    with pylinker.CDLL("libcalls.so", library_path=[scenario("calls")]) as opened:
        yield opened


class TestCalls:
    def test_integers_are_signed_and_accept_both_readings(self, library: pylinker.Library) -> None:
        assert library.add(1, 2) == 3
        assert library.add(-1, -2) == -3
        assert library.add(0xFFFF_FFFF, 0) == -1
        assert library.unsigned_add(0x8000_0000, 0) == -(2**31)
        assert library.add(2**31 - 1, 1) == -(2**31)
        assert library.wide_add(2**62, 2**62) == -(2**63)
        assert library.wide_add(-1, -(2**40)) == -(2**40) - 1
        assert library.add(True, False) == 1

    @pytest.mark.parametrize("value", [2**32, -(2**31) - 1, 10**30])
    def test_an_integer_that_does_not_fit_is_an_overflow_error(
        self, library: pylinker.Library, value: int
    ) -> None:
        with pytest.raises(OverflowError):
            library.add(value, 1)

    @pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
    def test_a_wide_integer_that_does_not_fit_is_an_overflow_error(
        self, library: pylinker.Library, value: int
    ) -> None:
        with pytest.raises(OverflowError):
            library.wide_add(value, 1)

    def test_floats_keep_their_value(self, library: pylinker.Library) -> None:
        assert library.half(3.0) == 1.5
        assert library.half(1e-45) == 0.0
        assert library.scale(0.1, 3) == 0.1 * 3
        assert library.scale(2, 4) == 8.0 and isinstance(library.scale(2, 4), float)
        assert math.isnan(library.scale(math.nan, 1))
        assert library.scale(math.inf, -1) == -math.inf

    def test_a_function_without_result_gives_none(self, library: pylinker.Library) -> None:
        assert library.set_counter(9) is None
        assert library.get_counter() == 9

    def test_several_results_are_a_tuple(self, scenario: Scenario) -> None:
        with pylinker.CDLL("libpair.so", library_path=[scenario("calls")]) as pair:
            assert pair.swap(-1, 2**40) == (2**40, -1)
            assert pair.divide(17, 5) == (3, 2)
            with pytest.raises(wasmtime.Trap):
                pair.divide(1, 0)

    @pytest.mark.parametrize("arguments", [(), (1,), (1, 2, 3)])
    def test_a_wrong_number_of_arguments_is_a_type_error(
        self, library: pylinker.Library, arguments: tuple[int, ...]
    ) -> None:
        with pytest.raises(TypeError, match="add"):
            library.add(*arguments)

    @pytest.mark.parametrize("argument", [1.5, None, [1], object(), 1j])
    def test_a_wrong_type_of_argument_is_a_type_error(
        self, library: pylinker.Library, argument: object
    ) -> None:
        with pytest.raises(TypeError):
            library.add(argument, 1)

    def test_text_for_a_number_that_is_no_pointer_is_a_type_error(
        self, library: pylinker.Library
    ) -> None:
        with pytest.raises(TypeError):
            library.wide_add("1", 2)
        with pytest.raises(TypeError):
            library.half("1")

    def test_str_and_bytes_are_c_strings_for_the_call(self, library: pylinker.Library) -> None:
        assert library.length("") == 0
        assert library.length("hello") == library.length(b"hello") == 5
        assert library.length("ü→🐍") == len("ü→🐍".encode())
        assert library.byte_sum(bytes(range(1, 256)), 255) == sum(range(256))
        assert library.length("x" * 100_000) == 100_000

    def test_several_strings_of_one_call_are_apart(self, library: pylinker.Library) -> None:
        assert library.same("equal", "equal") == 0

    def test_a_string_with_a_null_character_is_refused_only_as_text(
        self, library: pylinker.Library
    ) -> None:
        with pytest.raises(ValueError):
            library.length("a\0b")
        assert library.byte_sum(b"\1\0\2", 3) == 3

    def test_string_arguments_leave_nothing_behind(self, library: pylinker.Library) -> None:
        before = library.program.statistics()
        address = library.address_of_argument("first")
        for n in range(1000):
            assert library.address_of_argument(f"number {n}") == address
        assert library.program.statistics() == before

    def test_a_trap_is_wasmtimes_and_the_library_stays_usable(
        self, library: pylinker.Library
    ) -> None:
        for _ in range(3):
            with pytest.raises(wasmtime.Trap):
                library.trap()
            assert library.add(1, 1) == 2

    def test_functions_describe_themselves(self, library: pylinker.Library) -> None:
        function = library["scale"]
        assert function.name == "scale"
        assert str(function.type) == "(f64, i32) -> f64"
        assert function.type == pylinker.wasm.FuncType(("f64", "i32"), ("f64",))
        assert "scale" in repr(function) and "(f64, i32) -> f64" in repr(function)


class TestLibrary:
    def test_names_are_attributes_items_and_members(self, library: pylinker.Library) -> None:
        assert library["add"](1, 2) == library.add(1, 2) == 3
        assert "add" in library and "counter" in library and "absent" not in library
        assert {"add", "half", "length"} <= set(dir(library))
        assert "__wasm_call_ctors" not in library
        assert library.name == "libcalls.so"
        assert library.path is not None and str(library.path).endswith("libcalls.so")
        assert "libcalls.so" in repr(library)

    def test_a_missing_name_is_the_error_python_expects(self, library: pylinker.Library) -> None:
        with pytest.raises(AttributeError, match="absent"):
            _ = library.absent
        with pytest.raises(KeyError, match="absent"):
            _ = library["absent"]
        with pytest.raises(pylinker.SymbolNotFoundError, match="absent"):
            library.address_of("absent")
        assert getattr(library, "absent", None) is None
        assert not hasattr(library, "absent")

    def test_a_function_is_made_once(self, library: pylinker.Library) -> None:
        assert library.add is library.add

    def test_data_is_an_address_and_not_a_function(self, library: pylinker.Library) -> None:
        memory = library.program.memory
        assert memory.read(library.address_of("counter"), 4) == b"\5\0\0\0"
        assert memory.cstring(library.address_of("text")) == b"initial"
        with pytest.raises(pylinker.LinkError):
            library["counter"]()

    def test_closing_a_cdll_closes_its_program(self, scenario: Scenario) -> None:
        library = pylinker.CDLL("libcalls.so", library_path=[scenario("calls")])
        program = library.program
        library.close()
        library.close()
        with pytest.raises(pylinker.ClosedError):
            library.add(1, 2)
        with pytest.raises(pylinker.ClosedError):
            program.dlopen("libcalls.so")
        with pytest.raises(ValueError):
            library.address_of("counter")

    def test_a_library_opened_by_its_path_needs_no_library_path(self, scenario: Scenario) -> None:
        with pylinker.CDLL(scenario("calls") / "libcalls.so") as library:
            assert library.add(2, 2) == 4
        with pylinker.CDLL(str(scenario("transitive") / "libbase.so")) as library:
            assert library.base(1) == 2

    def test_each_cdll_has_its_own_state(self, scenario: Scenario) -> None:
        path = [scenario("calls")]
        with (
            pylinker.CDLL("libcalls.so", library_path=path) as one,
            pylinker.CDLL("libcalls.so", library_path=path) as two,
        ):
            one.set_counter(1)
            two.set_counter(2)
            assert (one.get_counter(), two.get_counter()) == (1, 2)


class TestMemory:
    def test_reads_and_writes_are_the_guests(self, library: pylinker.Library) -> None:
        memory = library.program.memory
        numbers = library.address_of("numbers")
        assert struct.unpack("<4d", memory.read(numbers, 32)) == (0.5, 1.5, 2.5, 3.5)
        memory.write(numbers, struct.pack("<2d", 10.0, 20.0))
        assert library.sum_numbers(numbers, 4) == 36.0
        assert memory.size == len(memory)
        assert memory.size % 65536 == 0

    def test_a_view_is_writable_memory(self, library: pylinker.Library) -> None:
        memory = library.program.memory
        numbers = library.address_of("numbers")
        view = memory.view()
        assert (view.readonly, view.nbytes, view.format) == (False, memory.size, "B")
        view[numbers : numbers + 8] = struct.pack("<d", 100.0)
        assert library.sum_numbers(numbers, 1) == 100.0
        doubles = view[numbers : numbers + 32].cast("d")
        doubles[1] = 5.0
        assert library.sum_numbers(numbers, 2) == 105.0

    def test_what_lies_outside_is_refused_and_nothing_is_written(
        self, library: pylinker.Library
    ) -> None:
        memory = library.program.memory
        end = memory.size
        for address, count in (
            (end, 1),
            (end - 3, 4),
            (-1, 1),
            (0, end + 1),
            (2**32, 1),
            (0, -1),
            (2**64, 1),
        ):
            with pytest.raises(pylinker.MemoryAccessError):
                memory.read(address, count)
        before = memory.read(end - 2, 2)
        for address in (end - 2, -1, 2**32, 2**70):
            with pytest.raises(IndexError):
                memory.write(address, b"1234")
        assert memory.read(end - 2, 2) == before
        assert memory.read(end, 0) == b""
        memory.write(end, b"")

    def test_a_c_string_ends_at_its_null_or_its_limit(self, library: pylinker.Library) -> None:
        memory = library.program.memory
        text = library.address_of("text")
        assert memory.cstring(text) == b"initial"
        assert memory.cstring(text, limit=8) == b"initial"
        with pytest.raises(pylinker.MemoryAccessError):
            memory.cstring(text, limit=7)  # without its null it would be another string
        memory.write(memory.size - 4, b"open")
        with pytest.raises(pylinker.MemoryAccessError):
            memory.cstring(memory.size - 4)
        with pytest.raises(pylinker.MemoryAccessError):
            memory.cstring(memory.size)


class TestOneLibc:
    def test_printf_and_malloc_are_shared_by_a_program_and_its_libraries(
        self, scenario: Scenario
    ) -> None:
        assert run(scenario("libc") / "main.wasm", "world", "ab", "c") == (
            21,
            lines(
                "main: hello world x2",
                "[hello world x2]",
                "kept: hello world x2",
                "length 14",
                "c",
                "ab",
                "world",
            ),
            "",
        )

    def test_libraries_without_a_program_share_a_preloaded_libc(self, scenario: Scenario) -> None:
        path = [scenario("libc")]
        with pylinker.CDLL(
            "libformat.so", library_path=path, preload=["libc.so"], stdout=pylinker.CAPTURE
        ) as form:
            program = form.program
            keep = program.dlopen("libkeep.so")
            text = form.format_greeting("python", 3)
            assert program.memory.cstring(text) == b"hello python x3"
            keep.keep(text)
            assert keep.keep_length() == 15
            form.format_print("one")
            keep.keep_print()
            form.format_print("two")
            keep.keep_drop()
            libc = program.dlopen("libc.so")
            assert libc.fflush(0) == 0
            assert program.stdout == b"[one]\nkept: hello python x3\n[two]\n"
            assert [each.name for each in program.libraries] == [
                "libc.so",
                "libformat.so",
                "libkeep.so",
            ]

    def test_libc_itself_is_called_from_python(self, scenario: Scenario) -> None:
        with pylinker.CDLL(
            "libc.so", library_path=[scenario("libc")], stdout=pylinker.CAPTURE, env={"A": "1"}
        ) as libc:
            memory = libc.program.memory
            assert libc.strlen("four") == 4
            assert libc.atoi("  -42x") == -42
            address = libc.malloc(1000)
            assert address > 0 and address % 16 == 0
            memory.write(address, b"b\0")
            assert libc.strcmp("a", address) < 0 < libc.strcmp("c", address)
            libc.free(address)
            assert memory.cstring(libc.getenv("A")) == b"1"
            assert libc.getenv("B") == 0
            assert libc.puts("from libc") >= 0
            assert libc.fflush(0) == 0
            assert libc.program.stdout == b"from libc\n"

    def test_a_callback_of_another_library_sorts_with_libcs_qsort(self, scenario: Scenario) -> None:
        with pylinker.CDLL("libc.so", library_path=[scenario("libc")]) as libc:
            compare = libc.program.dlopen("libcompare.so")
            values = libc.malloc(16)
            libc.program.memory.write(values, struct.pack("<4i", 3, -1, 4, 2))
            libc.qsort(values, 4, 4, compare["ascending"].slot)
            assert struct.unpack("<4i", libc.program.memory.read(values, 16)) == (-1, 2, 3, 4)

    def test_malloc_and_a_later_library_do_not_meet(self, scenario: Scenario) -> None:
        path = [scenario("libc"), scenario("zeroed")]
        with pylinker.CDLL("libc.so", library_path=path) as libc:
            memory = libc.program.memory
            blocks = []
            for n in range(20):
                address = libc.malloc(50_000 + n)
                memory.write(address, bytes([n + 1]) * (50_000 + n))
                blocks.append(address)
                with libc.program.dlopen("libbss.so") as bss:
                    assert bss.count() == 0
                    bss.fill()
            for n, address in enumerate(blocks):
                assert memory.read(address, 50_000 + n) == bytes([n + 1]) * (50_000 + n)
