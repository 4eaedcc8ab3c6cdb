"""WASI calls that wait: each ends when it is stopped, and delays no other thread's call.

What would wait in wasmtime is not given to it.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import pylinker
from guests import DEADLINE
from pylinker import TimeoutExpired
from wasi_guest import (
    BADF,
    CALLS,
    INVAL,
    NOTDIR,
    NXIO,
    READ,
    READ_ONLY,
    WRITE,
    WRITE_ONLY,
    WasiGuest,
)

pytestmark = pytest.mark.usefixtures("in_time")

SOON = 5
"""Seconds in which a call that is stopped ends, on a machine that is busy.

It takes 0.2 at most on one that is not.
"""
RAISES = {
    "signal": "KeyboardInterrupt",
    "close": "SynchronizationAborted",
    "limit": "TimeoutExpired",
    "limit on a thread": "TimeoutExpired",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "file").write_bytes(b"contents")
    os.mkfifo(folder / "fifo")
    return folder


@pytest.fixture
def guest(tmp_path: Path, root: Path, threads: bool) -> Iterator[WasiGuest]:
    with WasiGuest(
        tmp_path,
        threads=threads,
        dirs={"/": root},
        stdin=b"input",
        stdout=pylinker.CAPTURE,
        stderr=pylinker.CAPTURE,
    ) as guest:
        yield guest


class Pipes:
    """Standard streams of a process with a guest; this process uses them only when asked to."""

    def __init__(self, folder: Path, *arguments: str, script: str | None = None) -> None:
        command = (
            [str(Path(__file__).with_name("wasi_guest.py"))] if script is None else ["-c", script]
        )
        self.process = subprocess.Popen(
            [sys.executable, *command, str(folder), *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self.process

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()


def said(process: subprocess.Popen[bytes]) -> Any:
    """The last line of standard error, which is JSON."""
    assert process.stderr is not None
    process.wait(DEADLINE)
    lines = process.stderr.read().decode().splitlines()
    assert process.returncode == 0, lines
    return json.loads(lines[-1])


class TestStops:
    @pytest.mark.parametrize("stop", ["signal", "limit", "close", "limit on a thread"])
    def test_calls_that_wait_are_stopped(self, tmp_path: Path, stop: str) -> None:
        self.stop(tmp_path, stop, "threads")

    @pytest.mark.parametrize("stop", ["signal", "limit", "limit on a thread"])
    def test_calls_of_a_program_without_threads_are_stopped(
        self, tmp_path: Path, stop: str
    ) -> None:
        self.stop(tmp_path, stop, "")

    @staticmethod
    def stop(folder: Path, stop: str, threads: str) -> None:
        with Pipes(folder, stop, threads) as process:
            outcomes = said(process)
        assert {call: raised for call, (raised, _) in outcomes.items()} == dict.fromkeys(
            CALLS, RAISES[stop]
        )
        assert {call: seconds for call, (_, seconds) in outcomes.items() if seconds >= SOON} == {}

    def test_run_is_stopped(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "input")
        text = """(module (@dylink.0 (mem-info (memory 64 4))) (import "env" "memory" (memory 1))
          (import "wasi_snapshot_preview1" "fd_read"
            (func $read (param i32 i32 i32 i32) (result i32)))
          (func (export "_start") (i32.store offset=4 (i32.const 0) (i32.const 9))
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))))"""
        main = bytes(wasmtime.wat2wasm(text))
        with (
            pylinker.Program(main, stdin=tmp_path / "input", cache=False) as program,
            pytest.raises(TimeoutExpired),
        ):
            program.run(timeout=0.2)


SIGNALS = """
import json, signal, sys, time
from pathlib import Path
from wasi_guest import READ, WasiGuest
guest = WasiGuest(Path(sys.argv[1]), threads=sys.argv[2] == "threads")
heard = []
signal.signal(signal.SIGALRM, lambda *_: heard.append(guest.write(2, b"", at=8192)))
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
started = time.monotonic()
events = guest.poll((READ, 0), 1.5)
took = time.monotonic() - started
signal.setitimer(signal.ITIMER_REAL, 0)
print(json.dumps([events, took, len(heard)]), file=sys.stderr)
"""

LINES = """
import json, signal, sys
from pathlib import Path
from wasi_guest import WasiGuest
guest = WasiGuest(Path(sys.argv[1]))
heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
print("ready", file=sys.stderr, flush=True)
print(json.dumps([guest.read(0)[1].decode(), len(heard)]), file=sys.stderr)
"""


class TestSignals:
    def test_a_signal_whose_handler_returns_does_not_lengthen_a_wait(
        self, tmp_path: Path, threads: bool
    ) -> None:
        with Pipes(tmp_path, "threads" if threads else "", script=SIGNALS) as process:
            events, took, heard = said(process)
        assert events == [0, [[1, 0, 0, 0]]]
        assert 1.5 <= took < 1.5 + SOON
        assert heard >= 3  # and calls WASI meanwhile

    def test_a_read_goes_on_after_a_signal(self, tmp_path: Path) -> None:
        with Pipes(tmp_path, script=LINES) as process:
            assert process.stderr is not None and process.stdin is not None
            assert process.stderr.readline() == b"ready\n"
            for _ in range(3):
                time.sleep(0.1)
                process.send_signal(signal.SIGUSR1)
            time.sleep(0.1)
            process.stdin.write(b"line\n")
            process.stdin.flush()
            text, heard = said(process)
        assert text == "line\n"
        assert heard >= 1


OTHERS = """
import json, sys, threading, time
from pathlib import Path
import pylinker
from wasi_guest import READ, WasiGuest, flood
guest = WasiGuest(Path(sys.argv[1]), threads=True, stderr=pylinker.CAPTURE)
calls = [
    lambda at: guest.read(0, at=at),
    lambda at: guest.poll((READ, 0), at=at),
    lambda at: guest.poll((READ, 0), 3600.0, at=at),
    lambda at: flood(guest, at=at),
]
begun = threading.Barrier(len(calls) + 1)
def wait(call, at):
    begun.wait()
    call(at)
threads = [guest.program.spawn(wait, call, 4096 * (index + 1)) for index, call in enumerate(calls)]
begun.wait()
time.sleep(0.5)
for _ in range(100):
    assert guest.write(2, b"line\\n") == (0, 5)
    assert guest.library.fd_fdstat_get(0, guest.base) == 0
assert all(thread.is_alive for thread in threads)
started = time.monotonic()
guest.program.close()
print(json.dumps(time.monotonic() - started), file=sys.stderr)
"""


class TestOtherThreads:
    def test_a_call_that_waits_delays_no_other(self, tmp_path: Path) -> None:
        with Pipes(tmp_path, script=OTHERS) as process:
            assert said(process) < SOON  # the end of the program reaches all of them


class TestStreams:
    def test_a_fifo_as_input_waits_for_a_writer(
        self, tmp_path: Path, root: Path, threads: bool
    ) -> None:
        with WasiGuest(tmp_path, threads=threads, stdin=root / "fifo") as guest:
            assert guest.poll((READ, 0), 0.05) == (0, [(1, 0, 0, 0)])

            def write() -> None:
                time.sleep(0.3)
                with open(root / "fifo", "wb") as fifo:
                    fifo.write(b"from a fifo")

            writer = threading.Thread(target=write)
            writer.start()
            assert guest.read(0) == (0, b"from a fifo")
            writer.join()
            assert guest.read(0) == (0, b"")  # the end
            assert guest.poll((READ, 0)) == (0, [(0, 0, READ, 1)])

    def test_a_fifo_as_output_is_written_whole(
        self, tmp_path: Path, root: Path, threads: bool
    ) -> None:
        output: list[bytes] = []

        def read() -> None:
            with open(root / "fifo", "rb") as fifo:
                output.append(fifo.read(200_000))

        reader = threading.Thread(target=read)
        reader.start()
        with WasiGuest(tmp_path, threads=threads, stdout=root / "fifo") as guest:
            assert guest.write(1, b"a" * 100_000, b"", b"b" * 100_000) == (0, 200_000)
        reader.join()
        assert output == [b"a" * 100_000 + b"b" * 100_000]

    def test_closed_and_renumbered_streams(self, guest: WasiGuest, root: Path) -> None:
        close, renumber = guest.library.fd_close, guest.library.fd_renumber
        assert renumber(1, 1) == 0 and guest.write(1, b"one ") == (0, 4)
        assert renumber(1, 99) == BADF and guest.write(1, b"two ") == (0, 4)
        assert renumber(1, 2) == 0
        assert guest.write(1, b"gone")[0] == BADF
        assert guest.write(2, b"three") == (0, 5)
        assert guest.program.stdout == b"one two three"
        assert guest.program.stderr == b""
        error, descriptor = guest.open("file")
        assert (error, descriptor) == (0, 1)  # the number that is free
        assert guest.read(1) == (0, b"contents")
        assert renumber(1, 0) == 0  # a file in the place of standard input
        assert guest.read(0) == (0, b"")
        assert guest.write(0, b"!") == (0, 1)
        assert (root / "file").read_bytes() == b"contents!"
        assert close(2) == 0
        assert guest.write(2, b"gone")[0] == BADF
        assert close(2) == BADF

    def test_the_wrong_direction(self, guest: WasiGuest) -> None:
        assert guest.write(0, b"x")[0] == BADF
        assert guest.read(1)[0] == BADF
        assert guest.poll((READ, 1))[0] == BADF
        assert guest.poll((WRITE, 0))[0] == BADF
        assert guest.poll((READ, 0), (READ, 3))[0] == BADF  # a directory
        assert guest.poll((READ, 0), (3, 0))[0] == INVAL

    def test_events_of_streams_files_and_clocks(self, guest: WasiGuest) -> None:
        error, file = guest.open("file")
        assert error == 0
        error, events = guest.poll((READ, 0), (WRITE, 1), 3600.0, (READ, file), (WRITE, file))
        assert error == 0
        assert events == [(0, 0, READ, 0), (1, 0, WRITE, 0), (3, 0, READ, 0), (4, 0, WRITE, 0)]
        assert guest.poll(0.0, (WRITE, 2)) == (0, [(0, 0, 0, 0), (1, 0, WRITE, 0)])

    def test_a_pipe_that_is_read_slowly_gets_everything(self, tmp_path: Path) -> None:
        script = """
import sys
from pathlib import Path
from wasi_guest import WasiGuest
guest = WasiGuest(Path(sys.argv[1]))
assert guest.write(1, *(bytes([97 + each]) * 10_000 for each in range(20))) == (0, 200_000)
"""
        with Pipes(tmp_path, script=script) as process:
            assert process.stdout is not None
            data = b""
            while part := process.stdout.read1(1000):
                data += part
                time.sleep(0.001)
            assert process.wait(DEADLINE) == 0
        assert data == b"".join(bytes([97 + each]) * 10_000 for each in range(20))

    def test_input_that_is_read_in_pieces(self, tmp_path: Path) -> None:
        script = """
import json, sys
from pathlib import Path
from wasi_guest import WasiGuest
guest = WasiGuest(Path(sys.argv[1]))
print(json.dumps([guest.read(0, 1)[1].decode() for _ in range(3)]), file=sys.stderr, flush=True)
"""
        with Pipes(tmp_path, script=script) as process:
            assert process.stdin is not None
            process.stdin.write(b"abc")
            process.stdin.flush()  # and stays open
            assert said(process) == ["a", "b", "c"]

    @pytest.mark.parametrize("kind", ["socket", "terminal", "pipe"])
    def test_the_hosts_descriptors_keep_their_flags_and_are_waited_for(
        self, tmp_path: Path, kind: str
    ) -> None:
        """A shared stream: a write goes on when the other side has read; O_NONBLOCK is not set."""
        if kind == "socket":
            here, there = (each.detach() for each in socket.socketpair())
        elif kind == "terminal":
            here, there = pty.openpty()
        else:
            here, there = os.pipe()
        script = """
import fcntl, json, os, sys, threading
from pathlib import Path
from pylinker import TimeoutExpired
from wasi_guest import WasiGuest, flood
guest = WasiGuest(Path(sys.argv[1]))
before = fcntl.fcntl(1, fcntl.F_GETFL)
try:
    with guest.program.time_limit(1.0):
        flood(guest)
except TimeoutExpired:
    same = before == fcntl.fcntl(1, fcntl.F_GETFL) and not before & os.O_NONBLOCK
    print(json.dumps(same), file=sys.stderr)
"""
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        with subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            cwd=tmp_path,
            env=environment,
            stdout=there,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                assert said(process) is True
            finally:
                process.kill()
                os.close(here)
                os.close(there)

    def test_two_programs_that_read_the_same_pipe_wait_for_each_other_and_are_stopped(
        self, tmp_path: Path
    ) -> None:
        """Input that one has read is gone for the other, which saw that there was some."""
        script = """
import json, sys, threading, time
from pathlib import Path
from pylinker import TimeoutExpired
from wasi_guest import WasiGuest
guests = [WasiGuest(Path(sys.argv[1])) for _ in range(4)]
taken, ended = [], []
def read(guest):
    try:
        with guest.program.time_limit(3):
            while True:
                taken.append(guest.read(0, 1)[1].decode())
    except TimeoutExpired:
        ended.append(1)
threads = [threading.Thread(target=read, args=[guest]) for guest in guests]
for thread in threads:
    thread.start()
print("ready", file=sys.stderr, flush=True)
for thread in threads:
    thread.join()
print(json.dumps(["".join(sorted(taken)), len(ended)]), file=sys.stderr)
"""
        with Pipes(tmp_path, script=script) as process:
            assert process.stdin is not None and process.stderr is not None
            assert process.stderr.readline() == b"ready\n"
            for _ in range(200):
                process.stdin.write(b"x")
                process.stdin.flush()
                time.sleep(0.002)
            assert said(process) == ["x" * 200, 4]


RACE = r"""
import json, sys
from pathlib import Path
from wasi_guest import WasiGuest
folder, how = Path(sys.argv[1]), sys.argv[2]
guest = WasiGuest(folder, threads=True, dirs={"/": folder / "root"})
other = guest
if how == "another program":
    other, how = WasiGuest(folder, threads=True, dirs={"/": folder / "root"}), "rename_often"
for each in (guest, other):
    each.memory.write(each.base, b"aaaa\0\0\0\0cccc\0\0\0\0bbbb")
if how == "retype_often":
    guest.memory.write(guest.base, b"aaaa\0\0\0\0aaaa\0\0\0\0bbbb")
thread = other.program.spawn(other.library[how])
opened = guest.library.open_often(30_000)
other.memory.write(other.base + 256, b"\1")
thread.join(30)
print(json.dumps(opened), file=sys.stderr)
"""


class TestFiles:
    """Files whose open would block are refused, before and after any rename."""

    def test_a_fifo_is_not_opened(self, guest: WasiGuest, root: Path) -> None:
        (root / "link").symlink_to("fifo")
        for path in ("fifo", "link", "./fifo"):
            for rights in (READ_ONLY, WRITE_ONLY, READ_ONLY | WRITE_ONLY):
                for how in (0, 1, 8, 9):  # create, truncate
                    assert guest.open(path, how=how, rights=rights)[0] == NXIO
            assert guest.open(path, how=2)[0] == NOTDIR
            assert guest.open(path, how=5)[0] == 20  # exclusively: it is there
            assert guest.touch(path) == NXIO
        assert guest.rename("fifo", "file") == 0
        assert guest.open("file")[0] == NXIO
        assert guest.open("fifo", how=1)[0] == 0  # nothing is there now

    def test_what_else_there_is_of_files_does_not_wait_for_a_fifo(self, guest: WasiGuest) -> None:
        library, base = guest.library, guest.base
        guest.memory.write(base, b"fifolinkdisk")
        assert library.path_filestat_get(3, 1, base, 4, base + 1024) == 0
        assert library.path_link(3, 0, base, 4, 3, base + 4, 4) == 0
        assert library.path_symlink(base, 4, 3, base + 8, 4) == 0
        assert library.path_readlink(3, base + 8, 4, base + 1024, 100, base + 2048) == 0
        assert library.path_readlink(3, base, 4, base + 1024, 100, base + 2048) == INVAL
        assert library.path_create_directory(3, base, 4) == 20
        assert library.path_remove_directory(3, base, 4) == NOTDIR
        assert library.fd_readdir(3, base + 1024, 1000, 0, base + 512) == 0
        assert library.path_unlink_file(3, base, 4) == 0
        assert library.path_filestat_set_times(3, 0, base + 4, 4, 0, 0, 4) in (0, NXIO)

    def test_a_socket_and_devices(self, tmp_path: Path, threads: bool) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "socket"))
            with WasiGuest(tmp_path, threads=threads, dirs={"/": tmp_path}) as guest:
                assert guest.open("socket")[0] == NXIO
        (tmp_path / "null").symlink_to("../../../dev/tty")
        with WasiGuest(tmp_path, threads=threads, dirs={"/dev": "/dev"}) as guest:
            for name in ("null", "zero", "urandom", "./null"):
                error, descriptor = guest.open(name)
                assert error == 0
                assert guest.read(descriptor, 4)[0] == 0
            for name in ("tty", "ptmx"):
                assert guest.open(name)[0] == NXIO

    def test_directories_that_are_renumbered(
        self, tmp_path: Path, root: Path, threads: bool
    ) -> None:
        second = tmp_path / "second"
        (second / "inside").mkdir(parents=True)
        (root / "name").write_bytes(b"in the first")
        os.mkfifo(second / "name")
        os.mkfifo(second / "inside" / "name")
        with WasiGuest(tmp_path, threads=threads, dirs={"/a": root, "/b": second}) as guest:
            assert guest.open("name", rights=READ_ONLY)[0] == 0
            assert guest.library.fd_renumber(4, 3) == 0
            assert guest.open("name", rights=READ_ONLY)[0] == NXIO
            assert guest.open("inside/name", rights=READ_ONLY)[0] == NXIO
            error, inside = guest.open("inside", how=2, rights=READ_ONLY)
            assert (error, inside) == (0, 4)  # the number that is free
            assert guest.library.fd_renumber(inside, 3) == 0
            assert guest.open("name", rights=READ_ONLY)[0] == NXIO
            assert guest.open("other", how=1)[0] == 0
        assert (second / "inside" / "other").exists()

    def test_times_and_errors_are_as_before(self, guest: WasiGuest, root: Path) -> None:
        assert guest.touch("file") == 0
        assert (root / "file").stat().st_mtime == 5
        (root / "link").symlink_to("file")
        (root / "out").symlink_to("/etc/passwd")
        (root / "loop").symlink_to("loop")
        assert guest.open("link")[0] == 0
        assert guest.open("link", follow=0)[0] == 32  # ELOOP
        assert guest.open("loop")[0] == 32
        assert guest.open("out")[0] == 63  # EPERM
        assert guest.open("../root/file")[0] == 63
        assert guest.open("nothing")[0] == 44  # ENOENT
        assert guest.open("file/nothing")[0] == NOTDIR
        assert guest.open("x" * 300)[0] == guest.open("x" * 5000)[0] == 37  # ENAMETOOLONG
        assert guest.open("new", how=1)[0] == 0 and (root / "new").exists()
        assert guest.open(".", rights=0)[0] == 0
        assert guest.library.path_open(0, 1, guest.base, 1, 0, 0, 0, 0, guest.base) == BADF

    @pytest.mark.parametrize("how", ["rename_often", "retype_often", "another program"])
    def test_what_changes_between_the_look_and_the_opening_is_not_waited_for(
        self, tmp_path: Path, root: Path, how: str
    ) -> None:
        """A thread renames a FIFO to the path, here or in another program, or changes the path."""
        (root / "fifo").rename(root / "bbbb")
        (root / "file").rename(root / "aaaa")
        with Pipes(tmp_path, how, script=RACE) as process:
            assert said(process) > 0
