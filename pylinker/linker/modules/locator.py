"""Search for the file of a library.

The order is that of ``ld.so``: a name with a slash is a path; any other name is searched for in
``library_path``, in the guest's own ``LD_LIBRARY_PATH``, in the runtime path of the module that
needs it (``$ORIGIN`` is the directory of that module), in its home, in the default directories, and
in the guest's ``/lib``, ``/usr/lib`` and ``/usr/local/lib``. The home of a library that was opened
by path is the directory of its file, and the libraries found on its behalf inherit it.

Names have three sources. Names from the host are trusted. Names in a module (``needed``, the
runtime path) and names that a guest passes to ``dlopen`` are hostile: a path is then a path of the
*guest*, valid only below a directory that the host opened for it, and the file, with links
resolved, must lie in a directory that the host named.

A granted directory is held open, and a file is opened below its descriptor without following links
(``csrc/search.h``). :meth:`Locator._follow` resolves links one by one and continues at each target
that lies in a granted directory. A change between two steps can therefore never open a file
outside. Nothing outside is examined, so no error depends on the files there.
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
from pylinker.linker.debug.log import LIBS, log_search
from pylinker.native.enums import SearchProblem
from pylinker.native.search import Directory, Places, RegularFile

__all__ = ["Home", "Located", "Locator", "StrPath", "open_wherever"]

StrPath: TypeAlias = "str | os.PathLike[str]"

_PATH_MAX = 4096
_NAME_MAX = 255
_LINKS = 40
"""The number of links followed for one file, as many as the system follows.

Also the number of attempts for one file while its links change.
"""

_PLAIN = re.compile(r"[A-Za-z0-9_.+-]+").fullmatch
_KNOWN_SEARCHES = 64
_KNOWN_DIRECTORIES = 64
_NOT_OPENED = "not in a directory that was opened for the guest"
_OUTSIDE = "not in a granted directory"
_INVALID = "not a valid path"
_NO_NAMES = frozenset({"", ".", ".."})
_PROBLEMS = {
    errno.ENOENT: "no such file",
    SearchProblem.DIRECTORY: "is a directory",
    SearchProblem.SPECIAL: "is not a regular file",
}
_DEBUG = logging.DEBUG

_SYSTEM_PATH = ("/lib", "/usr/lib", "/usr/local/lib")
"""Directories of the guest that are searched last, if they were opened for it."""


_SearchDirectory: TypeAlias = "tuple[str, str, str | None]"
"""A search directory, the prefix of the name in it, and a reason if it was ruled out beforehand."""


class _Root:
    """A granted directory."""

    path: str
    """The path without links and without a trailing slash; "" for ``/``."""
    parts: tuple[str, ...]
    """The components of ``path``."""
    directory: Directory
    """The open directory."""

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
        """Whether a path without links is the directory itself, or below it."""
        return path.startswith(self.path) and path[len(self.path) : len(self.path) + 1] in ("", "/")


_open_directories: WeakValueDictionary[tuple[int, int, bytes], Directory] = WeakValueDictionary()


class Home:
    """The directory of a library that was opened by path; its dependencies are searched for there.

    A path of a guest is in a granted directory already.
    """

    path: str
    """The path of the directory."""
    is_own: bool
    """Whether the host named the file, which grants the directory for this search."""

    __slots__ = ("_root", "is_own", "path")

    def __init__(self, path: str, *, is_own: bool) -> None:
        self.path = path
        self.is_own = is_own
        self._root: _Root | None = None

    @property
    def roots(self) -> tuple[_Root, ...]:
        """The directory itself, if it is granted by itself."""
        if not self.is_own:
            return ()
        if self._root is None:
            self._root = _Root(self.path)
        return (self._root,)


class Located(NamedTuple):
    """A library that was found."""

    name: str
    """The name that was asked for."""
    path: str
    """The path of the file on the host, with links resolved."""
    file: RegularFile
    """The open file."""
    home: Home | None = None
    """The home of the library, if the name is a path."""


class _Search:
    """The search directories for a name: for messages, and for the core.

    The core searches those directories that are known.

    Args:
        directories: The search directories.
        below: Returns the granted directory of a search directory, and the prefix of the name
            there.
        whole: Whether each entry is a complete path, and no name follows.
    """

    directories: list[_SearchDirectory]
    """The search directories."""
    paths: list[str]
    """The prefix of the name in each; "" for a directory that the core leaves to its caller."""
    native: Places
    """The search directories for the core."""

    __slots__ = ("directories", "native", "paths")

    def __init__(
        self,
        directories: list[_SearchDirectory],
        below: Callable[[str, str], tuple[_Root, str] | None],
        *,
        whole: bool = False,
    ) -> None:
        self.directories = directories
        self.paths = []
        known: list[tuple[Directory, bytes] | None] = []
        for directory, prefix, reason in directories:
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
    """Searches for libraries.

    Each directory is opened at construction and keeps its meaning when it is renamed. A directory
    that is created later, or created again after its removal, is looked up at its present path,
    without following links.

    Threads: safe to use from any thread.

    Args:
        library_path: Directories of the host.
        default_path: Directories of the host that are searched late.
        guest_dirs: The directories of the guest, and those of the host behind them.
        guest_library_path: The guest's ``LD_LIBRARY_PATH``: guest paths, separated by colons.
        path_length: The limit of a name in bytes.
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
        # The longest first: /a/b may be opened by itself although /a is opened, too.
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
        """Return the location of the library called ``name``.

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
        file = RegularFile()
        real, reasons = self._first(where, last, file, home)
        if real is None or LIBS.isEnabledFor(_DEBUG):
            tried = _tried(where, last, reasons)
            log_search(name, requester, tried, real)
        if real is None:
            searched = [
                (os.path.join(directory, rest), reason) for directory, rest, reason in tried
            ]
            raise LibraryNotFoundError(name, searched=searched, requester=requester)
        return Located(
            name, real, file, None if last else Home(os.path.dirname(real), is_own=False)
        )

    def _first(
        self, where: _Search, last: str, file: RegularFile, home: Home | None
    ) -> tuple[str | None, list[str | int]]:
        """Open the first file that a search finds.

        Returns:
            Its path with links resolved, or None, and the reason for each earlier directory.
        """
        encoded, count = os.fsencode(last), len(where.directories)
        reasons: list[str | int] = []
        while len(reasons) < count:
            first = len(reasons)
            number, problems = where.native.search(encoded, first, file)
            reasons += list(problems[0 : number - first])
            if number < count:
                if problems[number - first] == 0:
                    return where.paths[number] + last, reasons
                directory, prefix, reason = where.directories[number]
                if reason is None:
                    real, reason = self._look(directory, prefix + last, file, home)
                    if reason is None:
                        return real, reasons
                reasons.append(reason)
        return None, reasons

    def _find_own(self, name: str, requester: str | None) -> Located:
        """Return the file at a path of the host, wherever that is."""
        file = RegularFile()
        real, reason = open_wherever(name, file)
        if reason is not None:
            log_search(name, requester, [("", name, reason)], None)
            raise LibraryNotFoundError(name, searched=[(name, reason)], requester=requester)
        log_search(name, requester, [], real)
        return Located(name, real, file, Home(os.path.dirname(real), is_own=True))

    def _search(
        self,
        guest_path: Sequence[str],
        runtime_path: Sequence[str],
        origin: str | None,
        home: Home | None,
    ) -> _Search:
        """Return the search directories for a name without a slash."""
        key = (*guest_path, None, *runtime_path, None, origin, home and (home.path, home.is_own))
        known = self._searches.get(key)
        if known is None:
            known = _Search(
                list(self._search_directories(guest_path, runtime_path, origin, home)),
                self._below(home),
            )
            # A guest may ask for any number of searches, and for long ones.
            if len(known.directories) <= _KNOWN_DIRECTORIES:
                if len(self._searches) >= _KNOWN_SEARCHES:
                    self._searches.clear()
                self._searches[key] = known
        return known

    def _search_directories(
        self,
        guest_path: Sequence[str],
        runtime_path: Sequence[str],
        origin: str | None,
        home: Home | None,
    ) -> Iterator[_SearchDirectory]:
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

    def _from_runtime_path(self, entry: str, origin: str | None) -> _SearchDirectory:
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

    def _from_guest(self, path: str) -> list[_SearchDirectory]:
        """Return the host paths that a path of the guest may mean.

        A relative one is tried in the guest's ``.`` and from its root.
        """
        return self._mapped(path) or [("", path, _NOT_OPENED)]

    def _guest_directory(self, path: str) -> list[_SearchDirectory]:
        """Return the host directories for a directory of the guest; empty if it was not opened."""
        return [
            (host, rest[:-1], reason)
            for host, rest, reason in self._mapped(posixpath.join(path, "x"))
        ]

    def _mapped(self, path: str) -> list[_SearchDirectory]:
        """Return the host paths of a guest path; empty if no directory was opened for it."""
        found: list[_SearchDirectory] = []
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
        """Return a function that maps a search directory to its granted directory and prefix."""

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

        Returns:
            The path with links resolved, and the reason why it cannot be read, or None.
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
            if problems[0] != SearchProblem.CALLER:  # else a link appeared meanwhile
                return "", _reason(problems[0])
        return "", _reason(SearchProblem.CALLER)

    def _follow(
        self, start: Sequence[str], path: str, roots: Sequence[_Root]
    ) -> tuple[_Root, str] | str:
        """Resolve a path link by link, from the directory with the components ``start``.

        Nothing outside of granted directories is examined.

        Returns:
            The granted directory in which the path ends and the link-free path there, or a reason.
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
                    return _OUTSIDE
                continue  # above a granted directory, whose path had no links when it was granted
            try:
                target = os.fsdecode(
                    root.directory.link(os.fsencode("/".join(real[len(root.parts) :])))
                )
            except OSError as error:
                if check_errno(error) == errno.EINVAL:
                    continue  # not a link
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
            return _OUTSIDE
        if len(root.parts) == len(real):
            return _reason(SearchProblem.DIRECTORY)
        return root, "/".join(real[len(root.parts) :])

    def _without_alias(self, path: str) -> str:
        """Return an absolute path with the host's name of a directory replaced by the real path."""
        for alias, real in self._aliases:
            if alias != real and (path == alias or path.startswith(alias + "/")):
                return real + path[len(alias) :]
        return path


def open_wherever(path: StrPath, file: RegularFile) -> tuple[str, str | None]:
    """Open a regular file of the host for reading, wherever links lead.

    A link that is created meanwhile is resolved like the others. Does not block on a FIFO.

    Returns:
        The path with links resolved, and the reason why it cannot be read, or None.
    """
    for _ in range(_LINKS):
        try:
            real = _real_path(path)
            root, file_path = Directory(b"/", held=False), os.fsencode(real.lstrip("/"))
        except OSError as error:
            if check_errno(error) == errno.EINVAL:
                continue  # a link was removed meanwhile
            return os.fspath(path), _reason(check_errno(error))
        except ValueError:  # a NUL, or a character that the file system's encoding lacks
            return os.fspath(path), _INVALID
        if not file_path:
            return real, _reason(SearchProblem.DIRECTORY)
        _, problems = Places([(root, file_path)]).search(b"", 0, file)
        if problems[0] != SearchProblem.CALLER:
            return real, None if problems[0] == 0 else _reason(problems[0])
    return os.fspath(path), _reason(SearchProblem.CALLER)


def _real_path(path: StrPath) -> str:
    """Return an absolute path without links to the same file; its last components need not exist.

    ``os.path.realpath`` would recurse link by link, and swallows an OSError that a signal handler
    raises.

    Raises:
        OSError: The working directory is unknown, or there are too many links.
        ValueError: The path has a NUL, or a character that the encoding of the file system lacks.
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
        deeper = f"{real}/{part}"
        try:
            target = os.readlink(deeper)
        except OSError as error:
            check_errno(error)
            real = deeper  # not a link, missing or not accessible: opening it reports that
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
    """Return the granted directory with the longest path that contains, or is, the path ``parts``.

    ``parts`` is a path without links.
    """
    inside = [root for root in roots if tuple(parts[: len(root.parts)]) == root.parts]
    return max(inside, key=lambda each: len(each.parts), default=None)


def _reason(problem: int) -> str:
    return (
        _PROBLEMS.get(problem)
        or os.strerror(errno.ELOOP if problem == SearchProblem.CALLER else problem).lower()
    )


def _tried(where: _Search, name: str, reasons: Sequence[str | int]) -> list[tuple[str, str, str]]:
    """Return the attempts of a search: directory, rest of the path, and reason of the failure."""
    return [
        (directory, prefix + name, reason if isinstance(reason, str) else _reason(reason))
        for (directory, prefix, _), reason in zip(where.directories, reasons, strict=False)
    ]


def _shown(name: str) -> str:
    """Return a hostile name in a form fit for a message."""
    text = name.encode("unicode_escape").decode() if not name.isprintable() else name
    return text if len(text) <= 80 else text[:77] + "..."
