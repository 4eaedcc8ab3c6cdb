"""The outcome of a call belongs to that call, whatever calls a signal handler makes."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import wasmtime

import pylinker
from interrupts import Interrupter, trace_opcodes
from pylinker.native.callbacks import CALLBACK_FAILED
from pylinker.native.failures import keep_pending, pl_python_forget, raised_errors
from pylinker.native.prepared import PREPARED_LIMIT, PREPARED_LIMIT_DOUBLE, Outcome, take_outcome

GUEST = """(module (@dylink.0 (mem-info))
  (import "env" "fail" (func $fail (param i32) (result i32)))
  (import "env" "means" (func $means (result i64)))
  (func (export "boom") (result i32) unreachable)
  (func (export "boom_nothing") unreachable)
  (func (export "boom64") (param i64) (result i64) unreachable)
  (func (export "boomf") (param f64) (result f64) unreachable)
  (func (export "id64") (param i64) (result i64) (local.get 0))
  (func (export "idf") (param f64) (result f64) (local.get 0))
  (func (export "fails") (param i32) (result i32) (call $fail (local.get 0)))
  (func (export "meant") (result i64) (call $means)))
"""


class RaisedError(Exception):
    """The exception of the host function; ``args`` has its argument."""


def fail(number: int) -> int:
    raise RaisedError(number)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[pylinker.Library]:
    path = tmp_path / "guest.wasm"
    path.write_bytes(wasmtime.wat2wasm(GUEST))
    with pylinker.CDLL(path, imports={"fail": fail, "means": lambda: CALLBACK_FAILED}) as lib:
        yield lib


def at_each_opcode(codes: Any, run: Callable[[], Any], act: Callable[[], None]) -> int:
    """Run ``run``, with ``act`` before each opcode of frames of ``codes``; return the count."""
    acts, codes = 0, codes if isinstance(codes, set) else {codes}

    def opcodes(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal acts
        if event == "opcode":
            acts += 1
            act()
        return opcodes

    def calls(frame: FrameType, _event: str, _argument: Any) -> Any:
        if frame.f_code not in codes:
            return None
        trace_opcodes(frame, opcodes)
        return opcodes

    before = sys.gettrace()
    sys.settrace(calls)
    try:
        run()
    finally:
        sys.settrace(before)
    return acts


WAYS: dict[str, Callable[[pylinker.Function], Callable[..., Any]]] = {
    "call": lambda function: function,
    "bound": lambda function: function.bind(),
}


@pytest.fixture(params=WAYS.values(), ids=WAYS.keys())
def way(request: pytest.FixtureRequest) -> Callable[[pylinker.Function], Callable[..., Any]]:
    return request.param  # type: ignore[no-any-return]


def code_of(function: Callable[..., Any]) -> Any:
    return (
        pylinker.Function.__call__.__code__
        if isinstance(function, pylinker.Function)
        else function.__code__
    )  # type: ignore[attr-defined]


INNER: dict[str, Callable[[pylinker.Library], None]] = {}


def inner(function: Callable[[pylinker.Library], None]) -> Callable[[pylinker.Library], None]:
    INNER[function.__name__] = function
    return function


@inner
def succeeds(lib: pylinker.Library) -> None:
    assert lib["id64"](7) == 7


@inner
def traps(lib: pylinker.Library) -> None:
    with pytest.raises(wasmtime.Trap):
        lib["boom"]()


@inner
def raises(lib: pylinker.Library) -> None:
    with pytest.raises(RaisedError) as caught:
        lib["fails"](-1)
    assert caught.value.args == (-1,)


@inner
def returns_what_looks_like_a_token(lib: pylinker.Library) -> None:
    assert lib["id64"](-(1 << 63) + 1) == -(1 << 63) + 1
    assert lib["idf"](-sys.float_info.max) == -sys.float_info.max


@inner
def means_the_number_of_a_failure(lib: pylinker.Library) -> None:
    assert lib["meant"]() == CALLBACK_FAILED


@pytest.mark.parametrize("within", INNER.values(), ids=INNER.keys())
class TestACallThatAHandlerMakes:
    @pytest.mark.parametrize(
        ("name", "arguments"),
        [("boom", ()), ("boom_nothing", ()), ("boom64", (1,)), ("boomf", (1.0,))],
    )
    def test_leaves_a_trap_a_trap(
        self,
        library: pylinker.Library,
        way: Any,
        within: Any,
        name: str,
        arguments: tuple[Any, ...],
    ) -> None:
        call = way(library[name])
        with pytest.raises(wasmtime.Trap):  # it is bound now
            call(*arguments)

        def run() -> None:
            with pytest.raises(wasmtime.Trap, match="unreachable"):
                call(*arguments)

        assert at_each_opcode(code_of(call), run, lambda: within(library)) > 5

    def test_does_not_get_what_a_host_function_has_raised(
        self, library: pylinker.Library, way: Any, within: Any
    ) -> None:
        call = way(library["fails"])
        with pytest.raises(RaisedError):
            call(1)

        def run() -> None:
            with pytest.raises(RaisedError) as caught:
                call(2)
            assert caught.value.args == (2,)

        assert at_each_opcode(code_of(call), run, lambda: within(library)) > 5
        for kept in (keep_pending.__code__, pl_python_forget.__code__):
            at_each_opcode(kept, run, lambda: within(library))

    @pytest.mark.parametrize(
        "value", [-(1 << 63), -(1 << 63) + 1, -(1 << 63) + (1 << 32) - 1, -(1 << 63) + (1 << 32), 5]
    )
    def test_leaves_an_integer_what_it_is(
        self, library: pylinker.Library, way: Any, within: Any, value: int
    ) -> None:
        call = way(library["id64"])
        assert call(value) == value

        def run() -> None:
            assert call(value) == value

        at_each_opcode(code_of(call), run, lambda: within(library))

    @pytest.mark.parametrize(
        "value", [-sys.float_info.max, float("-inf"), PREPARED_LIMIT_DOUBLE, 5.0]
    )
    def test_leaves_a_double_what_it_is(
        self, library: pylinker.Library, way: Any, within: Any, value: float
    ) -> None:
        call = way(library["idf"])
        assert call(value) == value

        def run() -> None:
            assert call(value) == value

        at_each_opcode(code_of(call), run, lambda: within(library))

    def test_leaves_a_callback_its_meaning(
        self, library: pylinker.Library, way: Any, within: Any
    ) -> None:
        call = way(library["meant"])
        assert call() == CALLBACK_FAILED
        from pylinker.runtime import callbacks

        def run() -> None:
            assert call() == CALLBACK_FAILED

        assert at_each_opcode(callbacks._wide.__code__, run, lambda: within(library)) > 5


class TestAnInterruptedRead:
    def test_does_not_give_its_outcome_to_a_call_that_was_made_before(
        self, library: pylinker.Library
    ) -> None:
        """A call of the handler is interrupted between return and read, and the handler goes on."""
        outer, nested = library["fails"], library["boom"]
        for function in (outer, nested):
            with pytest.raises((RaisedError, wasmtime.Trap)):
                function(*([1] if function is outer else []))

        def act() -> None:
            assert nested._call(nested._record) < PREPARED_LIMIT  # never read

        def run() -> None:
            with pytest.raises(RaisedError) as caught:
                outer(2)
            assert caught.value.args == (2,)

        assert at_each_opcode(pylinker.Function.__call__.__code__, run, act) > 5

    def test_keeps_nothing(self, library: pylinker.Library) -> None:
        """Neither the exception of the host function nor what its traceback holds."""

        class Kept:
            """Held by the exception."""

        kept: list[weakref.ref[Kept]] = []

        def fails(_number: int) -> int:
            held = Kept()
            kept.append(weakref.ref(held))
            raise RaisedError(held)

        with pylinker.CDLL(library.path, imports={"fail": fails, "means": lambda: 0}) as lib:
            call = lib["fails"]
            with pytest.raises(RaisedError):
                call(1)
            for at in range(2000):
                interrupter = Interrupter(at)
                with interrupter.running(), pytest.raises((RaisedError, KeyboardInterrupt)):
                    call(1)
                if interrupter.place is None:
                    break
            else:
                pytest.fail("the call has no end")
            assert len(kept) > 5
            gc.collect()
            assert not any(each() for each in kept)
            assert not raised_errors

    def test_passes_on_what_a_handler_raised_and_calls_once(
        self, library: pylinker.Library, way: Any
    ) -> None:
        """TypeError and OverflowError are also what a wrong argument gives."""
        calls: list[int] = []

        def count(number: int) -> int:
            calls.append(number)
            return number

        with pylinker.CDLL(library.path, imports={"fail": count, "means": lambda: 0}) as lib:
            call = way(lib["fails"])
            assert call(1) == 1
            for kind in (TypeError, OverflowError):
                error = kind("of the handler")
                for at in range(100):
                    calls.clear()
                    interrupter = Interrupter(at, error)
                    raised = None
                    with interrupter.running():
                        try:
                            call(2)
                        except kind as caught:
                            raised = caught
                    if interrupter.place is None:
                        break
                    assert raised is error
                    assert len(calls) <= 1
                assert at > 3


def test_with_real_signals(library: pylinker.Library) -> None:
    """Each trap is one, though signals come whenever they come."""
    boom, handled = library["boom"], 0

    def handle(_signal: int, _frame: object) -> None:
        nonlocal handled
        handled += 1
        assert library["id64"](3) == 3

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        while handled < 200:
            with pytest.raises(wasmtime.Trap):
                boom()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_outcome_that_found_no_room_is_an_error_and_no_number(library: pylinker.Library) -> None:
    """A thread keeps 16; here each is left by a frame that is deeper than the one before."""
    results: list[Any] = []
    boom = library["boom"]
    with pytest.raises(wasmtime.Trap):
        boom()
    left = 40

    def act() -> None:
        nonlocal left
        left -= 1
        if left > 0:
            attempt()

    def attempt() -> None:
        try:
            results.append(boom._call(boom._record))
        finally:
            # As a handler that comes between return and read: from a new frame of the interpreter.
            max([0], key=lambda _: act() or 0)
        try:
            results.append(take_outcome(results.pop(0)))
        except pylinker.InternalError as error:
            results.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    kinds = [type(result) for result in results]
    assert set(kinds) == {Outcome, pylinker.InternalError}
    assert kinds.count(Outcome) == 16
