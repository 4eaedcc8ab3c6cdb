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
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from pylinker import _native
from pylinker._native import Places, RegularFile
from pylinker.errors import LibraryNotFoundError
from pylinker.linker.debug import LIBS, tell_search

__all__ = ["Located", "Locator", "StrPath", "open_regular"]

StrPath: TypeAlias = "str | os.PathLike[str]"

_PATH_MAX = 4096
_NAME_MAX = 255

_PLAIN = re.compile(r"[A-Za-z0-9_.+-]+").fullmatch
_KNOWN_SEARCHES = 64
_KNOWN_PLACES = 64
_NOT_OPENED = "not in a directory that was opened for the guest"
_NO_NAMES = frozenset({"", ".", ".."})
_PROBLEMS = {errno.ENOENT: "no such file", _native.SEARCH_DIRECTORY: "is a directory", _native.SEARCH_SPECIAL: "is not a regular file"}
_DEBUG = logging.DEBUG

_SYSTEM_PATH = ("/lib", "/usr/lib", "/usr/local/lib")
"""Directories of the guest that are searched at last, where they were opened for it."""


_Place: TypeAlias = "tuple[str, str, str | None]"
"""A place to look: a directory, what comes before the name in it, and a reason if it is ruled out before looking."""


class Located(NamedTuple):
    """A library that was found: the ``name`` it was asked for, the ``path`` of its file on the host, links resolved, and the ``file``."""

    name: str
    path: str
    file: RegularFile


class _Search:
    """Places to look for a name: as they are shown, and for the core, which looks where the directory's own path is known (``real``).

    ``whole`` says that all of a path is in its place, and no name comes behind it. ``paths`` has what comes before the name, "" for a place
    that the core leaves to its caller.
    """

    __slots__ = ("native", "paths", "places")

    def __init__(self, places: list[_Place], real: Mapping[str, str], *, whole: bool = False) -> None:
        self.places = places
        self.paths: list[str] = []
        known: list[tuple[bytes, int] | None] = []
        for directory, prefix, reason in places:
            parts = prefix.split("/")
            root = real.get(directory) if reason is None and _NO_NAMES.isdisjoint(parts if whole else parts[:-1]) else None
            self.paths.append("" if root is None else f"{root}/{prefix}")
            known.append(None if root is None else (os.fsencode(self.paths[-1]), len(os.fsencode(root))))
        self.native = Places(known)


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
        self._searches: dict[tuple[str | None, ...], _Search] = {}
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
        if own:
            last, where = "", _Search([("", name, None)], {})
        elif "/" in name:
            last, where = "", _Search(self._from_guest(name), self._real, whole=True)
        else:
            last, where = name, self._search(self._guest_library_path if search is None else search, runtime_path, origin)
            if name in _NO_NAMES:
                where = _Search(where.places, {})
        file, encoded, count = RegularFile(), os.fsencode(last), len(where.places)
        reasons: list[str | int] = []
        while len(reasons) < count:
            first = len(reasons)
            number, problems = where.native.search(encoded, first, file)
            if number < count and problems[number - first] == 0:
                if LIBS.isEnabledFor(_DEBUG):
                    reasons += list(problems[0 : number - first])
                    tell_search(name, requester, _tried(where, last, reasons), where.paths[number] + last)
                return Located(name, where.paths[number] + last, file)
            reasons += list(problems[0 : number - first])
            if number < count:
                directory, prefix, reason = where.places[number]
                if reason is None:
                    real, reason = self._look(directory, prefix + last, file, trusted=own)
                    if reason is None:
                        tell_search(name, requester, _tried(where, last, reasons), real)
                        return Located(name, real, file)
                reasons.append(reason)
        tried = _tried(where, last, reasons)
        tell_search(name, requester, tried, None)
        searched = [(os.path.join(directory, rest), reason) for directory, rest, reason in tried]
        raise LibraryNotFoundError(name, searched=searched, requester=requester)

    def _search(self, guest_path: Sequence[str], runtime_path: Sequence[str], origin: str | None) -> _Search:
        """Return each place to look for a name without a slash."""
        key = (*guest_path, None, *runtime_path, None, origin)
        known = self._searches.get(key)
        if known is None:
            known = _Search(list(self._new_places(guest_path, runtime_path, origin)), self._real)
            if len(known.places) <= _KNOWN_PLACES:  # a guest may ask for as many searches as it likes, and for long ones
                if len(self._searches) >= _KNOWN_SEARCHES:
                    self._searches.clear()
                self._searches[key] = known
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

    def _look(self, directory: str, name: str, file: RegularFile, *, trusted: bool) -> tuple[str, str | None]:
        """Open a file wherever links lead. Returns its path with links resolved, and what keeps it from being read, or None."""
        real = os.path.realpath(os.path.join(directory, name))
        # Before anything else: a guest must not learn what exists elsewhere.
        if not trusted and not any(real == root or real.startswith(root + os.sep) for root in self._granted):
            return real, "leads out of the directories that were granted"
        return real, open_regular(real, file)


def open_regular(path: str, file: RegularFile) -> str | None:
    """Open a regular file for reading; returns what keeps it from being read, or None.

    ``path`` has its links resolved; a link that has come in the file's place since is not followed. Never blocks, as opening a FIFO would.
    """
    encoded = os.fsencode(path)
    _, problems = Places([(encoded, len(encoded))]).search(b"", 0, file)
    return None if not problems[0] else _reason(problems[0])


def _reason(problem: int) -> str:
    return _PROBLEMS.get(problem) or os.strerror(errno.ELOOP if problem == _native.SEARCH_CALLER else problem).lower()


def _tried(where: _Search, name: str, reasons: Sequence[str | int]) -> list[tuple[str, str, str]]:
    """Return where a name was looked for: directory, rest of the path, and why it was not taken."""
    return [
        (directory, prefix + name, reason if isinstance(reason, str) else _reason(reason))
        for (directory, prefix, _), reason in zip(where.places, reasons, strict=False)
    ]


def _shown(name: str) -> str:
    """Return a hostile name in a form fit for a message."""
    text = name.encode("unicode_escape").decode() if not name.isprintable() else name
    return text if len(text) <= 80 else text[:77] + "..."
