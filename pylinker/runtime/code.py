"""Compiled modules, and the two caches in front of the compiler.

Compilation dominates the cost of linking a program, so a module is compiled once per machine: the
result is cached on disk (:mod:`pylinker.runtime.entries`), and in memory while it is in use, and
after that in least recently used order.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import itertools
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import wasmtime

from pylinker.errors import LinkError, ParseError, UnsupportedError
from pylinker.native.enums import PLT_BLOCK
from pylinker.native.failures import Failure
from pylinker.native.stack import check_stack
from pylinker.runtime.directory import VARIABLE, cache_directory
from pylinker.runtime.engine import FINGERPRINT, compile_module, validate_module
from pylinker.runtime.entries import Entries, Entry, one_line
from pylinker.runtime.failures import exception_of
from pylinker.runtime.fork import free_in_child
from pylinker.runtime.outline import pack
from pylinker.runtime.private import address_of, image_size
from pylinker.runtime.progress import Observer, observing
from pylinker.runtime.teardown import outlives_interpreter
from pylinker.wasm import (
    WAITS_EXPORT,
    CachedInfo,
    FuncType,
    ModuleInfo,
    pack_info,
    pack_sections,
    parse_module,
    rewrite_waits,
    trampoline_module,
    uses_legacy_exceptions,
)

__all__ = ["Code", "CodeCache", "Compiled", "Uncompiled", "default_cache_directory"]

logger = logging.getLogger("pylinker.cache")

_ADVICE = (
    "compile with -mllvm -wasm-use-legacy-eh=false, "
    "or convert it with wasm-opt --translate-to-exnref"
)

_REWRITTEN = b"waits 1"
_REFUSED = 1024
_LONGEST = 2000
"""Number of invalid modules that are remembered, and length of the message of each."""
_INFO, _BLOCK, _TRAMPOLINES = "info", "block", "trampolines"
_OBJECTS = 1 << 15
"""Overhead in bytes of each value in memory: structures of wasmtime and Python, and mappings.

A process has a limited number of mappings.
"""


class Compiled:
    """A compiled module: ``address`` is that of wasmtime's module, ``number`` is unique."""

    __slots__ = ("__weakref__", "_module", "address", "number")
    _numbers = itertools.count(1)

    def __init__(self, module: wasmtime.Module) -> None:
        self._module = module
        self.number = next(self._numbers)
        outlives_interpreter(module)
        self.address = address_of(module)


class Code(Compiled):
    """A parsed and compiled module.

    ``rewritten`` says whether its waits are rewritten (:mod:`pylinker.wasm.waits`); it then has one
    table more than ``info`` says. ``key`` is equal only for equal bytes of wasm.
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


_homeless: list[bool] = []
"""Not empty once the missing home directory was reported."""


def default_cache_directory() -> Path | None:
    """Return the directory of the cache on disk.

    It is ``PYLINKER_CACHE``, else ``pylinker`` in the user's cache directory. None, which disables
    the cache on disk, if ``PYLINKER_CACHE`` is empty, and for a user without a home directory,
    which is logged.
    """
    directory = cache_directory()
    if directory is None and VARIABLE not in os.environ:
        # The warning appears once in a process.
        level, _homeless[:] = logging.DEBUG if _homeless else logging.WARNING, [True]
        logger.log(
            level,
            "compiled modules are not cached on disk: there is no home directory "
            "(PYLINKER_CACHE names a directory)",
        )
    return directory


_SEED = hashlib.sha256(FINGERPRINT)


def _key_of(data: bytes) -> bytes:
    key = _SEED.copy()
    key.update(data)
    return key.digest()


class _Refused:
    """Why wasmtime refuses a module.

    The module's instructions tell whether it uses legacy exceptions, not the text of wasmtime's
    error.
    """

    __slots__ = ("_is_legacy", "_text")

    def __init__(self, data: bytes, error: wasmtime.WasmtimeError) -> None:
        self._is_legacy = uses_legacy_exceptions(data)
        self._text = one_line(error)[:_LONGEST]

    def error(self, name: str) -> LinkError:
        """Return the error for a module of this name."""
        if self._is_legacy:
            return UnsupportedError(
                f"{name}: wasmtime has no legacy exception handling (try, catch, rethrow): "
                f"{_ADVICE}",
                module=name,
            )
        return ParseError(f"wasmtime refuses it: {self._text}", module=name)


class _Block(Compiled):
    """Trampolines in one module, and the size of its image in memory."""

    __slots__ = ("bytes",)

    def __init__(self, module: wasmtime.Module) -> None:
        super().__init__(module)
        self.bytes = image_size(module)


class Trampolines:
    """Trampolines, in modules of PLT_BLOCK each except the last; ``number`` is unique."""

    __slots__ = ("__weakref__", "_blocks", "addresses", "number")

    def __init__(self, blocks: Sequence[_Block]) -> None:
        self._blocks = blocks
        self.addresses = [block.address for block in blocks]
        self.number = next(Compiled._numbers)


_Value = TypeVar("_Value")


class _Memory:
    """A cache in memory: all values in use and, up to ``capacity`` bytes, the most recently used.

    Requires the lock of the CodeCache.
    """

    __slots__ = ("_alive", "_recent", "capacity", "used")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self._alive: WeakValueDictionary[tuple[object, ...], Any] = WeakValueDictionary()
        self._recent: OrderedDict[tuple[object, ...], tuple[Any, int]] = OrderedDict()

    def get(self, key: tuple[object, ...]) -> Any:
        """Return the value of a key, or None, and make it the most recently used."""
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
        """Add a value of ``size`` bytes; an earlier value of the key stays.

        Args:
            key: The key.
            value: The value.
            size: Its size in bytes.
            of: A key whose value is part of this one, with its size.

        Returns:
            The value of the key.
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
        """Evict an eighth, so that this is rare.

        The sum is computed again: an interrupt may have come between a value and its size.
        """
        recent = self._recent
        used = sum([size for _, size in recent.values()])
        while recent and used > self.capacity - self.capacity // 8:
            used -= recent.popitem(last=False)[1][1]
        self.used = used


class Uncompiled:
    """A module that is parsed but not compiled yet.

    Compilation of a large one takes minutes; :meth:`validate` takes a hundredth of that.
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
        """Check the module with wasmtime; a refusal is remembered. Idempotent.

        Raises:
            ParseError: The module is invalid.
            UnsupportedError: It uses legacy exceptions.
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
        """Compile the module, and add it to the cache. Raises the errors of :meth:`validate`."""
        self.validate()
        changed = self._checked
        assert changed is not None
        data, info = self._data, self.info
        rewritten = changed is not data
        module = self._cache._compiled(changed, self._name)
        self._cache._entries.write(
            self._key,
            module,
            pack_sections([pack_info(info, data), pack(info)]),
            rewritten=rewritten,
        )
        code = Code(self._id[0], info, module, len(data), rewritten=rewritten)
        return self._cache._keep(self._id, code, image_size(module))


class CodeCache:
    """Parses and compiles wasm bytes, and caches the results. Safe to use from many threads.

    Problems with the disk are logged, never raised: the cache only saves time.

    Args:
        directory: The cache on disk, None for none.
        memory: Limit in bytes for cached values in memory that are not in use.
        capacity: Limit in bytes for entries on disk.
    """

    def __init__(
        self, directory: Path | None, *, memory: int = 1 << 27, capacity: int = 1 << 30
    ) -> None:
        self._entries = Entries(directory, capacity)
        self._ahead: Entry | None = None
        self._observer: Observer | None = None
        # Recursive: a signal handler may open a program while its thread holds it.
        self._lock = threading.RLock()
        free_in_child(self._lock)
        self._memory = _Memory(memory)
        self._refused: OrderedDict[tuple[bytes, bool], _Refused] = OrderedDict()

    def observed(self, observer: Observer | None) -> CodeCache:
        """Return a view of the same cache that notifies ``observer`` of compilations."""
        same = copy.copy(self)
        same._observer = observer
        same._ahead = None
        return same

    def parse(self, data: bytes, *, name: str) -> ModuleInfo:
        """Parse a module without compiling it, or return the cached result. Raises ParseError."""
        return self._parsed(_key_of(data), data, name)

    def _parsed(self, key: bytes, data: bytes, name: str) -> ModuleInfo:
        info = self._known(key)
        if info is None:
            entry = self._entries.read(key) or self._entries.read(_rewritten(key))
            info = self._read_or_parsed(entry, key, data, name)
            with self._lock:
                self._ahead = entry  # for the code, which is read next
        return info

    def _known(self, key: bytes) -> ModuleInfo | None:
        with self._lock:
            info: ModuleInfo | None = self._memory.get((_INFO, key))
            return info

    def _read_or_parsed(
        self, entry: Entry | None, key: bytes, data: bytes, name: str
    ) -> ModuleInfo:
        """Return the parsed module, from an entry if possible, else from its bytes."""
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
        """Return compiled trampolines (:func:`pylinker.wasm.trampoline_module`).

        Trampolines of the same types are shared whatever they are bound to, so that many undefined
        functions cost little.

        Args:
            origin: A key that determines the types.
            types: The types of the functions; used only if the origin is not cached.
            name: A name for messages.
            check: Called before each block is compiled; may raise.

        Raises:
            UnsupportedError: wasmtime cannot compile them.
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
        entry = self._entries.read(key)
        module = entry.module() if entry is not None else None
        if module is None:
            check()
            module = self._compiled(trampoline_module([("", type_) for type_ in types]), name)
            self._entries.write(key, module, b"", rewritten=False)
        with self._lock:
            block = _Block(module)
            return self._memory.put((_BLOCK, key), block, block.bytes)

    def load(self, data: bytes, *, name: str, rewrite: bool = False) -> Code:
        """Return the code of ``data``. May take seconds for a large module.

        Args:
            data: The bytes of the module.
            name: Its name, for messages.
            rewrite: Whether to rewrite its waits, if it has a shared memory.

        Raises:
            ParseError: The module is invalid.
            UnsupportedError: It defines the names that rewriting adds, or uses a feature that
                wasmtime lacks.
        """
        found = self.find(data, name=name, rewrite=rewrite)
        return found if isinstance(found, Code) else found.compile()

    def find(self, data: bytes, *, name: str, rewrite: bool = False) -> Code | Uncompiled:
        """Return the code of ``data`` if it is cached, else an object that compiles it.

        Raises the errors of :meth:`load`.
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
            entry = self._entries.read(original) or (
                self._entries.read(_rewritten(original)) if rewrite else None
            )
            info = self._read_or_parsed(entry, original, data, name)
            readable = entry is None or isinstance(info, CachedInfo)
        wanted = rewrite and _has_shared_memory(info)
        if wanted:
            _check_reserved(info, name)
        key = _rewritten(original) if wanted else original
        if entry is None or entry.key != key:
            entry = self._entries.read(key)
        elif not readable:
            entry = None  # so that it is replaced
        module = entry.module() if entry is not None else None
        if entry is None or module is None:
            return Uncompiled(self, (original, rewrite), key, info, data, name, wanted=wanted)
        code = Code(original, info, module, len(data), rewritten=entry.rewritten)
        return self._keep((original, rewrite), code, entry.code_size)

    def _take_ahead(self) -> Entry | None:
        """Return the entry that was read last, once: its file has a single user."""
        with self._lock:
            entry, self._ahead = self._ahead, None
            return entry

    def _keep(self, key: tuple[bytes, bool], code: Code, size: int) -> Code:
        with self._lock:
            return self._memory.put(key, code, size, of=(_INFO, key[0]))

    def _refuse(self, key: tuple[bytes, bool], refused: _Refused) -> None:
        """Remember why a module is invalid."""
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


def _rewritten(original: bytes) -> bytes:
    """Return the key of a module with rewritten waits."""
    return hashlib.sha256(original + _REWRITTEN).digest()


@functools.lru_cache(maxsize=1)
def _trampolines_version() -> bytes:
    """Return bytes that change with the code of trampolines."""
    return b"trampolines " + trampoline_module((("name", FuncType(("i32", "f64"), ("i64",))),))


def _has_shared_memory(info: ModuleInfo) -> bool:
    return any(each.limits.shared for each in (*info.imported_memories, *info.memories))


def _check_reserved(info: ModuleInfo, name: str) -> None:
    if WAITS_EXPORT in info.exports:
        raise UnsupportedError(
            f"{name} exports {WAITS_EXPORT}, which pylinker adds to modules; "
            "rewrite_waits=False leaves them as they are",
            module=name,
        )
