"""Where a library's file is, and why not elsewhere.

The order is ``ld.so``'s: a name with a slash is a path; any other name is looked for in
``library_path``, in the guest's own ``LD_LIBRARY_PATH``, in the runtime path of the module that
needs it (``$ORIGIN`` is the directory of that module), in its home, in the default directories, and
in the guest's ``/lib``, ``/usr/lib`` and ``/usr/local/lib``. The home of a library that was opened
by path is the directory of its file, and the libraries found on its behalf inherit it.

Names have three sources. The host's are trusted. Names in a module (``needed``, the runtime path)
and names that a guest passes to ``dlopen`` are hostile: a path is then a path of the *guest*, valid
only below a directory the host has opened for it, and the file must lie, links resolved, in a
directory the host named.

A granted directory is held open, and a file is opened below its descriptor without following links
(``csrc/search.h``). :meth:`Locator._follow` resolves links one by one and continues where each
leads, as long as that is in a granted directory. A change between two steps can therefore never
open a file outside; and nothing outside is examined, so no error depends on what exists there.
"""

from __future__ import annotations

import errno
import logging
import os
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias
from weakref import WeakValueDictionary

from pylinker._system import check_errno
from pylinker.errors import LibraryNotFoundError
from pylinker.linker.debug.log import LIBS, tell_search
from pylinker.native.enums import SearchProblem
from pylinker.native.search import Directory, Places, RegularFile

__all__ = ["Home", "Located", "Locator", "StrPath", "open_wherever"]

StrPath: TypeAlias = "str | os.PathLike[str]"

_PATH_MAX = 4096
_NAME_MAX = 255
_LINKS = 40
"""Links that are followed for one file, as many as the system follows; and times that one is looked for while links change."""

_PLAIN = re.compile(r"[A-Za-z0-9_.+-]+").fullmatch
_KNOWN_SEARCHES = 64
_KNOWN_PLACES = 64
_NOT_OPENED = "not in a directory that was opened for the guest"
_LEADS_OUT = "leads out of the directories that were granted"
_INVALID = "not a valid path"
_NO_NAMES = frozenset({"", ".", ".."})
_PROBLEMS = {
    errno.ENOENT: "no such file",
    SearchProblem.DIRECTORY: "is a directory",
    SearchProblem.SPECIAL: "is not a regular file",
}
_DEBUG = logging.DEBUG

_SYSTEM_PATH = ("/lib", "/usr/lib", "/usr/local/lib")
"""Directories of the guest that are searched at last, where they were opened for it."""


_Place: TypeAlias = "tuple[str, str, str | None]"
"""A place to look: a directory, what comes before the name in it, and a reason if it is ruled out before looking."""


class _Root:
    """A granted directory: its ``path`` without links and without a slash at its end ("" for ``/``), the ``parts`` of that, and itself."""

    __slots__ = ("directory", "parts", "path")

    def __init__(self, real: str) -> None:
        self.path = real.rstrip("/")
        self.parts = tuple(self.path.split("/")[1:])
        encoded = os.fsencode(real)
        directory = Directory(encoded)
        identity = directory.identity
        # All programs of a process share the descriptor of a directory.
        self.directory = (
            directory
            if identity is None
            else _open_directories.setdefault((*identity, encoded), directory)
        )

    def has(self, path: str) -> bool:
        """Whether a path without links is the directory, or below it."""
        return path.startswith(self.path) and path[len(self.path) : len(self.path) + 1] in ("", "/")


_open_directories: WeakValueDictionary[tuple[int, int, bytes], Directory] = WeakValueDictionary()


class Home:
    """The directory of a library that was opened by path: its needs are searched for there.

    If the host named the file, that grants the directory for this search (``is_own``). A path of a
    guest is in a granted directory already.
    """

    __slots__ = ("_root", "is_own", "path")

    def __init__(self, path: str, *, is_own: bool) -> None:
        self.path = path
        self.is_own = is_own
        self._root: _Root | None = None

    @property
    def roots(self) -> tuple[_Root, ...]:
        """The directory, if it is granted by itself."""
        if not self.is_own:
            return ()
        if self._root is None:
            self._root = _Root(self.path)
        return (self._root,)


class Located(NamedTuple):
    """A library that was found.

    The ``name`` it was asked for, the ``path`` of its file on the host with links resolved, the
    open ``file``, and its ``home`` if the name is a path.
    """

    name: str
    path: str
    file: RegularFile
    home: Home | None = None


class _Search:
    """Places to look for a name: as they are shown, and for the core, which looks where the directory is known.

    ``below`` returns the granted directory of a place, and the prefix of the name there. With
    ``whole`` a place is a complete path, and no name follows. ``paths`` has the prefix of each
    name, "" for a place that the core leaves to its caller.
    """

    __slots__ = ("native", "paths", "places")

    def __init__(
        self,
        places: list[_Place],
        below: Callable[[str, str], tuple[_Root, str] | None],
        *,
        whole: bool = False,
    ) -> None:
        self.places = places
        self.paths: list[str] = []
        known: list[tuple[Directory, bytes] | None] = []
        for directory, prefix, reason in places:
            found = below(directory, prefix) if reason is None else None
            if found is not None:
                root, prefix = found
                parts = prefix.split("/")
                if _NO_NAMES.isdisjoint(parts if whole else parts[:-1]):
                    self.paths.append(f"{root.path}/{prefix}")
                    known.append((root.directory, os.fsencode(prefix)))
                    continue
            self.paths.append("")
            known.append(None)
        self.native = Places(known)


class Locator:
    """Finds libraries.

    ``library_path`` and ``default_path`` are host directories; ``guest_dirs`` maps the guest's
    directories to the host's; ``guest_library_path`` is the guest's ``LD_LIBRARY_PATH`` (guest
    paths, separated by colons). ``path_length`` bounds a name in bytes. Safe to use from many
    threads.

    Each directory is opened now and keeps its meaning when it is renamed. A directory created
    later, or created again after it was removed, is looked up at its present path, without
    following links.
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
        self._guest_dirs = {
            posixpath.normpath(guest): os.fspath(host) for guest, host in (guest_dirs or {}).items()
        }
        # The longest first: /a/b is opened by itself, even if /a is, too.
        self._guest_prefixes = [
            (each, "" if each == "." else each.rstrip("/") + "/")
            for each in sorted(self._guest_dirs, key=len, reverse=True)
        ]
        self._searches: dict[tuple[object, ...], _Search] = {}
        self._guest_library_path = [each for each in guest_library_path.split(":") if each]
        self._path_length = path_length
        self._name_length = min(_NAME_MAX, path_length)
        self._roots: dict[str, _Root] = {}
        self._aliases: list[tuple[str, str]] = []
        self._ruled_out: dict[str, str] = {}
        for each in dict.fromkeys(
            [*self._library_path, *self._default_path, *self._guest_dirs.values()]
        ):
            self._grant(each)
        self._granted = tuple({root.path: root for root in self._roots.values()}.values())

    def _grant(self, directory: str) -> None:
        try:
            root = self._roots[directory] = _Root(_real_path(directory))
            self._aliases.append((os.path.abspath(directory).rstrip("/"), root.path))
        except OSError as error:
            self._ruled_out[directory] = _reason(check_errno(error))
        except ValueError:  # a NUL, or a character that the file system's encoding lacks
            self._ruled_out[directory] = _INVALID

    def find(
        self,
        name: str,
        *,
        origin: str | None = None,
        runtime_path: Sequence[str] = (),
        requester: str | None = None,
        search: Sequence[str] | None = None,
        home: Home | None = None,
        trusted: bool = False,
    ) -> Located:
        """Return where the library called ``name`` is.

        Args:
            name: A path if it has a slash, else searched for.
            origin: The directory of the requesting module.
            runtime_path: Its runtime path.
            requester: Its name.
            search: Directories of the guest that replace its ``LD_LIBRARY_PATH``; "" is the current
                one.
            home: The home of the requesting module.
            trusted: Whether the host wrote ``name``.

        Raises:
            LibraryNotFoundError: It lists every path that was tried.

        """
        if not _PLAIN(name) or len(name) > self._name_length or name in _NO_NAMES:
            problem = self._name_problem(name, trusted=trusted)
            if problem:
                raise LibraryNotFoundError(
                    _shown(name), searched=[(_shown(name), problem)], requester=requester
                )
        if trusted and os.sep in name:
            return self._find_own(name, requester)
        if "/" in name:
            last, where = "", _Search(self._from_guest(name), self._below(home), whole=True)
        else:
            last = name if trusted else _host_text(name)
            where = self._search(
                self._guest_library_path if search is None else search, runtime_path, origin, home
            )
        file, encoded, count = RegularFile(), os.fsencode(last), len(where.places)
        reasons: list[str | int] = []
        while len(reasons) < count:
            first = len(reasons)
            number, problems = where.native.search(encoded, first, file)
            reasons += list(problems[0 : number - first])
            real = ""
            if number < count:
                if problems[number - first] == 0:
                    real = where.paths[number] + last
                else:
                    directory, prefix, reason = where.places[number]
                    if reason is None:
                        real, reason = self._look(directory, prefix + last, file, home)
                    if reason is not None:
                        real = ""
                        reasons.append(reason)
            if real:
                if LIBS.isEnabledFor(_DEBUG):
                    tell_search(name, requester, _tried(where, last, reasons), real)
                return Located(
                    name, real, file, None if last else Home(os.path.dirname(real), is_own=False)
                )
        tried = _tried(where, last, reasons)
        tell_search(name, requester, tried, None)
        searched = [(os.path.join(directory, rest), reason) for directory, rest, reason in tried]
        raise LibraryNotFoundError(name, searched=searched, requester=requester)

    def _find_own(self, name: str, requester: str | None) -> Located:
        """Return what a path of the host's own leads to, wherever that is."""
        file = RegularFile()
        real, reason = open_wherever(name, file)
        if reason is not None:
            tell_search(name, requester, [("", name, reason)], None)
            raise LibraryNotFoundError(name, searched=[(name, reason)], requester=requester)
        tell_search(name, requester, [], real)
        return Located(name, real, file, Home(os.path.dirname(real), is_own=True))

    def _search(
        self,
        guest_path: Sequence[str],
        runtime_path: Sequence[str],
        origin: str | None,
        home: Home | None,
    ) -> _Search:
        """Return each place to look for a name without a slash."""
        key = (*guest_path, None, *runtime_path, None, origin, home and (home.path, home.is_own))
        known = self._searches.get(key)
        if known is None:
            known = _Search(
                list(self._new_places(guest_path, runtime_path, origin, home)), self._below(home)
            )
            if (
                len(known.places) <= _KNOWN_PLACES
            ):  # a guest may ask for as many searches as it likes, and for long ones
                if len(self._searches) >= _KNOWN_SEARCHES:
                    self._searches.clear()
                self._searches[key] = known
        return known

    def _new_places(
        self,
        guest_path: Sequence[str],
        runtime_path: Sequence[str],
        origin: str | None,
        home: Home | None,
    ) -> Iterator[_Place]:
        for directory in self._library_path:
            yield directory, "", self._ruled_out.get(directory)
        for guest in guest_path:
            if "\0" in guest:
                yield "", _shown(posixpath.join(guest, "")), _INVALID
            else:
                yield from self._guest_directory(guest) or [
                    ("", posixpath.join(guest, ""), _NOT_OPENED)
                ]
        for entry in runtime_path:
            yield self._from_runtime_path(entry, origin)
        if home is not None:
            yield home.path, "", None
        for directory in self._default_path:
            yield directory, "", self._ruled_out.get(directory)
        for guest in _SYSTEM_PATH:
            yield from self._guest_directory(guest)

    def _from_runtime_path(self, entry: str, origin: str | None) -> _Place:
        shown = posixpath.join(entry, "")
        if "\0" in entry or len(entry.encode("utf-8", "surrogateescape")) > self._path_length:
            return "", _shown(shown), _INVALID
        for variable in ("$ORIGIN", "${ORIGIN}"):
            if entry == variable or entry.startswith(variable + "/"):
                if origin is None:
                    return "", shown, "$ORIGIN is unknown: the module was not loaded from a file"
                parts = entry[len(variable) :].split("/")
                while parts and parts[0] in _NO_NAMES:
                    if parts.pop(0) == "..":
                        origin = os.path.dirname(origin)  # it has no links
                return posixpath.join(origin, *map(_host_text, parts)), "", None
        if posixpath.isabs(entry):
            return next(iter(self._guest_directory(entry)), ("", shown, _NOT_OPENED))
        return "", shown, "a relative runtime path is not searched"

    def _from_guest(self, path: str) -> list[_Place]:
        """Return the host paths a path of the guest may mean; a relative one is tried in the guest's ``.`` and from its root."""
        return self._mapped(path) or [("", path, _NOT_OPENED)]

    def _guest_directory(self, path: str) -> list[_Place]:
        """Return what files right in a directory of the guest may be; nothing if it was not opened."""
        return [
            (host, rest[:-1], reason)
            for host, rest, reason in self._mapped(posixpath.join(path, "x"))
        ]

    def _mapped(self, path: str) -> list[_Place]:
        """Return the same, nothing if the path is in no directory that was opened for the guest."""
        found: list[_Place] = []
        for option in [path] if posixpath.isabs(path) else [path, "/" + path]:
            normal = posixpath.normpath(option)
            for guest, prefix in self._guest_prefixes:
                if (
                    normal.startswith(prefix)
                    and not normal.startswith("../")
                    and posixpath.isabs(normal) == (guest != ".")
                ):
                    host = self._guest_dirs[guest]
                    found.append(
                        (host, _host_text(normal[len(prefix) :]), self._ruled_out.get(host))
                    )
                    break
        return found

    def _name_problem(self, name: str, *, trusted: bool) -> str | None:
        if name in (".", ".."):
            return _reason(SearchProblem.DIRECTORY)
        if not name:
            return "an empty name"
        if "\0" in name:
            return "the name contains a NUL byte"
        try:
            encoded = os.fsencode(name) if trusted else name.encode()
        except UnicodeEncodeError:
            return "the name is not valid Unicode"
        if len(encoded) > self._path_length or any(
            len(part) > _NAME_MAX for part in encoded.split(b"/")
        ):
            return "the name is too long"
        return None

    def _below(self, home: Home | None) -> Callable[[str, str], tuple[_Root, str] | None]:
        """Return what finds the granted directory that a place is in, and what comes before the name there."""

        def below(directory: str, prefix: str) -> tuple[_Root, str] | None:
            root = self._roots.get(directory)
            if root is not None:
                return root, prefix
            inside = [root for root in self._roots_of(home) if root.has(directory)]
            if not inside:
                return None
            root = max(inside, key=lambda each: len(each.path))
            rest = directory[len(root.path) + 1 :]
            return root, f"{rest}/{prefix}" if rest else prefix

        return below

    def _roots_of(self, home: Home | None) -> tuple[_Root, ...]:
        return self._granted if home is None else (*self._granted, *home.roots)

    def _look(
        self, directory: str, name: str, file: RegularFile, home: Home | None
    ) -> tuple[str, str | None]:
        """Open a file behind links.

        Returns its path with links resolved, and what keeps it from being read, or None.
        """
        roots = self._roots_of(home)
        root = self._roots.get(directory)
        for _ in range(_LINKS):
            start = (root.parts, name) if root is not None else ((), f"{directory}/{name}")
            found = self._follow(*start, roots)
            if isinstance(found, str):
                return "", found
            inside, rest = found
            _, problems = Places([(inside.directory, os.fsencode(rest))]).search(b"", 0, file)
            if problems[0] == 0:
                return f"{inside.path}/{rest}", None
            if problems[0] != SearchProblem.CALLER:  # else there is a link where there was none
                return "", _reason(problems[0])
        return "", _reason(SearchProblem.CALLER)

    def _follow(
        self, start: Sequence[str], path: str, roots: Sequence[_Root]
    ) -> tuple[_Root, str] | str:
        """Resolve a path link by link, from the directory with the parts ``start``.

        Returns the granted directory in which it ends and the link-free path there, or a reason.
        Nothing outside of granted directories is examined.
        """
        above = {root.parts[:length] for root in roots for length in range(len(root.parts) + 1)}
        real, rest, links = list(start), path.split("/")[::-1], 0
        while rest:
            part = rest.pop()
            if part == "..":
                del real[-1:]
            if part in _NO_NAMES:
                continue
            root = _innermost(roots, real)
            real.append(part)
            if root is None:
                if tuple(real) not in above:
                    return _LEADS_OUT
                continue  # on the way to a granted directory, which had no links when it was granted
            try:
                target = os.fsdecode(
                    root.directory.link(os.fsencode("/".join(real[len(root.parts) :])))
                )
            except OSError as error:
                if check_errno(error) == errno.EINVAL:
                    continue  # it is no link
                return _reason(check_errno(error))
            links += 1
            if links > _LINKS:
                return _reason(errno.ELOOP)
            del real[-1:]
            if target.startswith("/"):
                real.clear()
                target = self._without_alias(target)
            rest += target.split("/")[::-1]
        root = _innermost(roots, real)
        if root is None:
            return _LEADS_OUT
        if len(root.parts) == len(real):
            return _reason(SearchProblem.DIRECTORY)
        return root, "/".join(real[len(root.parts) :])

    def _without_alias(self, path: str) -> str:
        """Return an absolute path with the name that the host gave a directory replaced by its path without links."""
        for alias, real in self._aliases:
            if alias != real and (path == alias or path.startswith(alias + "/")):
                return real + path[len(alias) :]
        return path


def open_wherever(path: StrPath, file: RegularFile) -> tuple[str, str | None]:
    """Open a regular file of the host's own for reading, wherever links lead.

    Returns its path with links resolved, and the reason why it cannot be read, or None. A link
    created meanwhile is resolved like the others. Does not block on a FIFO.
    """
    for _ in range(_LINKS):
        try:
            real = _real_path(path)
            place = Directory(b"/", held=False), os.fsencode(real.lstrip("/"))
        except OSError as error:
            if check_errno(error) == errno.EINVAL:
                continue  # there was a link, and is none now
            return os.fspath(path), _reason(check_errno(error))
        except ValueError:  # a NUL, or a character that the file system's encoding lacks
            return os.fspath(path), _INVALID
        if not place[1]:
            return real, _reason(SearchProblem.DIRECTORY)
        _, problems = Places([place]).search(b"", 0, file)
        if problems[0] != SearchProblem.CALLER:
            return real, None if problems[0] == 0 else _reason(problems[0])
    return os.fspath(path), _reason(SearchProblem.CALLER)


def _real_path(path: StrPath) -> str:
    """Return an absolute path without links to the same file; its last parts need not exist.

    Raises OSError, ValueError. ``os.path.realpath`` would recurse link by link, and swallows an
    OSError that a signal handler raises.
    """
    text = os.fspath(path)
    rest = (text if os.path.isabs(text) else os.path.join(os.getcwd(), text)).split("/")[::-1]
    real, links = "", 0
    while rest:
        part = rest.pop()
        if part in ("", "."):
            continue
        if part == "..":
            real = real.rpartition("/")[0]
            continue
        place = f"{real}/{part}"
        try:
            target = os.readlink(place)
        except OSError as error:
            check_errno(error)
            real = place  # no link, or not there, or not to be looked at: opening it will tell
            continue
        links += 1
        if links > _LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), text)
        if target.startswith("/"):
            real = ""
        rest += target.split("/")[::-1]
    return real or "/"


def _host_text(text: str) -> str:
    """Return a path of the guest, which is UTF-8, as the host decodes the same bytes."""
    return text if text.isascii() else os.fsdecode(text.encode("utf-8", "surrogateescape"))


def _innermost(roots: Sequence[_Root], parts: Sequence[str]) -> _Root | None:
    """Return the granted directory with the longest path that has ``parts``, a path without links, in it; or is that itself."""
    inside = [root for root in roots if tuple(parts[: len(root.parts)]) == root.parts]
    return max(inside, key=lambda each: len(each.parts), default=None)


def _reason(problem: int) -> str:
    return (
        _PROBLEMS.get(problem)
        or os.strerror(errno.ELOOP if problem == SearchProblem.CALLER else problem).lower()
    )


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
