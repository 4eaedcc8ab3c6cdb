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
import logging
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from pylinker.errors import LibraryNotFoundError
from pylinker.linker.debug import LIBS, tell_search

__all__ = ["Located", "Locator", "RegularFile", "StrPath", "open_regular"]

StrPath: TypeAlias = "str | os.PathLike[str]"

_PATH_MAX = 4096
_NAME_MAX = 255

_PLAIN = re.compile(r"[A-Za-z0-9_.+-]+").fullmatch
_KNOWN_PLACES = 64
_NOT_OPENED = "not in a directory that was opened for the guest"
_NO_FILE = "is not a regular file"
_NO_NAMES = frozenset({"", ".", ".."})
_FOLLOWS_NOT = hasattr(os, "O_NOFOLLOW")
_READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_LINK_ERRORS = frozenset({errno.ELOOP, errno.EMLINK})
_DEBUG = logging.DEBUG

_SYSTEM_PATH = ("/lib", "/usr/lib", "/usr/local/lib")
"""Directories of the guest that are searched at last, where they were opened for it."""


_Place: TypeAlias = "tuple[str, str, str | None]"
"""A place to look: a directory, what comes before the name in it, and a reason if it is ruled out before looking."""


class RegularFile:
    """A file that was opened, to be read once. It closes itself."""

    __slots__ = ("_handle", "_size")

    def __init__(self, handle: int, size: int) -> None:
        self._handle = handle
        self._size = size

    def read(self, limit: int) -> bytes | None:
        """Return its bytes, or None if there are more than ``limit``. Raises OSError."""
        size = self._size
        if size > limit:
            return None
        data = os.read(self._handle, size + 1)  # one more: the end is seen with the contents
        if len(data) == size:
            return data
        parts = [data]
        while part := os.read(self._handle, 1 << 16):  # it came in pieces, or has grown meanwhile
            parts.append(part)
            if sum(map(len, parts)) > limit:
                return None
        data = b"".join(parts)
        return data if len(data) <= limit else None

    def __del__(self) -> None:
        os.close(self._handle)


class Located(NamedTuple):
    """A library that was found: the ``name`` it was asked for, the ``path`` of its file on the host, links resolved, and the ``file``."""

    name: str
    path: str
    file: RegularFile


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
        self._known_places: dict[tuple[str | None, ...], list[_Place]] = {}
        self._guest_library_path = [each for each in guest_library_path.split(":") if each]
        self._path_length = path_length
        self._name_length = min(_NAME_MAX, path_length)
        granted = [*self._library_path, *self._default_path, *self._guest_dirs.values()]
        # With their links resolved and without a slash at the end, so that "/" is "".
        self._real = {each: os.path.realpath(each).rstrip(os.sep) for each in granted}
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
        if not _PLAIN(name) or len(name) > self._name_length:
            problem = self._name_problem(name)
            if problem:
                raise LibraryNotFoundError(_shown(name), searched=[(_shown(name), problem)], requester=requester)
        own = trusted and os.sep in name
        places: Sequence[_Place]
        if own:
            last, places = "", [("", name, None)]
        elif "/" in name:
            last, places = "", self._from_guest(name)
        else:
            last, places = name, self._places(self._guest_library_path if search is None else search, runtime_path, origin)
        searched: list[_Place] = []
        for directory, prefix, reason in places:
            if reason is None:
                real, found = self._look(directory, prefix + last, trusted=own)
                if not isinstance(found, str):
                    if LIBS.isEnabledFor(_DEBUG):
                        tell_search(name, requester, [(place, before + last, why) for place, before, why in searched], real)
                    return Located(name, real, found)
                searched.append((directory, prefix, found))
            else:
                searched.append((directory, prefix, reason))
        if LIBS.isEnabledFor(_DEBUG):
            tell_search(name, requester, [(place, before + last, why) for place, before, why in searched], None)
        tried = [(os.path.join(place, before + last), why or "") for place, before, why in searched]
        raise LibraryNotFoundError(name, searched=tried, requester=requester)

    def _places(self, guest_path: Sequence[str], runtime_path: Sequence[str], origin: str | None) -> Sequence[_Place]:
        """Return each place to look for a name without a slash."""
        key = (*guest_path, None, *runtime_path, None, origin)
        known = self._known_places.get(key)
        if known is None:
            known = list(self._new_places(guest_path, runtime_path, origin))
            if len(self._known_places) >= _KNOWN_PLACES:  # a guest may ask for as many as it likes
                self._known_places.clear()
            self._known_places[key] = known
        return known

    def _new_places(self, guest_path: Sequence[str], runtime_path: Sequence[str], origin: str | None) -> Iterator[_Place]:
        for directory in self._library_path:
            yield directory, "", None
        for guest in guest_path:
            if "\0" in guest:
                yield "", _shown(posixpath.join(guest, "")), "not a valid path"
            else:
                yield from self._guest_directory(guest) or [("", posixpath.join(guest, ""), _NOT_OPENED)]
        for entry in runtime_path:
            yield self._from_runtime_path(entry, origin)
        for directory in self._default_path:
            yield directory, "", None
        for guest in _SYSTEM_PATH:
            yield from self._guest_directory(guest)

    def _from_runtime_path(self, entry: str, origin: str | None) -> _Place:
        shown = posixpath.join(entry, "")
        if "\0" in entry or len(entry.encode()) > self._path_length:
            return "", _shown(shown), "not a valid path"
        for variable in ("$ORIGIN", "${ORIGIN}"):
            if entry == variable or entry.startswith(variable + "/"):
                if origin is None:
                    return "", shown, "$ORIGIN is unknown: the module was not loaded from a file"
                return origin + entry[len(variable) :], "", None
        if posixpath.isabs(entry):
            return next(iter(self._guest_directory(entry)), ("", shown, _NOT_OPENED))
        return "", shown, "a relative runtime path is not searched"

    def _from_guest(self, path: str) -> list[_Place]:
        """Return the host paths a path of the guest may mean; a relative one is tried in the guest's ``.`` and from its root."""
        return self._mapped(path) or [("", path, _NOT_OPENED)]

    def _guest_directory(self, path: str) -> list[_Place]:
        """Return what files right in a directory of the guest may be; nothing if it was not opened."""
        return [(host, rest[:-1], None) for host, rest, _ in self._mapped(posixpath.join(path, "x"))]

    def _mapped(self, path: str) -> list[_Place]:
        """Return the same, nothing if the path is in no directory that was opened for the guest."""
        found: list[_Place] = []
        for option in [path] if posixpath.isabs(path) else [path, "/" + path]:
            normal = posixpath.normpath(option)
            for guest, prefix in self._guest_prefixes:
                if normal.startswith(prefix) and not normal.startswith("../") and posixpath.isabs(normal) == (guest != "."):
                    found.append((self._guest_dirs[guest], normal[len(prefix) :], None))
                    break
        return found

    def _name_problem(self, name: str) -> str | None:
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

    def _look(self, directory: str, name: str, *, trusted: bool) -> tuple[str, RegularFile | str]:
        """Return a path with its links resolved, and its file, or what keeps that from being read.

        Below a granted directory, whose own path is known, there is one look at each part of the path, as long as none is a link.
        """
        real = self._real.get(directory) if _FOLLOWS_NOT else None
        if real is not None:
            *parents, last = name.split("/")
            try:
                for part in parents:
                    real = f"{real}/{part}"
                    if part in _NO_NAMES or stat.S_ISLNK(os.lstat(real).st_mode):
                        break
                else:
                    if last not in _NO_NAMES:
                        real = f"{real}/{last}"
                        return real, open_regular(real)
            except OSError as error:
                if error.errno not in _LINK_ERRORS:
                    return real, _reason(error)
        real = os.path.realpath(os.path.join(directory, name))
        # Before anything else: a guest must not learn what exists elsewhere.
        if not trusted and not any(real == root or real.startswith(root + os.sep) for root in self._granted):
            return real, "leads out of the directories that were granted"
        try:
            return real, open_regular(real)
        except OSError as error:
            return real, _reason(error)


def _reason(error: OSError) -> str:
    return "no such file" if isinstance(error, FileNotFoundError) else (error.strerror or str(error)).lower()


def open_regular(path: str) -> RegularFile:
    """Open a file for reading; an OSError for anything but a regular file.

    ``path`` has its links resolved; a link that has come in the file's place since is not followed. Never blocks, as opening a FIFO would.
    """
    try:
        handle = os.open(path, _READING)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise OSError(errno.EINVAL, _NO_FILE, path) from None
        raise
    try:
        status = os.fstat(handle)
        if stat.S_ISREG(status.st_mode):
            file = RegularFile(handle, status.st_size)
            handle = -1
            return file
        raise OSError(errno.EINVAL, "is a directory" if stat.S_ISDIR(status.st_mode) else _NO_FILE, path)
    finally:
        if handle >= 0:
            os.close(handle)


def _shown(name: str) -> str:
    """Return a hostile name in a form fit for a message."""
    text = name.encode("unicode_escape").decode() if not name.isprintable() else name
    return text if len(text) <= 80 else text[:77] + "..."
