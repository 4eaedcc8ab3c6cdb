"""The files of a load: requests for libraries, and the files that were found and read."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from pylinker._system import check_errno
from pylinker.errors import LibraryNotFoundError, LimitError
from pylinker.linker.modules.locator import open_wherever
from pylinker.native.search import RegularFile
from pylinker.wasm import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pylinker.linker.modules.locator import Home, Located, StrPath
    from pylinker.linker.modules.module import LoadedModule
    from pylinker.runtime.code import Code, Uncompiled
    from pylinker.wasm import ModuleInfo

__all__ = [
    "Files",
    "FoundFile",
    "ModuleBytes",
    "Request",
    "Unread",
    "bytes_of",
    "check_size",
    "read_file",
    "why_no_library",
]


class ModuleBytes:
    """A module that is given as bytes, wherever the path of one may be given.

    The same bytes are the same library, as the same file is: opening them twice adds one more
    handle.

    Args:
        data: The bytes of the module.
        name: The name by which other modules may list it in their needed libraries. Without one its
            name is the beginning of its SHA-256.
    """

    data: bytes
    """The bytes of the module."""
    key: str
    """The digest of the bytes."""
    name: str
    """The name of the module."""

    __slots__ = ("data", "key", "name")

    def __init__(self, data: bytes | bytearray | memoryview, *, name: str | None = None) -> None:
        self.data = bytes(data)
        digest = hashlib.sha256(self.data).hexdigest()
        self.key = f"sha256:{digest}"  # no absolute path, so it is never that of a file
        self.name = name or f"module-{digest[:12]}"

    def __repr__(self) -> str:
        return f"ModuleBytes(<{len(self.data)} bytes>, name={self.name!r})"


class Request:
    """A request for a library.

    Args:
        name: The name of the library, or the module itself.
        requester: The module that needs it.
        trusted: Whether the host wrote the name.
        search: Directories of the guest that replace its ``LD_LIBRARY_PATH``, or None.
    """

    module_bytes: ModuleBytes | None
    """The module itself, if the host provided its bytes: the name is not searched for then."""
    name: str
    """The name of the library."""
    requester: LoadedModule | None
    """The module that needs it."""
    trusted: bool
    """Whether the host wrote the name."""
    search: Sequence[str] | None
    """Directories of the guest that replace its ``LD_LIBRARY_PATH``."""

    __slots__ = ("module_bytes", "name", "requester", "search", "trusted")

    def __init__(
        self,
        name: str | ModuleBytes,
        requester: LoadedModule | None = None,
        *,
        trusted: bool = False,
        search: Sequence[str] | None = None,
    ) -> None:
        self.module_bytes = name if isinstance(name, ModuleBytes) else None
        self.name = name.name if isinstance(name, ModuleBytes) else name
        self.requester = requester
        self.trusted = trusted
        self.search = search


class Unread(Exception):  # noqa: N818 - not an error a user meets: the caller reads, and comes again
    """A file must be read that was not read before, and reading is not allowed now."""


class FoundFile:
    """A module that was found: a file, or bytes from the host."""

    path: str | None
    """The path of the file."""
    home: Home | None
    """The home of the file."""
    key: str
    """The key of the module."""
    code: Code | Uncompiled | None
    """The code, None before the file is read."""

    __slots__ = ("_located", "_module_bytes", "code", "home", "key", "path")

    def __init__(self, located: Located | None, module_bytes: ModuleBytes | None = None) -> None:
        self._located = located
        self._module_bytes = module_bytes
        self.path = located.path if located else None
        self.home = located.home if located else None
        self.key = located.path if located else module_bytes.key if module_bytes else ""
        self.code = None

    def read(self, name: str, limit: int, requester: str | None) -> bytes:
        """Return the bytes.

        Raises:
            LimitError: There are too many.
            LibraryNotFoundError: The file cannot be read.
        """
        if self._located is not None:
            return bytes_of(
                name, self._located.path, self._located.file, limit, requester=requester
            )
        assert self._module_bytes is not None
        return check_size(name, self._module_bytes.data, limit)


def check_size(name: str, data: bytes, limit: int) -> bytes:
    """Return a module that was given as bytes, if it has at most ``limit``.

    Raises:
        LimitError: It has more.
    """
    if len(data) > limit:
        raise LimitError(
            f"{name}: the module has {len(data)} bytes; the limit is {limit}: raise "
            "Limits(library_size=...)",
            module=name,
        )
    return data


class Files:
    """The files that the plans of one load found and read; a second plan does neither again."""

    known: dict[tuple[object, ...], FoundFile]
    """The files by request."""
    may_read: bool
    """Whether a plan may read another file; else it raises Unread."""

    __slots__ = ("known", "may_read")

    def __init__(self) -> None:
        self.known = {}
        self.may_read = True


def why_no_library(info: ModuleInfo) -> str | None:
    """Return why a module cannot be opened as a library, or None if it can.

    The text is the end of a sentence about the module.
    """
    start = info.private.get("_start")
    if start is not None and start.kind is Kind.FUNC:
        return (
            "is a program and not a dynamic library: it exports _start (run it as the main module)"
        )
    if info.dylink is None:
        return "is not a dynamic library: it has no dylink.0 section (link it with -shared)"
    if info.memories and not info.imported_memories:
        return (
            "is a program and not a dynamic library: it brings its own memory (link it with "
            "-shared)"
        )
    if not info.is_position_independent:
        return (
            "is a program and not a dynamic library: it lies at fixed addresses (link it with "
            "-shared)"
        )
    if info.fixed_slots:
        return (
            "is not a dynamic library: it puts functions into fixed slots of the table (link it "
            "with -shared)"
        )
    return None


def read_file(name: str, path: StrPath, limit: int, *, role: str = "library") -> tuple[str, bytes]:
    """Return the path of a file of the host, links resolved, and its bytes.

    Args:
        name: The name of the module, for messages.
        path: The path of the file.
        limit: The maximum of bytes.
        role: The kind of the file, for the message if it cannot be read.

    Raises:
        LimitError: The file has more than ``limit`` bytes.
        LibraryNotFoundError: It cannot be read.
    """
    file = RegularFile()
    real, problem = open_wherever(path, file)
    if problem is not None:
        raise LibraryNotFoundError(name, searched=[(real, problem)], role=role)
    return real, bytes_of(name, real, file, limit)


def bytes_of(
    name: str, path: str, file: RegularFile, limit: int, *, requester: str | None = None
) -> bytes:
    """Return the bytes of an open file.

    Raises:
        LimitError: The file has more than ``limit`` bytes.
        LibraryNotFoundError: It cannot be read.
    """
    try:
        data = file.read(limit)
    except OSError as error:
        reason = os.strerror(check_errno(error)).lower()
        raise LibraryNotFoundError(name, searched=[(path, reason)], requester=requester) from error
    if data is None:
        # A guest sees the first line; it must not see paths of the host.
        raise LimitError(
            f"{name}: the file has more than {limit} bytes: raise Limits(library_size=...)\n  "
            f"{path}",
            module=name,
        )
    return data
