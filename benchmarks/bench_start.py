"""A process begins: it imports pylinker, opens a first library, or is `pylinker run` of the demo.

pylinker bench start

The baseline is a process that imports wasmtime and does nothing else. The caches are warm.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pylinker import demo
from pylinker.benchmarks.roles import Target, role, scaled

GROUP = "start a process"
ROUNDS = 20


def start(benchmark: Any, *arguments: str) -> None:
    def run() -> None:
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)

    benchmark.pedantic(run, rounds=scaled(ROUNDS), warmup_rounds=1)


@pytest.mark.benchmark(group=GROUP)
def bench_import_wasmtime(benchmark: Any) -> None:
    role(benchmark, contender="wasmtime-py", baseline=True)
    start(benchmark, "-c", "import wasmtime")


@pytest.mark.benchmark(group=GROUP)
def bench_import(benchmark: Any) -> None:
    role(benchmark, contender="pylinker", target=Target(at_most=1.6, of="import_wasmtime"))
    start(benchmark, "-c", "import pylinker")


@pytest.mark.benchmark(group=GROUP)
def bench_first_library(benchmark: Any) -> None:
    role(benchmark, contender="pylinker")
    library = Path(demo.MAIN).with_name("libgreet.so")
    start(benchmark, "-c", f"import pylinker; pylinker.CDLL({str(library)!r}).close()")


@pytest.mark.benchmark(group=GROUP)
def bench_run(benchmark: Any) -> None:
    role(benchmark, contender="pylinker", target=Target(at_most=2, of="import_wasmtime"))
    start(benchmark, "-m", "pylinker", "run", str(demo.MAIN))
