"""Resident memory of an instance group: a parked thread in a program with M libraries.

pylinker bench memory

The floor, `bare`, is a store of wasmtime with a table of the same size and an instance of each of
the same modules. A group has some more: a thread, an instance of trampolines for each library that
has functions bound late, host functions, and what Python knows of it. The same on a thread of
Python that waits shows how much of the rest is the thread's.

Each number comes from a process of its own: 50 groups are made first, which fills what the
allocator has left, and the growth of the process for the next 100 is shared among them.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

import pylinker
from pylinker.benchmarks.bare import Bare
from pylinker.benchmarks.roles import Target, reported, role, scaled
from pylinker.runtime.store import GuestStore

GROUP = "resident memory of a group, with M libraries"
LIBRARIES = [1, 10, 100]
FIRST, THEN = 50, 100
SMALL = Path(__file__).with_name("guest") / "libsmall.so"

pytestmark = [
    pytest.mark.skipif(
        not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc"
    ),
    pytest.mark.benchmark(group=GROUP),
]


def measure(benchmark: Any, contender: str, what: str, libraries: int, **keywords: Any) -> None:
    role(benchmark, contender=contender, n=libraries, n_name="libraries", unit="B", **keywords)
    command = [sys.executable, __file__, what, str(libraries)]
    answers = [
        subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout for _ in range(scaled(5))
    ]
    reported(benchmark, [float(answer) for answer in answers])


@pytest.mark.parametrize("libraries", LIBRARIES)
def bench_pylinker(benchmark: Any, libraries: int) -> None:
    measure(
        benchmark,
        "pylinker",
        "group",
        libraries,
        target=Target(at_most=1.5, of=f"store_only[{libraries}]"),
    )


@pytest.mark.parametrize("libraries", LIBRARIES)
def bench_store_and_thread(benchmark: Any, libraries: int) -> None:
    measure(benchmark, "bare", "thread", libraries)


@pytest.mark.parametrize("libraries", LIBRARIES)
def bench_store_only(benchmark: Any, libraries: int) -> None:
    measure(benchmark, "bare", "store", libraries, baseline=True)


# The process that is measured


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(what: str, libraries: int) -> float:
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory) / f"libsmall{n:03}.so" for n in range(libraries)]
        for path in paths:
            path.write_bytes(SMALL.read_bytes())
        program = pylinker.Program(None, preload=paths, threads=True, stack_size=1 << 14)
        bare = Bare(paths, program.statistics().table_slots)
    end, kept = threading.Event(), []

    def make(count: int) -> None:
        for _ in range(count):
            if what == "group":
                program.spawn(end.wait)
                continue
            store = GuestStore(None)
            bare.instantiate(store, bare.prepare(store))
            kept.append(store)
            if what == "thread":
                threading.Thread(target=end.wait, daemon=True).start()

    make(FIRST)
    before = resident()
    make(THEN)
    return (resident() - before) / THEN


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2])), flush=True)
    os._exit(0)  # without waiting for the threads
