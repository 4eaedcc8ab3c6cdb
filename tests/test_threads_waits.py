"""Threads in ``memory.atomic.wait``, rewritten so that an operation or the end wakes them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import wasmtime

import pylinker
from fields import SHARED, wasm
from guests import DEADLINE, SERVE, WAIT, Guest, orderly
from pylinker import SynchronizationAborted
from pylinker._core import lib
from pylinker.linker.groups import threads
from toolchain import Scenario

WAITER = """
  (func (export "wait32") (param i32 i32 i64) (result i32)
    (memory.atomic.wait32 (local.get 0) (local.get 1) (local.get 2)))
  (func (export "wait64") (param i32 i64 i64) (result i32)
    (memory.atomic.wait64 (local.get 0) (local.get 1) (local.get 2)))
  (func (export "say_and_wait") (param i64) (result i32)
    (i32.atomic.store (i32.const 8192) (i32.const 1))
      (memory.atomic.wait32 (i32.const 8200) (i32.const 0) (local.get 0)))
  (func (export "notify") (param i32 i32) (result i32)
    (memory.atomic.notify offset=4 (local.get 0) (local.get 1)))"""


@pytest.fixture(autouse=True)
def rules() -> Iterator[None]:
    with orderly():
        yield


@pytest.fixture(params=[False, True], ids=["", "preempt"])
def guest(scenario: Scenario, request: pytest.FixtureRequest) -> Iterator[Guest]:
    with Guest(scenario("threads"), preempt=request.param) as guest:
        yield guest


@pytest.fixture
def library(tmp_path: Path) -> Iterator[pylinker.CDLL]:
    with pylinker.CDLL(wasm(tmp_path / "lib.so", SHARED, WAITER), threads=True) as library:
        yield library


def waiters(library: pylinker.CDLL, address: int) -> int:
    """How many threads wait at an address."""
    linker = library.program._linker
    assert linker is not None
    return int(
        lib.pl_futex_waiters(lib.pl_shared_futex(linker.context.shared._native.pointer), address)
    )


def let_go(guest: Guest, waiting: list[pylinker.GuestThread]) -> None:
    """End threads in a wait; a thread that is not asleep yet notices it before it sleeps."""
    guest["stop"] = 1
    while any(thread.is_alive for thread in waiting):
        guest.main.wake()


def test_libraries_are_opened_and_used_by_those_that_waited(guest: Guest) -> None:
    waiting = guest.start(WAIT, WAIT, WAIT)
    guest.still_works()
    with guest.program.dlopen("libtwice.so"):
        pass
    let_go(guest, waiting)
    assert guest.join(waiting) == [0, 1, 2]
    guest.still_works()


def test_the_end_of_the_program_reaches_them(
    guest: Guest, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        threads, "_JOIN_TIMEOUT", DEADLINE / 2
    )  # what is not reached is left behind then, with a warning
    waiting = guest.start(WAIT, WAIT, SERVE)
    guest.program.close()
    for thread in waiting:
        with pytest.raises(SynchronizationAborted):
            thread.join(DEADLINE)
    assert not caplog.records


def test_one_that_is_left_as_it_is_is_reached_by_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_JOIN_TIMEOUT", 0.2)
    path = wasm(tmp_path / "lib.so", SHARED, WAITER)
    with pylinker.CDLL(path, threads=True, rewrite_waits=False) as library:
        waiting = library.program.spawn("say_and_wait", 6_000_000_000)
        while not library.program.memory.read(8192, 1)[0]:
            pass
        with caplog.at_level(logging.WARNING):
            library.program.close()
    assert "left behind" in caplog.text
    assert waiting.join(DEADLINE) == 2  # once its time is over


@pytest.mark.parametrize("width", [32, 64])
def test_it_answers_what_the_instruction_does(library: pylinker.CDLL, width: int) -> None:
    wait = library[f"wait{width}"]
    library.program.memory.write(4096, (5).to_bytes(8, "little"))
    assert wait(4096, 6, -1) == 1
    began = time.monotonic()
    assert wait(4096, 5, 20_000_000) == 2
    assert time.monotonic() - began >= 0.02
    for address in (4097, 2**31 - width // 8):
        with pytest.raises(
            wasmtime.Trap, match="unaligned" if address == 4097 else "out of bounds"
        ):
            wait(address, 5, -1)


def test_those_that_waited_longest_are_woken_first(library: pylinker.CDLL) -> None:
    woken: list[int] = []

    def wait(number: int) -> int:
        answer = int(library.wait32(8192, 0, -1))
        woken.append(number)
        return answer

    waiting = []
    for number in range(4):
        waiting.append(library.program.spawn(wait, number))
        while waiters(library, 8192) <= number:
            pass
    for number in range(4):
        assert library.notify(8188, 1) == 1
        while len(woken) <= number:
            pass
    assert [thread.join(DEADLINE) for thread in waiting] == [0] * 4
    assert woken == [0, 1, 2, 3]
    assert library.notify(8188, -1) == 0


def test_a_start_function_may_notify(tmp_path: Path) -> None:
    path = wasm(
        tmp_path / "lib.so",
        SHARED,
        "(func $start (drop (memory.atomic.notify (i32.const 8) (i32.const 1))))",
        "(start $start)",
    )
    with pylinker.CDLL(path, threads=True) as library:
        assert library.program.spawn(threading.get_ident).join(DEADLINE) != threading.get_ident()


def test_a_program_without_threads_has_it_too(tmp_path: Path) -> None:
    with pylinker.CDLL(wasm(tmp_path / "lib.so", SHARED, WAITER)) as library:
        assert library.wait32(8192, 0, 1_000_000) == 2


def test_what_is_exported_is_nobodys_business(tmp_path: Path) -> None:
    path = wasm(tmp_path / "lib.so", SHARED, WAITER)
    with pylinker.CDLL(path, threads=True) as library, pytest.raises(pylinker.SymbolNotFoundError):
        library["__pylinker_waits"]
    path = wasm(
        tmp_path / "lib.so", SHARED, WAITER, '(table (export "__pylinker_waits") 3 3 funcref)'
    )
    with pytest.raises(pylinker.UnsupportedError, match="__pylinker_waits"):
        pylinker.CDLL(path, threads=True)
    with pylinker.CDLL(path, threads=True, rewrite_waits=False) as library:
        assert library.wait32(8192, 1, 0) == 1
