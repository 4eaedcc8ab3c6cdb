"""A program: a main module, its libraries, and the process they run in."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wasmtime

from pylinker._pickling import OfOneProcess
from pylinker.api.function import Function
from pylinker.api.library import Library
from pylinker.api.options import (
    ModuleSource,
    Options,
    StrPath,
    as_limits,
    as_module,
    as_modules,
    as_paths,
    check_mapping,
    check_texts,
    shows_options,
    with_defaults,
)
from pylinker.api.statistics import Statistics, snapshot, tell_statistics
from pylinker.api.tracefile import TraceFile
from pylinker.errors import (
    AlreadyRunError,
    ClosedError,
    Interrupted,
    SynchronizationAborted,
    UndefinedSymbol,
    UndefinedSymbolError,
    UnsupportedError,
)
from pylinker.linker import (
    RTLD_DEFAULT,
    RTLD_LAZY,
    RTLD_NEXT,
    UNTRACED,
    Deadline,
    HostImports,
    Limits,
    Linker,
    Locator,
    MainFile,
    ModuleBytes,
    SymbolInfo,
    check_seconds,
    check_size,
    read_file,
    start,
    starts_threads,
)
from pylinker.native.enums import Cause
from pylinker.native.recursive import Taken
from pylinker.native.scopes import Finalized, Scope
from pylinker.runtime.code import CodeCache, default_cache_directory
from pylinker.runtime.engine import bump_epoch
from pylinker.runtime.fork import free_in_child
from pylinker.runtime.progress import Compiling, Observer
from pylinker.runtime.wasi import WasiProcess
from pylinker.sync.reentry import begin_operation, end_operation
from pylinker.wasm import FuncType

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self, Unpack

    from pylinker.linker import GuestThread, LoadedModule
    from pylinker.runtime.memory import Memory

__all__ = ["CDLL", "ModuleSummary", "Program"]

_caches: dict[Path | None, CodeCache] = {}
_caches_lock = (
    threading.RLock()
)  # a signal handler may make a program while its thread has the lock
free_in_child(_caches_lock)


@dataclass(frozen=True)
class ModuleSummary:
    """A loaded module: bases and sizes in bytes of memory and slots of the table; ``references`` counts open handles."""

    name: str
    path: str | None
    memory_base: int
    memory_size: int
    table_base: int
    table_size: int
    needed: tuple[str, ...]
    references: int


class Program(OfOneProcess, Finalized):
    """A program of WebAssembly modules, linked and ready to run.

    ``main`` is the main module: a path, or its bytes, or None for a set of libraries without one.
    It is loaded, with everything it needs and ``preload`` (libraries that come right after it in
    the scope), and the libraries are constructed; :meth:`run` then starts it. A library, in
    ``preload`` and for :meth:`dlopen`, is a ``str`` (a name to search for, or with a slash a path),
    a path object, or the bytes of a module (:class:`ModuleBytes` gives them a name).

    ``name`` is what a module given as bytes is called. All other keywords are
    :class:`pylinker.Options`.

    Raises LinkError children (LibraryNotFoundError for a main module that cannot be read,
    TimeoutExpired), OSError for a file or directory of the other arguments that cannot be opened,
    TypeError or ValueError for arguments that are no such thing. Safe to use from several threads,
    which take turns.
    """

    @shows_options
    def __init__(
        self,
        main: ModuleSource | ModuleBytes | None = None,
        *,
        name: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        chosen = with_defaults(options)
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name={name!r}: give a str")
        check_texts("args", chosen["args"])
        environment = check_mapping("env", chosen["env"], '{"NAME": "value"}')
        guest_dirs = check_mapping(
            "dirs", chosen["dirs"], '{"/guest": "host/directory"}', paths=True
        )
        search_path = as_paths(chosen["library_path"], "library_path")
        preloaded = as_modules(chosen["preload"], "preload")
        check_seconds(chosen["load_timeout"], "load_timeout")
        check_seconds(chosen["rendezvous_timeout"], "rendezvous_timeout")
        given = HostImports(chosen["imports"])
        limits = as_limits(chosen["limits"])
        stack_size, threads = chosen["stack_size"], chosen["threads"]
        if stack_size > limits.memory:
            raise ValueError(
                f"the memory limit of {limits.memory} is smaller than stack_size={stack_size} (by default 1048576)"
            )
        if stack_size <= 0:
            raise ValueError(f"stack_size={stack_size}: give bytes, 1 or more")
        self._linker: Linker | None = None
        self._ending: Linker | None = (
            None  # of a program that was closed out of a call of its own guest
        )
        self._ran = False
        file = _main_file(main, name, limits)
        self.name = name or (file.name if file else "program")
        self._trace = TraceFile(chosen["trace"]) if chosen["trace"] is not None else None
        tracer = self._trace.tracer if self._trace else UNTRACED
        code_cache = _cache(chosen["cache"])
        observers = [each for each in (chosen["progress"], tracer.observer) if each is not None]
        if observers:
            code_cache = code_cache.observed(_all_of(observers))
        if threads is None:
            threads = file is not None and starts_threads(
                code_cache.parse(file.data, name=file.name)
            )
        self._process = WasiProcess(
            arguments=[_argument(self.name), *chosen["args"]],
            environment=environment,
            directories=guest_dirs,
            stdin=chosen["stdin"],
            stdout=chosen["stdout"],
            stderr=chosen["stderr"],
        )
        linker = Linker(
            process=self._process,
            cache=code_cache,
            locator=Locator(
                search_path,
                default_path=[os.path.dirname(file.path)] if file and file.path else [],
                guest_dirs=guest_dirs,
                guest_library_path=environment.get("LD_LIBRARY_PATH", ""),
                path_length=limits.path_length,
            ),
            limits=limits,
            bind_now=chosen["bind_now"],
            threads=threads,
            preempt=chosen["preempt"],
            rewrite_waits=chosen["rewrite_waits"],
            rendezvous_timeout=chosen["rendezvous_timeout"],
            stack_size=stack_size,
            name=self.name,
            imports=given,
            tracer=tracer,
        )
        try:
            with (
                Deadline(linker, chosen["load_timeout"], self.name, ends=True),
                tracer.span("start", program=self.name),
            ):
                begun = begin_operation()
                try:
                    start(linker, code_cache, file, preloaded, stack_size=stack_size)
                finally:
                    end_operation(begun)
        except BaseException:
            linker.threads = None
            self._process.close()
            self._write_trace()
            raise
        self._linker = linker
        self._main_lock = linker.context.main_lock

    def __repr__(self) -> str:
        return f"<Program {self.name!r}{' (closed)' if self.closed else ''}>"

    def _entered(self, *, operates: bool = True) -> AbstractContextManager[Linker]:
        """Take the calling thread's group, and check that the program is open.

        A thread of the guest has a group of its own; all others take turns with the main group. It
        is for an operation of the linker, and a LinkError if the thread is in the middle of
        another; or, without ``operates``, for a call of the guest, which is always possible.
        """
        linker = self._linker
        if linker is not None and linker.context.shared.cause == Cause.FORKED:
            raise linker.context.shared.aborted()
        return _Entered(self, operates)

    def _taken_over(self) -> AbstractContextManager[Linker | None]:
        """Take the program for closing it: calls of the guest that other threads make meanwhile stop. None: another has closed it."""
        linker = self._linker
        if linker is not None and linker.context.is_guest_thread:
            return self._entered()
        return _TakenOver(self, linker)

    @property
    def _running(self) -> Linker | None:
        """The linker, also while the guest of a program that is closed comes to its end; None when all is gone."""
        return self._linker or self._ending

    @property
    def _is_gone(self) -> bool:
        """Whether there is nothing to unload: the program is closed, or was left behind in the parent of this process."""
        linker = self._linker
        return linker is None or linker.context.shared.cause == Cause.FORKED

    def _knows(self, module: LoadedModule) -> bool:
        linker = self._linker
        return linker is None or module in linker.state.known

    def run(self, *, timeout: float | None = None) -> int:
        """Run the main module from ``_start`` and return its exit status (0 to 255).

        Blocks until it ends. After ``timeout`` seconds the program is ended with all its threads,
        and TimeoutExpired is raised. No destructors run, and every later call, load and spawn is a
        SynchronizationAborted.

        Its threads end with it. Raises ``wasmtime.Trap`` if it or one of its threads traps,
        UndefinedSymbolError if it called a function that nobody defines (``__cause__`` is the
        trap), AlreadyRunError the second time; KeyboardInterrupt if a signal says so, with all
        threads stopped.
        """
        check_seconds(timeout)
        with self._entered() as linker, Deadline(linker, timeout, self.name, ends=True):
            main = linker.main
            if main is None or not main.lifecycle_function("_start", FuncType((), ())):
                raise UndefinedSymbolError(
                    [UndefinedSymbol(self.name, "_start", "function")],
                    note="it is a library: call its functions instead",
                )
            if self._ran:
                raise AlreadyRunError(
                    f"{self.name} has run already: a program starts once", module=self.name
                )
            self._ran = True
            if linker.threads is None:
                return self._run(linker, main) & 0xFF
            try:
                status = self._run(linker, main)
            except SynchronizationAborted as aborted:
                # Another thread has ended the program: with a status, or by crashing.
                linker.threads.end(failure=aborted)
            except BaseException as error:
                linker.threads.end(failure=error)
                linker.threads.join_all()
                raise
            else:
                linker.threads.end(status=status)
            linker.threads.join_all()
            return linker.threads.outcome() & 0xFF

    @staticmethod
    def _run(linker: Linker, main: LoadedModule) -> int:
        """Run main and then the destructors that are left; returns the exit status."""
        status = 0
        try:
            linker.group.call(linker.group.function(main, "_start"))
        except wasmtime.ExitTrap as exit_:
            status = exit_.code
        try:
            linker.finalize()
        except wasmtime.ExitTrap as exit_:
            status = exit_.code
        return status

    def interrupt(self) -> bool:
        """Stop the call of the guest that is in progress, which raises Interrupted.

        False: there is none, and nothing happens. For any thread, and for signal handlers; never
        blocks, and does not wait for the call to stop. The guest stops wherever it computes, waits
        or sleeps, with all calls of it that are inside one another; a Python function that the
        guest calls is waited for. A call that is about to end anyway may end as if nothing had
        happened; a call that begins later is never stopped.

        Afterwards the program can be used: its stack is as it was before the call, its memory as
        the guest left it, in the middle of what it did. A program that was stopped inside the
        linker (in ``dlopen``, ``dlclose``, a constructor) ends instead. So does one that was
        made with threads, with all of them, if any of its guest code runs: its calls raise
        SynchronizationAborted, with the Interrupted as ``__cause__``, and ``run()`` the
        Interrupted.
        """
        linker = self._running
        if linker is None:
            return False
        reason = Interrupted(f"{self.name} was interrupted", module=self.name)
        threads = linker.threads
        if threads is None:
            return linker.context.stop_call(reason)
        if not len(threads) and not linker.context.main_group.native.is_running:
            return False
        threads.end(failure=reason)
        return True

    def time_limit(self, seconds: float | None) -> AbstractContextManager[None]:
        """Stop the guest if what is inside a ``with`` of this takes longer than ``seconds`` (None: for ever).

        ``with program.time_limit(2): library.work()`` raises TimeoutExpired after two seconds. The
        guest stops wherever it computes, waits or sleeps; a Python function that the guest calls is
        waited for. It is about the calls that the calling thread makes inside, and its wait for its
        turn; calls of other threads go on. Afterwards the program can be used: its stack is as it
        was before the call, its memory as the guest left it, in the middle of what it did.

        A program that was made with threads ends instead, whether any runs or not, as it does if
        the guest was stopped inside the linker (in ``dlopen``, ``dlclose``, a constructor): no
        destructors run, and every later call, load and spawn is a SynchronizationAborted. May be
        nested, and used from any thread.
        """
        check_seconds(seconds)
        linker = self._linker
        if linker is None:
            raise ClosedError(f"program {self.name} is closed", module=self.name)
        if linker.context.shared.cause == Cause.FORKED:
            raise linker.context.shared.aborted()
        return Deadline(linker, seconds, self.name, ends=False)

    def spawn(self, function: Function | str | Callable[..., Any], *arguments: Any) -> GuestThread:
        """Call a function on a new thread of the guest: ``spawn("work", 1, 2).join()`` gives what it returns.

        Needs ``threads=True``. The thread has instances, a stack and thread-local data of its own.
        ``function`` is a name, looked up in the program, or a Function of it, or any other
        callable: Python that runs as a thread of the guest, so that what it calls and opens in this
        program happens there. Blocks until the thread exists. Raises what kept it from existing,
        TypeError for wrong arguments. A trap or exit of the thread ends the program, and so does an
        exception that a guest it called has seen; another exception of ``function`` comes out of
        ``join`` alone.
        """
        if not isinstance(function, str) and not callable(function):
            raise TypeError(
                f"function is {type(function).__name__}; give a name, a Function or a Python function"
            )
        linker = self._linker
        if linker is not None and linker.threads is None and not self._is_gone:
            raise UnsupportedError(
                f"{self.name}: spawn needs a program that was created with threads=True",
                module=self.name,
            )
        if isinstance(function, str):
            function = self.main[function]
        with self._entered() as linker:
            threads = linker.threads
            assert threads is not None
            call = (
                function.prepared(self, arguments)
                if isinstance(function, Function)
                else functools.partial(function, *arguments)
            )
            return threads.start(lambda _group: call(), needs_stack=True)

    @property
    def stdout(self) -> bytes:
        """What the guest wrote to its standard output so far.

        ValueError without ``stdout=CAPTURE``, ClosedError after close.
        """
        return self._process.captured("stdout")

    @property
    def stderr(self) -> bytes:
        """What the guest wrote to its standard error so far.

        ValueError without ``stderr=CAPTURE``, ClosedError after close.
        """
        return self._process.captured("stderr")

    def dlopen(self, name: ModuleSource | ModuleBytes, mode: int = RTLD_LAZY) -> Library:
        """Open a library: load it and what it needs, unless it is there already.

        ``name`` is a ``str`` (with a slash a path, else the library is searched for), a path
        object, or the bytes of a module. ``mode`` combines ``RTLD_LAZY`` or ``RTLD_NOW``,
        ``RTLD_GLOBAL``, ``RTLD_NOLOAD``, ``RTLD_NODELETE``. Raises LinkError children, after which
        nothing has changed; ExitTrap if a constructor exits.
        """
        source = as_module(name, "name")
        if isinstance(mode, bool) or not isinstance(mode, int):
            raise TypeError(f"mode={mode!r}: combine pylinker.RTLD_NOW and the like")
        with self._entered() as linker:
            return Library(self, linker.load_module(source, mode, trusted=True))

    def dlsym(self, handle: Library | int, name: str) -> int:
        """Return the address of a data symbol or the table slot of a function.

        ``handle`` is a library, ``RTLD_DEFAULT`` (the global scope) or ``RTLD_NEXT`` (what comes
        after the main module in it; without one, the global scope). Raises SymbolNotFoundError.
        """
        if not isinstance(name, str):
            raise TypeError(f"name is {type(name).__name__}; give the name of a symbol")
        if isinstance(handle, Library):
            if handle._handle.program is not self:
                raise ValueError(f"{handle!r} belongs to another program")
            return handle.address_of(name)
        if handle not in (RTLD_DEFAULT, RTLD_NEXT):
            raise ValueError(f"handle {handle!r}: give a Library, RTLD_DEFAULT or RTLD_NEXT")
        with self._entered() as linker:
            return linker.resolve_export(handle, name, linker.main)

    def dladdr(self, address: int | None = None, *, slot: int | None = None) -> SymbolInfo | None:
        """Tell which module and symbol an address (bytes) or a table slot belongs to, or None."""
        if (address is None) == (slot is None):
            raise TypeError("dladdr takes either an address or slot=...")
        with self._entered() as linker:
            return linker.symbols.symbol_at(address=address, slot=slot)

    @property
    def main(self) -> Library:
        """The program as a library: its global scope, the main module first.

        Closing it unloads nothing.
        """
        with self._entered(operates=False) as linker:
            return Library(self, linker.main)

    @property
    def memory(self) -> Memory:
        """The guest's memory."""
        with self._entered(operates=False) as linker:
            return linker.memory

    @property
    def libraries(self) -> tuple[ModuleSummary, ...]:
        """All modules in the order they were loaded, the main module first."""
        with self._entered(operates=False) as linker:
            return tuple(
                ModuleSummary(
                    name=module.name,
                    path=module.path,
                    memory_base=module.memory_base,
                    memory_size=module.memory_size,
                    table_base=module.table_base,
                    table_size=module.table_size,
                    needed=tuple(each.name for each in module.needed),
                    references=module.handles,
                )
                for module in linker.state.modules
            )

    def statistics(self) -> Statistics:
        """Return a snapshot of the program's size, its maps, its threads and their waits.

        Blocks for the linker's lock.
        """
        with self._entered() as linker:
            return snapshot(linker)

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` has released the program.

        A thread of the guest that closes its program only ends it.
        """
        return self._linker is None

    def close(self) -> None:
        """End the program and release it: its guest stops, and its functions cannot be called any more. A second time does nothing.

        A call of the guest that another thread is making, and all threads of the guest, get a
        SynchronizationAborted. Python functions that they have called are waited for; the guest
        that has called ``close`` itself goes on to its end. A thread of the guest ends the program,
        and another ``close`` releases it. A ``Memory`` that was got before, and its views, keep the
        memory readable.

        Does not run destructors, as a killed process does not; ``run`` has run them if the program
        ended by itself.
        """
        linker = self._linker
        if linker is not None and linker.context.shared.cause == Cause.FORKED:
            self._linker = None  # all else is the parent's
            return
        if linker is not None and linker.threads is not None:
            linker.threads.end(
                status=0
            )  # before anything is waited for: the main thread may be in the guest
            if linker.context.is_guest_thread:
                return  # this thread is one of those that end; who runs main, or closes the program next, cleans up

        def stop() -> None:  # what other threads run, for good
            if linker is None or linker.threads is not None:
                return
            if self._main_lock.is_elsewhere:
                linker.context.shared.cancel(
                    Cause.CLOSED, ClosedError(f"program {self.name} is closed", module=self.name)
                )
                bump_epoch()
                linker.context.check_in_time()

        stop()
        with self._main_lock.taken(stop):  # again, if another call has begun
            # A function of Python's that the guest calls may be what closes the program: the guest
            # goes on when that returns. What it needs then goes with the next close, or with the
            # program.
            ending = self._running
            self._ending = (
                ending
                if ending is not None and ending.context.main_group.native.is_running
                else None
            )
            self._linker = None
            if linker is not None:
                tell_statistics(linker, self.name)
                linker.context.main_group.close_prepared()
            if linker is not None and linker.threads is not None:
                linker.threads.join_all()
                linker.threads = None
            self._process.close()
            self._write_trace()

    def _drop(self) -> None:
        linker: Linker | None = getattr(self, "_linker", None)
        if (
            linker is not None
            and linker.threads is not None
            and linker.context.shared.cause != Cause.FORKED
        ):
            linker.threads.abandon()

    def _write_trace(self) -> None:
        trace, self._trace = self._trace, None
        if trace is not None:
            trace.write(self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Entered(Scope):
    """The main lock of an open program, from entering to leaving, which a thread of the guest does not need."""

    __slots__ = ("_begun", "_depth", "_operates", "_program")

    def __init__(self, program: Program, operates: bool) -> None:  # noqa: FBT001
        self._program = program
        self._operates = operates
        self._begun = False
        self._depth = program._main_lock.depth

    def enter(self) -> Linker:
        """Take it."""
        self._begun = self._operates and begin_operation()
        program = self._program
        # Of a closed program not even the main lock is waited for: the thread that closes has it, and
        # waits for the guest's threads.
        linker = program._linker
        if linker is not None and not linker.context.is_guest_thread:
            program._main_lock.take(linker.context.check_in_time)
            linker = program._linker
        if linker is None:
            raise ClosedError(f"program {program.name} is closed", module=program.name)
        return linker

    def leave(self, _error: BaseException | None) -> None:
        """Give it back."""
        self._program._main_lock.restore(self._depth)
        end_operation(self._begun)


class _TakenOver(Taken):
    """The main lock of a program that is to be closed; another thread may close it first, and then there is nothing to take over.

    Calls of the guest that other threads make stop, unless the program has threads: its end stops
        those.
    """

    __slots__ = ("_begun", "_linker", "_program", "_reason")

    def __init__(self, program: Program, linker: Linker | None) -> None:
        super().__init__(program._main_lock, None)
        self._program = program
        self._linker = linker
        self._begun = False
        self._reason = SynchronizationAborted("the program has ended")
        self._reason.__cause__ = ClosedError(
            f"program {program.name} is closed", module=program.name
        )

    def _stop(self) -> None:
        linker = self._linker
        if linker is not None and self._program._main_lock.is_elsewhere:
            if linker.threads is None:
                linker.context.stop_call(self._reason)
            linker.context.check_in_time()

    def enter(self) -> Linker | None:  # type: ignore[override]
        """Take it; None: the program is closed."""
        self._begun = begin_operation()
        if self._program._linker is None:
            return None
        self._stop()
        self._mutex.take(self._stop)  # and again, if another call has begun
        return self._program._linker

    def leave(self, error: BaseException | None) -> None:
        """Give it back."""
        super().leave(error)
        end_operation(self._begun)


class CDLL(Library):
    """A library used by itself, as ``ctypes.CDLL`` uses a native one: in a program of its own, without a main module.

    ``name`` is a ``str`` (with a slash a path, else it is searched for in ``library_path``), a path
    object, or the bytes of a module. Takes the keywords of :class:`Program`, which is ``.program``;
    libraries in ``preload`` come first in the scope. Closing it runs the libraries' destructors and
    closes the program.
    """

    @shows_options
    def __init__(self, name: ModuleSource | ModuleBytes, **options: Unpack[Options]) -> None:
        source = as_module(name, "name")
        options["preload"] = [*as_modules(options.get("preload", ()), "preload"), source]
        program = Program(
            None,
            name=os.path.basename(source) if isinstance(source, str) else source.name,
            **options,
        )
        with program._entered() as linker:
            module = linker.load_module(source, trusted=True)
        super().__init__(program, module)

    @property
    def program(self) -> Program:
        """The program around the library."""
        return self._handle.program

    def close(self) -> None:
        """Run the destructors of all libraries and close the program. A second time does nothing.

        A call of the guest that another thread is making stops before that, as
        :meth:`Program.close` stops it. Waits for the destructors, which are code of the guest and
        may run for ever: ``with lib.program.time_limit(2):`` around it bounds them. Then, and if
        one raises, the program is closed all the same, and that error is raised.
        """
        if self._handle.open and not self.program._is_gone:
            with self.program._taken_over() as linker:
                try:
                    if (
                        linker is not None and not linker.context.shared.cause
                    ):  # else it has ended: as one that was killed
                        linker.finalize()
                finally:
                    self.program.close()
        super().close()


def _all_of(observers: Sequence[Observer]) -> Observer:
    """Return one observer for whoever wants to know of compilations."""

    def tell(what: Compiling) -> None:
        for each in observers:
            each(what)

    return tell


def _argument(name: str) -> str:
    """Return the name of a program as WASI takes it: a file may have one that is not Unicode."""
    return name.encode("utf-8", "replace").decode().replace("\0", "?")


def _main_file(
    main: ModuleSource | ModuleBytes | None, name: str | None, limits: Limits
) -> MainFile | None:
    if main is None:
        return None
    source = as_module(main, "main")
    if isinstance(source, ModuleBytes):
        shown = name or (source.name if source is main else "main")
        return MainFile(shown, None, check_size(shown, source.data, limits.library_size))
    shown = os.path.basename(source)
    return MainFile(shown, *read_file(shown, source, limits.library_size, role="main module"))


def _cache(choice: bool | StrPath) -> CodeCache:  # noqa: FBT001
    """Return the process's cache for a directory; modules kept in memory are shared by all programs."""
    directory = (
        default_cache_directory() if choice is True else None if choice is False else Path(choice)
    )
    with _caches_lock:
        return _caches.get(directory) or _caches.setdefault(directory, CodeCache(directory))
