"""Arguments of ``Program`` and ``CDLL``: checked and normalized before anything is created."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from pylinker.linker import Limits, ModuleBytes

__all__ = ["ModuleSource", "StrPath", "as_limits", "as_module", "as_modules", "as_paths", "check_mapping", "check_texts", "check_types"]

StrPath: TypeAlias = "str | os.PathLike[str]"
ModuleSource: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview"
"""A module: a name or path as ``str``, a path object, or the module itself as bytes."""

_BUFFERS = (bytes, bytearray, memoryview)


def as_module(source: ModuleSource | ModuleBytes, what: str) -> str | ModuleBytes:
    """Return a name for the locator, or the module's bytes.

    A ``str`` follows ``ld.so``: without a slash it is searched for. A path object is always a path, and
    ``Path("./x.so")`` has lost its slash, so one is put back.

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
    raise TypeError(f"{what} is {type(source).__name__}; give a name or path (str), a path object, or the bytes of a module")


def as_modules(sources: ModuleSource | ModuleBytes | Sequence[ModuleSource | ModuleBytes], what: str) -> list[str | ModuleBytes]:
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
    if isinstance(values, (str, os.PathLike, Mapping, *_BUFFERS)) or not isinstance(values, Iterable):
        raise TypeError(f"{what} is {type(values).__name__}; give a list of str")
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"{what} contains {value!r}; it takes str")


def check_mapping(what: str, mapping: object, example: str, *, paths: bool = False) -> dict[str, str]:
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
    """Return the limits, the defaults for None. Raises TypeError for anything but :class:`Limits`."""
    if limits is None:
        return Limits()
    if not isinstance(limits, Limits):
        raise TypeError(f"limits is {type(limits).__name__}; give pylinker.Limits(memory=..., ...)")
    return limits


def check_types(
    *,
    stack_size: object,
    cache: object,
    name: object,
    progress: object,
    trace: object,
    threads: object,
    **switches: object,
) -> None:
    """Check the remaining keywords of ``Program``. Raises TypeError, which says what each takes."""
    if isinstance(stack_size, bool) or not isinstance(stack_size, int):
        raise TypeError(f"stack_size={stack_size!r}: give bytes, an int")
    if not isinstance(cache, (bool, str, os.PathLike)):
        raise TypeError(f"cache={cache!r}: give True, False or a directory")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name={name!r}: give a str")
    if progress is not None and not callable(progress):
        raise TypeError(f"progress={progress!r}: give a function that takes a Compiling")
    if trace is not None and not isinstance(trace, (str, os.PathLike)):
        raise TypeError(f"trace={trace!r}: give the path of a file")
    if threads is not None and not isinstance(threads, bool):
        raise TypeError(f"threads={threads!r}: give True, False or None")
    for switch, value in switches.items():
        if not isinstance(value, bool):
            raise TypeError(f"{switch}={value!r}: give True or False")
