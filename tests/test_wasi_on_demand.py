"""The state of WASI is created with the first module that calls it, of any owner of the memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import pylinker
from guests import DEADLINE
from pylinker.errors import ParseError
from pylinker.runtime.code import CodeCache

PLAIN, SHARED = (
    '(import "env" "memory" (memory 1))',
    '(import "env" "memory" (memory 1 1024 shared))',
)

QUIET = '(module (@dylink.0 (mem-info)) {memory} (func (export "two") (result i32) (i32.const 2)))'

SPEAKER = """(module
  (@dylink.0 (mem-info (memory 32 2)))
  {memory}
  (import "env" "__memory_base" (global $base i32))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (func (export "say") (result i32)
    (i32.store (global.get $base) (i32.add (global.get $base) (i32.const 16)))
    (i32.store offset=4 (global.get $base) (i32.const 3))
    (i32.store offset=16 (global.get $base) (i32.const 0x0a6968))
    (call $write (i32.const 1) (global.get $base) (i32.const 1)
      (i32.add (global.get $base) (i32.const 8)))))"""

FIXED = """(module
  (memory (export "memory") 1)
  (table (export "__indirect_function_table") 1 funcref)
  (global (export "__stack_pointer") (mut i32) (i32.const 1024))
  (func (export "_start")))"""

QUITTER = """(module
  (@dylink.0 (mem-info))
  {memory}
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (func (export "quit") (call $exit (i32.const 7))))"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str, memory: str = PLAIN) -> Path:
        path = tmp_path / name
        path.write_bytes(wasmtime.wat2wasm(text.replace("{memory}", memory)))
        return path

    return write


def wasi(program: pylinker.Program) -> Any:
    return program._linker.group._wasi


def test_a_program_that_calls_nothing_of_it_has_none(write: Write) -> None:
    with pylinker.Program(None, preload=[write("libquiet.so", QUIET)]) as program:
        assert program.dlopen("libquiet.so").two() == 2
        assert not wasi(program).is_provided
        assert not wasi(program).is_connected


def test_it_comes_with_the_first_library_that_calls_it(write: Write) -> None:
    quiet, speaker = write("libquiet.so", QUIET), write("libspeaker.so", SPEAKER)
    with pylinker.Program(None, preload=[quiet], stdout=pylinker.CAPTURE) as program:
        with program.dlopen(speaker) as library:
            assert wasi(program).is_connected
            assert library.say() == 0
        with program.dlopen(speaker) as library:
            assert library.say() == 0
        assert program.stdout == b"hi\nhi\n"


def test_an_ordinary_main_module_that_calls_nothing_may_open_a_library_that_does(
    write: Write,
) -> None:
    with pylinker.Program(write("main.wasm", FIXED), stdout=pylinker.CAPTURE) as program:
        assert not wasi(program).is_provided
        with program.dlopen(write("libspeaker.so", SPEAKER)) as library:
            assert library.say() == 0
        assert program.stdout == b"hi\n"


def test_the_end_of_the_program_needs_none_of_it(write: Write) -> None:
    with pylinker.Program(None, preload=[write("libquitter.so", QUITTER)]) as program:
        with pytest.raises(wasmtime.ExitTrap) as exit_:
            program.dlopen("libquitter.so").quit()
        assert exit_.value.code == 7
        assert not wasi(program).is_provided


def test_threads_have_it_from_then_on(write: Write) -> None:
    quiet, speaker = write("libquiet.so", QUIET, SHARED), write("libspeaker.so", SPEAKER, SHARED)
    with pylinker.Program(
        None, preload=[quiet], threads=True, stack_size=1 << 14, stdout=pylinker.CAPTURE
    ) as program:
        assert program.spawn(program.dlopen("libquiet.so")["two"]).join(DEADLINE) == 2
        assert not wasi(program).is_provided
        with program.dlopen(speaker) as library:
            assert program.spawn(library["say"]).join(DEADLINE) == 0
            assert library.say() == 0
            assert program.spawn(library["say"]).join(DEADLINE) == 0
        assert program.stdout == b"hi\nhi\nhi\n"


def test_a_load_that_cannot_have_it_fails_and_the_next_has_it(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet, speaker = write("libquiet.so", QUIET), write("libspeaker.so", SPEAKER)
    load = CodeCache.load

    def refusing(self: CodeCache, data: bytes, *, name: str, rewrite: bool = False) -> object:
        if name == "wasi shim":
            raise ParseError("no shim today", module=name)
        return load(self, data, name=name, rewrite=rewrite)

    with pylinker.Program(None, preload=[quiet], stdout=pylinker.CAPTURE) as program:
        before = program.statistics()
        with monkeypatch.context() as patch:
            patch.setattr(CodeCache, "load", refusing)
            with pytest.raises(ParseError, match="no shim today"):
                program.dlopen(speaker)
        assert not wasi(program).is_connected
        assert program.statistics().modules == before.modules
        with program.dlopen(speaker) as library:
            assert library.say() == 0
        assert program.stdout == b"hi\n"
