"""How many descriptors a guest may have open at one time: ``Limits.descriptors``."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import pylinker
from guests import DEADLINE
from wasi_guest import BADF, READ_ONLY, WasiGuest

pytestmark = pytest.mark.usefixtures("in_time")

MFILE, NOENT, ISDIR = 33, 44, 31
MOST = 5

Make = Callable[..., WasiGuest]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "aaaa").write_bytes(b"contents")
    return root


@pytest.fixture
def make(tmp_path: Path, root: Path) -> Iterator[Make]:
    made: list[WasiGuest] = []

    def make(**keywords: Any) -> WasiGuest:
        limits = pylinker.Limits(descriptors=keywords.pop("descriptors", MOST))
        made.append(WasiGuest(tmp_path, dirs={"/": root}, stdin=b"", limits=limits, **keywords))
        assert open_all(made[-1], 1)  # what is opened once and for all is open now
        assert made[-1].library.fd_close(4) == 0
        return made[-1]

    yield make
    for guest in made:
        guest.program.close()


def host_descriptors() -> int:
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))


def open_all(guest: WasiGuest, most: int) -> list[int]:
    """Open the file at most so often; the descriptors."""
    opened: list[int] = []
    while len(opened) < most:
        error, descriptor = guest.open("aaaa")
        if error:
            assert error == MFILE
            break
        opened.append(descriptor)
    return opened


class TestOneThread:
    def test_descriptors(self, make: Make, threads: bool) -> None:
        """The limit holds for the host, too, and is per program."""
        guest, other = make(threads=threads), make(threads=threads)
        before = host_descriptors()
        opened = open_all(guest, 100)
        assert len(opened) == MOST
        assert host_descriptors() == before + MOST
        assert (
            guest.open("aaaa")[0]
            == guest.open("folder", how=2, rights=READ_ONLY)[0]
            == guest.open("none")[0]
            == MFILE
        )
        assert len(open_all(other, 100)) == MOST
        for descriptor in opened:
            assert guest.read(descriptor) == (0, b"contents")
            assert guest.library.fd_close(descriptor) == 0
        assert host_descriptors() == before + MOST
        assert len(open_all(guest, 100)) == MOST

    def test_a_directory_counts(self, make: Make, threads: bool) -> None:
        guest = make(threads=threads)
        for _ in range(MOST):
            assert guest.open("folder", how=2, rights=READ_ONLY)[0] == 0
        assert open_all(guest, 1) == []

    def test_closing_makes_room_for_one(self, make: Make, threads: bool) -> None:
        guest = make(threads=threads)
        for _ in range(3):
            descriptor = open_all(guest, 100)[-1]
            assert guest.library.fd_close(descriptor) == 0
            assert guest.library.fd_close(descriptor) == BADF  # which makes no room for another
            assert open_all(guest, 100) == [descriptor]
            assert guest.library.fd_close(descriptor) == 0

    def test_renumbering_onto_an_open_one_closes_that(self, make: Make, threads: bool) -> None:
        guest = make(threads=threads)
        opened = open_all(guest, 100)
        assert guest.library.fd_renumber(opened[0], opened[1]) == 0
        assert open_all(guest, 100) == [opened[0]]
        assert guest.library.fd_renumber(opened[0], opened[0]) == 0
        assert guest.library.fd_renumber(opened[0], 99) == BADF
        assert guest.library.fd_renumber(99, opened[0]) == BADF
        assert open_all(guest, 100) == []
        assert guest.library.fd_renumber(opened[0], 0) == 0  # the stream is closed
        assert open_all(guest, 100) == [opened[0]]

    def test_what_it_begins_with_is_besides_and_can_be_exchanged(
        self, make: Make, threads: bool
    ) -> None:
        guest = make(threads=threads)
        assert len(open_all(guest, 100)) == MOST
        assert guest.library.fd_close(0) == guest.library.fd_close(1) == 0
        assert sorted(open_all(guest, 100)) == [0, 1]
        assert guest.library.fd_close(3) == 0
        assert guest.open("aaaa")[0] == BADF  # nothing to open it from

    def test_failures_do_not_count(self, make: Make, threads: bool) -> None:
        guest = make(threads=threads)
        for _ in range(200):
            assert guest.open("none")[0] == NOENT
            assert guest.open("folder")[0] == ISDIR  # for writing
        assert len(open_all(guest, 100)) == MOST

    def test_a_pointer_outside_memory_does_not_count(self, make: Make, threads: bool) -> None:
        guest = make(threads=threads)
        for path, length, result in ((-1, 4, 64), (64, 4, -4), (64, -1, 64)):
            for _ in range(MOST + 1):
                with pytest.raises(wasmtime.Trap):
                    guest.library.path_open(3, 1, path, length, 0, 0, 0, 0, result)
        assert len(open_all(guest, 100)) == MOST


class TestThreads:
    def test_threads_that_race_for_the_last_one(self, make: Make) -> None:
        guest = make(threads=True, descriptors=200)
        gc.collect()  # or what earlier tests have left is closed meanwhile
        before = host_descriptors()
        guest.memory.write(guest.base, b"aaaa")
        running = [guest.program.spawn("open_all") for _ in range(8)]
        assert sum(thread.join(DEADLINE) for thread in running) == 200
        assert host_descriptors() == before + 200

    def test_one_opens_and_closes_while_another_fails(self, make: Make) -> None:
        guest = make(threads=True)
        guest.memory.write(guest.base, b"aaaa")
        running = guest.program.spawn("open_often", 5_000)
        while running.is_alive:
            assert guest.open("none", at=4096)[0] == NOENT
            assert guest.library.fd_close(99) == BADF
        assert running.join(DEADLINE) == 5_000
        assert len(open_all(guest, 100)) == MOST
