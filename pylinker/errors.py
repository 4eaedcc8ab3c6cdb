"""Exceptions of pylinker.

An error in a module or symbol, or in the use of a program, is a :class:`LinkError`: it carries the
module and the symbol that it concerns, if there is one, and also inherits the builtin that a Python
programmer would catch (``ValueError``, ``LookupError``, ...). Arguments of a wrong type or value
raise TypeError, ValueError or OverflowError; files that cannot be opened raise OSError. A trap in
guest code is ``wasmtime.Trap``, unchanged. :class:`InternalError` is not a ``LinkError``: pylinker
broke one of its own invariants, which is a bug to report and never the fault of a guest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pylinker import _libc

__all__ = [
    "AlreadyRunError",
    "ClosedError",
    "InitializationError",
    "InternalError",
    "Interrupted",
    "LibraryNotFoundError",
    "LimitError",
    "LinkError",
    "MemoryAccessError",
    "NotDynamicError",
    "ParseError",
    "RendezvousTimeout",
    "SignatureMismatchError",
    "StackSizeError",
    "SymbolNotFoundError",
    "SynchronizationAborted",
    "TimeoutExpired",
    "UndefinedSymbol",
    "UndefinedSymbolError",
    "UnsupportedError",
]


def _printable(text: str) -> str:
    """Return a message with control characters escaped, for names from a hostile file."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode()
        for each in text
    )


def _one_line(name: str) -> str:
    """Return a name with its line breaks escaped, for a message with one entry per line."""
    return name.replace("\n", "\\n")


def _restored(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """Return an exception without calling its ``__init__``: that may have other parameters."""
    base: Any = kind
    while base.__module__ != "builtins":
        # The builtin base decides the layout: the ``__new__`` of ``kind`` may be refused.
        base = base.__base__
    error: BaseException = base.__new__(kind)
    error.args = args
    return error


class _Picklable(Exception):  # noqa: N818 - a base of errors
    """An exception that can be copied and pickled whatever the parameters of its ``__init__``."""

    def __reduce__(self) -> tuple[Callable[..., BaseException], tuple[Any, ...], dict[str, Any]]:
        return _restored, (type(self), self.args), dict(self.__dict__)


class LinkError(_Picklable):
    """Base of all errors about modules, symbols and their use.

    It can be copied and pickled, except for its ``__cause__``.
    """

    message: str
    """The message, with control characters escaped."""
    module: str | None
    """Name of the module that the error concerns."""
    symbol: str | None
    """Name of the symbol that the error concerns."""

    def __init__(
        self, message: str, *, module: str | None = None, symbol: str | None = None
    ) -> None:
        message = _printable(message)
        super().__init__(message)
        self.message = message
        self.module = module
        self.symbol = symbol

    def __str__(self) -> str:
        return self.message


class ParseError(LinkError, ValueError):
    """The bytes are not a valid WebAssembly module."""

    section: str | None
    """Name of the section with the error."""
    offset: int | None
    """Offset of the error in bytes from the start of the file."""

    def __init__(
        self,
        message: str,
        *,
        module: str | None = None,
        section: str | None = None,
        offset: int | None = None,
    ) -> None:
        where = ", ".join(
            part
            for part in (
                section and f"section {section}",
                offset is not None and f"offset {offset:#x}",
            )
            if part
        )
        text = f"{module or 'module'}: {message}" + (f" ({where})" if where else "")
        super().__init__(text, module=module)
        self.section = section
        self.offset = offset


class NotDynamicError(LinkError, ValueError):
    """A valid module that cannot be used here (no ``dylink.0`` section, no table to share, ...)."""


class LibraryNotFoundError(LinkError, FileNotFoundError):
    """A library was not found."""

    requester: str | None
    """Name of the module that needs the library."""
    searched: tuple[tuple[str, str], ...]
    """Every path that was tried, in order, each with the reason why it was not used."""

    def __init__(
        self,
        name: str,
        *,
        searched: Sequence[tuple[str, str]] = (),
        requester: str | None = None,
        role: str = "library",
    ) -> None:
        lines = [f"{role} {name!r} not found" + (f", needed by {requester}" if requester else "")]
        lines += [f"  {_one_line(path)}: {reason}" for path, reason in searched]
        if not searched:
            lines.append(
                "  no directory to search: give library_path=[...] (on the command line: -L DIR)"
            )
        super().__init__("\n".join(lines), module=name)
        self.requester = requester
        self.searched = tuple(searched)


class UndefinedSymbol(NamedTuple):
    """An undefined symbol."""

    module: str
    """Name of the module that references the symbol."""
    symbol: str
    """Name of the symbol."""
    kind: str
    """``"function"``, ``"data"`` (``GOT.mem``), ``"function pointer"`` (``GOT.func``),
    ``"global"``, ``"table"``, ``"memory"`` or ``"tag"``."""

    def __str__(self) -> str:
        return f"{_one_line(self.symbol)} ({self.kind}, referenced by {_one_line(self.module)})"


class UndefinedSymbolError(LinkError, LookupError):
    """One or more symbols have no definition.

    For symbols of the C or C++ library the message says where to get them.
    """

    undefined: tuple[UndefinedSymbol, ...]
    """All undefined symbols of the load."""

    def __init__(self, undefined: Sequence[UndefinedSymbol], *, note: str = "") -> None:
        first = undefined[0]
        if len(undefined) == 1:
            message = f"{first.module}: undefined symbol: {_one_line(first.symbol)} ({first.kind})"
        else:
            message = f"{len(undefined)} undefined symbols:\n" + "\n".join(
                f"  {each}" for each in undefined
            )
        message += f"; {note}" if note else ""
        hint = _libc.advice(each.symbol for each in undefined)
        if hint:
            message += ("; " if len(undefined) == 1 else "\n") + hint
        super().__init__(message, module=first.module, symbol=first.symbol)
        self.undefined = tuple(undefined)


class SymbolNotFoundError(LinkError, AttributeError, KeyError):
    """A name (``lib.name``, ``lib["name"]``, ``dlsym``) is not defined in the scope searched."""


class SignatureMismatchError(LinkError, TypeError):
    """A symbol is defined, but with another type than its importer declares."""

    wanted: str
    """The type that the import declares, as text."""
    provider: str
    """Name of the module that defines the symbol."""
    found: str
    """The type of the definition, as text."""

    def __init__(
        self, *, module: str, symbol: str, wanted: str, provider: str, found: str, note: str = ""
    ) -> None:
        super().__init__(
            f"{module}: symbol {symbol}: wanted {wanted}, but {provider} defines it as {found}"
            + (f"; {note}" if note else ""),
            module=module,
            symbol=symbol,
        )
        self.wanted = wanted
        self.provider = provider
        self.found = found


class LimitError(LinkError, MemoryError):
    """A limit is exceeded: memory, table slots, modules, threads or bytes of a file.

    The limit is one of :class:`pylinker.Limits`, or of the system.
    """


class StackSizeError(LinkError, RecursionError):
    """The calling thread has less than 768 KiB of stack left, so the guest was not entered.

    A guest may use 512 KiB; the rest is for a host function that it calls.

    Increase the stack size of threads before they start, with ``threading.stack_size`` or
    ``ulimit -s``. Threads that the guest starts have enough.
    """


class InitializationError(LinkError, RuntimeError):
    """A module's relocation or constructor trapped; the load was rolled back.

    ``__cause__`` is the trap. A constructor that exits raises ``wasmtime.ExitTrap`` instead.
    """


class UnsupportedError(LinkError, NotImplementedError):
    """The module uses a feature that pylinker or wasmtime lacks; the message names it."""


class MemoryAccessError(LinkError, IndexError):
    """An address range lies outside the guest's memory."""


class ClosedError(LinkError, ValueError):
    """The program or library was closed by its user before this call."""


class AlreadyRunError(LinkError, RuntimeError):
    """``run()`` was called twice: a WASI command can be started only once."""


class SynchronizationAborted(LinkError, RuntimeError):  # noqa: N818 - named after the event
    """The program has ended or its linker was cancelled; both are permanent.

    ``__cause__`` is the first reason, if that is an exception. All threads of the program get this
    error, and so does every later call, load and spawn. Memory, ``libraries``, ``statistics()`` and
    output can be read until the program is closed.
    """


class RendezvousTimeout(LinkError, TimeoutError):  # noqa: N818 - as above
    """A thread did not reach a safepoint within ``rendezvous_timeout``; nothing has changed.

    The other case is a thread that was loading or unloading libraries for that long.
    ``preempt=True`` makes every running thread reach a safepoint within milliseconds.
    """

    thread: int | None
    """Number of the guest thread that was late, 0 for the main thread, None in the other case."""

    def __init__(self, message: str, *, thread: int | None = None) -> None:
        super().__init__(message)
        self.thread = thread


class Interrupted(LinkError, RuntimeError):  # noqa: N818 - as above
    """``Program.interrupt()`` stopped the call of the guest; the program can be used further.

    A program that was stopped inside the linker (in ``dlopen``, ``dlclose``, a constructor) cannot:
    every later call, load and spawn raises SynchronizationAborted. A program that was made with
    threads ends, too, and its calls raise SynchronizationAborted, with this as ``__cause__``.
    """


class TimeoutExpired(LinkError, TimeoutError):  # noqa: N818 - as subprocess calls it
    """The guest exceeded its time limit and was stopped.

    After ``run(timeout=)`` the program has ended, and every later call, load and spawn raises
    SynchronizationAborted; after ``load_timeout=`` there is no program. After ``time_limit`` the
    program can be used further, unless it was made with threads or the guest was inside the linker.
    The output so far is still in ``stdout`` and ``stderr`` of the program.
    """

    timeout: float
    """The time that the guest had, in seconds."""

    def __init__(self, message: str, *, module: str | None = None, timeout: float) -> None:
        super().__init__(message, module=module)
        self.timeout = timeout


class InternalError(_Picklable, RuntimeError):
    """pylinker broke one of its own invariants.

    Please report it: no guest and no file should be able to cause this.
    """

    def __init__(self, message: str) -> None:
        super().__init__(f"internal error: {message}")
