"""The keywords that ``Program`` and ``CDLL`` share, checked before anything is created.

A new one is an entry of :class:`Options` and of ``_DEFAULTS``, and its use in ``Program``.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypedDict, TypeVar, cast

from pylinker.linker import Limits, ModuleBytes

if TYPE_CHECKING:
    from pylinker.linker import Imports
    from pylinker.runtime.progress import Observer
    from pylinker.runtime.wasi import Input, Output

__all__ = [
    "ModuleSource",
    "Options",
    "StrPath",
    "as_limits",
    "as_module",
    "as_modules",
    "as_paths",
    "check_mapping",
    "check_texts",
    "shows_options",
    "with_defaults",
]

StrPath: TypeAlias = "str | os.PathLike[str]"
ModuleSource: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview"
"""A module: a name or path as ``str``, a path object, or the module itself as bytes."""

_F = TypeVar("_F", bound=Callable[..., Any])


class Options(TypedDict, total=False):
    """The keywords that :class:`pylinker.Program` and :class:`pylinker.CDLL` share.

    A function that makes programs can take them as ``**options: Unpack[pylinker.Options]``.
    """

    args: Sequence[str]
    """The program's arguments after its name."""
    env: Mapping[str, str] | None
    """Its environment; nothing is inherited."""
    dirs: Mapping[str, StrPath] | None
    """Directories of the guest, and the directories of the host that they are."""
    library_path: StrPath | Sequence[StrPath]
    """Directories of the host to search for libraries; one by itself is a list of one."""
    preload: ModuleSource | ModuleBytes | Sequence[ModuleSource | ModuleBytes]
    """Libraries that come right after the main module in the scope (first, in a CDLL)."""
    stdin: Input
    """None (this process's), bytes, or a path."""
    stdout: Output
    """None (this process's), ``CAPTURE``, ``DEVNULL`` or a path."""
    stderr: Output
    """As ``stdout``."""
    imports: Imports | None
    """Python functions for guests, by the name of an import of ``env``, or by module and name.

    They come before the definitions of all modules; the functions of pylinker come last. An
    exception of one is raised by the call that entered the guest.
    """
    bind_now: bool
    """Whether every symbol must be defined at once."""
    stack_size: int
    """Bytes of the guest's stack (where the linker lays it out), and of that of each thread."""
    threads: bool | None
    """Whether the guest may start threads, and ``spawn`` too; for modules with a shared memory.

    None: if the main module starts some. A library that is opened then appears in all of them,
    while each is outside guest code or at a host call.
    """
    preempt: bool
    """Whether a thread that only computes is interrupted when another opens a library."""
    rewrite_waits: bool
    """Whether others, Ctrl-C and the end of the program reach a thread in ``memory.atomic.wait``.

    Without it the instruction is wasmtime's own, and nothing reaches it.
    """
    rendezvous_timeout: float | None
    """Seconds to wait for threads when a library is opened, None for ever."""
    load_timeout: float | None
    """Seconds that loading and constructing may take, None for ever.

    The reading and compiling of a module is waited for.
    """
    limits: Limits | None
    """What the program may take."""
    cache: bool | StrPath
    """Where compiled modules are kept: True for the user's cache, a directory, or False."""
    trace: StrPath | None
    """A file for a trace of the threads, written when the program is closed.

    It is JSON for Perfetto or ``chrome://tracing``.
    """
    progress: Observer | None
    """Called with a :class:`pylinker.Compiling` before and after each module that is compiled.

    Not for a module of the cache. On the thread that loads the module.
    """


_DEFAULTS: Final[Options] = {
    "args": (),
    "env": None,
    "dirs": None,
    "library_path": (),
    "preload": (),
    "stdin": None,
    "stdout": None,
    "stderr": None,
    "imports": None,
    "bind_now": False,
    "stack_size": 1 << 20,
    "threads": None,
    "preempt": False,
    "rewrite_waits": True,
    "rendezvous_timeout": None,
    "load_timeout": None,
    "limits": None,
    "cache": True,
    "trace": None,
    "progress": None,
}


def with_defaults(options: Options) -> Options:
    """Return all options, those that are not given by their defaults.

    Raises:
        TypeError: There is no such option, or its value has another type.
    """
    unknown = options.keys() - _DEFAULTS.keys()
    if unknown:
        raise TypeError(
            f"got an unexpected keyword argument {min(unknown)!r}; "
            "pylinker.Options has those there are"
        )
    chosen = cast("Options", {**_DEFAULTS, **options})
    _check_types(chosen)
    return chosen


def shows_options(function: _F) -> _F:
    """Have ``help()`` and ``inspect.signature`` show each option in place of ``**options``."""
    signature = inspect.signature(function)
    own = [
        each
        for each in signature.parameters.values()
        if each.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    shared = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=_written(Options.__annotations__[name]),
        )
        for name, default in _DEFAULTS.items()
    ]
    vars(function)["__signature__"] = signature.replace(parameters=[*own, *shared])
    return function


def _written(annotation: Any) -> str:
    """Return an annotation as it is written, whatever a TypedDict has made of it."""
    return str(getattr(annotation, "__forward_arg__", annotation))


_BUFFERS = (bytes, bytearray, memoryview)


def as_module(source: ModuleSource | ModuleBytes, what: str) -> str | ModuleBytes:
    """Return a name for the locator, or the module's bytes.

    A ``str`` follows ``ld.so``: without a slash it is searched for. A path object is always a path,
    and ``Path("./x.so")`` has lost its slash, so one is put back.

    Raises:
        TypeError: ``source`` is neither; ``what`` names the argument.
    """
    if isinstance(source, (str, ModuleBytes)):
        return source
    if isinstance(source, _BUFFERS):
        return ModuleBytes(bytes(source))
    if isinstance(source, os.PathLike):
        path = os.fspath(source)
        if isinstance(path, str):
            return path if os.sep in path else os.path.join(os.curdir, path)
    raise TypeError(
        f"{what} is {type(source).__name__}; "
        "give a name or path (str), a path object, or the bytes of a module"
    )


def as_modules(
    sources: ModuleSource | ModuleBytes | Sequence[ModuleSource | ModuleBytes], what: str
) -> list[str | ModuleBytes]:
    """Return a list of modules; one module by itself is a list of one."""
    if isinstance(sources, (str, os.PathLike, ModuleBytes, *_BUFFERS)):
        sources = [sources]
    if isinstance(sources, Mapping) or not isinstance(sources, Iterable):
        raise TypeError(f"{what} is {type(sources).__name__}; give a list of libraries")
    return [as_module(each, f"{what}[{index}]") for index, each in enumerate(sources)]


def as_paths(paths: StrPath | Sequence[StrPath], what: str) -> list[str]:
    """Return a list of directories; one path by itself is a list of one.

    Raises:
        TypeError: for anything else, ``bytes`` included.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    if isinstance(paths, (Mapping, *_BUFFERS)) or not isinstance(paths, Iterable):
        raise TypeError(f"{what} is {type(paths).__name__}; give a list of directories")
    return [_as_path(each, f"{what}[{index}]") for index, each in enumerate(paths)]


def _as_path(path: object, what: str) -> str:
    found = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(found, str):
        raise TypeError(f"{what} is {path!r}; give a path as str or as a path object")
    return found


def check_texts(what: str, values: object) -> None:
    """Check a list of ``str``: one ``str`` by itself is a mistake here. Raises TypeError."""
    if isinstance(values, (str, os.PathLike, Mapping, *_BUFFERS)) or not isinstance(
        values, Iterable
    ):
        raise TypeError(f"{what} is {type(values).__name__}; give a list of str")
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"{what} contains {value!r}; it takes str")


def check_mapping(
    what: str, mapping: object, example: str, *, paths: bool = False
) -> dict[str, str]:
    """Return a mapping from ``str`` to ``str``, or to paths, as a dict; None is an empty one.

    Raises:
        TypeError: for anything else; the message shows ``example``.
    """
    if mapping is None:
        return {}
    if not isinstance(mapping, Mapping):
        raise TypeError(f"{what} is {type(mapping).__name__}; give a dict such as {example}")
    found = {}
    for key, value in mapping.items():
        if not isinstance(key, str):
            raise TypeError(f"{what} has the key {key!r}; give a dict such as {example}")
        if paths:
            value = _as_path(value, f"{what}[{key!r}]")
        elif not isinstance(value, str):
            raise TypeError(f"{what}[{key!r}] is {value!r}; give a dict such as {example}")
        found[key] = value
    return found


def as_limits(limits: object) -> Limits:
    """Return the limits, the defaults for None.

    Raises TypeError for anything but :class:`Limits`.
    """
    if limits is None:
        return Limits()
    if not isinstance(limits, Limits):
        raise TypeError(f"limits is {type(limits).__name__}; give pylinker.Limits(memory=..., ...)")
    return limits


def _check_types(options: Options) -> None:
    """Check options that nothing else looks at before they are used.

    Raises TypeError, which says what each takes.
    """
    stack_size, cache, progress = options["stack_size"], options["cache"], options["progress"]
    trace, threads = options["trace"], options["threads"]
    if isinstance(stack_size, bool) or not isinstance(stack_size, int):
        raise TypeError(f"stack_size={stack_size!r}: give bytes, an int")
    if not isinstance(cache, (bool, str, os.PathLike)):
        raise TypeError(f"cache={cache!r}: give True, False or a directory")
    if progress is not None and not callable(progress):
        raise TypeError(f"progress={progress!r}: give a function that takes a Compiling")
    if trace is not None and not isinstance(trace, (str, os.PathLike)):
        raise TypeError(f"trace={trace!r}: give the path of a file")
    if threads is not None and not isinstance(threads, bool):
        raise TypeError(f"threads={threads!r}: give True, False or None")
    for switch, value in (
        each for each in options.items() if each[0] in ("bind_now", "preempt", "rewrite_waits")
    ):
        if not isinstance(value, bool):
            raise TypeError(f"{switch}={value!r}: give True or False")
