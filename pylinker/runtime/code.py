"""Compiled modules, and the two caches in front of the compiler.

Compiling is what costs when a program is linked, so a module is compiled once per machine: the result is kept in memory (a few,
least recently used go first) and on disk. An entry on disk is machine code that will run unchecked, hence:

* the name of an entry is the SHA-256 of the wasm bytes and of everything the code depends on (wasmtime's version, the engine's
  configuration, the platform, whether waits were rewritten);
* the entry repeats that key and carries the SHA-256 of its contents (whether waits were rewritten, what was read of the module, and the
  code): a damaged, truncated, renamed or older entry is compiled anew;
* a directory or file that another user owns or may write is not read (POSIX);
* a writer fills a temporary file and renames it: readers see a whole entry or none, and the last of many writers wins.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import hashlib
import itertools
import logging
import os
import stat
import struct
import sys
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import wasmtime

from pylinker.errors import ParseError, UnsupportedError
from pylinker.runtime.engine import FINGERPRINT, engine
from pylinker.runtime.progress import Observer, observing
from pylinker.runtime.teardown import outlives_interpreter
from pylinker.wasm import (
    SUMMARY_FORMAT,
    WAITS_EXPORT,
    FuncType,
    ModuleInfo,
    parse_module,
    read_summary,
    rewrite_waits,
    trampoline_module,
    write_summary,
)

__all__ = ["Code", "CodeCache", "Compiled", "default_cache_directory"]

logger = logging.getLogger("pylinker.cache")

_LEGACY = "legacy_exceptions feature required"
_ADVICE = "compile with -mllvm -wasm-use-legacy-eh=false, or convert it with wasm-opt --translate-to-exnref"

_MAGIC = b"pylinker code 3\n"
_REWRITTEN = b"waits 1"
_TRAMPOLINES = b"trampolines 1\0"  # no module begins with that
_DIGEST = hashlib.sha256().digest_size
_HEADER = len(_MAGIC) + 2 * _DIGEST
_CONTENTS = struct.Struct("<?I")
"""Before the summary and the code: whether waits were rewritten, and the bytes of the summary."""
_FORMAT = f"{SUMMARY_FORMAT}, {sys.implementation.cache_tag}".encode()


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
    """A module that was parsed, too: ``info`` is what the linker reads, ``size`` how many bytes it has.

    ``rewritten``: the code has its waits rewritten (:mod:`pylinker.wasm.waits`), and so one table more than ``info`` says.
    """

    __slots__ = ("info", "rewritten", "size")

    def __init__(self, info: ModuleInfo, module: wasmtime.Module, size: int, *, rewritten: bool) -> None:
        super().__init__(module)
        self.info = info
        self.size = size
        self.rewritten = rewritten

    def __repr__(self) -> str:
        return f"<Code of {self.info.name}, {self.size} bytes of wasm>"


class _Entry(NamedTuple):
    """What is in an entry of the cache on disk; ``summary`` is empty for a module that was never parsed."""

    rewritten: bool
    summary: memoryview
    code: memoryview


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


_SEED = hashlib.sha256(FINGERPRINT + _FORMAT)


def _key_of(data: bytes) -> bytes:
    key = _SEED.copy()
    key.update(data)
    return key.digest()


def _rewritten(original: bytes) -> bytes:
    """Return the key of a module's code with its waits rewritten."""
    return hashlib.sha256(original + _REWRITTEN).digest()


class CodeCache:
    """Parses and compiles wasm bytes, or remembers the result.

    ``directory`` is the cache on disk, None for none; ``entries`` bounds the modules kept in memory and ``capacity`` the bytes kept
    on disk. Problems with the disk are logged, never raised: the cache only saves time. Safe to use from many threads.
    """

    def __init__(self, directory: Path | None, *, entries: int = 128, capacity: int = 1 << 30) -> None:
        self.directory = directory
        self.entries = entries
        self.capacity = capacity
        self._observer: Observer | None = None
        self._lock = threading.Lock()
        self._memory: OrderedDict[tuple[bytes, bool], Code] = OrderedDict()
        self._infos: OrderedDict[bytes, ModuleInfo] = OrderedDict()
        self._trampolines: OrderedDict[tuple[tuple[str, FuncType], ...], Compiled] = OrderedDict()

    def observed(self, observer: Observer | None) -> CodeCache:
        """Return the same cache, contents and all, which tells ``observer`` when it compiles."""
        same = copy.copy(self)
        same._observer = observer
        return same

    def parse(self, data: bytes, *, name: str) -> ModuleInfo:
        """Read a module without compiling it, or remember what was read. Raises ParseError."""
        key = _key_of(data)
        with self._lock:
            info = self._infos.get(key)
            if info is not None:
                self._infos.move_to_end(key)
                return info
        for each in (key, _rewritten(key)):
            entry = self._read(each)
            info = self._summed_up(each, entry, name) if entry is not None else None
            if info is not None:
                return self._keep(key, info)
        return self._keep(key, parse_module(data, name=name))

    def _keep(self, key: bytes, info: ModuleInfo) -> ModuleInfo:
        with self._lock:
            self._infos[key] = info
            while len(self._infos) > self.entries:
                self._infos.popitem(last=False)
        return info

    def trampolines(self, functions: tuple[tuple[str, FuncType], ...], *, name: str) -> Compiled:
        """Return the code of :func:`pylinker.wasm.trampoline_module` for these functions. Raises UnsupportedError."""
        with self._lock:
            code = self._trampolines.get(functions)
            if code is not None:
                self._trampolines.move_to_end(functions)
                return code
        key = _key_of(_TRAMPOLINES + repr(functions).encode())
        module = self._revived(key)
        if module is None:
            module = self._compile(trampoline_module(functions), name)
            self._write(key, module, rewritten=False, summary=b"")
        code = Compiled(module)
        with self._lock:
            self._trampolines[functions] = code
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
        code = self._recalled(original, len(data), name, rewrite=rewrite) or self._made(original, data, name, rewrite=rewrite)
        with self._lock:
            self._memory[original, rewrite] = code
            while len(self._memory) > self.entries:
                self._memory.popitem(last=False)
        return code

    def _recalled(self, original: bytes, size: int, name: str, *, rewrite: bool) -> Code | None:
        """Return a module's code from the disk, or None."""
        for key in (original, _rewritten(original)) if rewrite else (original,):
            entry = self._read(key)
            if entry is None:
                continue
            with self._lock:
                info = self._infos.get(original)
            if info is None:
                info = self._summed_up(key, entry, name)
                if info is None:
                    continue
                self._keep(original, info)
            if key == original and rewrite and _has_shared_memory(info):
                continue  # this is the code as it was
            module = self._revive(key, entry.code)
            if module is not None:
                return Code(info, module, size, rewritten=entry.rewritten)
        return None

    def _made(self, original: bytes, data: bytes, name: str, *, rewrite: bool) -> Code:
        """Compile a module and keep its code on disk."""
        with self._lock:
            info = self._infos.get(original)
        if info is None:
            info = self._keep(original, parse_module(data, name=name))
        key, changed = original, data
        if rewrite and _has_shared_memory(info):
            _check_reserved(info, name)
            key, changed = _rewritten(original), rewrite_waits(data, name=name, info=info)
        module = self._compile(changed, name)
        rewritten = changed is not data
        self._write(key, module, rewritten=rewritten, summary=write_summary(info))
        return Code(info, module, len(data), rewritten=rewritten)

    def _compile(self, data: bytes, name: str) -> wasmtime.Module:
        try:
            with observing(self._observer, name, len(data)):
                return wasmtime.Module(engine(), data)
        except wasmtime.WasmtimeError as error:
            text = _one_line(error)
            if _LEGACY in text:
                raise UnsupportedError(
                    f"{name}: wasmtime has no legacy exception handling (try, catch, rethrow): {_ADVICE}", module=name
                ) from error
            raise ParseError(f"wasmtime refuses it: {text}", module=name) from error

    def _path(self, key: bytes) -> str | None:
        return os.path.join(self.directory, f"{key.hex()}.code") if self.directory else None

    def _read(self, key: bytes) -> _Entry | None:
        """Return an entry, checked, or None."""
        path, directory = self._path(key), self.directory
        if path is None or directory is None:
            return None
        try:
            if not _is_private(os.stat(directory)):
                logger.warning("cache directory %s is not used: others may write it", directory)
                return None
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            with open(handle, "rb") as file:
                if not _is_private(os.fstat(handle)):
                    logger.warning("cache entry %s is not used: others may write it", path)
                    return None
                entry = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("cache entry %s: %s", path, error)
            return None
        payload = memoryview(entry)[_HEADER:]
        if entry[:_HEADER] != _MAGIC + key + hashlib.sha256(payload).digest() or len(payload) < _CONTENTS.size:
            logger.warning("cache entry %s is damaged and compiled anew", path)
            return None
        rewritten, size = _CONTENTS.unpack_from(payload)
        with contextlib.suppress(OSError):
            os.utime(path)  # the time of the last use: what _prune goes by
        return _Entry(rewritten, payload[_CONTENTS.size :][:size], payload[_CONTENTS.size + size :])

    def _summed_up(self, key: bytes, entry: _Entry, name: str) -> ModuleInfo | None:
        """Return what was read of the module, or None."""
        try:
            return read_summary(entry.summary, name=name)
        except (ValueError, TypeError, EOFError, LookupError, AttributeError) as error:
            logger.warning("cache entry %s is made anew: %s", self._path(key), _one_line(error))
            return None

    def _revived(self, key: bytes) -> wasmtime.Module | None:
        entry = self._read(key)
        return None if entry is None else self._revive(key, entry.code)

    def _revive(self, key: bytes, code: memoryview) -> wasmtime.Module | None:
        """Return the module that was kept as ``code``, or None."""
        try:
            return wasmtime.Module.deserialize(engine(), bytes(code))
        except wasmtime.WasmtimeError as error:
            logger.warning("cache entry %s is compiled anew: %s", self._path(key), _one_line(error))
            return None

    def _write(self, key: bytes, module: wasmtime.Module, *, rewritten: bool, summary: bytes) -> None:
        path, directory = self._path(key), self.directory
        if path is None or directory is None:
            return
        payload = _CONTENTS.pack(rewritten, len(summary)) + summary + module.serialize()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_private(directory.stat()):
                return
            handle, temporary = tempfile.mkstemp(prefix=".", suffix=".new", dir=directory)
            try:
                with open(handle, "wb") as file:
                    file.write(_MAGIC + key + hashlib.sha256(payload).digest())
                    file.write(payload)
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


def _has_shared_memory(info: ModuleInfo) -> bool:
    _, _, memories, _, _ = info.spaces
    return any(each.limits.shared for each in memories)


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
