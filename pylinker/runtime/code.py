"""Compiled modules, and the two caches in front of the compiler.

Compiling is what costs when a program is linked, so a module is compiled once per machine: the result is kept in memory (a few,
least recently used go first) and on disk. An entry on disk is machine code that will run unchecked, hence:

* the name of an entry is the SHA-256 of the wasm bytes and of everything the code depends on (wasmtime's version, the engine's
  configuration, the platform, whether waits were rewritten);
* the entry repeats that key and carries a checksum of its contents: a damaged, truncated, renamed or older entry is compiled anew. It
  tells damage, not malice: who may write the directory may run what they like;
* a directory or file that another user owns or may write is not read (POSIX), and neither is anything but
  a regular file. An entry is opened once, below a descriptor of the directory, checked by its own
  descriptor, and read and mapped through that;
* a writer fills a temporary file and renames it: readers see a whole entry or none, and the last of many writers wins. An entry in
  use is mapped into memory, so it may be removed or replaced at any time, but must not be cut short or changed.

An entry is the code, for wasmtime to map it; then what the linker reads of the module, so that it is not read again; then a trailer.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import io
import itertools
import logging
import os
import secrets
import stat
import struct
import sys
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import wasmtime

from pylinker.errors import LinkError, ParseError, UnsupportedError
from pylinker.native.failures import Failure
from pylinker.native.scopes import Finalized
from pylinker.native.stack import check_stack
from pylinker.runtime.directory import VARIABLE, cache_directory
from pylinker.runtime.engine import FINGERPRINT, compile_module, engine, validate_module
from pylinker.runtime.failures import exception_of
from pylinker.runtime.fork import free_in_child
from pylinker.runtime.outline import adopt, pack
from pylinker.runtime.private import address_of
from pylinker.runtime.progress import Observer, observing
from pylinker.runtime.teardown import outlives_interpreter
from pylinker.wasm import (
    WAITS_EXPORT,
    FuncType,
    ModuleInfo,
    StoredInfo,
    join,
    parse_module,
    rewrite_waits,
    split,
    store,
    trampoline_module,
    uses_legacy_exceptions,
)

__all__ = ["Code", "CodeCache", "Compiled", "Uncompiled", "default_cache_directory"]

logger = logging.getLogger("pylinker.cache")

_ADVICE = "compile with -mllvm -wasm-use-legacy-eh=false, or convert it with wasm-opt --translate-to-exnref"

_MAGIC = b"pylinker code 6\n"
_REWRITTEN = b"waits 1"
_DIGEST = hashlib.sha256().digest_size
_TRAILER = struct.Struct(f"=16s{_DIGEST}sQQI4x")
"""Magic, key, bytes of code, bytes of what is read, whether waits were rewritten."""
_CHECKSUM = struct.Struct("=I")
"""The checksum of all that comes before it, the last of an entry."""
_REFUSED = 1024
_LONGEST = 2000
"""How many modules are known not to be valid, and how many characters are kept of what is said of one."""
_HOUR = 3600
_LARGE = 1 << 20
"""Bytes of the largest buffer that is kept to be read into again."""
_READING = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_WRITING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_OPEN_FILES = ("/proc/self/fd", "/dev/fd")
"""Where a system shows its descriptors as files."""
_END = _TRAILER.size + _CHECKSUM.size


class Compiled:
    """A module that was compiled: ``address`` is what wasmtime instantiates, ``number`` is never another's."""

    __slots__ = ("_module", "address", "number")
    _numbers = itertools.count(1)

    def __init__(self, module: wasmtime.Module) -> None:
        self._module = module
        self.number = next(self._numbers)
        outlives_interpreter(module)
        self.address = address_of(module)


class Code(Compiled):
    """A module that was parsed and compiled: ``info`` is what the linker reads.

    ``rewritten``: the code has its waits rewritten (:mod:`pylinker.wasm.waits`), and so one table more than ``info`` says. ``key`` is the
    same for the same bytes of wasm only.
    """

    __slots__ = ("info", "key", "rewritten", "size")

    def __init__(self, key: bytes, info: ModuleInfo, module: wasmtime.Module, size: int, *, rewritten: bool) -> None:
        super().__init__(module)
        self.key = key
        self.info = info
        self.size = size
        self.rewritten = rewritten

    def __repr__(self) -> str:
        return f"<Code of {self.info.name}, {self.size} bytes of wasm>"


class _File(Finalized):
    """A file that is open. It closes itself."""

    __slots__ = ("handle",)

    def __init__(self, path: str, flags: int, *, directory: int | None = None) -> None:
        self.handle = -1
        self.handle = os.open(path, flags, dir_fd=directory)

    def close(self) -> None:
        """Close it; a second time does nothing."""
        handle, self.handle = self.handle, -1
        if handle >= 0:
            os.close(handle)

    def _drop(self) -> None:
        if hasattr(self, "handle"):
            self.close()


class _Entry(NamedTuple):
    """An entry on disk that is whole: ``path`` for messages, ``file`` for what is in it."""

    path: str
    key: bytes
    read: bytes
    rewritten: bool
    code_size: int
    file: _File
    used: float
    """When it was used last (seconds since 1970), as far as the directory knows."""

    def info(self, name: str) -> ModuleInfo | None:
        """Return what the linker reads of the module, or None if that cannot be read."""
        try:
            stored, outline = split(memoryview(self.read))
            info = StoredInfo(stored, name=name)
            adopt(info, outline)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, ParseError) as error:
            logger.warning("cache entry %s is made anew: %r", self.path, error)
            return None
        return info

    def module(self) -> wasmtime.Module | None:
        """Return the code, once, or None if wasmtime refuses it."""
        handle = self.file.handle
        try:
            path = _path_of(handle)
            if path is not None:
                module = wasmtime.Module.deserialize_file(engine(), path)
            else:
                module = wasmtime.Module.deserialize(engine(), os.pread(handle, self.code_size, 0))
            now = time.time()
            if not now - _HOUR < self.used <= now:
                with contextlib.suppress(OSError):
                    os.utime(handle)  # what _prune goes by
        except (wasmtime.WasmtimeError, OSError) as error:
            logger.warning("cache entry %s is compiled anew: %s", self.path, _one_line(error))
            return None
        finally:
            self.file.close()
        return module


_homeless: list[bool] = []
"""Not empty once it was said that there is no home directory."""


def default_cache_directory() -> Path | None:
    """Return where compiled modules are kept: ``PYLINKER_CACHE``, else ``pylinker`` in the user's cache directory.

    An empty ``PYLINKER_CACHE`` switches the cache on disk off: None. So does a user without a home directory, which is logged.
    """
    directory = cache_directory()
    if directory is None and VARIABLE not in os.environ:
        level, _homeless[:] = logging.DEBUG if _homeless else logging.WARNING, [True]  # the warning once in a process
        logger.log(level, "compiled modules are not kept on disk: there is no home directory (PYLINKER_CACHE names a directory)")
    return directory


_SEED = hashlib.sha256(FINGERPRINT)


def _key_of(data: bytes) -> bytes:
    key = _SEED.copy()
    key.update(data)
    return key.digest()


class _Refused:
    """Why wasmtime refuses a module: the module's own instructions say whether it is for legacy exceptions, not wasmtime's text."""

    __slots__ = ("_is_legacy", "_text")

    def __init__(self, data: bytes, error: wasmtime.WasmtimeError) -> None:
        self._is_legacy = uses_legacy_exceptions(data)
        self._text = _one_line(error)[:_LONGEST]

    def error(self, name: str) -> LinkError:
        """Return the error for a module of this name."""
        if self._is_legacy:
            return UnsupportedError(f"{name}: wasmtime has no legacy exception handling (try, catch, rethrow): {_ADVICE}", module=name)
        return ParseError(f"wasmtime refuses it: {self._text}", module=name)


class Uncompiled:
    """A module that was read and has no code yet. ``info`` is what the linker reads.

    Compiling a large one takes minutes, so there is a step before it: :meth:`validate` takes a hundredth of that.
    """

    __slots__ = ("_cache", "_checked", "_data", "_id", "_key", "_name", "_wanted", "info")

    def __init__(
        self, cache: CodeCache, id_: tuple[bytes, bool], key: bytes, info: ModuleInfo, data: bytes, name: str, *, wanted: bool
    ) -> None:
        self._cache = cache
        self._id = id_
        self._key = key
        self.info = info
        self._data = data
        self._name = name
        self._wanted = wanted
        self._checked: bytes | None = None

    def validate(self) -> None:
        """Raise ParseError or UnsupportedError if wasmtime refuses the module; that is remembered. A second time does nothing."""
        if self._checked is not None:
            return
        changed = rewrite_waits(self._data, name=self._name, info=self.info) if self._wanted else self._data
        try:
            validate_module(changed)
        except wasmtime.WasmtimeError as error:
            refused = _Refused(changed, error)
            self._cache._refuse(self._id, refused)
            raise refused.error(self._name) from error
        self._checked = changed

    def compile(self) -> Code:
        """Return the code; from now on the cache has it. Raises what :meth:`validate` raises."""
        self.validate()
        changed = self._checked
        assert changed is not None
        data, info = self._data, self.info
        rewritten = changed is not data
        module = self._cache._compiled(changed, self._name)
        self._cache._write(self._key, module, join([store(info, data), pack(info)]), rewritten=rewritten)
        return self._cache._keep(self._id, Code(self._id[0], info, module, len(data), rewritten=rewritten))


class CodeCache:
    """Parses and compiles wasm bytes, or remembers the result.

    ``directory`` is the cache on disk, None for none; ``entries`` bounds the modules kept in memory and ``capacity`` the bytes kept
    on disk. Problems with the disk are logged, never raised: the cache only saves time. Safe to use from many threads.
    """

    def __init__(self, directory: Path | None, *, entries: int = 128, capacity: int = 1 << 30) -> None:
        self.directory = directory
        self._directory = os.fspath(directory) if directory else ""
        self._ahead: _Entry | None = None
        self._buffers: list[bytearray] = []
        self.entries = entries
        self.capacity = capacity
        self._observer: Observer | None = None
        self._lock = threading.RLock()  # a signal handler may open a program while its thread holds it
        free_in_child(self._lock)
        self._memory: OrderedDict[tuple[bytes, bool], Code] = OrderedDict()
        self._refused: OrderedDict[tuple[bytes, bool], _Refused] = OrderedDict()
        self._infos: OrderedDict[bytes, ModuleInfo] = OrderedDict()
        self._trampolines: OrderedDict[bytes, Compiled] = OrderedDict()

    def observed(self, observer: Observer | None) -> CodeCache:
        """Return the same cache, contents and all, which tells ``observer`` when it compiles."""
        same = copy.copy(self)
        same._observer = observer
        same._ahead = None
        return same

    def parse(self, data: bytes, *, name: str) -> ModuleInfo:
        """Read a module without compiling it, or remember what was read. Raises ParseError."""
        return self._parsed(_key_of(data), data, name)

    def _parsed(self, key: bytes, data: bytes, name: str) -> ModuleInfo:
        info = self._known(key)
        if info is None:
            entry = self._read(key) or self._read(_rewritten(key))
            info = entry.info(name) if entry is not None else None
            info = self._know(key, info or parse_module(data, name=name))
            with self._lock:
                self._ahead = entry  # the code comes next
        return info

    def _known(self, key: bytes) -> ModuleInfo | None:
        with self._lock:
            info = self._infos.get(key)
            if info is not None:
                self._infos.move_to_end(key)
            return info

    def _know(self, key: bytes, info: ModuleInfo) -> ModuleInfo:
        with self._lock:
            self._infos[key] = info
            while len(self._infos) > self.entries:
                self._infos.popitem(last=False)
        return info

    def trampolines(self, origin: Iterable[bytes], functions: Iterable[tuple[str, FuncType]], *, name: str) -> Compiled:
        """Return the code of :func:`pylinker.wasm.trampoline_module` for functions that follow from ``origin``. Raises UnsupportedError.

        They are looked at only if there is no code for that origin yet.
        """
        key = _key_of(b"".join([_trampolines_version(), *[b"%d %b" % (len(part), part) for part in origin]]))
        with self._lock:
            code = self._trampolines.get(key)
            if code is not None:
                self._trampolines.move_to_end(key)
                return code
        entry = self._read(key)
        module = entry.module() if entry is not None else None
        if module is None:
            module = self._compiled(trampoline_module([*functions]), name)
            self._write(key, module, b"", rewritten=False)
        code = Compiled(module)
        with self._lock:
            self._trampolines[key] = code
            while len(self._trampolines) > self.entries:
                self._trampolines.popitem(last=False)
        return code

    def load(self, data: bytes, *, name: str, rewrite: bool = False) -> Code:
        """Return the code of ``data``, with its waits rewritten if they can be and ``rewrite`` says so.

        Raises ParseError if it is not a valid module, UnsupportedError if it has for itself what rewriting adds, or uses what wasmtime
        has not; may take seconds for a large one.
        """
        found = self.find(data, name=name, rewrite=rewrite)
        return found if isinstance(found, Code) else found.compile()

    def find(self, data: bytes, *, name: str, rewrite: bool = False) -> Code | Uncompiled:
        """Return the code of ``data`` if it was compiled before, else what compiles it. Raises what :meth:`load` raises."""
        original = _key_of(data)
        with self._lock:
            known = self._memory.get((original, rewrite))
            if known is not None:
                self._memory.move_to_end((original, rewrite))
                return known
            refused = self._refused.get((original, rewrite))
        if refused is not None:
            raise refused.error(name)
        info = self._known(original)
        entry = self._take_ahead()
        readable = True
        if info is None:
            entry = self._read(original) or (self._read(_rewritten(original)) if rewrite else None)
            info = entry.info(name) if entry is not None else None
            readable = entry is None or info is not None
            info = self._know(original, info or parse_module(data, name=name))
        wanted = rewrite and _has_shared_memory(info)
        if wanted:
            _check_reserved(info, name)
        key = _rewritten(original) if wanted else original
        if entry is None or entry.key != key:
            entry = self._read(key)
        elif not readable:
            entry = None  # so that it is replaced
        module = entry.module() if entry is not None else None
        if entry is None or module is None:
            return Uncompiled(self, (original, rewrite), key, info, data, name, wanted=wanted)
        return self._keep((original, rewrite), Code(original, info, module, len(data), rewritten=entry.rewritten))

    def _take_ahead(self) -> _Entry | None:
        """Return the entry that was read last, once: two must not use its file."""
        with self._lock:
            entry, self._ahead = self._ahead, None
            return entry

    def _keep(self, key: tuple[bytes, bool], code: Code) -> Code:
        with self._lock:
            code = self._memory.setdefault(key, code)
            self._memory.move_to_end(key)
            while len(self._memory) > self.entries:
                self._memory.popitem(last=False)
        return code

    def _refuse(self, key: tuple[bytes, bool], refused: _Refused) -> None:
        """Remember why a module is not valid."""
        with self._lock:
            self._refused[key] = refused
            while len(self._refused) > _REFUSED:
                self._refused.popitem(last=False)

    def _compiled(self, data: bytes, name: str) -> wasmtime.Module:
        try:
            check_stack()  # the compiler needs as much
        except Failure as failure:
            raise exception_of(failure) from None
        try:
            with observing(self._observer, name, len(data)):
                return compile_module(data)
        except wasmtime.WasmtimeError as error:
            raise _Refused(data, error).error(name) from error

    def _open_directory(self) -> _File | None:
        """Open the directory, or return None if others may write it. Raises OSError, ValueError."""
        directory = _File(self._directory, _DIRECTORY)
        if not _is_private(os.fstat(directory.handle)):
            directory.close()
            logger.warning("cache directory %s is not used: others may write it", self._directory)
            return None
        return directory

    def _read(self, key: bytes) -> _Entry | None:
        if not self._directory:
            return None
        name = _name_of(key)
        path = f"{self._directory}/{name}"
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
                logger.warning("cache entry %s is not used: it is no regular file", path)
                return None
            if not _is_private(status):
                logger.warning("cache entry %s is not used: others may write it", path)
                return None
            buffer = self._buffer(status.st_size)
            entry = _read_entry(path, key, file, status, buffer)
            if len(buffer) <= _LARGE:
                self._buffers.append(buffer)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:  # ValueError: a name that can be none
            logger.warning("cache entry %s: %s", path, error)
            return None
        if entry is None:
            logger.warning("cache entry %s is damaged and compiled anew", path)
        return entry

    def _buffer(self, size: int) -> bytearray:
        """Return room for an entry: what the one before was read into, if that is enough, for new memory costs more than what is read."""
        with contextlib.suppress(IndexError):
            buffer = self._buffers.pop()
            if len(buffer) >= size:
                return buffer
        return bytearray(size)

    def _write(self, key: bytes, module: wasmtime.Module, read: bytes, *, rewritten: bool) -> None:
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
            logger.warning("cache entry %s/%s was not written: %s", self._directory, name, error)

    @staticmethod
    def _put(directory: int, name: str, entry: bytes) -> None:
        temporary = f".{secrets.token_hex(8)}.new"
        handle = os.open(temporary, _WRITING, 0o600, dir_fd=directory)
        try:
            with open(handle, "wb") as file:
                file.write(entry)
                file.write(_CHECKSUM.pack(zlib.crc32(entry)))
            os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=directory)
            raise

    def _prune(self, directory: int) -> None:
        """Remove the entries that were not used for longest until the rest fits into ``capacity``."""
        found: list[tuple[float, int, str]] = []
        for name in os.listdir(directory):  # which an interrupt leaves nothing of that is open
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                found.append((status.st_mtime, status.st_size, name))
        total = sum(size for _, size, _ in found)
        for _, size, name in sorted(found):
            if total <= self.capacity:
                break
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=directory)
                total -= size


def _name_of(key: bytes) -> str:
    return f"{key.hex()}.code"


def _path_of(handle: int) -> str | None:
    """Return a path that leads to a file that is open and to no other, or None where the system shows no such."""
    status = os.fstat(handle)
    for directory in _OPEN_FILES:
        path = f"{directory}/{handle}"
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(path), status):
                return path
    return None


def _read_entry(path: str, key: bytes, opened: _File, status: os.stat_result, buffer: bytearray) -> _Entry | None:
    """Look at an entry that is open, in a buffer that has room for it; None if it is not whole."""
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
                    return None  # it was cut short
                start += count
        magic, found, code_size, read_size, rewritten = _TRAILER.unpack_from(whole, end)
        if (magic, found, code_size + read_size) != (_MAGIC, key, end):
            return None
        if _CHECKSUM.unpack_from(whole, size - _CHECKSUM.size)[0] != zlib.crc32(summed):
            return None
        return _Entry(path, key, bytes(whole[code_size:end]), bool(rewritten), code_size, opened, status.st_mtime)


def _rewritten(original: bytes) -> bytes:
    """Return the key of a module whose waits are rewritten."""
    return hashlib.sha256(original + _REWRITTEN).digest()


@functools.lru_cache(maxsize=1)
def _trampolines_version() -> bytes:
    """Return what changes when trampolines are made in another way."""
    return b"trampolines " + trampoline_module((("name", FuncType(("i32", "f64"), ("i64",))),))


def _has_shared_memory(info: ModuleInfo) -> bool:
    return any(each.limits.shared for each in (*info.imported_memories, *info.memories))


def _check_reserved(info: ModuleInfo, name: str) -> None:
    if WAITS_EXPORT in info.exports:
        raise UnsupportedError(
            f"{name} exports {WAITS_EXPORT}, which pylinker adds to modules; rewrite_waits=False leaves them as they are", module=name
        )


def _is_private(status: os.stat_result) -> bool:
    if sys.platform == "win32":
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
