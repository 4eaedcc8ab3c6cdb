"""What can go wrong, and whose fault it is.

What is wrong with a module or symbol, or with the use of a program, is a :class:`LinkError`: it
carries the module and the symbol it is about, if there is one, and also inherits the builtin a
Python programmer would catch (``ValueError``, ``LookupError``, ...). Arguments of a wrong type or
value are a TypeError, ValueError or OverflowError, files that cannot be opened an OSError. A trap
in guest code is ``wasmtime.Trap``, unchanged. :class:`InternalError` is not a ``LinkError``: it
says that pylinker broke one of its own invariants, which is a bug to report and never the guest's
doing.
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
    """Return a message fit for a terminal: names in it may come from a hostile file."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode()
        for each in text
    )


def _one_line(name: str) -> str:
    """Return a name with its line breaks escaped, for a message whose lines mean something."""
    return name.replace("\n", "\\n")


def _restored(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """Return an exception without the call of its ``__init__``, whose parameters are not ``args``."""
    base: Any = kind
    while base.__module__ != "builtins":
        base = (
            base.__base__
        )  # which decides the layout: ``kind.__new__`` may be that of another base, and is refused
    error: BaseException = base.__new__(kind)
    error.args = args
    return error


class _Picklable(Exception):  # noqa: N818 - a base of errors
    """An exception that can be copied and pickled whatever parameters its ``__init__`` has."""

    def __reduce__(self) -> tuple[Callable[..., BaseException], tuple[Any, ...], dict[str, Any]]:
        return _restored, (type(self), self.args), dict(self.__dict__)


class LinkError(_Picklable):
    """Base of all errors about modules, symbols and their use.

    It can be copied and pickled, but for its ``__cause__``.

    Attributes: ``message`` (str), ``module`` (str or None, the name of the module it is about),
        ``symbol`` (str or None).
    """

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
    """The bytes are not a valid WebAssembly module.

    Attributes: ``section`` (str or None) and ``offset`` (int or None, bytes from the start of the
        file).
    """

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
    """A valid module, but not one that can play this part (no ``dylink.0`` section, no table to share, ...)."""


class LibraryNotFoundError(LinkError, FileNotFoundError):
    """A library was not found.

    ``searched`` lists every path that was tried, in order, each with the reason it was not taken.
    ``role`` is what it is in the message.
    """

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
    """One symbol nobody provides: the ``module`` that wants it, its ``symbol`` name and its ``kind``.

    ``kind`` is ``"function"``, ``"data"`` (``GOT.mem``), ``"function pointer"`` (``GOT.func``),
    ``"global"``, ``"table"``, ``"memory"`` or ``"tag"``.
    """

    module: str
    symbol: str
    kind: str

    def __str__(self) -> str:
        return f"{_one_line(self.symbol)} ({self.kind}, wanted by {_one_line(self.module)})"


class UndefinedSymbolError(LinkError, LookupError):
    """One or more symbols have no definition.

    ``undefined`` lists all of them (:class:`UndefinedSymbol`). The message says of those that are
    the C or C++ library's where they can be had.
    """

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
    """A symbol asked for by name (``lib.name``, ``lib["name"]``, ``dlsym``) is not defined in the scope searched."""


class SignatureMismatchError(LinkError, TypeError):
    """A definition exists under the wanted name, but its type is another.

    Attributes: ``wanted`` and ``found`` (the types, as text), ``provider`` (name of the module that
        defines it).
    """

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
    """More memory, table slots, modules, threads or bytes of a file are wanted than :class:`pylinker.Limits` allows, or than there are."""


class StackSizeError(LinkError, RecursionError):
    """The calling thread has less than 768 KiB of stack left to enter a guest; the guest was not entered.

    A guest may use 512 KiB, and a host function that it calls the rest.

    Give threads more before they start, with ``threading.stack_size`` or ``ulimit -s``. Threads
    that the guest starts have enough.
    """


class InitializationError(LinkError, RuntimeError):
    """A module's relocation or constructor trapped; ``__cause__`` is the trap. The load was undone.

    A constructor that exits raises ``wasmtime.ExitTrap`` instead.
    """


class UnsupportedError(LinkError, NotImplementedError):
    """The module uses a feature that pylinker or wasmtime does not support; the message names it."""


class MemoryAccessError(LinkError, IndexError):
    """An address range lies outside the guest's memory."""


class ClosedError(LinkError, ValueError):
    """The program or library was closed by its user before this call."""


class AlreadyRunError(LinkError, RuntimeError):
    """``run()`` was called twice: a WASI command starts once."""


class SynchronizationAborted(LinkError, RuntimeError):  # noqa: N818 - the name says what happened to the linker
    """The program has ended, or its linker was given up, for good; ``__cause__`` is the first reason, if that is an exception.

    All threads of the program get it, and every later call, load and spawn. Memory, ``libraries``,
    ``statistics()`` and output can be read until the program is closed.
    """


class RendezvousTimeout(LinkError, TimeoutError):  # noqa: N818 - as above
    """A thread did not come to a safepoint in ``rendezvous_timeout``, or was loading or closing libraries for so long; nothing has changed.

    ``thread`` is the number of the guest's thread that was waited for, 0 for the main thread, None
    in the second case. ``preempt=True`` makes every running thread come to a safepoint within
    milliseconds.
    """

    def __init__(self, message: str, *, thread: int | None = None) -> None:
        super().__init__(message)
        self.thread = thread


class Interrupted(LinkError, RuntimeError):  # noqa: N818 - the name says what happened to the call
    """``Program.interrupt()`` stopped the call of the guest, wherever it was; the program goes on.

    A program that was stopped inside the linker (in ``dlopen``, ``dlclose``, a constructor) does
    not: every later call, load and spawn is a SynchronizationAborted. A program that was made with
    threads ends, too, and its calls raise SynchronizationAborted, with this as ``__cause__``.
    """


class TimeoutExpired(LinkError, TimeoutError):  # noqa: N818 - as subprocess calls it
    """The guest was not done in time, so it was stopped, wherever it was.

    After ``run(timeout=)`` the program has ended, and every later call, load and spawn is a
    SynchronizationAborted; after ``load_timeout=`` there is none. After ``time_limit`` it goes on,
    unless it was made with threads or the guest was inside the linker. ``timeout`` is the time the
    guest had, in seconds. What it wrote is still in ``stdout`` and ``stderr`` of the program.
    """

    def __init__(self, message: str, *, module: str | None = None, timeout: float) -> None:
        super().__init__(message, module=module)
        self.timeout = timeout


class InternalError(_Picklable, RuntimeError):
    """pylinker broke one of its own invariants.

    Please report it: no guest and no file should be able to cause this.
    """

    def __init__(self, message: str) -> None:
        super().__init__(f"internal error: {message}")
