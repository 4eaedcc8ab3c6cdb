"""Interrupts each operation at each of its places, and tells where that does harm.

``python interrupts_survey.py COMPANY ERROR STEP OFFSET OPERATION...`` writes a JSON object: by
operation how many places there were, and the failures, each with its place and what was wrong.
COMPANY is what other threads of the program do: ``alone`` (there are none), ``waiting`` or
``running``. ERROR is the class of what is raised; with STEP 0 nothing is raised, but the operation
runs with ever more frames.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import inspect
import itertools
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import wasmtime

import pylinker
from interrupts import Interrupter
from pylinker.native.core import lib
from pylinker.native.failures import raised_errors
from pylinker.native.member import current_member

PATIENCE = 3.0
"""Seconds within which the next ``dlopen`` of any thread has to be done."""

MAIN = """(module
  (import "env" "memory" (memory 2 1024 {shared}))
  (import "env" "back" (func $back (param i32) (result i32)))
  (table (export "__indirect_function_table") 1 funcref)
  (global (export "__stack_pointer") (mut i32) (i32.const 65536))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "first") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "host") (param i32) (result i32) (call $back (local.get 0)))
  (func (export "compute") (result i32)
    (loop $again (br_if $again (i32.eqz (i32.load (i32.const 1024))))) (i32.const 1)))"""

# Its constructor (and, if it is `early`, its start function) traps; it has a slot for a function of
# the main module before that.
FAILING = """(module (@dylink.0 (mem-info (memory 64 4) (table 2 0)))
  (import "env" "memory" (memory 1 1024 {shared}))
  (import "env" "__indirect_function_table" (table 1 funcref))
  (import "GOT.func" "add" (global (mut i32)))
  (func $trap (export "__wasm_call_ctors") (unreachable))
  {early})"""

LIBRARY = """(module (@dylink.0 (mem-info (memory 64 4) (table 2 0)))
  (import "env" "memory" (memory 1 1024 {shared}))
  (import "env" "__indirect_function_table" (table 1 funcref))
  (import "env" "__memory_base" (global $base i32))
  (import "env" "add" (func $add (param i32 i32) (result i32)))
  (func (export "twice") (param i32) (result i32) (call $add (local.get 0) (local.get 0)))
  (func (export "__wasm_call_ctors") (i32.store (global.get $base) (i32.const 5)))
  (func (export "fini"))
  (global (export "datum") i32 (i32.const 8)))"""


class World:
    """A program in one state, which operations leave and come back to."""

    def __init__(self, company: str) -> None:
        self.company = company
        threaded = company != "alone"
        shared = "shared" if threaded else ""
        self.folder = Path(tempfile.mkdtemp())
        texts = (
            ("main", MAIN),
            ("one", LIBRARY),
            ("two", LIBRARY),
            ("late", FAILING),
            ("early", FAILING),
        )
        for name, text in texts:
            early = "(start $trap)" if name == "early" else ""
            (self.folder / f"{name}.wasm").write_bytes(
                wasmtime.wat2wasm(
                    text.format(shared=shared, early=early).replace("1024 )", "1024)")
                )
            )
        self.threaded = threaded
        self.program = self.make()
        self.results: list[Any] = []
        self.over = threading.Event()
        if company == "waiting":
            ready = threading.Event()
            self.program.spawn(lambda: (ready.set(), self.over.wait()))
            ready.wait()
        elif company == "running":
            self.program.spawn("compute")
        self.open(self.folder / "two.wasm").close()  # all that is made once is made
        self.before = self.state()

    def make(self, *preload: Path) -> pylinker.Program:
        return pylinker.Program(
            self.folder / "main.wasm",
            preload=preload,
            imports={"back": lambda number: number + 1},
            threads=self.threaded,
            preempt=True,
            rendezvous_timeout=20,
        )

    def open(self, path: Path) -> pylinker.Library:
        return self.program.dlopen(path)

    @property
    def linker(self) -> Any:
        return self.program._linker

    def state(self) -> tuple[Any, ...]:
        """State that an operation leaves either as before or as after it."""
        linker = self.linker
        if linker is None:
            return ("closed",)
        state = linker.state
        return (
            tuple((module.name, module.handles) for module in state.modules),
            tuple(module.name for module in state.global_scope),
            state.memory._ranges.used,
            state.table.used,
            len(state.groups),
            0 if linker.threads is None else len(linker.threads),
            linker.group.stack_top,
        )

    def held(self) -> list[str]:
        """Return which locks stay held; a thread that is exiting may hold one for a moment."""
        deadline = time.monotonic() + PATIENCE
        while (held := self._held()) and time.monotonic() < deadline:
            time.sleep(0.001)
        return held

    def _held(self) -> list[str]:
        linker = self.linker
        if linker is None:
            return []
        native, context = linker.context.shared._native, linker.context
        return [
            name
            for name, held in (
                ("topology token", native.token),
                ("write lock", native.readers < 0),
                ("read lock", native.readers > 0),
                ("changer", context.changer is not None),
                ("main lock", lib.pl_recursive_depth(context.main_lock.pointer)),
                ("load lock", lib.pl_recursive_depth(context.load_lock.pointer)),
                ("thread's group", bool(current_member())),
                ("exception", bool(lib.pl_raised() or raised_errors)),
            )
            if held
        ]

    def goes_on(self) -> str | None:
        """State that would block the next dlopen of this or another thread."""
        troubles: list[str] = []

        def use() -> None:
            try:
                with self.open(self.folder / "two.wasm") as library:
                    if library["twice"](21) != 42:
                        troubles.append("a wrong result")
            except BaseException as error:  # noqa: BLE001
                troubles.append(f"the next dlopen: {type(error).__name__}: {error}")

        thread = threading.Thread(target=use, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        if thread.is_alive():
            return "the next dlopen does not return"
        if not troubles:
            use()
        return troubles[0] if troubles else None


class Operation:
    """Interrupt ``run``; ``settle`` then completes or rolls back, and restores the world."""

    def __init__(self, world: World) -> None:
        self.world = world

    def prepare(self) -> None:
        """Come to the state before."""

    def run(self) -> None:
        raise NotImplementedError

    def settle(self) -> None:
        """Come back to the state of the world."""


class Open(Operation):
    def run(self) -> None:
        self.world.open(self.world.folder / "one.wasm")

    def settle(self) -> None:
        linker = self.world.linker
        for module in [each for each in linker.state.modules if each.name == "one.wasm"]:
            while module.handles:
                linker.unloader.dlclose(module)
        linker.unloader.collect()


class FailToOpen(Open):
    name = "late.wasm"

    def run(self) -> None:
        with contextlib.suppress(pylinker.InitializationError):
            self.world.open(self.world.folder / self.name)
            raise AssertionError("it was opened")


class FailToInstantiate(FailToOpen):
    name = "early.wasm"


class Close(Operation):
    def prepare(self) -> None:
        self.library = self.world.open(self.world.folder / "one.wasm")
        assert self.library["twice"](4) == 8

    def run(self) -> None:
        self.library.close()

    def settle(self) -> None:
        self.library.close()


class _Call(Operation):
    name = "add"
    arguments: tuple[Any, ...] = (1, 2)
    result: Any = 3

    def prepare(self) -> None:
        self.function = self.world.program.main[self.name]

    def run(self) -> None:
        assert self.function(*self.arguments) == self.result
        assert self.function(*self.arguments) == self.result


class CallNumbers(_Call):
    pass


class CallStrings(_Call):
    name, arguments, result = "first", ("a string",), ord("a")


class CallLongStrings(_Call):
    name, arguments, result = "first", ("a" * 10_000,), ord("a")


class HostCall(_Call):
    name, arguments, result = "host", (4,), 5


class Bind(Operation):
    def run(self) -> None:
        assert self.world.program.main["add"].bind()(1, 2) == 3


class Spawn(Operation):
    def run(self) -> None:
        self.world.program.spawn("add", 1, 2)

    def settle(self) -> None:
        _join_others(self.world)


class Join(Operation):
    def prepare(self) -> None:
        self.thread = self.world.program.spawn("add", 1, 2)

    def run(self) -> None:
        assert self.thread.join() == 3

    def settle(self) -> None:
        assert self.thread.join(PATIENCE) == 3
        _join_others(self.world)


def _join_others(world: World) -> None:
    threads = world.linker.threads
    expected = 0 if world.company == "alone" else 1
    for thread in list(threads._alive.values())[expected:]:
        thread.stopped(PATIENCE)
    threads.reap()


class Dlsym(Operation):
    def prepare(self) -> None:
        self.library = self.world.open(self.world.folder / "one.wasm")

    def run(self) -> None:
        assert self.world.program.dlsym(self.library, "datum") > 0
        assert self.world.program.dlsym(self.library, "twice") > 0

    def settle(self) -> None:
        self.library.close()


class Statistics(Operation):
    def run(self) -> None:
        assert self.world.program.statistics().modules == len(self.world.program.libraries)


class MakeProgram(Operation):
    def run(self) -> None:
        self.world.make().close()


class FailToMakeProgram(Operation):
    def run(self) -> None:
        with contextlib.suppress(pylinker.InitializationError):
            self.world.make(self.world.folder / "one.wasm", self.world.folder / "late.wasm")
            raise AssertionError("it was made")


class CloseProgram(Operation):
    def prepare(self) -> None:
        self.program = self.world.make()

    def run(self) -> None:
        self.program.close()

    def settle(self) -> None:
        self.program.close()
        assert self.program.closed
        assert self.program._linker is None


class MakeLibrary(Operation):
    def run(self) -> None:
        with pylinker.CDLL(
            self.world.folder / "two.wasm",
            imports={"add": lambda one, two: one + two},
            threads=False,
        ) as library:
            assert library["twice"](4) == 8


OPERATIONS: dict[str, type[Operation]] = {
    "open": Open,
    "fail-to-open": FailToOpen,
    "fail-to-instantiate": FailToInstantiate,
    "close": Close,
    "call-numbers": CallNumbers,
    "call-strings": CallStrings,
    "call-long-strings": CallLongStrings,
    "host-call": HostCall,
    "bind": Bind,
    "spawn": Spawn,
    "join": Join,
    "dlsym": Dlsym,
    "statistics": Statistics,
    "make-program": MakeProgram,
    "fail-to-make-program": FailToMakeProgram,
    "close-program": CloseProgram,
    "make-library": MakeLibrary,
}
COMPANIES = ("alone", "waiting", "running")
THREADED = frozenset(("spawn", "join"))
"""What needs a program with threads."""


class Survey:
    """All places of one operation."""

    def __init__(
        self, operation: str, error: Callable[..., BaseException] = KeyboardInterrupt
    ) -> None:
        self._kind = OPERATIONS[operation]
        self._error = error
        self._unraisable: list[str] = []
        self.failures: list[tuple[str, str]] = []
        self.places = 0
        sys.unraisablehook = self._note_unraisable

    def _note_unraisable(self, what: Any) -> None:
        # wasmtime-py's own finalizers are written in Python, and need frames.
        if getattr(what.object, "__module__", "") != "wasmtime._managed" or isinstance(
            what.exc_value, KeyboardInterrupt
        ):
            self._unraisable.append(f"{type(what.exc_value).__name__} in {what.object!r}")

    def run(self, world: World, step: int = 1, offset: int = 0) -> World:
        """Raise at one place in ``step``.

        Returns the world, or another if that is of no use any more.
        """
        at = offset
        while True:
            place, wrong, is_broken = self._attempt(world, at)
            if place is None:
                if wrong:
                    self.failures.append(("not interrupted", wrong))
                self.places = at
                return world
            if wrong:
                self.failures.append((place, wrong))
            if is_broken:
                world = World(world.company)
            at += step

    def sweep(self, world: World) -> World:
        """Run with ever more frames, up to as many as the operation needs."""
        depth = len(inspect.stack())
        rooms = itertools.count(2)
        successes = 0
        while successes < 3:
            room = next(rooms)
            operation = self._kind(world)
            operation.prepare()
            before, limit = world.state(), sys.getrecursionlimit()
            self._unraisable.clear()
            raised: BaseException | None = None
            try:
                sys.setrecursionlimit(depth + room)
                operation.run()
            except (
                RecursionError,
                ctypes.ArgumentError,
            ) as error:  # ctypes, which wasmtime-py uses, makes the other of the one
                raised = error
            except BaseException as error:  # noqa: BLE001
                self.failures.append((f"{room} frames", f"it raised {error!r}"))
            finally:
                sys.setrecursionlimit(limit)
            successes = successes + 1 if raised is None else 0
            raised = None
            wrong, is_broken = self._check(world, operation, before, None)
            if wrong:
                self.failures.append((f"{room} frames", wrong))
            if is_broken:
                world = World(world.company)
            self.places += 1
        return world

    def _attempt(self, world: World, at: int) -> tuple[str | None, str | None, bool]:
        """Return the place, what was wrong there, and whether the world is of no use any more."""
        operation = self._kind(world)
        operation.prepare()
        before = world.state()
        interrupter = Interrupter(at, self._error("injected"))
        self._unraisable.clear()
        raised = interrupter.run(operation.run)
        place = str(interrupter.place) if interrupter.place is not None else None
        wrong: str | None = None
        # What a finalizer, or a destructor of a load that is being undone, has raised is logged,
        # unless it is a KeyboardInterrupt.
        may_be_logged = raised is None and isinstance(interrupter.error, Exception)
        if raised is not (interrupter.error if place is not None else None) and not may_be_logged:
            wrong = f"it raised {raised!r}"
        raised = None
        return (place, *self._check(world, operation, before, wrong))

    def _check(
        self, world: World, operation: Operation, before: tuple[Any, ...], wrong: str | None
    ) -> tuple[str | None, bool]:
        """Return what is wrong after an operation, and whether the world is of no use any more."""
        after = world.state()
        held = world.held()
        if held:
            return f"held: {', '.join(held)}", True
        if self._unraisable:
            wrong = self._unraisable[0]
        trouble = world.goes_on()
        if trouble is not None:
            return trouble, True
        try:
            operation.settle()
        except BaseException as error:  # noqa: BLE001
            return f"afterwards: {type(error).__name__}: {error}", True
        if world.state() != world.before:
            return f"it does not come back: {world.before} {before} {after} {world.state()}", True
        return wrong, wrong is not None


def main(company: str, error: str, step: str, offset: str, *operations: str) -> None:
    """Write what was found, by operation, to the standard output. STEP 0: sweep."""
    world = World(company)
    found = {}
    for operation in operations:
        survey = Survey(operation, getattr(builtins, error))
        world = survey.run(world, int(step), int(offset)) if int(step) else survey.sweep(world)
        found[operation] = {"places": survey.places, "failures": survey.failures}
    json.dump(found, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # threads of a world that is broken may never end


if __name__ == "__main__":
    main(*sys.argv[1:])
