"""Compiled modules, and the two caches in front of the compiler.

Compiling is what costs when a program is linked, so a module is compiled once per machine: the
result is kept on disk, and in memory while it is in use and after that while there is room (least
recently used go first). An entry on disk is machine code that will run unchecked, hence:

* the name of an entry is the SHA-256 of the wasm bytes and of everything the code depends on
  (wasmtime's version, the engine's configuration, the platform, whether waits were rewritten);
* the entry repeats that key and carries a checksum of its contents: a damaged, truncated, renamed
  or older entry is compiled anew. It tells damage, not malice: who may write the directory may run
  what they like;
* a directory or file that another user owns or may write is not read (POSIX), and neither is
  anything but a regular file. An entry is opened once, below a descriptor of the directory, checked
  by its own descriptor, and read and mapped through that;
* a writer fills a temporary file and renames it: readers see a whole entry or none, and the last of
  many writers wins. An entry in use is mapped into memory, so it may be removed or replaced at any
  time, but must not be cut short or changed.

An entry is the code, for wasmtime to map it; then what the linker reads of the module, so that it
is not read again; then a trailer.
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
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from weakref import WeakValueDictionary

import wasmtime

from pylinker._system import SuppressSystemErrors, check_errno
from pylinker.errors import LinkError, ParseError, UnsupportedError
from pylinker.native.enums import PLT_BLOCK
from pylinker.native.failures import Failure
from pylinker.native.scopes import Finalized
from pylinker.native.stack import check_stack
from pylinker.runtime.directory import VARIABLE, cache_directory
from pylinker.runtime.engine import FINGERPRINT, compile_module, engine, validate_module
from pylinker.runtime.failures import exception_of
from pylinker.runtime.fork import free_in_child
from pylinker.runtime.outline import adopt, pack
from pylinker.runtime.private import address_of, image_size
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

_MAGIC = b"pylinker code 7\n"
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
_INFO, _BLOCK, _TRAMPOLINES = "info", "block", "trampolines"
_OBJECTS = 1 << 15
"""Bytes that each thing kept in memory counts besides its own: wasmtime's structures, mappings of which a process has few, Python's."""
_LARGE = 1 << 20
"""Bytes of the largest buffer that is kept to be read into again."""
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
"""Where a system shows its descriptors as files."""
_END = _TRAILER.size + _CHECKSUM.size


class Compiled:
    """A module that was compiled: ``address`` is what wasmtime instantiates, ``number`` is never another's."""

    __slots__ = ("__weakref__", "_module", "address", "number")
    _numbers = itertools.count(1)

    def __init__(self, module: wasmtime.Module) -> None:
        self._module = module
        self.number = next(self._numbers)
        outlives_interpreter(module)
        self.address = address_of(module)


class Code(Compiled):
    """A module that was parsed and compiled: ``info`` is what the linker reads.

    ``rewritten``: the code has its waits rewritten (:mod:`pylinker.wasm.waits`), and so one table
    more than ``info`` says. ``key`` is the same for the same bytes of wasm only.
    """

    __slots__ = ("info", "key", "rewritten", "size")

    def __init__(
        self, key: bytes, info: ModuleInfo, module: wasmtime.Module, size: int, *, rewritten: bool
    ) -> None:
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
        self.handle = os.open(
            path, flags, 0o600, dir_fd=directory
        )  # the mode is that of a new file

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
        except (
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            OverflowError,
            ParseError,
        ) as error:
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
                with SuppressSystemErrors():
                    os.utime(handle)  # what _prune goes by
        except (wasmtime.WasmtimeError, OSError) as error:
            check_errno(error)
            logger.warning("cache entry %s is compiled anew: %s", self.path, _one_line(error))
            return None
        finally:
            self.file.close()
        return module


_homeless: list[bool] = []
"""Not empty once it was said that there is no home directory."""


def default_cache_directory() -> Path | None:
    """Return where compiled modules are kept: ``PYLINKER_CACHE``, else ``pylinker`` in the user's cache directory.

    An empty ``PYLINKER_CACHE`` switches the cache on disk off: None. So does a user without a home
        directory, which is logged.
    """
    directory = cache_directory()
    if directory is None and VARIABLE not in os.environ:
        level, _homeless[:] = (
            logging.DEBUG if _homeless else logging.WARNING,
            [True],
        )  # the warning once in a process
        logger.log(
            level,
            "compiled modules are not kept on disk: there is no home directory (PYLINKER_CACHE names a directory)",
        )
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
            return UnsupportedError(
                f"{name}: wasmtime has no legacy exception handling (try, catch, rethrow): {_ADVICE}",
                module=name,
            )
        return ParseError(f"wasmtime refuses it: {self._text}", module=name)


class _Block(Compiled):
    """Trampolines in one module, and their ``bytes`` in memory."""

    __slots__ = ("bytes",)

    def __init__(self, module: wasmtime.Module) -> None:
        super().__init__(module)
        self.bytes = image_size(module)


class Trampolines:
    """Trampolines, in modules of PLT_BLOCK each but the last: their ``addresses``; ``number`` is never that of others."""

    __slots__ = ("__weakref__", "_blocks", "addresses", "number")

    def __init__(self, blocks: Sequence[_Block]) -> None:
        self._blocks = blocks
        self.addresses = [block.address for block in blocks]
        self.number = next(Compiled._numbers)


_Value = TypeVar("_Value")


class _Memory:
    """What is kept in memory, by key: all that is in use and, up to ``capacity`` bytes, what was used last.

    Protects nothing: the caller has the lock of the cache.
    """

    __slots__ = ("_alive", "_recent", "capacity", "used")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self._alive: WeakValueDictionary[tuple[object, ...], Any] = WeakValueDictionary()
        self._recent: OrderedDict[tuple[object, ...], tuple[Any, int]] = OrderedDict()

    def get(self, key: tuple[object, ...]) -> Any:
        """Return what is kept under a key, or None; it is now the one that was used last."""
        known = self._recent.get(key)
        if known is None:
            return self._alive.get(key)
        self._recent.move_to_end(key)
        return known[0]

    def put(
        self,
        key: tuple[object, ...],
        value: _Value,
        size: int,
        *,
        of: tuple[object, ...] | None = None,
    ) -> _Value:
        """Keep a value of ``size`` bytes, and return what is kept under its key now: what was there first.

        It has what is kept under the key ``of`` in it, with its bytes.
        """
        value = self._alive.setdefault(key, value)
        size += _OBJECTS
        before = self._recent.pop(key, (None, 0))[1]
        if of is not None:
            size += self._recent.get(of, (None, 0))[1]
            before += self._recent.pop(of, (None, 0))[1]
        self._recent[key] = (value, size)
        self.used += size - before
        if self.used > self.capacity:
            self._make_room()
        return value

    def _make_room(self) -> None:
        """Give up an eighth, so that this is seldom.

        It counts anew: an interrupt may have come between a value and its bytes.
        """
        recent = self._recent
        used = sum([size for _, size in recent.values()])
        while recent and used > self.capacity - self.capacity // 8:
            used -= recent.popitem(last=False)[1][1]
        self.used = used


class Uncompiled:
    """A module that was read and has no code yet. ``info`` is what the linker reads.

    Compiling a large one takes minutes, so there is a step before it: :meth:`validate` takes a
        hundredth of that.
    """

    __slots__ = ("_cache", "_checked", "_data", "_id", "_key", "_name", "_wanted", "info")

    def __init__(
        self,
        cache: CodeCache,
        id_: tuple[bytes, bool],
        key: bytes,
        info: ModuleInfo,
        data: bytes,
        name: str,
        *,
        wanted: bool,
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
        """Raise ParseError or UnsupportedError if wasmtime refuses the module; that is remembered.

        A second time does nothing.
        """
        if self._checked is not None:
            return
        changed = (
            rewrite_waits(self._data, name=self._name, info=self.info)
            if self._wanted
            else self._data
        )
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
        self._cache._write(
            self._key, module, join([store(info, data), pack(info)]), rewritten=rewritten
        )
        code = Code(self._id[0], info, module, len(data), rewritten=rewritten)
        return self._cache._keep(self._id, code, image_size(module))


class CodeCache:
    """Parses and compiles wasm bytes, or remembers the result.

    ``directory`` is the cache on disk, None for none; ``memory`` bounds the bytes kept in memory of
    what is not in use, and ``capacity`` the bytes kept on disk. Problems with the disk are logged,
    never raised: the cache only saves time. Safe to use from many threads.
    """

    def __init__(
        self, directory: Path | None, *, memory: int = 1 << 27, capacity: int = 1 << 30
    ) -> None:
        self.directory = directory
        self._directory = os.fspath(directory) if directory else ""
        self._ahead: _Entry | None = None
        self._buffers: list[bytearray] = []
        self.capacity = capacity
        self._observer: Observer | None = None
        self._lock = (
            threading.RLock()
        )  # a signal handler may open a program while its thread holds it
        free_in_child(self._lock)
        self._memory = _Memory(memory)
        self._refused: OrderedDict[tuple[bytes, bool], _Refused] = OrderedDict()

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
            info = self._read_or_parsed(entry, key, data, name)
            with self._lock:
                self._ahead = entry  # the code comes next
        return info

    def _known(self, key: bytes) -> ModuleInfo | None:
        with self._lock:
            info: ModuleInfo | None = self._memory.get((_INFO, key))
            return info

    def _read_or_parsed(
        self, entry: _Entry | None, key: bytes, data: bytes, name: str
    ) -> ModuleInfo:
        """Return what an entry says of a module, or else what its bytes do."""
        info = entry.info(name) if entry is not None else None
        size = len(data) if info is None or entry is None else len(entry.read)
        info = info or parse_module(data, name=name)
        with self._lock:
            return self._memory.put((_INFO, key), info, size)

    def trampolines(
        self,
        origin: Iterable[bytes],
        types: Iterable[FuncType],
        *,
        name: str,
        check: Callable[[], None] = lambda: None,
    ) -> Trampolines:
        """Return the code of :func:`pylinker.wasm.trampoline_module` for functions of types that follow from ``origin``.

        The types are looked at only if nothing is known of that origin yet. Trampolines of the same
        types are the same, whatever they lead to, so many that are undefined cost little. ``check``
        is called before each block of them that is compiled. Raises UnsupportedError, and what
        ``check`` raises.
        """
        key = (_TRAMPOLINES, *origin)
        with self._lock:
            known: Trampolines | None = self._memory.get(key)
            if known is not None:
                return known
        every = [*types]
        blocks = [
            self._block(every[first : first + PLT_BLOCK], name, check)
            for first in range(0, len(every), PLT_BLOCK)
        ]
        with self._lock:
            return self._memory.put(
                key, Trampolines(blocks), sum(block.bytes for block in {*blocks})
            )

    def _block(self, types: Sequence[FuncType], name: str, check: Callable[[], None]) -> _Block:
        key = _key_of(
            b"".join([_trampolines_version(), *[str(type_).encode() + b"\n" for type_ in types]])
        )
        with self._lock:
            known: _Block | None = self._memory.get((_BLOCK, key))
            if known is not None:
                return known
        entry = self._read(key)
        module = entry.module() if entry is not None else None
        if module is None:
            check()
            module = self._compiled(trampoline_module([("", type_) for type_ in types]), name)
            self._write(key, module, b"", rewritten=False)
        with self._lock:
            block = _Block(module)
            return self._memory.put((_BLOCK, key), block, block.bytes)

    def load(self, data: bytes, *, name: str, rewrite: bool = False) -> Code:
        """Return the code of ``data``, with its waits rewritten if they can be and ``rewrite`` says so.

        Raises ParseError if it is not a valid module, UnsupportedError if it has for itself what
        rewriting adds, or uses what wasmtime has not; may take seconds for a large one.
        """
        found = self.find(data, name=name, rewrite=rewrite)
        return found if isinstance(found, Code) else found.compile()

    def find(self, data: bytes, *, name: str, rewrite: bool = False) -> Code | Uncompiled:
        """Return the code of ``data`` if it was compiled before, else what compiles it.

        Raises what :meth:`load` raises.
        """
        original = _key_of(data)
        with self._lock:
            known: Code | None = self._memory.get((original, rewrite))
            if known is not None:
                return known
            refused = self._refused.get((original, rewrite))
        if refused is not None:
            raise refused.error(name)
        info = self._known(original)
        entry = self._take_ahead()
        readable = True
        if info is None:
            entry = self._read(original) or (self._read(_rewritten(original)) if rewrite else None)
            info = self._read_or_parsed(entry, original, data, name)
            readable = entry is None or isinstance(info, StoredInfo)
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
        code = Code(original, info, module, len(data), rewritten=entry.rewritten)
        return self._keep((original, rewrite), code, entry.code_size)

    def _take_ahead(self) -> _Entry | None:
        """Return the entry that was read last, once: two must not use its file."""
        with self._lock:
            entry, self._ahead = self._ahead, None
            return entry

    def _keep(self, key: tuple[bytes, bool], code: Code, size: int) -> Code:
        with self._lock:
            return self._memory.put(key, code, size, of=(_INFO, key[0]))

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
            if status.st_size > self.capacity:  # such a one is removed as it is written
                logger.warning(
                    "cache entry %s is not used: it is larger than the cache may be", path
                )
                return None
            entry = None
            if status.st_size <= _LARGE or _ends_as(key, file.handle, status.st_size):
                buffer = self._buffer(status.st_size)
                entry = _read_entry(path, key, file, status, buffer)
                if len(buffer) <= _LARGE:
                    self._buffers.append(buffer)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:  # ValueError: a name that can be none
            check_errno(error)
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
            check_errno(error)
            logger.warning("cache entry %s/%s was not written: %s", self._directory, name, error)

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
            with SuppressSystemErrors():
                os.unlink(name, dir_fd=directory)
                total -= size


def _name_of(key: bytes) -> str:
    return f"{key.hex()}.code"


def _path_of(handle: int) -> str | None:
    """Return a path that leads to a file that is open and to no other, or None where the system shows no such."""
    status = os.fstat(handle)
    for directory in _OPEN_FILES:
        path = f"{directory}/{handle}"
        with SuppressSystemErrors():
            if os.path.samestat(os.stat(path), status):
                return path
    return None


def _ends_as(key: bytes, handle: int, size: int) -> bool:
    """Whether a large file ends as an entry of this key and size does: if not, it needs no memory."""
    trailer = os.pread(handle, _TRAILER.size, size - _END)
    if len(trailer) != _TRAILER.size:
        return False
    magic, found, code_size, read_size, _ = _TRAILER.unpack(trailer)
    return (magic, found, code_size + read_size) == (_MAGIC, key, size - _END)


def _read_entry(
    path: str, key: bytes, opened: _File, status: os.stat_result, buffer: bytearray
) -> _Entry | None:
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
        return _Entry(
            path,
            key,
            bytes(whole[code_size:end]),
            bool(rewritten),
            code_size,
            opened,
            status.st_mtime,
        )


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
            f"{name} exports {WAITS_EXPORT}, which pylinker adds to modules; rewrite_waits=False leaves them as they are",
            module=name,
        )


def _is_private(status: os.stat_result) -> bool:
    if sys.platform == "win32":
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
