"""Where a library's file is, and why not elsewhere.

The order is ``ld.so``'s: a name with a slash is a path; any other name is looked for in ``library_path``, in the guest's own
``LD_LIBRARY_PATH``, in the runtime path of the module that needs it (``$ORIGIN`` is the directory of that module), in the
default directories, and in the guest's ``/lib``, ``/usr/lib`` and ``/usr/local/lib``.

Names come from three kinds of hands. The host's are trusted. Those in a module (``needed``, the runtime path) and those a guest
passes to ``dlopen`` are hostile: a path is then a path of the *guest*, valid only below a directory the host has opened for it, and
whatever is found must lie, links resolved, in one of the directories the host named.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from pylinker.errors import LibraryNotFoundError
from pylinker.linker.debug import tell_search

__all__ = ["Located", "Locator", "StrPath", "read_regular"]

StrPath: TypeAlias = "str | os.PathLike[str]"

_PATH_MAX = 4096
_NAME_MAX = 255

_PLAIN = re.compile(r"[A-Za-z0-9_.+-]+").fullmatch
_DIRECTORIES = 64
_NOT_OPENED = "not in a directory that was opened for the guest"
_NO_NAMES = frozenset({"", ".", ".."})
_READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)

_SYSTEM_PATH = ("/lib", "/usr/lib", "/usr/local/lib")
"""Directories of the guest that are searched at last, where they were opened for it."""


_Candidate: TypeAlias = "tuple[str, str, str | None]"
"""A place to look: a directory, the rest of the path, and a reason if it is ruled out before looking."""


class Located(NamedTuple):
    """A library that was found: the ``name`` it was asked for and the ``path`` of its file on the host, links resolved."""

    name: str
    path: str


class Locator:
    """Finds libraries.

    ``library_path`` and ``default_path`` are host directories; ``guest_dirs`` maps the guest's directories to the host's;
    ``guest_library_path`` is the guest's ``LD_LIBRARY_PATH`` (guest paths, separated by colons). ``path_length`` bounds a name in
    bytes. Safe to use from many threads.
    """

    def __init__(
        self,
        library_path: Sequence[StrPath] = (),
        *,
        default_path: Sequence[StrPath] = (),
        guest_dirs: Mapping[str, str] | None = None,
        guest_library_path: str = "",
        path_length: int = _PATH_MAX,
    ) -> None:
        self._library_path = [os.fspath(each) for each in library_path]
        self._default_path = [os.fspath(each) for each in default_path]
        self._guest_dirs = {posixpath.normpath(guest): os.fspath(host) for guest, host in (guest_dirs or {}).items()}
        # The longest first: /a/b is opened by itself, even if /a is, too.
        self._guest_prefixes = [
            (each, "" if each == "." else each.rstrip("/") + "/") for each in sorted(self._guest_dirs, key=len, reverse=True)
        ]
        self._directories: dict[str, list[tuple[str, str]]] = {}
        self._guest_library_path = [each for each in guest_library_path.split(":") if each]
        self._path_length = path_length
        granted = [*self._library_path, *self._default_path, *self._guest_dirs.values()]
        self._real = {each: os.path.realpath(each) for each in granted}
        self._granted = tuple(dict.fromkeys(self._real.values()))

    def find(
        self,
        name: str,
        *,
        origin: str | None = None,
        runtime_path: Sequence[str] = (),
        requester: str | None = None,
        search: Sequence[str] | None = None,
        trusted: bool = False,
    ) -> Located:
        """Return where the library called ``name`` is.

        ``origin`` is the directory of the module that asks, ``runtime_path`` its runtime path and ``requester`` its name; ``search`` are
        directories of the guest that take the place of its ``LD_LIBRARY_PATH``, an empty one being the current directory; ``trusted``
        says that the host itself wrote ``name``. Raises LibraryNotFoundError, which lists every path that was tried.
        """
        problem = self._name_problem(name)
        if problem:
            raise LibraryNotFoundError(_shown(name), searched=[(_shown(name), problem)], requester=requester)
        searched: list[_Candidate] = []
        guest_path = self._guest_library_path if search is None else search
        for directory, rest, reason in self._candidates(name, origin, runtime_path, guest_path, trusted=trusted):
            if reason is None:
                real, reason = self._look(directory, rest, trusted=trusted and os.sep in name)
                if reason is None:
                    tell_search(name, requester, searched, real)
                    return Located(name, real)
            searched.append((directory, rest, reason))
        tell_search(name, requester, searched, None)
        tried = [(os.path.join(directory, rest), reason or "") for directory, rest, reason in searched]
        raise LibraryNotFoundError(name, searched=tried, requester=requester)

    def _candidates(
        self, name: str, origin: str | None, runtime_path: Sequence[str], guest_path: Sequence[str], *, trusted: bool
    ) -> Iterator[_Candidate]:
        """Yield each place to look."""
        if trusted and os.sep in name:
            yield "", name, None
            return
        if "/" in name:
            yield from self._from_guest(name)
            return
        for directory in self._library_path:
            yield directory, name, None
        for guest in guest_path:
            if "\0" in guest:
                yield "", _shown(posixpath.join(guest, name)), "not a valid path"
            elif name in _NO_NAMES:
                yield from self._from_guest(posixpath.join(guest, name))
            else:
                found = self._guest_directory(guest)
                for host, prefix in found:
                    yield host, prefix + name, None
                if not found:
                    yield "", posixpath.join(guest, name), _NOT_OPENED
        for entry in runtime_path:
            yield self._from_runtime_path(entry, name, origin)
        for directory in self._default_path:
            yield directory, name, None
        for guest in _SYSTEM_PATH if name not in _NO_NAMES else ():
            for host, prefix in self._guest_directory(guest):
                yield host, prefix + name, None

    def _from_runtime_path(self, entry: str, name: str, origin: str | None) -> _Candidate:
        shown = posixpath.join(entry, name)
        if "\0" in entry or len(entry.encode()) > self._path_length:
            return "", _shown(shown), "not a valid path"
        for variable in ("$ORIGIN", "${ORIGIN}"):
            if entry == variable or entry.startswith(variable + "/"):
                if origin is None:
                    return "", shown, "$ORIGIN is unknown: the module was not loaded from a file"
                return origin + entry[len(variable) :], name, None
        if posixpath.isabs(entry):
            return self._from_guest(shown)[0]
        return "", shown, "a relative runtime path is not searched"

    def _from_guest(self, path: str) -> list[_Candidate]:
        """Return the host paths a path of the guest may mean; a relative one is tried in the guest's ``.`` and from its root."""
        return self._mapped(path) or [("", path, _NOT_OPENED)]

    def _guest_directory(self, path: str) -> list[tuple[str, str]]:
        """Return what files right in a directory of the guest may be: each a host directory, and what comes before the name."""
        known = self._directories.get(path)
        if known is None:
            known = [(host, rest[:-1]) for host, rest, _ in self._mapped(posixpath.join(path, "x"))]
            if len(self._directories) >= _DIRECTORIES:  # a guest may ask for as many as it likes
                self._directories.clear()
            self._directories[path] = known
        return known

    def _mapped(self, path: str) -> list[_Candidate]:
        """Return the same, nothing if the path is in no directory that was opened for the guest."""
        found: list[_Candidate] = []
        for option in [path] if posixpath.isabs(path) else [path, "/" + path]:
            normal = posixpath.normpath(option)
            for guest, prefix in self._guest_prefixes:
                if normal.startswith(prefix) and not normal.startswith("../") and posixpath.isabs(normal) == (guest != "."):
                    found.append((self._guest_dirs[guest], normal[len(prefix) :], None))
                    break
        return found

    def _name_problem(self, name: str) -> str | None:
        if _PLAIN(name) and len(name) <= min(_NAME_MAX, self._path_length):
            return None
        if not name:
            return "an empty name"
        if "\0" in name:
            return "the name contains a NUL byte"
        try:
            encoded = name.encode()
        except UnicodeEncodeError:
            return "the name is not valid Unicode"
        if len(encoded) > self._path_length or any(len(part) > _NAME_MAX for part in encoded.split(b"/")):
            return "the name is too long"
        return None

    def _look(self, directory: str, name: str, *, trusted: bool) -> tuple[str, str | None]:
        """Return a path with its links resolved, and what keeps the file from being read, or None.

        Below a granted directory, whose own path is known, there is one look at each part of the path, as long as none is a link.
        """
        real = self._real.get(directory)
        if real is not None:
            mode = 0
            try:
                for part in name.split("/"):
                    if part in _NO_NAMES:
                        break
                    real = f"{real}/{part}" if real != "/" else f"/{part}"
                    mode = os.lstat(real).st_mode
                    if stat.S_ISLNK(mode):
                        break
                else:
                    return real, _mode_problem(real, mode)
            except OSError as error:
                return real, _reason(error)
        real = os.path.realpath(os.path.join(directory, name))
        return real, self._file_problem(real, trusted=trusted)

    def _file_problem(self, real: str, *, trusted: bool) -> str | None:
        # Before anything else: a guest must not learn what exists elsewhere.
        if not trusted and not any(real == root or real.startswith(root.rstrip(os.sep) + os.sep) for root in self._granted):
            return "leads out of the directories that were granted"
        try:
            mode = os.stat(real).st_mode
        except OSError as error:
            return _reason(error)
        return _mode_problem(real, mode)


def _reason(error: OSError) -> str:
    return "no such file" if isinstance(error, FileNotFoundError) else (error.strerror or str(error)).lower()


def _mode_problem(path: str, mode: int) -> str | None:
    return _kind_problem(mode) or (None if os.access(path, os.R_OK) else "permission denied")


def read_regular(path: str, limit: int) -> bytes | None:
    """Return a file's bytes, or None if there are more than ``limit``; an OSError for anything but a regular file.

    ``path`` has its links resolved; a link that has come in the file's place since is not followed. Never blocks, as opening a FIFO would.
    """
    handle = os.open(path, _READING)
    try:
        status = os.fstat(handle)
        problem = _kind_problem(status.st_mode)
        if problem:
            raise OSError(errno.EINVAL, problem, path)
        size = status.st_size
        if size > limit:
            return None
        data = os.read(handle, size + 1)  # one more: the end is seen with the contents
        if len(data) == size:
            return data
        parts = [data]
        while part := os.read(handle, 1 << 16):  # it came in pieces, or has grown meanwhile
            parts.append(part)
            if sum(map(len, parts)) > limit:
                return None
        data = b"".join(parts)
        return data if len(data) <= limit else None
    finally:
        os.close(handle)


def _kind_problem(mode: int) -> str | None:
    if stat.S_ISREG(mode):
        return None
    return "is a directory" if stat.S_ISDIR(mode) else "is not a regular file"


def _shown(name: str) -> str:
    """Return a hostile name in a form fit for a message."""
    text = name.encode("unicode_escape").decode() if not name.isprintable() else name
    return text if len(text) <= 80 else text[:77] + "..."
