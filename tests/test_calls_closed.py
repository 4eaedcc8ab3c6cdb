"""Calls that fail while another thread closes their program: the error is the same in any order."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import pylinker
from guests import DEADLINE, orderly
from pylinker import SynchronizationAborted

TEXT = """(module (@dylink.0 (mem-info (memory 64 4)))
  (import "env" "memory" (memory 1 1024 SHARED))
  (import "env" "__memory_base" (global $base i32))
  (import "env" "begun" (func $begun (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (func (export "compute") (param i32) (result i32)
    (drop (call $begun (i32.const 0))) (loop $again (br $again)) (unreachable))
  (func (export "wait") (param i32) (result i32)
    (drop (call $begun (i32.const 0))) (memory.atomic.wait32 (global.get $base) (i32.const 0)
      (i64.const -1)))
  (func (export "read") (param i32) (result i32)
    (i32.store (global.get $base) (i32.add (global.get $base) (i32.const 16)))
    (i32.store offset=4 (global.get $base) (i32.const 16))
    (drop (call $begun (i32.const 0))) (call $fd_read (i32.const 0) (global.get $base) (i32.const 1)
      (global.get $base)))
  (func (export "host") (param i32) (result i32) (call $begun (local.get 0)))
  (func (export "trap") (param i32) (result i32) (unreachable))
  (func (export "nothing") (param i32) (result i32) (i32.const 7)))"""


class Race:
    """A program.

    ``call`` makes a call that fails, and another thread has closed the program before that is
    looked at.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, threads: bool) -> None:
        os.mkfifo(folder / "fifo")
        self.begun = threading.Event()
        self.host: Callable[[], None] = lambda: None
        module = bytes(wasmtime.wat2wasm(TEXT.replace("SHARED", "shared" if threads else "")))
        stdin = folder / "fifo"
        self.library = pylinker.CDLL(
            module, threads=threads, stdin=stdin, imports={"begun": self._begun}, cache=False
        )
        self.program = self.library.program
        linker = self.program._linker
        assert linker is not None
        self.shared = linker.context.shared
        del linker
        self.closer = threading.Thread(target=self._close)
        self._monkeypatch = monkeypatch
        self.lost = 0

    def _begun(self, _: int) -> int:
        self.begun.set()
        self.host()
        return 0

    def _close(self) -> None:
        self.begun.wait(DEADLINE)
        self.program.close()

    def call(self, name: str) -> int:
        function = self.library[name]
        function.bind()  # from now on calls go straight through the core
        explain = pylinker.Function._explain

        def close_first(*arguments: Any) -> Any:
            self.begun.set()
            self.closer.join(DEADLINE)
            assert self.program._session.running is None
            self.lost += 1
            return explain(*arguments)

        self._monkeypatch.setattr(pylinker.Function, "_explain", close_first)
        self.closer.start()
        try:
            return int(function(0))
        finally:
            assert self.lost == 1


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    with orderly():
        yield


@pytest.fixture(params=[False, True], ids=["", "threads"])
def race(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Race]:
    race = Race(tmp_path, monkeypatch, threads=request.param)
    yield race
    race.begun.set()
    if race.closer.ident is not None:
        race.closer.join(DEADLINE)
    race.program.close()


def cancelled(race: Race) -> None:
    """Wait until the program is closed but for the guest that runs."""
    until = time.monotonic() + DEADLINE
    while not race.shared.cause:
        assert time.monotonic() < until
        time.sleep(0.01)


with_threads = pytest.mark.parametrize("race", [True], ids=["threads"], indirect=True)


@pytest.mark.parametrize("name", ["compute", "read"])
def test_a_guest_that_is_stopped(race: Race, name: str) -> None:
    with pytest.raises(SynchronizationAborted, match="the program has ended"):
        race.call(name)


@with_threads
def test_a_guest_that_is_woken_from_an_atomic_wait(race: Race) -> None:
    with pytest.raises(SynchronizationAborted, match="the program has ended"):
        race.call("wait")


def test_a_guest_whose_host_function_returns_after_the_end(race: Race) -> None:
    race.host = lambda: cancelled(race)
    with pytest.raises(SynchronizationAborted, match="the program has ended"):
        race.call("host")


@with_threads
def test_a_call_that_came_after_the_end(race: Race) -> None:
    race.program._linker.threads.end(status=0)
    with pytest.raises(SynchronizationAborted, match="the program has ended"):
        race.call("nothing")


def test_a_guest_that_traps(race: Race) -> None:
    with pytest.raises(wasmtime.Trap, match="unreachable"):
        race.call("trap")


def test_a_guest_whose_host_function_raises(race: Race) -> None:
    def fail() -> None:
        raise LookupError("mine")

    race.host = fail
    with pytest.raises(LookupError, match="mine"):
        race.call("host")


def test_an_interrupt_is_not_lost(race: Race) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    race.host = interrupt
    with pytest.raises(KeyboardInterrupt):
        race.call("host")
