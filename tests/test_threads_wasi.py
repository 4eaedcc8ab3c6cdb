"""WASI in a threaded program: one process, whose files, clocks and streams all threads share."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pylinker
from guests import COMPUTE, DEADLINE, NAP, READ, SLEEP, YIELD, Guest, orderly
from toolchain import Scenario


@pytest.fixture(autouse=True)
def rules() -> Iterator[None]:
    with orderly():
        yield


@pytest.fixture
def guest(scenario: Scenario, tmp_path: Path) -> Iterator[Guest]:
    with Guest(
        scenario("threads"),
        preempt=True,
        dirs={"/data": tmp_path},
        stdout=pylinker.CAPTURE,
        stdin=b"",
    ) as guest:
        yield guest


class TestFiles:
    def test_a_file_opened_by_one_thread_is_written_and_read_by_others(
        self, guest: Guest, tmp_path: Path
    ) -> None:
        fd = guest.program.spawn("open_file", "notes").join(DEADLINE)
        assert fd > 3
        assert guest.program.spawn("put", fd, "one ").join(DEADLINE) == 4
        assert guest.main.put(fd, "two ") == 4
        assert guest.program.spawn("put", fd, "three").join(DEADLINE) == 5
        assert (tmp_path / "notes").read_text() == "one two three"
        assert guest.program.spawn("rewind_file", fd).join(DEADLINE) == 0
        assert guest.program.spawn("take", fd).join(DEADLINE) == 13
        assert guest.memory.cstring(guest.main.address_of("taken")) == b"one two three"
        assert guest.program.spawn("close_file", fd).join(DEADLINE) == 0
        assert guest.main.put(fd, "gone") < 0
        assert guest.program.spawn("put", fd, "gone").join(DEADLINE) < 0

    def test_threads_have_files_of_their_own_at_the_same_time(
        self, guest: Guest, tmp_path: Path
    ) -> None:
        opened = [guest.program.spawn("open_file", f"file{number}") for number in range(12)]
        fds = [thread.join(DEADLINE) for thread in opened]
        assert len(set(fds)) == 12
        writers = [guest.program.spawn("put", fd, f"text of {fd}") for fd in fds]
        assert [thread.join(DEADLINE) for thread in writers] == [len(f"text of {fd}") for fd in fds]
        assert [(tmp_path / f"file{number}").read_text() for number in range(12)] == [
            f"text of {fd}" for fd in fds
        ]

    def test_errors_are_the_calling_threads(self, guest: Guest) -> None:
        threads = [guest.program.spawn("put", 77, "x") for _ in range(8)]
        assert {thread.join(DEADLINE) for thread in threads} == {-8}  # EBADF

    def test_a_file_is_still_there_after_the_thread_that_opened_it(
        self, guest: Guest, tmp_path: Path
    ) -> None:
        fd = guest.program.spawn("open_file", "late").join(DEADLINE)
        for _ in range(3):
            assert guest.program.spawn("put", fd, "more ").join(DEADLINE) == 5
        assert (tmp_path / "late").read_text() == "more more more "


class TestLines:
    @pytest.mark.parametrize(
        "others", [(), (YIELD, NAP, COMPUTE, SLEEP)], ids=["alone", "with others"]
    )
    def test_lines_of_8_threads_are_neither_lost_nor_torn(
        self, guest: Guest, others: tuple[int, ...]
    ) -> None:
        guest.start(*others)
        writers = [guest.program.spawn("write_lines", index, 1000) for index in range(8)]
        assert [thread.join(DEADLINE) for thread in writers] == [0] * 8
        lines = guest.program.stdout.decode().splitlines()
        assert sorted(lines) == sorted(
            f"{number:04}" + chr(ord("a") + index) * 27
            for index in range(8)
            for number in range(1000)
        )
        for index in range(8):  # and each thread's are in order
            mine = [line for line in lines if line[4] == chr(ord("a") + index)]
            assert mine == sorted(mine)

    def test_while_libraries_come_and_go(self, guest: Guest) -> None:
        writers = [guest.program.spawn("write_lines", index, 1000) for index in range(4)]
        while any(writer.is_alive for writer in writers):
            guest.still_works()
        assert [thread.join(DEADLINE) for thread in writers] == [0] * 4
        assert len(guest.program.stdout) == 4 * 1000 * 32


class TestClocks:
    @pytest.mark.parametrize("milliseconds", [0, 1, 30])
    def test_a_sleep_is_as_long_as_asked_for_and_its_event_is_right(
        self, guest: Guest, milliseconds: int
    ) -> None:
        for call in (
            guest.main.sleep_ms,
            lambda time: guest.program.spawn("sleep_ms", time).join(DEADLINE),
        ):
            started = time.monotonic()
            assert call(milliseconds) == 0
            assert time.monotonic() - started >= milliseconds / 1000

    @pytest.mark.parametrize("count", [1, 2, 8])
    def test_the_earliest_of_several_clocks_happens(self, guest: Guest, count: int) -> None:
        threads = [guest.program.spawn("earliest", count, 100) for _ in range(4)]
        assert [thread.join(DEADLINE) for thread in threads] == [1000 + count - 1] * 4

    @pytest.mark.parametrize("count", [2, 8])
    def test_clocks_that_are_due_together_happen_together(self, guest: Guest, count: int) -> None:
        assert guest.program.spawn("together", count, 0).join(DEADLINE) == (1 << count) - 1 + (
            count << 8
        )

    def test_sleeping_threads_hold_nobody_up(self, guest: Guest) -> None:
        guest.start(*[SLEEP] * 16)
        assert guest.program.spawn("put", 1, "hello").join(DEADLINE) == 5
        assert guest.main.put(1, " world") == 6
        threads = [guest.program.spawn("sleep_ms", 5) for _ in range(8)]
        assert [thread.join(DEADLINE) for thread in threads] == [0] * 8
        guest.still_works()
        assert guest.program.stdout == b"hello world"

    def test_threads_sleep_at_the_same_time(self, guest: Guest) -> None:
        started = time.monotonic()
        threads = [guest.program.spawn("sleep_ms", 1500) for _ in range(20)]
        assert [thread.join(DEADLINE) for thread in threads] == [0] * 20
        assert time.monotonic() - started < 20 * 1.5 / 2  # one after the other: 30 s


STDIN = """
import faulthandler, json, sys
sys.path.insert(0, sys.argv[2])
faulthandler.dump_traceback_later(50, exit=True)
from pathlib import Path
from guests import READ, SLEEP, Guest
with Guest(Path(sys.argv[1]), preempt=True) as guest:
    readers = guest.start(READ, READ, SLEEP)[:2]
    assert guest.program.spawn("put", 1, "others write\\n").join(30) == 13
    assert guest.program.spawn("sleep_ms", 1).join(30) == 0
    guest.still_works()
    assert all(reader.is_alive for reader in readers)
    print("now", flush=True)
    counts = sorted(reader.join(30) for reader in readers)
print(json.dumps(counts))
"""


class TestStandardInput:
    def test_a_blocked_read_holds_nobody_up(self, scenario: Scenario, tmp_path: Path) -> None:
        command = [
            sys.executable,
            "-c",
            STDIN,
            str(scenario("threads")),
            str(Path(__file__).parent),
        ]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout.readline() == "others write\n", process.communicate()[1]
            assert process.stdout.readline() == "now\n", process.communicate()[1]
            output, errors = process.communicate("five\n", DEADLINE)
        finally:
            process.kill()
            process.communicate()
        assert errors == ""
        counts = json.loads(output)
        assert sum(counts) == 5  # one gets the line, the other the end
        assert process.returncode == 0

    def test_threads_share_the_input(self, scenario: Scenario) -> None:
        with Guest(scenario("threads"), stdin=b"x" * 40) as guest:  # read in pieces of 16
            threads = guest.start(*[READ] * 4)
            assert sorted(thread.join(DEADLINE) for thread in threads) == [0, 8, 16, 16]
