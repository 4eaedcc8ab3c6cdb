"""Entries of the cache of compiled modules on disk.

An entry is machine code that runs unchecked, hence:

* the name of an entry is the SHA-256 of the wasm bytes and of everything that the code depends on
  (wasmtime's version, the engine's configuration, the platform, whether waits were rewritten);
* the entry repeats that key and has a checksum of its contents: a damaged, truncated, renamed or
  outdated entry is recompiled. This detects damage, not malice: users who may write to the
  directory may run any code;
* a directory or file that another user owns or may write to is not read (POSIX), and neither is
  anything but a regular file. An entry is opened once, relative to a descriptor of the directory,
  checked through its own descriptor, and read and mapped through that;
* a writer fills a temporary file and renames it: readers see a complete entry or none, and the last
  of several writers wins. An entry in use is mapped into memory, so it may be removed or replaced
  at any time, but must not be truncated or changed.

An entry is the code, for wasmtime to map it; then the parsed module, so that it need not be parsed
again; then a trailer.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import secrets
import stat
import struct
import sys
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import wasmtime

from pylinker._system import SuppressSystemErrors, check_errno
from pylinker.errors import ParseError
from pylinker.native.scopes import Finalized
from pylinker.runtime.engine import engine
from pylinker.runtime.outline import adopt
from pylinker.wasm import CachedInfo, ModuleInfo, unpack_sections

__all__ = ["Entries", "Entry", "one_line"]

logger = logging.getLogger("pylinker.cache")

_MAGIC = b"pylinker code 7\n"
_DIGEST = hashlib.sha256().digest_size
_TRAILER = struct.Struct(f"=16s{_DIGEST}sQQI4x")
"""Magic, key, size of the code, size of the parsed module, whether waits were rewritten."""
_CHECKSUM = struct.Struct("=I")
"""Checksum of all bytes before it, at the end of an entry."""
_HOUR = 3600
_LARGE = 1 << 20
"""Size in bytes of the largest read buffer that is reused."""
_READING = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_WRITING = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
)
_OPEN_FILES = ("/proc/self/fd", "/dev/fd")
"""Directories in which a system shows descriptors as files."""
_END = _TRAILER.size + _CHECKSUM.size


class _File(Finalized):
    """An open file. It closes itself."""

    __slots__ = ("handle",)

    def __init__(self, path: str, flags: int, *, directory: int | None = None) -> None:
        self.handle = -1
        self.handle = os.open(path, flags, 0o600, dir_fd=directory)  # the mode of a new file

    def close(self) -> None:
        """Close it. Idempotent."""
        handle, self.handle = self.handle, -1
        if handle >= 0:
            os.close(handle)

    def _drop(self) -> None:
        if hasattr(self, "handle"):
            self.close()


class Entry(NamedTuple):
    """A complete entry on disk: ``path`` is for messages, ``file`` has its contents."""

    path: str
    key: bytes
    read: bytes
    rewritten: bool
    code_size: int
    file: _File
    used: float
    """Time of the last use (seconds since 1970), as far as the directory knows."""

    def info(self, name: str) -> ModuleInfo | None:
        """Return the parsed module, or None if the entry is malformed."""
        try:
            packed, outline = unpack_sections(memoryview(self.read))
            info = CachedInfo(packed, name=name)
            adopt(info, outline)
        except (
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            OverflowError,
            ParseError,
        ) as error:
            logger.warning(
                "cache entry %s is malformed; the module is parsed again: %r", self.path, error
            )
            return None
        return info

    def module(self) -> wasmtime.Module | None:
        """Return the compiled module, or None if wasmtime refuses it; to be called once."""
        handle = self.file.handle
        try:
            path = _path_of(handle)
            if path is not None:
                module = wasmtime.Module.deserialize_file(engine(), path)
            else:
                module = wasmtime.Module.deserialize(engine(), os.pread(handle, self.code_size, 0))
            now = time.time()
            if not now - _HOUR < self.used <= now:
                with SuppressSystemErrors():
                    os.utime(handle)  # the order in which entries are pruned
        except (wasmtime.WasmtimeError, OSError) as error:
            check_errno(error)
            logger.warning("cache entry %s is recompiled: %s", self.path, one_line(error))
            return None
        finally:
            self.file.close()
        return module


class Entries:
    """The directory of the cache, and its entries. Problems are logged, never raised.

    Args:
        directory: The directory, None for no cache on disk.
        capacity: Limit in bytes for all entries.
    """

    def __init__(self, directory: Path | None, capacity: int) -> None:
        self.directory = directory
        self.capacity = capacity
        self._path = os.fspath(directory) if directory else ""
        self._buffers: list[bytearray] = []

    def _open_directory(self) -> _File | None:
        """Open the directory; None if others may write to it. Raises OSError, ValueError."""
        directory = _File(self._path, _DIRECTORY)
        if not _is_private(os.fstat(directory.handle)):
            directory.close()
            logger.warning("cache directory %s is ignored: others may write to it", self._path)
            return None
        return directory

    def read(self, key: bytes) -> Entry | None:
        """Return the entry of a key, or None if there is none that is complete and trusted."""
        if not self._path:
            return None
        name = _name_of(key)
        path = f"{self._path}/{name}"
        try:
            directory = self._open_directory()
            if directory is None:
                return None
            try:
                file = _File(name, _READING, directory=directory.handle)
            finally:
                directory.close()
            status = os.fstat(file.handle)
            if not stat.S_ISREG(status.st_mode):
                logger.warning("cache entry %s is ignored: it is no regular file", path)
                return None
            if not _is_private(status):
                logger.warning("cache entry %s is ignored: others may write to it", path)
                return None
            if status.st_size > self.capacity:  # such an entry is pruned as it is written
                logger.warning("cache entry %s is ignored: it exceeds the cache's capacity", path)
                return None
            entry = None
            if status.st_size <= _LARGE or _ends_as(key, file.handle, status.st_size):
                buffer = self._buffer(status.st_size)
                entry = _read_entry(path, key, file, status, buffer)
                if len(buffer) <= _LARGE:
                    self._buffers.append(buffer)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:  # ValueError: an invalid path
            check_errno(error)
            logger.warning("cache entry %s: %s", path, error)
            return None
        if entry is None:
            logger.warning("cache entry %s is damaged; the module is recompiled", path)
        return entry

    def _buffer(self, size: int) -> bytearray:
        """Return a buffer for an entry: the previous one if it is large enough.

        Allocation of new memory costs more than the read.
        """
        with contextlib.suppress(IndexError):
            buffer = self._buffers.pop()
            if len(buffer) >= size:
                return buffer
        return bytearray(size)

    def write(self, key: bytes, module: wasmtime.Module, read: bytes, *, rewritten: bool) -> None:
        """Write an entry, and prune the directory.

        Args:
            key: The key of the entry.
            module: The compiled module.
            read: The packed parsed module.
            rewritten: Whether its waits are rewritten.
        """
        if self.directory is None:
            return
        name = _name_of(key)
        code = module.serialize()
        entry = b"".join((code, read, _TRAILER.pack(_MAGIC, key, len(code), len(read), rewritten)))
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory = self._open_directory()
            if directory is None:
                return
            try:
                self._put(directory.handle, name, entry)
                self._prune(directory.handle)
            finally:
                directory.close()
        except (OSError, ValueError) as error:
            check_errno(error)
            logger.warning("cache entry %s/%s was not written: %s", self._path, name, error)

    @staticmethod
    def _put(directory: int, name: str, entry: bytes) -> None:
        temporary = f".{secrets.token_hex(8)}.new"
        try:
            file = _File(temporary, _WRITING, directory=directory)
            try:
                for part in (entry, _CHECKSUM.pack(zlib.crc32(entry))):
                    rest = memoryview(part)
                    while rest:
                        rest = rest[os.write(file.handle, rest) :]
            finally:
                file.close()
            os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with SuppressSystemErrors():
                os.unlink(temporary, dir_fd=directory)
            raise

    def _prune(self, directory: int) -> None:
        """Remove the least recently used entries until the rest fits into ``capacity``."""
        found: list[tuple[float, int, str]] = []
        for name in os.listdir(directory):  # no iterator, which an interrupt would leave open
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                found.append((status.st_mtime, status.st_size, name))
        total = sum(size for _, size, _ in found)
        for _, size, name in sorted(found):
            if total <= self.capacity:
                break
            with SuppressSystemErrors():
                os.unlink(name, dir_fd=directory)
                total -= size


def _name_of(key: bytes) -> str:
    return f"{key.hex()}.code"


def _path_of(handle: int) -> str | None:
    """Return a path that refers to an open file and to no other, or None if the system has none."""
    status = os.fstat(handle)
    for directory in _OPEN_FILES:
        path = f"{directory}/{handle}"
        with SuppressSystemErrors():
            if os.path.samestat(os.stat(path), status):
                return path
    return None


def _ends_as(key: bytes, handle: int, size: int) -> bool:
    """Whether a large file ends like an entry of this key and size; if not, it is not read."""
    trailer = os.pread(handle, _TRAILER.size, size - _END)
    if len(trailer) != _TRAILER.size:
        return False
    magic, found, code_size, read_size, _ = _TRAILER.unpack(trailer)
    return (magic, found, code_size + read_size) == (_MAGIC, key, size - _END)


def _read_entry(
    path: str, key: bytes, opened: _File, status: os.stat_result, buffer: bytearray
) -> Entry | None:
    """Check an open entry, in a buffer large enough for it; None if it is not complete."""
    size = status.st_size
    end = size - _END
    if end < 0:
        return None
    with memoryview(buffer) as room, room[:size] as whole, whole[: -_CHECKSUM.size] as summed:
        with io.FileIO(opened.handle, closefd=False) as file:
            start = 0
            while start < size:
                with whole[start:] as rest:
                    count = file.readinto(rest)
                if not count:
                    return None  # truncated
                start += count
        magic, found, code_size, read_size, rewritten = _TRAILER.unpack_from(whole, end)
        if (magic, found, code_size + read_size) != (_MAGIC, key, end):
            return None
        if _CHECKSUM.unpack_from(whole, size - _CHECKSUM.size)[0] != zlib.crc32(summed):
            return None
        return Entry(
            path,
            key,
            bytes(whole[code_size:end]),
            bool(rewritten),
            code_size,
            opened,
            status.st_mtime,
        )


def _is_private(status: os.stat_result) -> bool:
    if sys.platform == "win32":
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def one_line(error: Exception) -> str:
    """Return the message of an error in one line."""
    return " ".join(str(error).split())
