"""Compiled modules, and the two caches in front of the compiler.

Compiling is what costs when a program is linked, so a module is compiled once per machine: the result is kept in memory (a few,
least recently used go first) and on disk. An entry on disk is machine code that will run unchecked, hence:

* the name of an entry is the SHA-256 of the wasm bytes and of everything the code depends on (wasmtime's version, the engine's
  configuration, the platform, whether waits were rewritten);
* the entry repeats that key and carries a checksum of its contents: a damaged, truncated, renamed or older entry is compiled anew. It
  tells damage, not malice: who may write the directory may run what they like;
* a directory or file that another user owns or may write is not read (POSIX);
* a writer fills a temporary file and renames it: readers see a whole entry or none, and the last of many writers wins. An entry in
  use is mapped into memory, so it may be removed or replaced at any time, but must not be cut short or changed.

An entry is the code, for wasmtime to map it; then what the linker reads of the module, so that it is not read again; then a trailer.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import functools
import hashlib
import io
import itertools
import logging
import os
import stat
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import wasmtime

from pylinker import _native
from pylinker._native import Failure
from pylinker.errors import ParseError, UnsupportedError
from pylinker.runtime.engine import FINGERPRINT, compile_module, engine
from pylinker.runtime.failures import exception_of
from pylinker.runtime.fork import free_in_child
from pylinker.runtime.outline import adopt, pack
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
)

__all__ = ["Code", "CodeCache", "Compiled", "default_cache_directory"]

logger = logging.getLogger("pylinker.cache")

_LEGACY = "legacy_exceptions feature required"
_ADVICE = "compile with -mllvm -wasm-use-legacy-eh=false, or convert it with wasm-opt --translate-to-exnref"

_MAGIC = b"pylinker code 4\n"
_REWRITTEN = b"waits 1"
_DIGEST = hashlib.sha256().digest_size
_TRAILER = struct.Struct(f"=16s{_DIGEST}sQQI4x")
"""Magic, key, bytes of code, bytes of what is read, whether waits were rewritten."""
_CHECKSUM = struct.Struct("=I")
"""The checksum of all that comes before it, the last of an entry."""
_HOUR = 3600
_LARGE = 1 << 20
"""Bytes of the largest buffer that is kept to be read into again."""
_READING = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_END = _TRAILER.size + _CHECKSUM.size


class Compiled:
    """A module that was compiled: ``address`` is what wasmtime instantiates, ``number`` is never another's."""

    __slots__ = ("_module", "address", "number")
    _numbers = itertools.count(1)

    def __init__(self, module: wasmtime.Module) -> None:
        self._module = module
        self.number = next(self._numbers)
        outlives_interpreter(module)
        self.address: int = ctypes.cast(module.ptr(), ctypes.c_void_p).value or 0


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


class _Entry(NamedTuple):
    """An entry on disk that is whole."""

    path: str
    key: bytes
    read: bytes
    rewritten: bool
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
        """Return the code, or None if wasmtime refuses it."""
        try:
            module = wasmtime.Module.deserialize_file(engine(), self.path)
        except wasmtime.WasmtimeError as error:
            logger.warning("cache entry %s is compiled anew: %s", self.path, _one_line(error))
            return None
        now = time.time()
        if not now - _HOUR < self.used <= now:
            with contextlib.suppress(OSError):
                os.utime(self.path)  # what _prune goes by
        return module


def default_cache_directory() -> Path | None:
    """Return where compiled modules are kept: ``PYLINKER_CACHE``, else ``pylinker`` in the user's cache directory.

    An empty ``PYLINKER_CACHE`` switches the cache on disk off: None.
    """
    chosen = os.environ.get("PYLINKER_CACHE")
    if chosen is not None:
        return Path(chosen) if chosen else None
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "pylinker"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pylinker"


_SEED = hashlib.sha256(FINGERPRINT)


def _key_of(data: bytes) -> bytes:
    key = _SEED.copy()
    key.update(data)
    return key.digest()


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
        self._lock = threading.Lock()
        free_in_child(self._lock)
        self._memory: OrderedDict[tuple[bytes, bool], Code] = OrderedDict()
        self._infos: OrderedDict[bytes, ModuleInfo] = OrderedDict()
        self._trampolines: OrderedDict[bytes, Compiled] = OrderedDict()

    def observed(self, observer: Observer | None) -> CodeCache:
        """Return the same cache, contents and all, which tells ``observer`` when it compiles."""
        same = copy.copy(self)
        same._observer = observer
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
        original = _key_of(data)
        with self._lock:
            known = self._memory.get((original, rewrite))
            if known is not None:
                self._memory.move_to_end((original, rewrite))
                return known
        code = self._load(original, data, name, rewrite=rewrite)
        with self._lock:
            self._memory[original, rewrite] = code
            while len(self._memory) > self.entries:
                self._memory.popitem(last=False)
        return code

    def _load(self, original: bytes, data: bytes, name: str, *, rewrite: bool) -> Code:
        info = self._known(original)
        entry, self._ahead = self._ahead, None
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
        if entry is not None and module is not None:
            return Code(original, info, module, len(data), rewritten=entry.rewritten)
        changed = rewrite_waits(data, name=name, info=info) if wanted else data
        module = self._compiled(changed, name)
        self._write(key, module, join([store(info, data), pack(info)]), rewritten=changed is not data)
        return Code(original, info, module, len(data), rewritten=changed is not data)

    def _compiled(self, data: bytes, name: str) -> wasmtime.Module:
        try:
            _native.check_stack()  # the compiler needs as much
        except Failure as failure:
            raise exception_of(failure) from None
        try:
            with observing(self._observer, name, len(data)):
                return compile_module(data)
        except wasmtime.WasmtimeError as error:
            text = _one_line(error)
            if _LEGACY in text:
                raise UnsupportedError(
                    f"{name}: wasmtime has no legacy exception handling (try, catch, rethrow): {_ADVICE}", module=name
                ) from error
            raise ParseError(f"wasmtime refuses it: {text}", module=name) from error

    def _path(self, key: bytes) -> str | None:
        return f"{self._directory}/{key.hex()}.code" if self._directory else None

    def _read(self, key: bytes) -> _Entry | None:
        path = self._path(key)
        if path is None:
            return None
        try:
            handle = os.open(path, _READING)
            try:
                status = os.fstat(handle)
                if not _is_private(os.stat(self._directory)):
                    logger.warning("cache directory %s is not used: others may write it", self._directory)
                    return None
                if not _is_private(status):
                    logger.warning("cache entry %s is not used: others may write it", path)
                    return None
                buffer = self._buffer(status.st_size)
                entry = _read_entry(path, key, handle, status, buffer)
                if len(buffer) <= _LARGE:
                    self._buffers.append(buffer)
            finally:
                os.close(handle)
        except FileNotFoundError:
            return None
        except OSError as error:
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
        directory, path = self.directory, self._path(key)
        if directory is None or path is None:
            return
        code = module.serialize()
        entry = b"".join((code, read, _TRAILER.pack(_MAGIC, key, len(code), len(read), rewritten)))
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_private(directory.stat()):
                return
            handle, temporary = tempfile.mkstemp(prefix=".", suffix=".new", dir=directory)
            try:
                with open(handle, "wb") as file:
                    file.write(entry)
                    file.write(_CHECKSUM.pack(zlib.crc32(entry)))
                os.replace(temporary, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
            self._prune(directory)
        except OSError as error:
            logger.warning("cache entry %s was not written: %s", path, error)

    def _prune(self, directory: Path) -> None:
        """Remove the entries that were not used for longest until the rest fits into ``capacity``."""
        found: list[tuple[float, int, str]] = []
        with os.scandir(directory) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    found.append((status.st_mtime, status.st_size, entry.path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.capacity:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
                total -= size


def _read_entry(path: str, key: bytes, handle: int, status: os.stat_result, buffer: bytearray) -> _Entry | None:
    """Look at an entry that is open, in a buffer that has room for it; None if it is not whole."""
    size = status.st_size
    end = size - _END
    if end < 0:
        return None
    with memoryview(buffer) as room, room[:size] as whole, whole[: -_CHECKSUM.size] as summed:
        with io.FileIO(handle, closefd=False) as file:
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
        return _Entry(path, key, bytes(whole[code_size:end]), bool(rewritten), status.st_mtime)


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
