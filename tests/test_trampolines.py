"""Modules that are loaded together share a trampoline module; later libraries have their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import pylinker
from guests import DEADLINE
from pylinker.errors import SignatureMismatchError, UndefinedSymbolError
from pylinker.linker.plan import record
from pylinker.native.enums import PLT_BLOCK
from pylinker.runtime import code

Write = Callable[..., Path]
NAMES = ["liba.so", "libb.so", "libc.so"]

CALLER = """(module
  (@dylink.0 (mem-info))
  (import "env" "memory" (memory 1 1024 shared))
  (import "env" "common" (func $common (param i32) (result i32)))
  (import "env" "only_NAME" (func $only (result i32)))
  (func (export "common_NAME") (param i32) (result i32) (call $common (local.get 0)))
  (func (export "own_NAME") (result i32) (call $only)))"""

CALLEE = """(module
  (@dylink.0 (mem-info))
  (import "env" "memory" (memory 1 1024 shared))
  (func (export "common") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
  (func (export "only_a") (result i32) (i32.const 10))
  (func (export "only_b") (result i32) (i32.const 20))
  (func (export "only_c") (result i64) (i64.const 30)))"""


OWN = """(module
  (@dylink.0 (mem-info) (needed "libcallee.so"))
  (import "env" "memory" (memory 1 1024 shared))
  (import "env" "one" (func $one (result i32)))
  (import "env" "nobody" (func $nobody))
  (import "env" "two" (func $two (param i64) (result i64)))
  (func (export "one") (result i32) (i32.const 1))
  (func (export "two") (param i64) (result i64) (i64.add (local.get 0) (i64.const 1)))
  (func (export "call_one") (result i32) (call $one))
  (func (export "call_two") (param i64) (result i64) (call $two (local.get 0)))
  (func (export "call_nobody") (call $nobody)))"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_bytes(
            wasmtime.wat2wasm(text.replace("NAME", name.removeprefix("lib").removesuffix(".so")))
        )
        return path

    return write


@pytest.fixture
def paths(write: Write) -> list[Path]:
    return [write(name, CALLER) for name in NAMES]


def started(paths: Sequence[Path]) -> pylinker.Program:
    return pylinker.Program(None, preload=paths, threads=True, stack_size=1 << 14)


def modules(program: pylinker.Program) -> list[Any]:
    return [module for module in program._linker.state.modules if module.plt]


def test_the_first_module_of_a_start_has_those_of_all(paths: list[Path]) -> None:
    with started(paths) as program:
        first, *others = modules(program)
        assert first.trampolines is not None
        assert [each.trampolines for each in others] == [None, None]
        assert program.statistics().trampolines == 6
        users = [first.plt_user(index) for index in range(6)]
        assert users == [(module, index) for module in (first, *others) for index in range(2)]


def test_a_call_that_leads_nowhere_names_the_module_that_made_it(paths: list[Path]) -> None:
    with started(paths) as program:
        for name in NAMES:
            letter = name[3]
            with program.dlopen(name) as library, pytest.raises(UndefinedSymbolError) as error:
                library[f"own_{letter}"]()
            assert [(each.module, each.symbol) for each in error.value.undefined] == [
                (name, f"only_{letter}")
            ]


def test_calls_are_bound_one_by_one_in_every_thread(paths: list[Path], write: Write) -> None:
    with started(paths) as program:
        libraries = [program.dlopen(name) for name in NAMES]
        program.dlopen(write("libcallee.so", CALLEE), pylinker.RTLD_GLOBAL)
        assert [
            library[f"common_{name[3]}"](5) for library, name in zip(libraries, NAMES, strict=True)
        ] == [6, 6, 6]
        assert program.statistics().resolver_entries == 3
        for _ in range(2):
            assert libraries[1].own_b() == 20
            assert libraries[0].own_a() == 10
        assert program.statistics().resolver_entries == 5
        with pytest.raises(SignatureMismatchError, match=r"only_c"):
            libraries[2].own_c()
        threads = [
            program.spawn(library[f"common_{name[3]}"], 7)
            for library, name in zip(libraries, NAMES, strict=True)
        ]
        assert [thread.join(DEADLINE) for thread in threads] == [8, 8, 8]


def test_they_lead_nowhere_again_once_a_load_was_undone(paths: list[Path], write: Write) -> None:
    trap = """(import "env" "own_b" (func $own_b (result i32)))
      (func (export "__wasm_call_ctors") (if (i32.eq (call $own_b) (i32.const 20))
        (then unreachable)))"""
    failing = write("libfailing.so", CALLEE.replace("(func (export", f"{trap} (func (export", 1))
    with started(paths) as program:
        library = program.dlopen("libb.so")
        for _ in range(2):
            with pytest.raises(pylinker.LinkError, match=r"libfailing\.so.*unreachable"):
                program.dlopen(failing, pylinker.RTLD_GLOBAL)
            with pytest.raises(UndefinedSymbolError, match="only_b"):
                library.own_b()
        program.dlopen(write("libcallee.so", CALLEE), pylinker.RTLD_GLOBAL)
        assert library.own_b() == 20


def test_a_library_that_is_opened_has_its_own(paths: list[Path], write: Write) -> None:
    with started(paths[:1]) as program:
        later = program.dlopen(paths[1])
        assert all(
            module.trampolines is not None and not module.plt_users for module in modules(program)
        )
        program.dlopen(write("libcallee.so", CALLEE), pylinker.RTLD_GLOBAL)
        assert later.own_b() == 20
        assert program.dlopen("liba.so").own_a() == 10


def test_there_is_a_bound_for_those_in_one_module(
    paths: list[Path], write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "_MOST_SHARED", 4)
    with started(paths) as program:
        first, second, third = modules(program)
        assert first.trampolines and not second.trampolines and third.trampolines
        program.dlopen(write("libcallee.so", CALLEE), pylinker.RTLD_GLOBAL)
        assert [program.dlopen(name)[f"common_{name[3]}"](5) for name in NAMES] == [6, 6, 6]


def test_entries_are_made_when_they_are_asked_for(write: Write, tmp_path: Path) -> None:
    write("libcallee.so", CALLEE)
    caller = write("libcaller.so", OWN)
    pylinker.Program(
        None, preload=[caller], library_path=[tmp_path], threads=True
    ).close()  # makes the trampolines: all are looked at
    with pylinker.Program(None, preload=[caller], library_path=[tmp_path], threads=True) as program:
        (module,) = modules(program)
        plt = module.plt
        assert len(plt) == 3
        assert not plt._entries.keys() & {0, 1}
        assert [(each.module, each.name, str(each.type)) for each in plt[1:]] == [
            ("env", "two", "(i64) -> i64"),
            ("env", "nobody", "() -> ()"),
        ]
        assert plt._entries.keys() == {1, 2}
        assert plt[0] is plt[0] is plt[-3] is next(iter(plt))
        assert [each.definition and each.definition.module for each in plt] == [
            module,
            module,
            None,
        ]
        for index in (3, -4):
            with pytest.raises(IndexError):
                plt[index]
        library = program.dlopen("libcaller.so")
        assert (library.call_one(), library.call_two(5)) == (1, 6)
        with pytest.raises(UndefinedSymbolError, match="nobody"):
            library.call_nobody()
        assert program.statistics().resolver_entries == 3


def test_bind_now_binds_all_of_them(write: Write, tmp_path: Path) -> None:
    """Two libraries that call each other: the first is bound lazily, or at load."""
    text = """(module
      (@dylink.0 (mem-info) (needed "OTHER"))
      (import "env" "memory" (memory 1 1024 shared))
      (import "env" "WANTED" (func $wanted (result i32)))
      (func (export "GIVEN") (result i32) (i32.const VALUE))
      (func (export "call_GIVEN") (result i32) (call $wanted)))"""

    def ring(name: str, other: str, wanted: str, given: str, value: int) -> Path:
        filled = (
            text.replace("OTHER", other)
            .replace("WANTED", wanted)
            .replace("GIVEN", given)
            .replace("VALUE", str(value))
        )
        return write(name, filled)

    ring("libp.so", "libq.so", "q", "p", 1)
    ring("libq.so", "libr.so", "r", "q", 2)
    ring("libr.so", "libp.so", "p", "r", 3)
    with pylinker.Program(
        None,
        preload=[tmp_path / "libp.so"],
        library_path=[tmp_path],
        threads=True,
        stack_size=1 << 14,
        bind_now=True,
    ) as program:
        library = program.dlopen("libp.so")
        assert (library.call_p(), library.call_q(), library.call_r()) == (2, 3, 1)
        assert program.statistics().resolver_entries == 0


def test_a_library_has_as_many_blocks_as_it_needs(write: Write) -> None:
    """Calls at both ends of each block: undefined, bound in each thread, and after a reopen."""
    count = 2 * PLT_BLOCK + 3
    numbers = (0, PLT_BLOCK - 1, PLT_BLOCK, 2 * PLT_BLOCK - 1, 2 * PLT_BLOCK, count - 1)
    head = '(module (@dylink.0 (mem-info)) (import "env" "memory" (memory 1 1024 shared))'
    imports = "".join(
        f'(import "env" "late{number}" (func (result i32)))' for number in range(count)
    )
    calls = "".join(
        f'(func (export "call{number}") (result i32) (call {number}))' for number in numbers
    )
    caller = write("libmany.so", f"{head} {imports} {calls})")
    callees = "".join(
        f'(func (export "late{number}") (result i32) (i32.const {number}))' for number in numbers
    )
    given = write("libgiven.so", f"{head} {callees})")
    base = write("libbase.so", f"{head})")
    for preloaded in (True, False):
        with pylinker.Program(
            None, preload=[caller if preloaded else base], threads=True, stack_size=1 << 14
        ) as program:
            for _ in range(1 if preloaded else 2):
                library = program.dlopen(caller)
                for number in numbers:
                    with pytest.raises(UndefinedSymbolError, match=rf"late{number}\b"):
                        library[f"call{number}"]()
                callee = program.dlopen(given, pylinker.RTLD_GLOBAL)
                for _ in range(2):
                    assert [library[f"call{number}"]() for number in numbers] == list(numbers)
                threads = [program.spawn(library[f"call{number}"]) for number in numbers]
                assert [thread.join(DEADLINE) for thread in threads] == list(numbers)
                assert program.statistics().resolver_entries == 2 * len(numbers)  # twice each
                callee.close()
                library.close()
            assert program.statistics().modules == (
                2 if preloaded else 1
            )  # what it calls keeps the library


def test_a_load_with_many_undefined_functions_ends_in_time(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[int] = []
    original = code.compile_module

    def slow(data: bytes) -> wasmtime.Module:
        compiled.append(len(data))
        time.sleep(0.05)
        return original(data)

    types = [f"(param {' '.join(['i32'] * (number % 7 + 1))})" for number in range(20 * PLT_BLOCK)]
    imports = "".join(
        f'(import "env" "absent{number}" (func {type_}))' for number, type_ in enumerate(types)
    )
    path = write(
        "libmany.so",
        f'(module (@dylink.0 (mem-info)) (import "env" "memory" (memory 1)) {imports})',
    )
    monkeypatch.setattr(code, "compile_module", slow)
    with pytest.raises(pylinker.TimeoutExpired):
        pylinker.Program(None, preload=[path], load_timeout=0.2, cache=tmp_path / "cache")
    assert len(compiled) <= 6
