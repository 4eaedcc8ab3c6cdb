"""The table of functions for guests: one decorated function is all that a new one needs."""

from collections.abc import Callable
from pathlib import Path

import pytest

import pylinker
from fields import TABLE, wasm
from pylinker.errors import InternalError
from pylinker.linker import check_links
from pylinker.linker.guests import table as hostcalls
from pylinker.linker.guests.table import Caller, core_call, guest_call, provided, wasi_call
from pylinker.native.enums import BuiltinIndex

LIBRARY = """
    (import "wasix_32v1" "new_function" (func $f (param i32 i64) (result i32)))
    (func (export "f") (param i32 i64) (result i32) (call $f (local.get 0) (local.get 1)))
"""


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test have a table of its own."""
    monkeypatch.setattr(hostcalls, "_functions", dict(hostcalls._functions))


def library(folder: Path, body: str) -> Path:
    return wasm(folder / "lib.so", TABLE, body)


def test_a_new_function_is_one_decorated_function(tmp_path):
    calls = []

    @guest_call("wasix_32v1", "new_function", "il->i")
    def new_function(caller: Caller, small: int, large: int) -> int:
        assert caller.module is not None
        calls.append((caller.module.name, small, large))
        return small + 1

    path = library(tmp_path, LIBRARY)
    assert check_links(path).ok and not check_links(path).findings
    with pylinker.CDLL(path) as lib:
        assert lib.f(-1, -1) == 0
        assert lib.f(0x7FFFFFFF, 5) == -0x80000000
    assert calls == [("lib.so", 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF), ("lib.so", 0x7FFFFFFF, 5)]


def test_its_type_is_checked(tmp_path):
    guest_call("wasix_32v1", "new_function", "ii->i")(lambda _caller, one, two: one + two)
    path = library(tmp_path, LIBRARY)
    with (
        pylinker.CDLL(path) as lib,
        pytest.raises(pylinker.SignatureMismatchError, match="new_function"),
    ):
        lib.f(1, 2)
    with pytest.raises(pylinker.SignatureMismatchError, match="WASIX"):
        pylinker.CDLL(path, bind_now=True)


def test_what_it_raises_comes_out_of_the_call(tmp_path):
    @guest_call("wasix_32v1", "new_function", "il->i")
    def new_function(_caller: Caller, _small: int, _large: int) -> int:
        raise KeyError("of the function")

    with pylinker.CDLL(library(tmp_path, LIBRARY)) as lib:
        for _ in range(2):
            with pytest.raises(KeyError, match="of the function"):
                lib.f(1, 2)


@pytest.mark.parametrize(("operation", "refused"), [(True, True), (False, False)])
def test_an_operation_is_refused_where_it_would_interrupt_another(
    tmp_path, monkeypatch, operation, refused
):
    began = []
    begin = hostcalls.begin_operation
    monkeypatch.setattr(
        hostcalls, "begin_operation", lambda **how: began.append(how) or begin(**how)
    )
    guest_call("wasix_32v1", "new_function", "il->i", operation=operation)(lambda *_: 7)
    with pylinker.CDLL(library(tmp_path, LIBRARY)) as lib:
        began.clear()
        assert lib.f(1, 2) == 7
    assert began == ([{"check": True}] if refused else [])


def test_one_of_the_core_needs_no_python(tmp_path):
    core_call("pylinker", "nothing", "->", BuiltinIndex.EMPTY)
    body = (
        '(import "pylinker" "nothing" (func $f)) '
        '(func (export "f") (result i32) (call $f) (i32.const 3))'
    )
    with pylinker.CDLL(library(tmp_path, body)) as lib:
        assert lib.f() == 3


def test_one_of_wasi_can_have_another_name(tmp_path):
    wasi_call("wasix_32v1", "yield_now", "->i", "sched_yield")
    body = (
        '(import "wasix_32v1" "yield_now" (func $f (result i32))) '
        '(func (export "f") (result i32) (call $f))'
    )
    with pylinker.CDLL(library(tmp_path, body)) as lib:
        assert lib.f() == 0


def test_a_name_is_taken_once():
    def register(space: str, name: str) -> Callable[..., int | None]:
        return guest_call(space, name, "->i")(lambda _caller: 0)

    register("wasix_32v1", "once")
    register("env", "once")
    for space in ("wasix_32v1", "env"):
        with pytest.raises(InternalError, match="once is registered twice"):
            register(space, "once")
    assert {"once", "dlopen", "futex_wait", "proc_exit2"} <= set(provided("wasix_32v1"))


def test_what_is_not_importable_is_not_given_to_guests(tmp_path):
    assert "exit" not in provided("pylinker")
    body = (
        '(import "pylinker" "exit" (func $f (param i32))) '
        '(func (export "f") (call $f (i32.const 0)))'
    )
    with (
        pylinker.CDLL(library(tmp_path, body)) as lib,
        pytest.raises(pylinker.UndefinedSymbolError),
    ):
        lib.f()
