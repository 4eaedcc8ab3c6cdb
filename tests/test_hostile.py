"""Loading any file ends in a LinkError or a working module: no crash, no hang."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import wasmtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pylinker
from binary import HEADER, dylink, leb, name, section
from running import sizes, used
from toolchain import Scenario, wasm_tools


def wat(tmp_path: Path, text: str) -> bytes:
    """The module that a text describes."""
    source = tmp_path / "module.wat"
    source.write_text(text)
    wasm_tools("parse", source, "-o", tmp_path / "module.wasm")
    return (tmp_path / "module.wasm").read_bytes()


def valid(data: bytes) -> bool:
    """Whether wasmtime takes these bytes for a module."""
    config = wasmtime.Config()
    config.wasm_threads = True
    try:
        wasmtime.Module.validate(wasmtime.Engine(config), data)
    except wasmtime.WasmtimeError:
        return False
    return True


class Victim:
    """A program that is given hostile libraries, and must be the same after each as before."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.program = pylinker.Program(library_path=[directory], cache=False)

    def write(self, data: bytes, file: str = "libhostile.so") -> Path:
        path = self.directory / file
        path.write_bytes(data)
        return path

    def opens(self, data: bytes) -> bool:
        """Try to open these bytes as a library and close it again.

        Whether that worked; an error is a LinkError.
        """
        self.write(data)
        before = used(self.program)
        try:
            self.program.dlopen("libhostile.so").close()
        except pylinker.LinkError:
            return False
        finally:
            assert used(self.program) == before
        return True

    def error(
        self, data: bytes, error: type[pylinker.LinkError] = pylinker.LinkError
    ) -> pylinker.LinkError:
        """The error that opening these bytes as a library gives, the same each time."""
        self.write(data)
        before = used(self.program)
        for _ in range(2):
            with pytest.raises(error) as caught:
                self.program.dlopen("libhostile.so")
            assert used(self.program) == before
        return caught.value


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    directory = tmp_path / "libraries"
    directory.mkdir()
    made = Victim(directory)
    yield made
    # still alive: an honest library loads
    made.write(dylink(memory=(100, 4), table=(3, 0)), "libhonest.so")
    with made.program.dlopen("libhonest.so") as library:
        assert library.name == "libhonest.so"
    made.program.close()


@pytest.mark.slow
class TestTruncated:
    @pytest.mark.parametrize(
        ("folder", "file"),
        [("transitive", "libmiddle.so"), ("weak", "libweak.so"), ("calls", "libpair.so")],
    )
    def test_every_truncation_of_a_library(
        self, scenario: Scenario, victim: Victim, folder: str, file: str
    ) -> None:
        data = (scenario(folder) / file).read_bytes()
        for length in range(len(data)):
            # a cut between sections can leave a smaller, valid module
            assert not victim.opens(data[:length]) or valid(data[:length])

    def test_every_truncation_of_a_program(self, scenario: Scenario) -> None:
        directory = scenario("tls")
        data = (directory / "main.wasm").read_bytes()
        for length in range(len(data)):
            try:
                pylinker.Program(data[:length], library_path=[directory], cache=False).close()
            except pylinker.LinkError:
                continue
            assert valid(data[:length])

    def test_truncations_of_a_cdll(self, scenario: Scenario, tmp_path: Path) -> None:
        data = (scenario("diamond") / "libbase.so").read_bytes()
        for length in range(0, len(data), 5):
            (tmp_path / "libcut.so").write_bytes(data[:length])
            try:
                pylinker.CDLL("libcut.so", library_path=[tmp_path], cache=False).close()
            except pylinker.LinkError:
                continue
            assert valid(data[:length])

    def test_truncations_of_a_program_with_a_libc(self, scenario: Scenario) -> None:
        directory = scenario("needed")
        data = (directory / "main.wasm").read_bytes()
        for length in range(0, len(data), 997):
            with pytest.raises(pylinker.LinkError):
                pylinker.Program(data[:length], library_path=[directory], cache=False)


@pytest.mark.slow
class TestRandom:
    """The same examples each time: a suite that fails now and then is of no use to anybody."""

    SETTINGS = settings(
        max_examples=300,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )

    @SETTINGS
    @given(data=st.binary(max_size=200))
    def test_random_bytes(self, victim: Victim, data: bytes) -> None:
        assert not victim.opens(data) or valid(data)
        assert not victim.opens(HEADER + data) or valid(HEADER + data)

    @SETTINGS
    @given(body=st.binary(max_size=60))
    def test_random_dylink_sections(self, victim: Victim, body: bytes) -> None:
        victim.opens(HEADER + section(0, name("dylink.0") + body))

    @SETTINGS
    @given(
        position=st.integers(min_value=0, max_value=10_000),
        value=st.integers(min_value=0, max_value=255),
    )
    def test_changed_bytes_of_a_library(
        self, scenario: Scenario, victim: Victim, position: int, value: int
    ) -> None:
        data = bytearray((scenario("interpose") / "libuser.so").read_bytes())
        data[position % len(data)] = value
        assert not victim.opens(bytes(data)) or valid(bytes(data))

    @SETTINGS
    @given(
        position=st.integers(min_value=0, max_value=10_000),
        value=st.integers(min_value=0, max_value=255),
    )
    def test_changed_bytes_of_a_program(
        self, scenario: Scenario, position: int, value: int
    ) -> None:
        directory = scenario("tls")
        data = bytearray((directory / "main.wasm").read_bytes())
        data[position % len(data)] = value
        try:
            pylinker.Program(bytes(data), library_path=[directory], cache=False).close()
        except pylinker.LinkError:
            return
        assert valid(bytes(data))


class TestAbsurdSizes:
    @pytest.mark.parametrize("size", [2**32 - 1, 2**32 - 65536])
    def test_memory_of_four_gigabytes(self, victim: Victim, size: int) -> None:
        assert "libhostile.so" in str(victim.error(dylink(memory=(size, 0)), pylinker.LimitError))

    def test_a_memory_alignment_of_two_gigabytes(self, victim: Victim) -> None:
        victim.error(dylink(memory=(16, 31)), pylinker.LimitError)

    def test_an_alignment_beyond_the_address_space(self, victim: Victim) -> None:
        for exponent in (32, 33, 63, 64, 2**31, 2**32 - 1):
            victim.error(dylink(memory=(16, exponent)), pylinker.ParseError)
            victim.error(dylink(table=(1, exponent)), pylinker.ParseError)

    @pytest.mark.parametrize("slots", [10**9, 2**32 - 1, 2**31])
    def test_a_table_of_a_billion_slots(self, victim: Victim, slots: int) -> None:
        assert "libhostile.so" in str(victim.error(dylink(table=(slots, 0)), pylinker.LimitError))

    def test_a_table_alignment_of_two_billion_slots(self, victim: Victim) -> None:
        victim.error(dylink(table=(1, 31)), pylinker.LimitError)

    def test_many_libraries_that_are_too_large_only_together(self, tmp_path: Path) -> None:
        for n in range(10):
            (tmp_path / f"lib{n}.so").write_bytes(dylink(memory=(300 << 20, 4)))
        needed = [f"lib{n}.so" for n in range(10)]
        (tmp_path / "liball.so").write_bytes(dylink(needed=needed))
        limits = pylinker.Limits(memory=1 << 30)
        with pylinker.Program(library_path=[tmp_path], limits=limits) as program:
            before = sizes(program)
            with pytest.raises(pylinker.LimitError):
                program.dlopen("liball.so")
            assert sizes(program) == before
            assert program.dlopen("lib0.so").name == "lib0.so"

    @pytest.mark.parametrize(
        "text",
        [
            '(import "env" "memory" (memory 1 1))',
            '(import "env" "memory" (memory i64 1))',
            '(import "env" "memory" (memory 1 65536 shared))',
            '(import "env" "__indirect_function_table" (table 4000000000 funcref))',
            '(import "env" "__indirect_function_table" (table 0 0 funcref))',
            '(import "env" "__indirect_function_table" (table 0 externref))',
            '(import "env" "memory" (global i32))',
            '(import "env" "__memory_base" (global (mut i32)))',
            '(import "env" "__memory_base" (global i64))',
            '(import "env" "__stack_pointer" (global i32))',
            '(import "env" "__table_base" (memory 1))',
            '(import "GOT.mem" "x" (global i32))',
            '(import "GOT.mem" "x" (global (mut i64)))',
            '(import "GOT.mem" "x" (memory 1))',
            '(import "env" "unknown" (global i32))',
            '(import "env" "unknown" (memory 1))',
            '(import "env" "unknown" (table 1 funcref))',
            '(import "env" "unknown" (tag))',
            '(import "wasi_snapshot_preview1" "fd_write" (global i32))',
        ],
    )
    def test_an_import_that_cannot_be_what_it_says(
        self, victim: Victim, tmp_path: Path, text: str
    ) -> None:
        victim.error(wat(tmp_path, f"(module (@dylink.0 (mem-info (memory 0 0))) {text})"))

    def test_a_minimum_of_the_imported_memory_is_bounded_by_the_limit(
        self, victim: Victim, tmp_path: Path
    ) -> None:
        data = wat(
            tmp_path,
            '(module (@dylink.0 (mem-info (memory 0 0))) (import "env" "memory" (memory 65536)))',
        )
        victim.write(data)
        with pytest.raises(pylinker.LimitError):
            pylinker.CDLL(
                "libhostile.so",
                library_path=[victim.directory],
                limits=pylinker.Limits(memory=1 << 30),
            )
        with pylinker.Program(
            library_path=[victim.directory], limits=pylinker.Limits(memory=1 << 30)
        ) as program:
            before = sizes(program)
            with pytest.raises(pylinker.LimitError):
                program.dlopen("libhostile.so")
            assert sizes(program) == before

    @pytest.mark.parametrize(
        "where",
        [
            '"env" "memory"',
            '"env" "__memory_base"',
            '"GOT.func" "x"',
            '"" ""',
            '"wasi_snapshot_preview1" "x"',
        ],
    )
    def test_a_function_under_any_name_is_undefined_only_when_called(
        self, victim: Victim, tmp_path: Path, where: str
    ) -> None:
        text = (
            f"(module (@dylink.0 (mem-info)) (import {where} (func $f (param f64))) "
            f'(func (export "call") f64.const 1 call $f))'
        )
        victim.write(wat(tmp_path, text))
        with (
            victim.program.dlopen("libhostile.so") as library,
            pytest.raises(pylinker.UndefinedSymbolError),
        ):
            library.call()

    def test_a_library_file_over_the_limit_is_not_read(self, victim: Victim) -> None:
        with open(victim.write(HEADER), "r+b") as file:
            file.truncate(100 << 30)  # a sparse file of 100 GiB
        with pytest.raises(pylinker.LimitError):
            victim.program.dlopen("libhostile.so")

    def test_every_limit_names_itself_and_can_be_raised(self, tmp_path: Path) -> None:
        (tmp_path / "libtable.so").write_bytes(dylink(table=(2000, 0)))
        (tmp_path / "libmemory.so").write_bytes(dylink(memory=(5 << 20, 0)))
        (tmp_path / "libneeds.so").write_bytes(dylink(needed=["libtable.so", "libmemory.so"]))
        for library, low, high in (
            ("libtable.so", pylinker.Limits(table=1000), pylinker.Limits(table=3000)),
            ("libmemory.so", pylinker.Limits(memory=4 << 20), pylinker.Limits(memory=8 << 20)),
            ("libneeds.so", pylinker.Limits(modules=2), pylinker.Limits(modules=3)),
            ("libneeds.so", pylinker.Limits(library_size=20), pylinker.Limits(library_size=200)),
        ):
            (changed,) = [
                field.name for field in fields(low) if getattr(low, field.name) != field.default
            ]
            with pytest.raises(pylinker.LimitError, match=rf"raise Limits\({changed}=\.\.\.\)"):
                pylinker.CDLL(library, library_path=[tmp_path], limits=low)
            pylinker.CDLL(library, library_path=[tmp_path], limits=high).close()


@pytest.mark.slow
class TestManyThings:
    def test_five_thousand_undefined_functions(self, victim: Victim) -> None:
        count = 5_000
        types = section(1, leb(1) + b"\x60\0\0")
        imports = section(
            2,
            leb(count)
            + b"".join(name("env") + name(f"absent_{n}") + b"\0\0" for n in range(count)),
        )
        data = dylink() + types + imports
        assert victim.opens(data)
        victim.write(data)
        with pytest.raises(pylinker.UndefinedSymbolError) as caught:
            victim.program.dlopen("libhostile.so", pylinker.RTLD_NOW)
        assert len(caught.value.undefined) == count

    def test_twenty_thousand_undefined_variables(self, victim: Victim) -> None:
        count = 20_000
        imports = section(
            2,
            leb(count)
            + b"".join(name("GOT.mem") + name(f"absent_{n}") + b"\3\x7f\1" for n in range(count)),
        )
        error = victim.error(dylink() + imports, pylinker.UndefinedSymbolError)
        assert isinstance(error, pylinker.UndefinedSymbolError)
        assert len(error.undefined) == count

    def test_a_hundred_thousand_exports(self, victim: Victim) -> None:
        count = 100_000
        globals_ = section(6, leb(1) + b"\x7f\0\x41\0\x0b")
        exports = section(
            7, leb(count) + b"".join(name(f"symbol_{n}") + b"\3\0" for n in range(count))
        )
        assert victim.opens(dylink(memory=(16, 4)) + globals_ + exports)

    def test_a_declared_count_is_not_believed(self, victim: Victim) -> None:
        for number in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11):
            victim.error(dylink() + section(number, leb(2**32 - 1)))
        for kind in (2, 3, 4, 5):
            victim.error(
                HEADER + section(0, name("dylink.0") + section(kind, leb(2**32 - 1))),
                pylinker.ParseError,
            )

    def test_a_chain_of_nine_hundred_libraries(self, tmp_path: Path) -> None:
        for n in range(900):
            needed = [f"lib{n + 1}.so"] if n < 899 else []
            (tmp_path / f"lib{n}.so").write_bytes(dylink(memory=(8, 3), needed=needed))
        with pylinker.Program(library_path=[tmp_path], cache=False) as program:
            before = used(program)
            library = program.dlopen("lib0.so")
            assert program.statistics().modules == 900
            library.close()
            assert used(program) == before

    def test_an_endless_chain_of_libraries_meets_the_limit(self, tmp_path: Path) -> None:
        for n in range(1100):
            (tmp_path / f"lib{n}.so").write_bytes(dylink(needed=[f"lib{n + 1}.so"]))
        with pylinker.Program(library_path=[tmp_path], cache=False) as program:
            before = used(program)
            with pytest.raises(pylinker.LimitError):
                program.dlopen("lib0.so")
            assert used(program) == before

    def test_a_library_that_needs_itself(self, victim: Victim) -> None:
        assert victim.opens(dylink(needed=["libhostile.so", "libhostile.so"]))

    def test_a_hundred_thousand_needed_names(self, victim: Victim) -> None:
        error = victim.error(
            dylink(needed=[f"libabsent{n}.so" for n in range(100_000)]), pylinker.LimitError
        )
        assert error.module == "libhostile.so"


class TestHostileNames:
    @pytest.mark.parametrize(
        "needed",
        [
            "",
            ".",
            "..",
            "/",
            "../libhonest.so",
            "./../secret/libhonest.so",
            "sub/../../secret/libhonest.so",
            "/etc/passwd",
            "lib\0.so",
            pytest.param("x" * 100_000, id="long name"),
            pytest.param("x/" * 50_000, id="long path"),
            "line\nbreak.so",
            "\x1b[31mred.so",
            "~/.profile",
            "$ORIGIN/../secret/libhonest.so",
            "file:///etc/passwd",
        ],
    )
    def test_needed_names_lead_nowhere(self, victim: Victim, needed: str) -> None:
        secret = victim.directory.parent / "secret"
        secret.mkdir()
        (secret / "libhonest.so").write_bytes(dylink())
        error = victim.error(dylink(needed=[needed]))
        assert len(str(error)) < 2000
        assert "\x1b" not in str(error)

    def test_a_needed_name_that_is_not_utf8(self, victim: Victim) -> None:
        victim.error(dylink(needed=[b"lib\xff\xfe.so"]), pylinker.ParseError)

    @pytest.mark.parametrize(
        "entry",
        [
            "",
            "..",
            "$ORIGIN/../secret",
            "$ORIGIN/a/../../secret",
            "/",
            "\0",
            pytest.param("y" * 100_000, id="long"),
            pytest.param("$ORIGIN" * 1000, id="origins"),
        ],
    )
    def test_runtime_paths_lead_nowhere(self, victim: Victim, entry: str) -> None:
        secret = victim.directory.parent / "secret"
        secret.mkdir()
        (secret / "libsecret.so").write_bytes(dylink())
        error = victim.error(dylink(needed=["libsecret.so"], runtime_path=[entry]))
        assert len(str(error)) < 2000

    def test_symbols_with_strange_names_are_only_names(
        self, victim: Victim, tmp_path: Path
    ) -> None:
        data = wat(
            tmp_path,
            r"""(module (@dylink.0 (mem-info (memory 0 0)))
              (func (export "") (result i32) i32.const 1)
              (func (export "with space") (result i32) i32.const 2)
              (func (export "nul\00inside") (result i32) i32.const 3)
              (func (export "__class__") (result i32) i32.const 4)
              (func (export "close") (result i32) i32.const 5)
              (func (export "\e2\98\83") (result i32) i32.const 6))""",
        )
        victim.write(data)
        with victim.program.dlopen("libhostile.so") as library:
            names = ["", "with space", "nul\0inside", "__class__", "close", "\N{SNOWMAN}"]
            assert [library[each]() for each in names] == [1, 2, 3, 4, 5, 6]
            assert isinstance(library, pylinker.Library)


class TestHostileFiles:
    def test_a_fifo_is_not_a_library(self, victim: Victim) -> None:
        os.mkfifo(victim.directory / "libfifo.so")
        for each in ("libfifo.so", victim.directory / "libfifo.so"):
            with pytest.raises(pylinker.LinkError):
                victim.program.dlopen(each)

    def test_an_endless_device_is_not_a_library(self, victim: Victim) -> None:
        (victim.directory / "libzero.so").symlink_to("/dev/zero")
        for each in ("libzero.so", "/dev/zero", victim.directory / "libzero.so"):
            with pytest.raises(pylinker.LinkError):
                victim.program.dlopen(each)

    def test_a_link_to_itself_is_not_a_library(self, victim: Victim) -> None:
        (victim.directory / "libloop.so").symlink_to("libloop.so")
        with pytest.raises(pylinker.LinkError):
            victim.program.dlopen("libloop.so")

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\0",
            HEADER[:4],
            HEADER[:7],
            pytest.param(b"\x7fELF" + bytes(1000), id="ELF"),
            b"#!/bin/sh\n",
            b"\0asm\x0d\0\1\0",
        ],
    )
    def test_what_is_no_module_is_a_parse_error_that_names_the_file(
        self, victim: Victim, content: bytes
    ) -> None:
        error = victim.error(content, pylinker.ParseError)
        assert "libhostile.so" in str(error)

    def test_a_module_without_a_dylink_section_is_no_library(self, victim: Victim) -> None:
        assert "libhostile.so" in str(victim.error(HEADER, pylinker.NotDynamicError))


class TestHostileCode:
    def test_a_start_function_that_traps(self, victim: Victim, tmp_path: Path) -> None:
        text = (
            "(module (@dylink.0 (mem-info (memory 64 4) (table 4 0))) (func $bad unreachable) "
            "(start $bad))"
        )
        error = victim.error(wat(tmp_path, text), pylinker.InitializationError)
        assert error.module == "libhostile.so"
        assert isinstance(error.__cause__, wasmtime.Trap)

    @pytest.mark.parametrize(
        "text",
        [
            '(import "env" "memory" (memory 0)) (data (i32.const -1) "x")',
            '(import "env" "memory" (memory 0)) (data (i32.const 0x7fffffff) "x")',
            (
                '(import "env" "__indirect_function_table" (table 0 funcref)) (func $f) '
                "(elem (i32.const 100000000) func $f)"
            ),
        ],
    )
    def test_a_segment_out_of_bounds(self, victim: Victim, tmp_path: Path, text: str) -> None:
        victim.error(
            wat(tmp_path, f"(module (@dylink.0 (mem-info (memory 64 4) (table 4 0))) {text})")
        )

    @pytest.mark.parametrize(
        "export", ["__wasm_call_ctors", "__wasm_apply_data_relocs", "_initialize"]
    )
    def test_an_initialization_function_that_traps(
        self, victim: Victim, tmp_path: Path, export: str
    ) -> None:
        text = (
            f'(module (@dylink.0 (mem-info (memory 64 4))) (func (export "{export}") unreachable))'
        )
        victim.error(wat(tmp_path, text), pylinker.InitializationError)

    @pytest.mark.parametrize(
        "export", ["__wasm_call_ctors", "__wasm_apply_data_relocs", "_initialize"]
    )
    def test_an_initialization_function_of_another_type(
        self, victim: Victim, tmp_path: Path, export: str
    ) -> None:
        for what in (
            "(func (export {0}) (param i32))",
            "(func (export {0}) (result i64) i64.const 1)",
            "(global (export {0}) i32 (i32.const 1))",
        ):
            text = (
                f"(module (@dylink.0 (mem-info (memory 64 4))) "
                f"{what.format(repr(export).replace(chr(39), chr(34)))})"
            )
            victim.error(wat(tmp_path, text))

    def test_endless_recursion_in_a_constructor_is_a_trap(
        self, victim: Victim, tmp_path: Path
    ) -> None:
        text = '(module (@dylink.0 (mem-info)) (func $f (export "__wasm_call_ctors") call $f))'
        victim.error(wat(tmp_path, text), pylinker.InitializationError)

    @pytest.mark.parametrize("function", ["dlopen", "dlsym"])
    def test_pointers_outside_memory_given_to_the_linker_fail_cleanly(
        self, victim: Victim, tmp_path: Path, function: str
    ) -> None:
        data = wat(
            tmp_path,
            f"""(module (@dylink.0 (mem-info (memory 16 4)))
              (import "env" "memory" (memory 0))
              (import "env" "{function}" (func $f (param i32 i32) (result i32)))
              (import "env" "dlerror" (func $dlerror (result i32)))
              (func (export "call") (param i32 i32) (result i32) local.get 0 local.get 1 call $f)
              (func (export "error") (result i32) call $dlerror))""",
        )
        victim.write(data)
        with victim.program.dlopen("libhostile.so") as library:
            end = victim.program.memory.size
            victim.program.memory.write(end - 8, b"x" * 8)  # a string without an end
            for bad in (0xFFFF_FFFF, 0xFFFF_FFF0, 0x8000_0000, end, end - 8):
                arguments = (bad, 1) if function == "dlopen" else (0, bad)
                try:
                    assert library.call(*arguments) == 0
                except (wasmtime.Trap, pylinker.LinkError):
                    continue
                assert library.error() != 0

    def test_a_destructor_that_traps_does_not_keep_the_library(
        self, victim: Victim, tmp_path: Path
    ) -> None:
        data = wat(
            tmp_path,
            """(module (@dylink.0 (mem-info (memory 16 4)))
              (import "env" "__cxa_atexit" (func $atexit (param i32 i32 i32) (result i32)))
              (func (export "register") (param i32)
                (result i32) local.get 0 i32.const 0 i32.const 0 call $atexit))""",
        )
        victim.write(data)
        for slot in (0, 0xFFFF_FFFF, 123_456_789):
            before = used(victim.program)
            library = victim.program.dlopen("libhostile.so")
            assert library.register(slot) == 0
            with pytest.raises((wasmtime.Trap, pylinker.LinkError)):
                library.close()
            assert used(victim.program) == before

    def test_exiting_in_a_constructor_undoes_the_load(self, victim: Victim, tmp_path: Path) -> None:
        data = wat(
            tmp_path,
            """(module (@dylink.0 (mem-info (memory 16 4)))
              (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
              (func (export "__wasm_call_ctors") i32.const 3 call $exit))""",
        )
        victim.write(data)
        before = used(victim.program)
        for _ in range(2):
            with pytest.raises((wasmtime.ExitTrap, pylinker.LinkError)):
                victim.program.dlopen("libhostile.so")
            assert used(victim.program) == before
