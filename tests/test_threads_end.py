"""The end of a threaded program: by exit, by return, by a trap, by Ctrl-C, by close.

All of its threads end with it.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import wasmtime

import pylinker
from guests import COMPUTE, DEADLINE, EXIT, NAP, SERVE, SLEEP, TRAP, WAIT, YIELD, Guest, orderly
from pylinker import SynchronizationAborted
from pylinker.native.enums import SEQ_CST
from toolchain import Scenario

ENDLESS = [COMPUTE, SLEEP, YIELD, NAP, SERVE, WAIT, COMPUTE, SLEEP, WAIT]


@pytest.fixture(autouse=True)
def rules() -> Iterator[None]:
    with orderly():
        yield


@pytest.fixture(params=[False, True], ids=["", "preempt"])
def guest(scenario: Scenario, request: pytest.FixtureRequest) -> Iterator[Guest]:
    with Guest(scenario("threads"), preempt=request.param) as guest:
        yield guest


def program(scenario: Scenario, *args: str, **keywords: object) -> Guest:
    """A program that runs with these arguments."""
    return Guest(scenario("threads"), *args, stdout=pylinker.CAPTURE, **keywords)


def ended(guest: Guest) -> None:
    """Every call of a program that has ended raises an error, and none waits."""
    for attempt in (
        lambda: guest.main.add_tls(1),
        lambda: guest.program.spawn("nothing"),
        lambda: guest.program.dlopen("libtwice.so"),
    ):
        with pytest.raises(SynchronizationAborted):
            attempt()


class TestRun:
    @pytest.mark.parametrize("count", [0, 1, 6])
    def test_exit_of_a_thread_ends_all_and_gives_the_status(
        self, scenario: Scenario, count: int
    ) -> None:
        with program(scenario, "exit", str(count)) as guest:
            assert guest.program.run() == 40 + count
            ended(guest)

    @pytest.mark.parametrize("mode", ["return", "main-exits"])
    @pytest.mark.parametrize("preempt", [False, True])
    def test_the_end_of_main_ends_threads_that_compute_sleep_and_yield(
        self, scenario: Scenario, mode: str, preempt: bool
    ) -> None:
        with program(scenario, mode, "3", preempt=preempt) as guest:
            assert guest.program.run() == (0 if mode == "return" else 23)
            assert guest["running"] == 9
            assert guest["done"] == 0
            ended(guest)

    @pytest.mark.parametrize("count", [0, 4])
    def test_a_trap_of_a_thread_comes_out_of_run(self, scenario: Scenario, count: int) -> None:
        with program(scenario, "trap", str(count)) as guest:
            with pytest.raises(wasmtime.Trap, match="unreachable") as caught:
                guest.program.run()
            assert "wasi_thread_start" in str(caught.value)
            ended(guest)

    def test_a_trap_of_main_ends_the_threads(self, scenario: Scenario) -> None:
        with program(scenario, "main-traps", "4") as guest:
            with pytest.raises(wasmtime.Trap, match=r"unreachable") as caught:
                guest.program.run()
            assert "_start" in str(caught.value)
            ended(guest)

    def test_the_output_is_there_after_the_end(self, scenario: Scenario) -> None:
        with program(scenario, "exit", "2") as guest:
            assert guest.program.run() == 42
            assert guest.program.stdout == b"ready\n"

    def test_a_program_runs_once(self, scenario: Scenario) -> None:
        with program(scenario, "status", "5") as guest:
            assert guest.program.run() == 5
            with pytest.raises((pylinker.AlreadyRunError, SynchronizationAborted)):
                guest.program.run()

    def test_threads_that_python_started_end_with_main(self, scenario: Scenario) -> None:
        with program(scenario, "status", "6") as guest:
            threads = guest.start(*ENDLESS)
            assert guest.program.run() == 6
            for thread in threads:
                assert not thread.is_alive
                with pytest.raises(SynchronizationAborted):
                    thread.join(DEADLINE)

    def test_the_first_end_counts(self, scenario: Scenario) -> None:
        with program(scenario, "compute", "0") as guest:
            guest.start(YIELD)
            linker = guest.program._linker

            def end() -> None:
                guest.until("running", 2)
                for number in range(9):
                    with suppress(SynchronizationAborted):
                        linker.threads.start(partial(leave, number), needs_stack=True)

            def leave(number: int, group: object) -> None:
                group.call(group.function(linker.main, "work"), EXIT, number)

            helper = threading.Thread(target=end)
            helper.start()
            assert guest.program.run() in range(40, 49)  # whichever of them came first
            helper.join()


class TestSpawned:
    def test_exit_of_a_thread_ends_the_others(self, guest: Guest) -> None:
        threads = guest.start(*ENDLESS)
        exiting = guest.program.spawn("work", EXIT, 1)
        for thread in [exiting, *threads]:
            with pytest.raises(SynchronizationAborted):
                thread.join(DEADLINE)
        ended(guest)

    def test_a_trap_comes_out_of_its_own_join_and_the_others_name_it_as_their_cause(
        self, guest: Guest
    ) -> None:
        threads = guest.start(*ENDLESS)
        trapping = guest.program.spawn("work", TRAP, 1)
        with pytest.raises(wasmtime.Trap, match="unreachable") as caught:
            trapping.join(DEADLINE)
        for thread in threads:
            with pytest.raises(SynchronizationAborted) as other:
                thread.join(DEADLINE)
            assert other.value.__cause__ is caught.value
        ended(guest)
        with pytest.raises(SynchronizationAborted) as later:
            guest.main.nothing()
        assert later.value.__cause__ is caught.value

    def test_a_trap_while_main_is_in_a_call(self, guest: Guest) -> None:
        threads = guest.start(NAP)
        guest.main.start_threads(1, 1, SERVE, 0)
        guest.until("running", 2)
        library = guest.program.dlopen("libplain1.so")
        slot = library["id"].slot
        library.close()
        guest.store("mail", 1, slot)  # the guest's thread traps on it, sooner or later
        with pytest.raises(SynchronizationAborted) as caught:
            guest.main.work(SLEEP, 5)
        assert isinstance(caught.value.__cause__, wasmtime.Trap)
        with pytest.raises(SynchronizationAborted):
            threads[0].join(DEADLINE)

    def test_a_trap_in_a_call_from_python_is_only_that_calls(self, guest: Guest) -> None:
        threads = guest.start(YIELD, NAP)
        with pytest.raises(wasmtime.Trap):
            guest.main.work(TRAP, 0)
        assert guest.join(threads) == [0, 1]
        guest.still_works()

    def test_several_traps_at_once(self, guest: Guest) -> None:
        threads = guest.start(SLEEP, YIELD, NAP, SERVE)
        library = guest.program.dlopen("libplain1.so")
        slot = library["id"].slot
        held = [guest.program.spawn("call_after_stop", slot, 1) for _ in range(8)]
        guest.until("running", 12)
        library.close()
        guest["stop"] = 1
        caught = []
        for thread in held:
            with pytest.raises((wasmtime.Trap, SynchronizationAborted)) as one:
                thread.join(DEADLINE)
            caught.append(one.value)
        assert any(isinstance(error, wasmtime.Trap) for error in caught)
        assert len({id(error) for error in caught}) == 8
        for thread in threads:
            with suppress(SynchronizationAborted):  # it may have seen `stop` before the end
                thread.join(DEADLINE)
        ended(guest)


class TestClose:
    def test_while_threads_run(self, guest: Guest) -> None:
        threads = guest.start(*ENDLESS)
        guest.program.close()
        for thread in threads:
            assert not thread.is_alive
            with pytest.raises(SynchronizationAborted):
                thread.join(DEADLINE)
        guest.program.close()
        with pytest.raises(pylinker.ClosedError):
            guest.main.nothing()

    def test_while_threads_open_and_close_libraries(self, guest: Guest) -> None:
        threads = [
            guest.program.spawn("reopen", f"libplain{number % 3 + 1}.so", "id", 0, 1 << 30)
            for number in range(6)
        ]
        guest.until("running", 6)
        guest.program.close()
        for thread in threads:
            with pytest.raises(SynchronizationAborted):
                thread.join(DEADLINE)

    def test_while_threads_start_threads(self, guest: Guest) -> None:
        threads = [
            guest.program.spawn("start_threads", 16 * number, 16, NAP, 0) for number in range(4)
        ]
        guest.until("running", 4)
        guest.program.close()
        for thread in threads:
            with suppress(SynchronizationAborted):
                assert thread.join(DEADLINE) >= 0

    def test_while_a_thread_is_in_a_constructor(self, guest: Guest) -> None:
        thread = guest.program.spawn("open_library", "libtrap.so", 2)
        guest.until("in_constructor", 1)
        guest.program.close()
        with pytest.raises(SynchronizationAborted):
            thread.join(DEADLINE)

    def test_while_a_thread_waits_in_a_rendezvous(self, scenario: Scenario) -> None:
        with Guest(scenario("threads")) as guest:  # the computing thread never comes
            threads = guest.start(COMPUTE)
            threads.append(guest.program.spawn("open_library", "libtwice.so", 2))
            while not guest.program._linker.context.shared.dl_operation_pending_load(SEQ_CST):
                time.sleep(0.001)
            guest.program.close()
            for thread in threads:
                with pytest.raises(SynchronizationAborted):
                    thread.join(DEADLINE)

    def test_from_another_thread_of_python(self, guest: Guest) -> None:
        threads = guest.start(*ENDLESS)
        closer = threading.Thread(target=guest.program.close)
        closer.start()
        for thread in threads:
            with pytest.raises(SynchronizationAborted):
                thread.join(DEADLINE)
        closer.join()
        assert guest.program.closed

    def test_by_with_when_the_host_fails(self, scenario: Scenario) -> None:
        def fail(guest: Guest) -> None:
            with guest:
                guest.start(*ENDLESS)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail(Guest(scenario("threads")))

    def test_many_programs_side_by_side(self, scenario: Scenario) -> None:
        guests = [Guest(scenario("threads"), preempt=number % 2 == 0) for number in range(6)]
        for guest in guests:
            guest.start(COMPUTE, NAP)
        guests[0].program.close()
        for guest in guests[1:]:
            assert guest.program.spawn("add_tls", 1).join(DEADLINE) == 8
        guests[2].still_works()
        for guest in guests:
            guest.program.close()


SCRIPT = """
import faulthandler, json, sys, threading, time
import pylinker
faulthandler.dump_traceback_later(50, exit=True)
directory, how, options, *args = sys.argv[1:]
before = threading.active_count()
options = {"args": args, "threads": True, "library_path": [directory], **json.loads(options)}
program = pylinker.Program(directory + "/main.wasm", **options)
try:
    if how == "run":
        result = program.run()
    elif how == "call":
        print("ready", flush=True)
        result = program.main.work(int(args[0]), 0)
    else:
        thread = program.spawn("work", int(args[0]), 0)
        print("ready", flush=True)
        result = thread.join()
except BaseException as error:
    result = type(error).__name__
joined = threading.active_count() == before
try:
    program.main.nothing()
    after = "goes on"
except BaseException as error:
    after = type(error).__name__
program.close()
print(json.dumps([result, joined, after, threading.active_count() == before]))
"""


class Interrupted:
    """A program in a process of its own that gets SIGINT once it has said that it is ready."""

    def __init__(self, command: list[str], directory: Path) -> None:
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
            process.send_signal(signal.SIGINT)
            self.status = process.wait(DEADLINE)  # stdin stays open meanwhile
            self.stdout, self.stderr = process.communicate()
        finally:
            process.kill()
            process.communicate()


MODES = [
    *[("compute", count) for count in "018"],
    *[("sleep", count) for count in "04"],
    *[("stdin", count) for count in "02"],
    ("yield", "3"),
]


class TestInterrupt:
    @pytest.mark.parametrize("preempt", [False, pytest.param(True, marks=pytest.mark.slow)])
    @pytest.mark.parametrize("mode", [*MODES, ("rendezvous",)], ids=" ".join)
    def test_run_raises_keyboard_interrupt_with_all_threads_joined(
        self, scenario: Scenario, tmp_path: Path, mode: tuple[str, ...], preempt: bool
    ) -> None:
        if mode == ("rendezvous",) and preempt:
            mode = (
                "rendezvous",
                "0",
            )  # then it may as well be over when the signal comes: main exits with 98
        options = json.dumps({"preempt": preempt})
        done = Interrupted(
            [sys.executable, "-c", SCRIPT, str(scenario("threads")), "run", options, *mode],
            tmp_path,
        )
        assert (done.status, done.stderr) == (0, ""), done.stderr
        result, joined, after, joined_after = json.loads(done.stdout)
        assert result == "KeyboardInterrupt" or (result == 98 and mode == ("rendezvous", "0"))
        assert joined
        assert after == "SynchronizationAborted"
        assert joined_after

    @pytest.mark.parametrize("kind", [COMPUTE, SLEEP, YIELD, WAIT])
    def test_a_call_is_interrupted_and_the_program_goes_on(
        self, scenario: Scenario, tmp_path: Path, kind: int
    ) -> None:
        done = Interrupted(
            [sys.executable, "-c", SCRIPT, str(scenario("threads")), "call", "{}", str(kind)],
            tmp_path,
        )
        assert (done.status, done.stderr) == (0, ""), done.stderr
        assert json.loads(done.stdout)[0] == "KeyboardInterrupt"
        assert json.loads(done.stdout)[2:] == ["goes on", True]

    @pytest.mark.parametrize("kind", [COMPUTE, SLEEP, WAIT])
    def test_join_is_interrupted(self, scenario: Scenario, tmp_path: Path, kind: int) -> None:
        done = Interrupted(
            [sys.executable, "-c", SCRIPT, str(scenario("threads")), "spawn", "{}", str(kind)],
            tmp_path,
        )
        assert (done.status, done.stderr) == (0, ""), done.stderr
        result, joined, after, joined_after = json.loads(done.stdout)
        assert (result, joined, after, joined_after) == (
            "KeyboardInterrupt",
            False,
            "goes on",
            True,
        )

    @pytest.mark.parametrize("mode", MODES, ids=" ".join)
    @pytest.mark.slow
    def test_the_command_line_exits_with_130(
        self, scenario: Scenario, tmp_path: Path, mode: tuple[str, ...]
    ) -> None:
        command = [
            sys.executable,
            "-m",
            "pylinker",
            "run",
            "--threads",
            "-L",
            str(scenario("threads")),
        ]
        done = Interrupted([*command, str(scenario("threads") / "main.wasm"), *mode], tmp_path)
        assert (done.status, done.stdout) == (130, "")
        assert not re.search("Traceback|report", done.stderr)
