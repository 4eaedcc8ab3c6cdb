"""What wasmtime's messages say decides nothing: here each of them says something else."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import pylinker
from corefaults import Led
from fields import SHARED, TABLE, wasm
from pylinker._core import ffi
from pylinker.errors import ParseError, UnsupportedError
from pylinker.linker.guests.wasix import WASIX, Errno
from pylinker.runtime.code import CodeCache
from pylinker.wasm import WASI_PARAMETERS, WASI_PREVIEW1, uses_legacy_exceptions

ROOT = Path(__file__).resolve().parent.parent
OTHER = "something else"
SIZE = 1 << 16
"""Bytes of the guest's memory."""
DATA = 1 << 15
"""Where there is room in it."""


class OtherMessage(Led):
    """The core reads another text than the error has."""

    def before(self, arguments: tuple[Any, ...]) -> tuple[Any]:
        failed, message = arguments
        self.original(failed, message)
        ffi.memmove(message.data, b"?" * message.size, message.size)
        return (None,)


@pytest.fixture(autouse=True)
def other_texts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(wasmtime.WasmtimeError, "__str__", lambda _self: OTHER)
    monkeypatch.setattr(wasmtime.Trap, "message", property(lambda _self: OTHER))
    with OtherMessage("error_message"):
        yield


def function(code: bytes) -> bytes:
    """A module with one function of no parameters and no results."""
    body = b"\0" + code + b"\x0b"
    return b"\0asm\1\0\0\0\1\4\1\x60\0\0\3\2\1\0\x0a" + bytes([len(body) + 2, 1, len(body)]) + body


TRY = b"\x06\x40\x19\x0b"  # try, catch_all, end


class TestLegacyExceptions:
    def test_they_are_told_by_the_modules_own_instructions(self) -> None:
        with pytest.raises(
            UnsupportedError,
            match=r"^one\.so: wasmtime has no legacy exception handling .*wasm-use-legacy-eh=false",
        ):
            CodeCache(None).load(function(TRY), name="one.so")

    def test_a_module_that_is_wrong_in_another_way_is_a_parse_error(self) -> None:
        for code in (b"\x1a", b"\x41\x06\x41\x06"):  # drop of nothing; constants 6 that stay
            with pytest.raises(ParseError, match=f"one.so: wasmtime refuses it: {OTHER}"):
                CodeCache(None).load(function(code), name="one.so")

    def test_what_was_refused_is_remembered_as_what_it_was(self) -> None:
        cache = CodeCache(None)
        for name in ("one.so", "two.so"):
            with pytest.raises(UnsupportedError, match=f"^{name}: "):
                cache.load(function(TRY), name=name)

    def test_the_opcode_counts_and_not_the_byte(self) -> None:
        assert uses_legacy_exceptions(function(TRY))
        assert uses_legacy_exceptions(function(b"\x41\x06\x1a" + TRY))
        assert not uses_legacy_exceptions(function(b"\x41\x06\x1a"))  # i32.const 6, drop
        assert not uses_legacy_exceptions(function(b"\xff" + TRY))  # cannot be read
        assert not uses_legacy_exceptions(b"no module")


def forwards(names: list[str], space: str) -> list[str]:
    fields = []
    for name in names:
        type_ = WASI_PREVIEW1[name]
        shown = f"(param {' '.join(type_.params)}) (result {' '.join(type_.results)})"
        gets = " ".join(f"(local.get {index})" for index in range(len(type_.params)))
        fields.append(f'(import "{space}" "{name}" (func $_{name} {shown}))')
        fields.append(f'(func (export "{name}") {shown} (call $_{name} {gets}))')
    return fields


POINTERS = [
    (name, index)
    for name, letters in WASI_PARAMETERS.items()
    for index, letter in enumerate(letters)
    if letter in "248tfbvs"
]
"""Parameters of WASI that are pointers."""


class Wasi:
    """A program that forwards WASI, in which a pointer out of bounds is an error number."""

    def __init__(self, folder: Path) -> None:
        names = [name for name in WASI_PREVIEW1 if name != "proc_exit"]
        (folder / "granted").mkdir()
        (folder / "granted" / "file").write_bytes(b"contents")
        main = wasm(folder / "main.wasm", SHARED, TABLE, *forwards(names, WASIX))
        self.program = pylinker.Program(
            main,
            dirs={"/": folder / "granted"},
            stdin=b"",
            stdout=pylinker.DEVNULL,
            args=["one", "two"],
        )
        self.size = self.program.memory.size

    def arguments(self, name: str) -> list[int]:
        """Arguments that stay within memory: buffers of 8 bytes, the granted directory."""
        self.program.memory.write(DATA, struct.pack("<II", DATA + 64, 8))
        self.program.memory.write(DATA + 64, b"file\0\0\0\0")
        letters = WASI_PARAMETERS[name].strip("-")
        found: list[int] = []
        for index, letter in enumerate(letters):
            before = letters[index - 1] if index else ""
            if letter in "il":
                found.append(4 if before == "b" else 1 if before == "v" else 3 if index == 0 else 0)
            else:
                found.append(
                    DATA + 64
                    if letter == "b"
                    else DATA
                    if letter == "v"
                    else DATA + 256 + 64 * index
                )
        if name in ("args_get", "environ_get"):
            found[1] = DATA + 1024
        return found

    def call(self, name: str, arguments: list[int]) -> int:
        kinds = WASI_PREVIEW1[name].params
        signed = [
            each - (1 << 32) if kind == "i32" and each >> 31 else each
            for each, kind in zip(arguments, kinds, strict=True)
        ]
        return int(self.program.main[name](*signed))


@pytest.fixture(scope="module")
def wasi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wasi]:
    guest = Wasi(tmp_path_factory.mktemp("wasi"))
    with guest.program:
        yield guest


class TestPointersOfWasi:
    @pytest.mark.parametrize(
        ("name", "index"), POINTERS, ids=[f"{name}-{index}" for name, index in POINTERS]
    )
    def test_one_that_leads_out_is_told_from_what_else_is_refused(
        self, wasi: Wasi, name: str, index: int
    ) -> None:
        inside = wasi.arguments(name)
        assert wasi.call(name, inside) != Errno.MEMVIOLATION
        for outside in (0xFFFFFFF0, wasi.size):
            arguments = [*inside]
            arguments[index] = outside
            number = wasi.call(name, arguments)
            # A descriptor that does not fit, and what a path leads to, may be looked at before the
            # pointer.
            assert number in (Errno.MEMVIOLATION, wasi.call(name, inside))

    def test_buffers_that_lead_out(self, wasi: Wasi) -> None:
        for count in (1, 2):
            wasi.arguments("fd_pwrite")
            wasi.program.memory.write(DATA + 8 * (count - 1), struct.pack("<II", wasi.size - 4, 8))
            assert wasi.call("fd_write", [1, DATA, count, DATA + 512]) in (Errno.MEMVIOLATION, 0)
            assert wasi.call("sock_send", [1, DATA, count, 0, DATA + 512]) != Errno.INVAL

    def test_one_that_is_not_aligned_is_invalid(self, wasi: Wasi) -> None:
        assert wasi.call("args_sizes_get", [DATA + 1, DATA + 64]) == Errno.INVAL
        assert wasi.call("args_get", [DATA + 1, DATA + 64]) == Errno.INVAL
        assert wasi.call("fd_filestat_get", [3, DATA + 4]) == Errno.INVAL

    @pytest.mark.parametrize("name", sorted(WASI_PARAMETERS))
    def test_the_letters_say_how_large_things_are(self, wasi: Wasi, name: str) -> None:
        """At the end of the memory each fits, and one byte further it does not."""
        sizes: dict[str, int] = {"2": 2, "4": 4, "8": 8, "t": 24, "f": 64}
        for index, letter in enumerate(WASI_PARAMETERS[name]):
            if letter in sizes:
                arguments = wasi.arguments(name)
                arguments[index] = wasi.size - sizes[letter]
                assert wasi.call(name, arguments) != Errno.MEMVIOLATION


class TestTraps:
    @staticmethod
    def refused(main: Path, **keywords: Any) -> type[BaseException]:
        with (
            pylinker.Program(main, **keywords) as program,
            pytest.raises((wasmtime.Trap, wasmtime.WasmtimeError)) as caught,
        ):
            program.main.go()
        return caught.type

    def test_a_trap_of_the_core_is_a_trap(self, tmp_path: Path) -> None:
        call = (
            '(func (export "go") (result i32) (call $_random_get (i32.const -16) (i32.const 100)))'
        )
        main = wasm(
            tmp_path / "main.wasm",
            SHARED,
            TABLE,
            *forwards(["random_get"], "wasi_snapshot_preview1"),
            call,
        )
        assert self.refused(main) is wasmtime.Trap

    def test_one_of_the_guests_own_is_a_trap(self, tmp_path: Path) -> None:
        main = wasm(tmp_path / "main.wasm", SHARED, TABLE, '(func (export "go") unreachable)')
        assert self.refused(main) is wasmtime.Trap

    def test_an_error_that_no_guest_was_part_of_is_none(self, tmp_path: Path) -> None:
        main = wasm(tmp_path / "main.wasm", SHARED, TABLE, '(func (export "go"))')
        with pylinker.Program(main) as program:
            store = program._linker.group.store
            memory = store.new_memory(pylinker.wasm.MemoryType(pylinker.wasm.Limits(1, 1)))
            with pytest.raises(wasmtime.WasmtimeError) as caught:
                store.memory_grow(memory, 1)
            assert caught.type is wasmtime.WasmtimeError


def test_no_source_compares_texts_of_errors() -> None:
    """But one: the core's own text of a stack that is too small, which is no text of wasmtime's."""
    compared = re.compile(
        r"(?<!line )\bin str\(|str\([\w.]+\)\.(?:starts|ends|find|count|index)"
        r"|\.message\.(?:starts|ends|find)"
    )
    found = []
    for path in (ROOT / "pylinker").rglob("*.py"):
        if not {"bench", "benchmarks"} & {*path.parts}:
            found += [
                (path.name, line.strip())
                for line in path.read_text(encoding="utf-8").splitlines()
                if compared.search(line)
            ]
    assert [(name, "STACK_REFUSAL" in line) for name, line in found] == [("failures.py", True)]
    readers = {
        path.name
        for path in (ROOT / "csrc").glob("*.c")
        if "error_message(" in path.read_text(encoding="utf-8")
    }
    assert readers == {"call_dynamic.c"}  # which passes it on
