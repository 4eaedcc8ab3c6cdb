"""Tests for memory growth: operations are repeated many thousand times.

The resident memory of the process is compared. Each run is warmed up first, by a tenth of its
cycles: caches fill, and the allocator keeps what it has got once.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import wasmtime

import pylinker
from pylinker import demo
from pylinker.bench.location import guests

__all__ = [
    "ALLOWED",
    "RUNS",
    "Growth",
    "Progress",
    "UnknownRunError",
    "measure",
    "resident",
    "select",
    "settle",
]

ALLOWED = 2 << 20
"""Allowed growth in bytes in a whole run: allocators and interpreters vary by less."""

_SLICES = 50
"""Parts of a run, after each of which progress is reported."""

_IMPORTS = '(import "env" "memory" (memory 1))'
_LIBRARIES = {
    "libundefined.so": f'{_IMPORTS} (import "GOT.mem" "nowhere" (global (mut i32)))',
    "libtrap.so": f'{_IMPORTS} (func (export "__wasm_call_ctors") unreachable)',
}
_BROKEN = b"\0asm\1\0\0\0what follows is no section"


class UnknownRunError(ValueError):
    """A name that matches no run."""


class Progress(Protocol):
    """Observer of the progress of all runs."""

    def start(self, count: int) -> None:
        """``count`` parts will follow."""

    def begin(self, name: str) -> None:
        """A run begins."""

    def end(self) -> None:
        """A part is finished."""


@dataclass(frozen=True)
class Growth:
    """The result of a run.

    ``before`` and ``after`` are resident bytes, after the warm-up and at the end; ``seconds`` are
    for all cycles.
    """

    name: str
    cycles: int
    before: int
    after: int
    seconds: float

    @property
    def per_cycle(self) -> float:
        """Growth of memory in bytes for a cycle; negative if it shrank."""
        return (self.after - self.before) / self.cycles

    @property
    def flat(self) -> bool:
        """Whether memory has grown by no more than ALLOWED."""
        return self.after - self.before <= ALLOWED


def resident() -> int:
    """Return the resident memory of this process in bytes, or its maximum if only that is known."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource  # noqa: PLC0415 - not on Windows

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most << 10


def settle() -> None:
    """Free garbage: Python's cycles, and free pages of the C allocator, if possible."""
    gc.collect()
    if (
        sys.platform == "linux"
        and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None
    ):
        trim(0)


# The runs: each yields the function for one cycle, given a directory for files.


@contextmanager
def _dlopen(_directory: Path) -> Iterator[Callable[[], object]]:
    with pylinker.Program(demo.MAIN, args=["-"], stdout=pylinker.DEVNULL) as program:

        def cycle() -> None:
            library = program.dlopen("libplugin.so")
            library.plugin_sort(0, 0)
            library.close()

        yield cycle


@contextmanager
def _program() -> Iterator[pylinker.Program]:
    """Return a program with threads."""
    guest = guests()
    with pylinker.Program(
        preload=[guest / "libcallee.so"], library_path=[guest], threads=True
    ) as program:
        yield program


@contextmanager
def _beside_parked(_directory: Path) -> Iterator[Callable[[], object]]:
    """A thread stays outside guest code all the time, so it does not replay operations."""
    stop = threading.Event()
    with _program() as program:
        parked = program.spawn(stop.wait)
        yield lambda: program.dlopen("libsmall.so").close()
        stop.set()
        parked.join()


@contextmanager
def _failing(directory: Path) -> Iterator[Callable[[], object]]:
    for name, body in _LIBRARIES.items():
        text = f"(module (@dylink.0 (mem-info (memory 64 4))) {body})"
        (directory / name).write_bytes(wasmtime.wat2wasm(text))
    (directory / "libbroken.so").write_bytes(_BROKEN)
    names = ["libnowhere.so", "libbroken.so", *_LIBRARIES]
    with pylinker.Program(library_path=[directory]) as program:

        def cycle() -> None:
            name = names[0]
            names.append(names.pop(0))
            try:
                program.dlopen(name)
            except (pylinker.LinkError, wasmtime.Trap):
                return
            raise AssertionError(f"{name} was loaded")

        yield cycle


@contextmanager
def _spawn(_directory: Path) -> Iterator[Callable[[], object]]:
    with _program() as program:
        yield lambda: program.spawn("callee", 1).join()


def _one_program(_directory: Path) -> Callable[[], object]:
    program = pylinker.Program(demo.MAIN, stdout=pylinker.DEVNULL)
    program.dlopen("libplugin.so")
    return program.close


@contextmanager
def _closed(directory: Path) -> Iterator[Callable[[], object]]:
    def cycle() -> None:
        close = _one_program(directory)
        close()

    yield cycle


@contextmanager
def _dropped(directory: Path) -> Iterator[Callable[[], object]]:
    yield lambda: _one_program(directory)


@contextmanager
def _threaded(_directory: Path) -> Iterator[Callable[[], object]]:
    def cycle() -> None:
        with _program() as program:
            program.spawn("callee", 1).join()

    yield cycle


RUNS: dict[str, tuple[int, Callable[[Path], AbstractContextManager[Callable[[], object]]]]] = {
    "dlopen and dlclose": (100_000, _dlopen),
    "dlopen beside a parked thread": (100_000, _beside_parked),
    "failing loads": (10_000, _failing),
    "spawns": (10_000, _spawn),
    "programs": (1_000, _closed),
    "programs dropped unclosed": (1_000, _dropped),
    "programs with threads": (1_000, _threaded),
}
"""By name: the number of cycles of a whole run, and its function."""


def select(names: Sequence[str]) -> list[str]:
    """Return the runs with one of ``names`` in their name; all without names.

    Raises:
        UnknownRunError: A name matches no run.
    """
    for name in names:
        if not any(name.lower() in each for each in RUNS):
            raise UnknownRunError(f"no run has {name!r} in its name; there are: {', '.join(RUNS)}")
    return [each for each in RUNS if not names or any(name.lower() in each for name in names)]


def measure(names: Sequence[str], progress: Progress, *, share: float = 1.0) -> list[Growth]:
    """Do the runs of :func:`select` in this process, with ``share`` of their cycles. Blocks."""
    chosen = select(names)
    progress.start(_SLICES * len(chosen))
    return [_measure(name, progress, share) for name in chosen]


def _measure(name: str, progress: Progress, share: float) -> Growth:
    progress.begin(name)
    count, make = RUNS[name]
    cycles = max(_SLICES, round(count * share))
    with tempfile.TemporaryDirectory() as directory, make(Path(directory)) as cycle:
        for _ in range(max(10, cycles // 10)):
            cycle()
        settle()
        before, began = resident(), time.monotonic()
        for part in range(_SLICES):
            for _ in range(cycles * part // _SLICES, cycles * (part + 1) // _SLICES):
                cycle()
            progress.end()
        seconds = time.monotonic() - began
        settle()
        return Growth(name, cycles, before, resident(), seconds)
