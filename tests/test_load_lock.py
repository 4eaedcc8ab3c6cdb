"""The load lock: its waiters can be stopped, and no file is read under it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pylinker
from fields import SHARED, wasm
from guests import orderly
from pylinker.linker.plan import files

OK = '(func (export "ok") (result i32) (i32.const 7))'
BLOCKING = (
    '(import "env" "block" (func $block))',
    '(func (export "__wasm_call_ctors") (call $block))',
)
PATIENCE = 60


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    with orderly():
        yield


class Gate:
    """A place where a thread stays until it is let go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()

    def stay(self) -> None:
        self.reached.set()
        assert self._open.wait(PATIENCE)

    def let_go(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.let_go()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    wasm(tmp_path / "libmain.so", SHARED, OK)
    wasm(tmp_path / "libok.so", OK)
    wasm(tmp_path / "libblock.so", *BLOCKING)
    wasm(tmp_path / "libneeds.so", OK, needed=("libok.so",))
    return tmp_path


def program(folder: Path, gate: Gate, **keywords: Any) -> pylinker.Program:
    arguments: dict[str, Any] = {
        "threads": True,
        "cache": False,
        "library_path": [folder],
        "imports": {"block": gate.stay},
    }
    return pylinker.Program(preload=["libmain.so"], **{**arguments, **keywords})


class TestWaiting:
    """A thread holds the lock: its constructor calls a Python function, which does not return."""

    def test_is_bounded(self, folder: Path, gate: Gate) -> None:
        with program(folder, gate, rendezvous_timeout=0.2) as guest:
            library = guest.dlopen("libok.so")
            before = len(guest.libraries)
            thread = guest.spawn(lambda: guest.dlopen("libblock.so"))
            assert gate.reached.wait(PATIENCE)
            for _ in range(2):
                with pytest.raises(
                    pylinker.RendezvousTimeout,
                    match=r"has been loading or closing libraries for 0\.2 seconds",
                ):
                    guest.dlopen("libneeds.so")
                with pytest.raises(pylinker.RendezvousTimeout):
                    library.close()
                assert library.ok() == 7  # it is open still
            gate.let_go()
            thread.join()
            assert guest.dlopen("libneeds.so").ok() == 7
            library.close()
            with pytest.raises(pylinker.ClosedError):
                library.ok()
            assert len(guest.libraries) == before + 2

    def test_hears_signals(self, folder: Path, gate: Gate) -> None:
        with program(folder, gate) as guest:
            thread = guest.spawn(lambda: guest.dlopen("libblock.so"))
            assert gate.reached.wait(PATIENCE)
            for _ in range(3):
                with pytest.raises(KeyboardInterrupt):
                    interrupted(lambda: guest.dlopen("libok.so"))
            gate.let_go()
            thread.join()
            assert guest.dlopen("libok.so").ok() == 7

    def test_hears_time_limits(self, folder: Path, gate: Gate) -> None:
        with program(folder, gate) as guest:
            guest.spawn(lambda: guest.dlopen("libblock.so"))
            assert gate.reached.wait(PATIENCE)
            with pytest.raises(pylinker.TimeoutExpired), guest.time_limit(0.2):
                guest.dlopen("libok.so")
            gate.let_go()


def interrupted(call: Callable[[], object]) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        call()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class TestReading:
    """A thread reads a file that is slow."""

    @pytest.fixture
    def slow(self, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
        read = files.bytes_of

        def read_slowly(name: str, *arguments: Any, **keywords: Any) -> bytes:
            if name == "libneeds.so":
                gate.stay()
            return read(name, *arguments, **keywords)

        monkeypatch.setattr(files, "bytes_of", read_slowly)

    @pytest.mark.usefixtures("slow")
    def test_keeps_no_other_thread_waiting(self, folder: Path, gate: Gate) -> None:
        with program(folder, gate) as guest:
            thread = guest.spawn(lambda: guest.dlopen("libneeds.so"))
            assert gate.reached.wait(PATIENCE)
            with guest.dlopen("libok.so") as other:
                assert other.ok() == 7
            gate.let_go()
            assert thread.join().ok() == 7
            assert [each.name for each in guest.libraries] == [
                "libmain.so",
                "libneeds.so",
                "libok.so",
            ]

    @pytest.mark.usefixtures("slow")
    def test_what_was_opened_meanwhile_is_shared(self, folder: Path, gate: Gate) -> None:
        with program(folder, gate) as guest:
            thread = guest.spawn(lambda: guest.dlopen("libneeds.so"))
            assert gate.reached.wait(PATIENCE)
            other = guest.dlopen("libok.so")
            gate.let_go()
            thread.join()
            assert [each.name for each in guest.libraries] == [
                "libmain.so",
                "libok.so",
                "libneeds.so",
            ]
            assert other.ok() == 7

    @pytest.mark.usefixtures("slow")
    def test_what_was_closed_meanwhile_is_read(self, folder: Path, gate: Gate) -> None:
        with program(folder, gate) as guest:
            other = guest.dlopen("libok.so")
            linker = guest._linker
            assert linker is not None
            opens = linker._open
            closed: list[object] = []

            def close_before_it(*arguments: Any) -> Any:
                # The look ahead has found libok.so in the program; it goes before the load lock is
                # had.
                if not closed and arguments[1].name == "libneeds.so":
                    closed.append(None)
                    linker.unloader.dlclose(
                        next(each for each in linker.state.modules if each.name == "libok.so")
                    )
                return opens(*arguments)

            linker._open = close_before_it  # type: ignore[method-assign]
            gate.let_go()
            assert guest.dlopen("libneeds.so").ok() == 7
            assert closed
            assert [each.name for each in guest.libraries] == [
                "libmain.so",
                "libneeds.so",
                "libok.so",
            ]
            with pytest.raises(pylinker.ClosedError):
                other.ok()

    def test_the_same_library_by_many_threads(self, folder: Path, gate: Gate) -> None:
        with program(folder, gate) as guest:

            def opens() -> None:
                for _ in range(20):
                    with guest.dlopen("libneeds.so") as library:
                        assert library.ok() == 7

            for thread in [guest.spawn(opens) for _ in range(4)]:
                thread.join()
            assert [each.name for each in guest.libraries] == ["libmain.so"]


def test_a_blind_wait_for_the_write_lock_hears_signals(folder: Path, gate: Gate) -> None:
    with program(folder, gate) as guest:
        linker = guest._linker
        assert linker is not None
        shared, group = linker.context.shared, linker.context.main_group.state
        for _ in range(3):
            reader = shared.try_read_linker_state()
            assert reader is not None
            token = shared.acquire_topology_token(group)
            with pytest.raises(KeyboardInterrupt):
                interrupted(
                    lambda token=token: shared.write_linker_state_blocking_holding_topology(token)
                )  # type: ignore[misc]
            reader.release()
            token.release()
            writer = shared.try_write_linker_state()
            assert writer is not None
            writer.release()
        assert guest.dlopen("libok.so").ok() == 7
