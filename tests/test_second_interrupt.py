"""A signal stops a guest the tenth time as the first, also in guest code that a signal handler calls."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pylinker
from fields import MEMORY, wasm
from guests import orderly

TIMES = 10
BASE = '(import "env" "__memory_base" (global i32))'
LOOP = '(func (export "spin") (loop $again (br $again)))'
WAIT = (
    '(global $go (mut i32) (i32.const 1))(func (export "wait") (loop $again (br_if $again (global.get $go))))'
    '(func (export "done") (global.set $go (i32.const 0)))'
)
OPEN = (
    '(import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))',
    '(data (i32.const 128) "file")',
    (
        '(func (export "open") (result i32) (call $open (i32.const 3) (i32.const 0) (i32.const 128) (i32.const 4)'
        " (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 512)))"
    ),
)


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    with orderly():
        yield


def library(folder: Path, *fields: str, **keywords: object) -> pylinker.CDLL:
    wasm(folder / "libstop.so", BASE, *fields)
    return pylinker.CDLL(folder / "libstop.so", cache=False, **keywords)  # type: ignore[arg-type]


@contextlib.contextmanager
def on_alarm(handler: Callable[..., object]) -> Iterator[Callable[[Callable[[], object]], object]]:
    """Handle SIGALRM; yields a caller that sets the alarm before it calls a function."""
    before = signal.signal(signal.SIGALRM, handler)

    def alarmed(call: Callable[[], object]) -> object:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        return call()

    try:
        yield alarmed
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_every_signal_stops_a_guest(tmp_path: Path) -> None:
    guest = library(tmp_path, MEMORY, LOOP)
    with on_alarm(interrupt) as alarmed:
        for _ in range(TIMES):
            with pytest.raises(KeyboardInterrupt):
                alarmed(guest.spin)
    guest.close()


def test_a_time_limit_works_after_an_interrupt(tmp_path: Path) -> None:
    guest = library(tmp_path, MEMORY, LOOP)
    with on_alarm(interrupt) as alarmed, pytest.raises(KeyboardInterrupt):
        alarmed(guest.spin)
    with pytest.raises(pylinker.TimeoutExpired), guest.program.time_limit(0.05):
        guest.spin()
    guest.close()


def test_a_guest_that_a_handler_calls_is_stopped(tmp_path: Path) -> None:
    guest = library(tmp_path, MEMORY, LOOP)
    depth = 0

    def handler(*_: object) -> None:
        nonlocal depth
        depth += 1
        if depth % 3 == 0:
            raise KeyboardInterrupt
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        guest.spin()

    with on_alarm(handler) as alarmed:
        for turn in range(TIMES):
            with pytest.raises(KeyboardInterrupt):
                alarmed(guest.spin)
            assert depth == 3 * turn + 3
    guest.close()


def test_a_guest_goes_on_after_a_handler_that_opened_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    guest = library(tmp_path, *OPEN, MEMORY, WAIT, dirs={"/": tmp_path})
    opened = []

    def handler(*_: object) -> None:
        opened.append(guest.open())
        guest.done()

    with on_alarm(handler) as alarmed:
        alarmed(guest.wait)
    assert opened == [0]
    guest.close()
