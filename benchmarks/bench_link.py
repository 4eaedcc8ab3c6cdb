"""Linking a compiled program of 3,000 imported symbols and ten libraries.

The comparison is with deserializing and instantiating its modules.

pylinker bench link
python benchmarks/bench_link.py    # where the time goes

The baseline is the least that has to be done: `deserialize_file` of each module and one
`wasmtime_instance_new` with all imports prepared beforehand, no store, no memory, no symbols, no
table. `bare` is the instantiation alone.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import wasmtime

import pylinker
from pylinker._core import ffi, lib
from pylinker.api import program as program_module
from pylinker.benchmarks.linked import Shape, write
from pylinker.benchmarks.roles import Target, role, scaled
from pylinker.linker.groups.group import InstanceGroup
from pylinker.linker.modules.locator import Locator
from pylinker.linker.plan.plan import LoadPlan
from pylinker.native.objects import imports_of
from pylinker.native.objects import instantiate as instantiate_module
from pylinker.runtime.code import CodeCache
from pylinker.runtime.engine import address_of, engine
from pylinker.runtime.store import GuestStore
from pylinker.runtime.wasi import WasiHost
from pylinker.wasm import FuncType, Kind, Limits, MemoryType, ModuleInfo, parse_module

MEMORY = "link 3,000 symbols of 10 libraries, compiled before, in memory"
DISK = "link 3,000 symbols of 10 libraries, compiled before, on disk only"
ROUNDS = 40


@pytest.fixture(scope="session")
def main(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The main module, with its libraries beside it."""
    shape = Shape()
    assert (shape.imports, shape.libraries) == (3000, 10)
    return write(tmp_path_factory.mktemp("link"), shape)


@pytest.fixture(scope="session")
def cache(main: Path) -> Path:
    """A directory with all of it compiled."""
    directory = main.parent / "cache"
    pylinker.Program(main, cache=directory).close()
    return directory


def modules(main: Path) -> list[Path]:
    return [*sorted(main.parent.glob("*.so")), main]


def measure(benchmark: Any, function: Callable[..., Any], setup: Callable[[], Any]) -> None:
    benchmark.pedantic(function, setup=setup, rounds=scaled(ROUNDS), warmup_rounds=2)


@pytest.mark.benchmark(group=MEMORY)
def bench_pylinker_in_memory(benchmark: Any, main: Path, cache: Path) -> None:
    role(benchmark, contender="pylinker", target=Target(at_most=3, of="wasmtime-py"))
    kept: list[pylinker.Program] = []

    def setup() -> None:
        kept.clear()  # the end of the program before is not measured

    measure(benchmark, lambda: kept.append(pylinker.Program(main, cache=cache)), setup)
    assert kept[0].statistics().modules == 11


@pytest.mark.benchmark(group=DISK)
def bench_pylinker_on_disk(benchmark: Any, main: Path, cache: Path) -> None:
    role(benchmark, contender="pylinker", target=Target(at_most=3, of="wasmtime-py"))
    kept: list[pylinker.Program] = []

    def setup() -> None:
        kept.clear()
        forget(cache)

    measure(benchmark, lambda: kept.append(pylinker.Program(main, cache=cache)), setup)
    assert kept[0].statistics().modules == 11


def forget(cache: Path) -> None:
    """Let the next program read the directory as a new process would."""
    program_module._caches.pop(cache, None)
    gc.collect()


@pytest.mark.benchmark(group=MEMORY)
def bench_deserialize_and_instantiate_in_memory(benchmark: Any, main: Path) -> None:
    role(benchmark, contender="wasmtime-py", baseline=True)
    bare = Bare(main)
    measure(benchmark, bare.deserialize_and_instantiate, bare.prepare)


@pytest.mark.benchmark(group=DISK)
def bench_deserialize_and_instantiate_on_disk(benchmark: Any, main: Path) -> None:
    role(benchmark, contender="wasmtime-py", baseline=True)
    bare = Bare(main)
    measure(benchmark, bare.deserialize_and_instantiate, bare.prepare)


@pytest.mark.benchmark(group=MEMORY)
def bench_instantiate(benchmark: Any, main: Path) -> None:
    """The part of the baseline without deserialization."""
    role(benchmark, contender="bare")
    bare = Bare(main)
    measure(benchmark, bare.instantiate, bare.prepare)


class Bare:
    """wasmtime with the modules of a program.

    :meth:`prepare` creates a store and all imports of the modules.
    """

    def __init__(self, main: Path) -> None:
        self._infos: list[ModuleInfo] = []
        self._files: list[str] = []
        self._modules: list[wasmtime.Module] = []
        for path in modules(main):
            data = path.read_bytes()
            self._infos.append(parse_module(data, name=path.name))
            compiled = wasmtime.Module(engine(), data)
            self._modules.append(compiled)
            file = path.with_suffix(".cwasm")
            file.write_bytes(compiled.serialize())
            self._files.append(str(file))
        types = {each.type: str(number) for number, each in enumerate(_functions(self._infos))}
        self._donor = wasmtime.Module(
            engine(), "(module " + "".join(_exported(*each) for each in types.items()) + ")"
        )
        self._types = types
        self._kept: list[wasmtime.Module] = []
        self._instance = ffi.new("pl_instance *")
        self._failure = ffi.new("pl_failure *")

    def prepare(self) -> None:
        self._kept.clear()
        self._store = store = GuestStore(None)
        memory = store.new_memory(MemoryType(Limits(20, None)))
        table = store.new_table(Limits(3000, None))
        donor = instantiate_module(store.context, address_of(self._donor), [])
        functions = {type_: store.export(donor, name) for type_, name in self._types.items()}
        self._imports = []
        for info in self._infos:
            externs: list[Any] = []
            for each in info.imports:
                if isinstance(each.type, FuncType):
                    externs.append(functions[each.type])
                elif each.kind is Kind.GLOBAL:
                    externs.append(store.new_global(1024, mutable=each.type.mutable))
                else:
                    externs.append(memory if each.kind is Kind.MEMORY else table)
            self._imports.append((imports_of(externs), len(externs)))

    def instantiate(self) -> None:
        for module, (externs, count) in zip(self._modules, self._imports, strict=True):
            self._instantiate(module, externs, count)

    def deserialize_and_instantiate(self) -> None:
        for file, (externs, count) in zip(self._files, self._imports, strict=True):
            module = wasmtime.Module.deserialize_file(engine(), file)
            self._kept.append(module)
            self._instantiate(module, externs, count)

    def _instantiate(self, module: wasmtime.Module, externs: Any, count: int) -> None:
        address = ffi.cast("pl_module *", address_of(module))
        assert (
            lib.pl_instance_new(
                self._store.context, address, externs, count, self._instance, self._failure
            )
            == 0
        )


def _functions(infos: list[ModuleInfo]) -> list[Any]:
    return list(
        {
            each.type: each for info in infos for each in info.imports if each.kind is Kind.FUNC
        }.values()
    )


def _exported(type_: FuncType, name: str) -> str:
    params = f"(param {' '.join(type_.params)})" if type_.params else ""
    results = f"(result {' '.join(type_.results)})" if type_.results else ""
    return f'(func (export "{name}") {params} {results} unreachable)'


# Where the time goes

PHASES: dict[str, list[tuple[Any, str]]] = {
    "find the files": [(Locator, "find")],
    "read the files": [(pylinker.linker.plan.files, "bytes_of"), (program_module, "read_file")],
    "code and what is known of it": [
        (CodeCache, "load"),
        (CodeCache, "find"),
        (CodeCache, "parse"),
        (CodeCache, "trampolines"),
    ],
    "WASI": [(WasiHost, "__init__"), (WasiHost, "connect")],
    "place": [(LoadPlan, "allocate")],
    "resolve": [(LoadPlan, "resolve")],
    "records for C": [(LoadPlan, "_lower")],
    "instantiate, slots": [(InstanceGroup, "apply")],
    "relocate": [(InstanceGroup, "relocate")],
}


def breakdown(link: Callable[[], Any], prepare: Callable[[], Any], rounds: int) -> dict[str, float]:
    """Return the processor time of each phase of ``link`` in ms: medians of ``rounds``.

    The time of a phase excludes the phases inside it.
    """
    spent: dict[str, float] = {}
    running: list[list[float]] = []

    def timed(phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            inner = [0.0]
            running.append(inner)
            begin = time.process_time()
            try:
                return function(*arguments, **keywords)
            finally:
                taken = time.process_time() - begin
                running.pop()
                spent[phase] = spent.get(phase, 0.0) + taken - inner[0]
                if running:
                    running[-1][0] += taken

        return wrapped

    seen: list[dict[str, float]] = []
    with ExitStack() as stack:
        for phase, places in PHASES.items():
            for owner, name in places:
                stack.enter_context(patch.object(owner, name, timed(phase, getattr(owner, name))))
        whole = timed("the rest", link)
        for _ in range(rounds):
            prepare()
            spent.clear()
            whole()
            seen.append(dict(spent, all=sum(spent.values())))
    return {
        phase: 1e3 * statistics.median(each.get(phase, 0.0) for each in seen)
        for phase in (*PHASES, "the rest", "all")
    }


def report() -> None:
    """Print where the time goes."""
    with tempfile.TemporaryDirectory() as directory:
        main = write(Path(directory), Shape())
        cache = Path(directory, "cache")
        kept: list[pylinker.Program] = []

        def in_memory() -> None:
            kept.clear()

        def on_disk() -> None:
            kept.clear()
            forget(cache)

        for prepare in (in_memory, on_disk):
            phases = breakdown(
                lambda: kept.append(pylinker.Program(main, cache=cache)), prepare, rounds=30
            )
            print(f"{prepare.__name__}: ms of processor time, medians")
            for phase, spent in phases.items():
                print(f"  {phase:30} {spent:6.2f}")
        kept.clear()


if __name__ == "__main__":
    report()
