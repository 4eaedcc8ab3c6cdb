"""Compiled modules, and the two caches in front of the compiler.

Compiling is what costs when a program is linked, so a module is compiled once per machine: the result is kept in memory (a few,
least recently used go first) and on disk. An entry on disk is machine code that will run unchecked, hence:

* the name of an entry is the SHA-256 of the wasm bytes and of everything the code depends on (wasmtime's version, the engine's
  configuration, the platform, whether waits were rewritten);
* the entry repeats that key and carries the SHA-256 of its contents (whether waits were rewritten, and the code): a damaged, truncated,
  renamed or older entry is compiled anew;
* a directory or file that another user owns or may write is not read (POSIX);
* a writer fills a temporary file and renames it: readers see a whole entry or none, and the last of many writers wins.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import hashlib
import logging
import os
import stat
import sys
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path

import wasmtime

from pylinker.errors import ParseError, UnsupportedError
from pylinker.runtime.engine import FINGERPRINT, engine
from pylinker.runtime.progress import Observer, observing
from pylinker.runtime.teardown import outlives_interpreter
from pylinker.wasm import WAITS_EXPORT, FuncType, MemoryType, ModuleInfo, parse_module, rewrite_waits, trampoline_module

__all__ = ["Code", "CodeCache", "default_cache_directory"]

logger = logging.getLogger("pylinker.cache")

_MAGIC = b"pylinker code 2\n"
_REWRITTEN = b"waits 1"
_DIGEST = hashlib.sha256().digest_size
_HEADER = len(_MAGIC) + 2 * _DIGEST


class Code:
    """A module that was parsed and compiled: ``info`` (what the linker reads) and ``address`` (what wasmtime instantiates).

    ``rewritten``: the code has its waits rewritten (:mod:`pylinker.wasm.waits`), and so one table more than ``info`` says.
    """

    __slots__ = ("_module", "address", "info", "rewritten", "size")

    def __init__(self, info: ModuleInfo, module: wasmtime.Module, size: int, *, rewritten: bool) -> None:
        self.info = info
        self.size = size
        self.rewritten = rewritten
        self._module = module
        outlives_interpreter(module)
        self.address: int = ctypes.cast(module.ptr(), ctypes.c_void_p).value or 0

    def __repr__(self) -> str:
        return f"<Code of {self.info.name}, {self.size} bytes of wasm>"


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
        self.entries = entries
        self.capacity = capacity
        self._observer: Observer | None = None
        self._lock = threading.Lock()
        self._memory: OrderedDict[tuple[bytes, bool], Code] = OrderedDict()
        self._infos: OrderedDict[bytes, ModuleInfo] = OrderedDict()
        self._trampolines: OrderedDict[tuple[tuple[str, FuncType], ...], Code] = OrderedDict()

    def observed(self, observer: Observer | None) -> CodeCache:
        """Return the same cache, contents and all, which tells ``observer`` when it compiles."""
        same = copy.copy(self)
        same._observer = observer
        return same

    def parse(self, data: bytes, *, name: str) -> ModuleInfo:
        """Read a module without compiling it, or remember what was read. Raises ParseError."""
        return self._parsed(_key_of(data), data, name)

    def _parsed(self, key: bytes, data: bytes, name: str) -> ModuleInfo:
        with self._lock:
            info = self._infos.get(key)
            if info is not None:
                self._infos.move_to_end(key)
                return info
        info = parse_module(data, name=name)
        with self._lock:
            self._infos[key] = info
            while len(self._infos) > self.entries:
                self._infos.popitem(last=False)
        return info

    def trampolines(self, functions: tuple[tuple[str, FuncType], ...], *, name: str) -> Code:
        """Return the code of :func:`pylinker.wasm.trampoline_module` for these functions. Raises UnsupportedError."""
        with self._lock:
            code = self._trampolines.get(functions)
            if code is not None:
                self._trampolines.move_to_end(functions)
                return code
        code = self.load(trampoline_module(functions), name=name)
        with self._lock:
            self._trampolines[functions] = code
            while len(self._trampolines) > self.entries:
                self._trampolines.popitem(last=False)
        return code

    def load(self, data: bytes, *, name: str, rewrite: bool = False) -> Code:
        """Return the code of ``data``, with its waits rewritten if they can be and ``rewrite`` says so.

        Raises ParseError if it is not a valid module, UnsupportedError if it has for itself what rewriting adds; may take seconds for a
        large one.
        """
        original = _key_of(data)
        with self._lock:
            known = self._memory.get((original, rewrite))
            if known is not None:
                self._memory.move_to_end((original, rewrite))
                return known
        info = self._parsed(original, data, name)
        key, wanted = original, rewrite and _has_shared_memory(info)
        if wanted:
            _check_reserved(info, name)
            key = hashlib.sha256(original + _REWRITTEN).digest()
        module, rewritten = self._read(key) or self._compile(key, data, info, name, rewrite=wanted)
        code = Code(info, module, len(data), rewritten=rewritten)
        with self._lock:
            self._memory[original, rewrite] = code
            while len(self._memory) > self.entries:
                self._memory.popitem(last=False)
        return code

    def _compile(self, key: bytes, data: bytes, info: ModuleInfo, name: str, *, rewrite: bool) -> tuple[wasmtime.Module, bool]:
        changed = rewrite_waits(data, name=name, info=info) if rewrite else data
        rewritten = changed is not data
        try:
            with observing(self._observer, name, len(changed)):
                module = wasmtime.Module(engine(), changed)
        except wasmtime.WasmtimeError as error:
            raise ParseError(f"wasmtime refuses it: {_one_line(error)}", module=name) from error
        self._write(key, module, rewritten=rewritten)
        return module, rewritten

    def _path(self, key: bytes) -> Path | None:
        return self.directory / f"{key.hex()}.code" if self.directory else None

    def _read(self, key: bytes) -> tuple[wasmtime.Module, bool] | None:
        path = self._path(key)
        if path is None:
            return None
        try:
            if not _is_private(path.parent.stat()):
                logger.warning("cache directory %s is not used: others may write it", path.parent)
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
        if entry[:_HEADER] != _MAGIC + key + hashlib.sha256(payload).digest():
            logger.warning("cache entry %s is damaged and compiled anew", path)
            return None
        try:
            module = wasmtime.Module.deserialize(engine(), bytes(payload[1:]))
        except wasmtime.WasmtimeError as error:
            logger.warning("cache entry %s is compiled anew: %s", path, _one_line(error))
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the time of the last use: what _prune goes by
        return module, bool(payload[0])

    def _write(self, key: bytes, module: wasmtime.Module, *, rewritten: bool) -> None:
        path = self._path(key)
        if path is None:
            return
        payload = bytes([rewritten]) + module.serialize()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_private(path.parent.stat()):
                return
            handle, temporary = tempfile.mkstemp(prefix=".", suffix=".new", dir=path.parent)
            try:
                with open(handle, "wb") as file:
                    file.write(_MAGIC + key + hashlib.sha256(payload).digest())
                    file.write(payload)
                os.replace(temporary, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
            self._prune(path.parent)
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
    memories = (*(each.type for each in info.imports), *info.memories)
    return any(isinstance(each, MemoryType) and each.limits.shared for each in memories)


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
