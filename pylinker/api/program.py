"""A program: a main module, its libraries, and the process they run in."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wasmtime

from pylinker._pickling import OfOneProcess
from pylinker.api.function import Function
from pylinker.api.handle import Handle
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
from pylinker.api.session import Session
from pylinker.api.statistics import Statistics, snapshot
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
from pylinker.runtime.code import CodeCache, default_cache_directory
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

__all__ = ["ModuleSummary", "Program"]

_caches: dict[Path | None, CodeCache] = {}
# Recursive: a signal handler may make a program while its thread holds the lock.
_caches_lock = threading.RLock()
free_in_child(_caches_lock)


@dataclass(frozen=True)
class ModuleSummary:
    """A loaded module."""

    name: str
    """The name by which it was loaded."""
    path: str | None
    """The path of its file, or None."""
    memory_base: int
    """The address of its data."""
    memory_size: int
    """The size of its data in bytes."""
    table_base: int
    """The first slot of its element segments."""
    table_size: int
    """The number of their slots."""
    needed: tuple[str, ...]
    """The names of the libraries that it needs."""
    references: int
    """The number of open handles."""


class Program(OfOneProcess):
    """A program of WebAssembly modules, linked and ready to run.

    The main module is loaded, with everything it needs and ``preload`` (libraries that come right
    after it in the scope), and the libraries are constructed; :meth:`run` then starts it. A
    library, in ``preload`` and for :meth:`dlopen`, is a ``str`` (a name to search for, or with a
    slash a path), a path object, or the bytes of a module (:class:`ModuleBytes` gives them a name).

    Threads: any; they take turns.

    Args:
        main: The main module: a path, or its bytes, or None for a set of libraries without one.
        name: The name of a module that is given as bytes.
        **options: :class:`pylinker.Options`.

    Raises:
        LinkError: The program cannot be linked: LibraryNotFoundError for a main module that cannot
            be read, TimeoutExpired, and others.
        OSError: A file or directory of the other arguments cannot be opened.
        TypeError: An argument has the wrong type.
        ValueError: An argument has a wrong value.
    """

    name: str
    """The name of the program."""

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
        _check_stack_size(stack_size, limits)
        file = _main_file(main, name, limits)
        self.name = name or (file.name if file else "program")
        self._ran = False
        trace = TraceFile(chosen["trace"]) if chosen["trace"] is not None else None
        tracer = trace.tracer if trace else UNTRACED
        cache = _observed(_cache(chosen["cache"]), chosen["progress"], tracer.observer)
        if threads is None:
            threads = file is not None and starts_threads(cache.parse(file.data, name=file.name))
        process = _process(self.name, chosen, environment, guest_dirs)
        self._session = Session(self.name, process, trace)
        self._handle = Handle(self._session, None)
        linker = Linker(
            process=process,
            cache=cache,
            locator=_locator(file, search_path, guest_dirs, environment, limits),
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
                _start(linker, cache, file, preloaded, stack_size)
        except BaseException:
            self._session.give_up(linker)
            raise
        self._session.begin(linker)

    def __repr__(self) -> str:
        return f"<Program {self.name!r}{' (closed)' if self.closed else ''}>"

    @property
    def _linker(self) -> Linker | None:
        return self._session.linker

    def run(self, *, timeout: float | None = None) -> int:
        """Run the main module from ``_start`` and return its exit status (0 to 255).

        Blocks: until it ends. Its threads end with it.

        Args:
            timeout: Seconds, or None for no limit. Then the program is ended with all its threads:
                no destructors run, and every later call, load and spawn is a
                SynchronizationAborted.

        Raises:
            TimeoutExpired: After ``timeout``.
            wasmtime.Trap: The program or one of its threads trapped.
            UndefinedSymbolError: It called an undefined function; ``__cause__`` is the trap.
            AlreadyRunError: The program has run before.
            KeyboardInterrupt: A signal handler raised it; all threads were stopped.
        """
        check_seconds(timeout)
        with self._session.entered() as linker, Deadline(linker, timeout, self.name, ends=True):
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
        """Run main and then the remaining destructors; returns the exit status."""
        status = 0
        try:
            linker.group.call(linker.group.function(main, "_start"))
        except wasmtime.ExitTrap as exit_:
            status = exit_.code
        try:
            linker.unloader.finalize_all()
        except wasmtime.ExitTrap as exit_:
            status = exit_.code
        return status

    def interrupt(self) -> bool:
        """Stop the call of the guest that is in progress, which raises Interrupted.

        Threads: any, and signal handlers. Blocks: never, and does not wait for the call to stop.
        The guest stops wherever it computes, waits
        or sleeps, with all calls of it that are inside one another; a Python function that the
        guest calls is waited for. A call that is about to end anyway may end as if nothing had
        happened; a call that begins later is never stopped.

        Afterwards the program can be used: its stack is as it was before the call, its memory as
        the guest left it, in the middle of what it did. A program that was stopped inside the
        linker (in ``dlopen``, ``dlclose``, a constructor) ends instead. So does one that was
        made with threads, with all of them, if any of its guest code runs: its calls raise
        SynchronizationAborted, with the Interrupted as ``__cause__``, and ``run()`` the
        Interrupted.

        Returns:
            Whether there was a call.
        """
        linker = self._session.running
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
        """Return a context manager that stops the guest if its block takes too long.

        ``with program.time_limit(2): library.work()`` raises TimeoutExpired after two seconds. The
        guest stops wherever it computes, waits or sleeps; a Python function that the guest calls is
        waited for. It is about the calls that the calling thread makes inside, and its wait for its
        main lock; calls of other threads go on. Afterwards the program can be used: its stack is as
        it was before the call, its memory as the guest left it, in the middle of its work.

        A program that was made with threads ends instead, whether any runs or not, as it does if
        the guest was stopped inside the linker (in ``dlopen``, ``dlclose``, a constructor): no
        destructors run, and every later call, load and spawn is a SynchronizationAborted. May be
        nested. Threads: any.

        Args:
            seconds: The limit; None is no limit.
        """
        check_seconds(seconds)
        linker = self._linker
        if linker is None:
            raise ClosedError(f"program {self.name} is closed", module=self.name)
        if linker.context.shared.cause == Cause.FORKED:
            raise linker.context.shared.aborted()
        return Deadline(linker, seconds, self.name, ends=False)

    def spawn(self, function: Function | str | Callable[..., Any], *arguments: Any) -> GuestThread:
        """Call a function on a new thread of the guest.

        ``spawn("work", 1, 2).join()`` returns its result. The program needs ``threads=True``. The
        thread has instances, a stack and thread-local data of its own. A trap or exit of the thread
        ends the program, and so does an exception that a guest it called has seen; another
        exception of ``function`` is raised by ``join`` alone.

        Blocks: until the thread exists.

        Args:
            function: A name, looked up in the program, or a Function of it, or any other callable:
                Python that runs as a thread of the guest, so that its calls of and loads in this
                program happen there.
            *arguments: The arguments of the function.

        Raises:
            TypeError: The arguments are wrong.
            LinkError: The thread could not be created.
        """
        if not isinstance(function, str) and not callable(function):
            raise TypeError(
                f"function is {type(function).__name__}; "
                "give a name, a Function or a Python function"
            )
        linker = self._linker
        if linker is not None and linker.threads is None and not self._session.is_gone:
            raise UnsupportedError(
                f"{self.name}: spawn needs a program that was created with threads=True",
                module=self.name,
            )
        if isinstance(function, str):
            function = self.main[function]
        with self._session.entered() as linker:
            threads = linker.threads
            assert threads is not None
            call = (
                function.prepared(self._session, arguments)
                if isinstance(function, Function)
                else functools.partial(function, *arguments)
            )
            return threads.start(lambda _group: call(), needs_stack=True)

    @property
    def stdout(self) -> bytes:
        """The standard output of the guest so far.

        Raises:
            ValueError: The program was made without ``stdout=CAPTURE``.
            ClosedError: The program is closed.
        """
        return self._session.process.captured("stdout")

    @property
    def stderr(self) -> bytes:
        """The standard error of the guest so far.

        Raises:
            ValueError: The program was made without ``stderr=CAPTURE``.
            ClosedError: The program is closed.
        """
        return self._session.process.captured("stderr")

    def dlopen(self, name: ModuleSource | ModuleBytes, mode: int = RTLD_LAZY) -> Library:
        """Open a library: load it and what it needs, unless it is loaded already.

        Args:
            name: A ``str`` (with a slash a path, else the library is searched for), a path object,
                or the bytes of a module.
            mode: A combination of ``RTLD_LAZY`` or ``RTLD_NOW``, ``RTLD_GLOBAL``, ``RTLD_NOLOAD``,
                ``RTLD_NODELETE``.

        Raises:
            LinkError: The library cannot be loaded; nothing has changed.
            wasmtime.ExitTrap: A constructor exited.
        """
        source = as_module(name, "name")
        if isinstance(mode, bool) or not isinstance(mode, int):
            raise TypeError(f"mode={mode!r}: combine pylinker.RTLD_NOW and the like")
        with self._session.entered() as linker:
            return Library(self._session, linker.load_module(source, mode, trusted=True))

    def dlsym(self, handle: Library | int, name: str) -> int:
        """Return the address of a data symbol or the table slot of a function.

        Args:
            handle: A library, ``RTLD_DEFAULT`` (the global scope) or ``RTLD_NEXT`` (the modules
                after the main module in it; without a main module, the global scope).
            name: The symbol.

        Raises:
            SymbolNotFoundError: The symbol is undefined in the scope.
        """
        if not isinstance(name, str):
            raise TypeError(f"name is {type(name).__name__}; give the name of a symbol")
        if isinstance(handle, Library):
            if handle._handle.session is not self._session:
                raise ValueError(f"{handle!r} belongs to another program")
            value = handle._handle.address(name)
            return handle.address_of(name) if value is None else value
        if handle not in (RTLD_DEFAULT, RTLD_NEXT):
            raise ValueError(f"handle {handle!r}: give a Library, RTLD_DEFAULT or RTLD_NEXT")
        if handle == RTLD_DEFAULT:
            value = self._address(name)
            if value is not None:
                return value
        with self._session.entered() as linker:
            return linker.handles.resolve_export(handle, name, linker.main)

    def _address(self, name: str) -> int | None:
        """Return the value of a symbol of the global scope, or None if that takes an operation."""
        linker = self._linker
        if linker is None or name == "main" or ("env", name) in linker.state.imports:
            return None
        return self._handle.address(name)

    def dladdr(self, address: int | None = None, *, slot: int | None = None) -> SymbolInfo | None:
        """Return the module and symbol of an address (bytes) or a table slot, or None."""
        if (address is None) == (slot is None):
            raise TypeError("dladdr takes either an address or slot=...")
        with self._session.entered() as linker:
            return linker.symbols.symbol_at(address=address, slot=slot)

    @property
    def main(self) -> Library:
        """The program as a library: its global scope, the main module first.

        Closing it unloads nothing.
        """
        with self._session.entered(operates=False) as linker:
            return Library(self._session, linker.main)

    @property
    def memory(self) -> Memory:
        """The guest's memory."""
        with self._session.entered(operates=False) as linker:
            return linker.memory

    @property
    def libraries(self) -> tuple[ModuleSummary, ...]:
        """All modules in the order they were loaded, the main module first."""
        with self._session.entered(operates=False) as linker:
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

        Blocks: for the linker's lock.
        """
        with self._session.entered() as linker:
            return snapshot(linker)

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` has released the program.

        A thread of the guest that closes its program only ends it.
        """
        return self._linker is None

    def close(self) -> None:
        """End the program and release it. A second time does nothing.

        Its guest stops, and its functions cannot be called any more.

        A call of the guest that another thread is making, and all threads of the guest, get a
        SynchronizationAborted. Python functions that they have called are waited for; the guest
        that has called ``close`` itself goes on to its end. A thread of the guest ends the program,
        and another ``close`` releases it. A ``Memory`` that was got before, and its views, keep the
        memory readable.

        Does not run destructors, as a killed process does not; ``run`` has run them if the program
        ended by itself.
        """
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _check_stack_size(stack_size: int, limits: Limits) -> None:
    if stack_size > limits.memory:
        raise ValueError(
            f"the memory limit of {limits.memory} is smaller than stack_size={stack_size} "
            "(by default 1048576)"
        )
    if stack_size <= 0:
        raise ValueError(f"stack_size={stack_size}: give bytes, 1 or more")


def _start(
    linker: Linker,
    cache: CodeCache,
    file: MainFile | None,
    preloaded: Sequence[str | ModuleBytes],
    stack_size: int,
) -> None:
    """Load a program, as an operation of the calling thread."""
    begun = begin_operation()
    try:
        start(linker, cache, file, preloaded, stack_size=stack_size)
    finally:
        end_operation(begun)


def _observed(cache: CodeCache, *observers: Observer | None) -> CodeCache:
    """Return a cache that notifies all of these observers of compilations."""
    wanted = [each for each in observers if each is not None]
    if not wanted:
        return cache

    def tell(what: Compiling) -> None:
        for each in wanted:
            each(what)

    return cache.observed(tell)


def _argument(name: str) -> str:
    """Return the name of a program for WASI: that of a file may not be Unicode."""
    return name.encode("utf-8", "replace").decode().replace("\0", "?")


def _process(
    name: str, chosen: Options, environment: Mapping[str, str], directories: Mapping[str, str]
) -> WasiProcess:
    return WasiProcess(
        arguments=[_argument(name), *chosen["args"]],
        environment=environment,
        directories=directories,
        stdin=chosen["stdin"],
        stdout=chosen["stdout"],
        stderr=chosen["stderr"],
    )


def _locator(
    main: MainFile | None,
    search_path: Sequence[StrPath],
    directories: Mapping[str, str],
    environment: Mapping[str, str],
    limits: Limits,
) -> Locator:
    return Locator(
        search_path,
        default_path=[os.path.dirname(main.path)] if main and main.path else [],
        guest_dirs=directories,
        guest_library_path=environment.get("LD_LIBRARY_PATH", ""),
        path_length=limits.path_length,
    )


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
    """Return the process's cache for a directory.

    Modules that it keeps in memory are shared by all programs.
    """
    directory = (
        default_cache_directory() if choice is True else None if choice is False else Path(choice)
    )
    with _caches_lock:
        return _caches.get(directory) or _caches.setdefault(directory, CodeCache(directory))
