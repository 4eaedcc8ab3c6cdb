"""Files, and the search for them in directories (``csrc/search.h``)."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pylinker.native.core import ffi, lib
from pylinker.native.scopes import Finalized

if TYPE_CHECKING:
    from pylinker._core import Pointer

__all__ = ["Directory", "Places", "RegularFile", "search_by_component"]

_LINK_MAX = 4096
"""Size of a buffer for a link: no path may be that long."""


class RegularFile(Finalized):
    """An open regular file, to be read once (``csrc/search.h``). It closes itself."""

    __slots__ = ("_file",)

    def __init__(self) -> None:
        self._file = ffi.new("pl_file *", (-1, 0))

    def read(self, limit: int) -> bytes | None:
        """Return its contents, or None if they are longer than ``limit`` bytes. Raises OSError."""
        handle, size = self._file.handle, self._file.size
        if size > limit:
            return None
        data = os.read(handle, size + 1)  # one byte more, to see the end of the file
        if len(data) == size:
            return data
        parts = [data]
        while part := os.read(handle, 1 << 16):  # a short read, or the file has grown
            parts.append(part)
            if sum(map(len, parts)) > limit:
                return None
        data = b"".join(parts)
        return data if len(data) <= limit else None

    def _drop(self) -> None:
        file = getattr(self, "_file", None)
        if file is not None:
            lib.pl_file_close(file)


class Directory(Finalized):
    """A granted directory (``pl_root``): a descriptor of it. It closes itself.

    It has no descriptor if the directory does not exist yet.

    Args:
        path: The absolute path without symbolic links.
        held: Whether to keep a descriptor; without one the directory is opened for each search.
    """

    __slots__ = ("__weakref__", "_path", "_root")

    def __init__(self, path: bytes, *, held: bool = True) -> None:
        self._path = ffi.new("char[]", path)
        self._root = ffi.new("pl_root *", (-1, self._path))
        if held:
            lib.pl_root_open(self._root, self._path)  # each search reports an error of it

    @property
    def identity(self) -> tuple[int, int] | None:
        """Device and inode of the directory, unique while it is open; None without a descriptor."""
        if self._root.handle < 0:
            return None
        status = os.fstat(self._root.handle)
        return status.st_dev, status.st_ino

    def link(self, path: bytes) -> bytes:
        """Return the target of the symbolic link ``path``.

        Raises:
            OSError: EINVAL if it is no link, ELOOP if a component before the last is one.
        """
        target = ffi.new("char[]", _LINK_MAX)
        length = lib.pl_search_link(self._root, path, target, _LINK_MAX)
        if length < 0 or length == _LINK_MAX:
            problem = -length if length < 0 else errno.ENAMETOOLONG
            raise OSError(problem, os.strerror(problem))
        return bytes(ffi.buffer(target, length))

    def _drop(self) -> None:
        root = getattr(self, "_root", None)
        if root is not None:
            lib.pl_root_close(root)


class Places:
    """A search path (``pl_place``): directories, each with a prefix of the name in it.

    The prefix is empty or ends with a slash. None stands for a place that the caller searches.
    """

    __slots__ = ("_kept", "_places", "count")

    def __init__(self, places: Sequence[tuple[Directory, bytes] | None]) -> None:
        self.count = len(places)
        self._kept = [
            None if place is None else (place[0], ffi.new("char[]", place[1])) for place in places
        ]
        self._places = ffi.new("pl_place[]", self.count)
        for index, kept in enumerate(self._kept):
            if kept is not None:
                directory, prefix = kept
                self._places[index] = (directory._root, prefix, len(prefix) - 1)

    def search(self, name: bytes, first: int, file: RegularFile) -> tuple[int, Pointer[int]]:
        """Search a file from the place numbered ``first`` on, and open it.

        Returns:
            The number of the place with the file, or of the first one that the caller must search,
            or ``count``; and for each place from ``first`` on why the file is not there: an errno,
            or a ``SearchProblem``, 0 for the place with the file.
        """
        count = self.count - first
        problems = ffi.new("int32_t[]", count)
        number = lib.pl_search(self._places + first, count, name, len(name), problems, file._file)
        return first + number, problems


def search_by_component(wanted: bool) -> None:  # noqa: FBT001
    """Set whether to search without ``openat2``, as on a system that lacks it; for tests."""
    lib.pl_search_by_component(wanted)
