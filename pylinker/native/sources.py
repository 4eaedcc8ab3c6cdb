"""Where the imports of a library come from (``csrc/library.h``, ``csrc/builtin.h``, ``csrc/atomics.h``)."""

from __future__ import annotations

import enum
import struct
from typing import Any, TypeAlias

from pylinker.native.core import ffi, lib

__all__ = ["SOURCE", "Atomics", "Builtin", "Source", "Sources", "put_source"]


class Source(enum.IntEnum):
    """Where an import comes from (``enum pl_source_kind``)."""

    MEMORY = lib.PL_SOURCE_MEMORY
    TABLE = lib.PL_SOURCE_TABLE
    STACK_POINTER = lib.PL_SOURCE_STACK_POINTER
    CONSTANT = lib.PL_SOURCE_CONSTANT
    CELL = lib.PL_SOURCE_CELL
    TLS_CELL = lib.PL_SOURCE_TLS_CELL
    EXPORT = lib.PL_SOURCE_EXPORT
    PLT = lib.PL_SOURCE_PLT
    WASI = lib.PL_SOURCE_WASI
    HOST = lib.PL_SOURCE_HOST
    BUILTIN = lib.PL_SOURCE_BUILTIN
    TAG = lib.PL_SOURCE_TAG
    CALLBACK = lib.PL_SOURCE_CALLBACK
    ATOMICS = lib.PL_SOURCE_ATOMICS


class Builtin(enum.IntEnum):
    """Host functions of the core (``csrc/builtin.h``)."""

    SAFEPOINT = lib.PL_BUILTIN_SAFEPOINT
    DLSYM = lib.PL_BUILTIN_DLSYM
    DLSYM_WASIX = lib.PL_BUILTIN_DLSYM_WASIX
    THREAD_ID = lib.PL_BUILTIN_THREAD_ID
    EMPTY = lib.PL_BUILTIN_EMPTY
    PROC_ID = lib.PL_BUILTIN_PROC_ID
    UNSUPPORTED = lib.PL_BUILTIN_UNSUPPORTED
    DL_INVALID_HANDLE = lib.PL_BUILTIN_DL_INVALID_HANDLE
    CALL_DYNAMIC = lib.PL_BUILTIN_CALL_DYNAMIC
    REFLECT_SIGNATURE = lib.PL_BUILTIN_REFLECT_SIGNATURE


class Atomics(enum.IntEnum):
    """Host functions that wait and wake (``csrc/atomics.h``)."""

    FUTEX_WAIT = lib.PL_ATOMICS_FUTEX_WAIT
    FUTEX_WAKE = lib.PL_ATOMICS_FUTEX_WAKE
    FUTEX_WAKE_ALL = lib.PL_ATOMICS_FUTEX_WAKE_ALL
    SLEEP = lib.PL_ATOMICS_SLEEP


SOURCE = struct.Struct("=IIqQQQ")
"""A ``pl_source``: kind, index, value, the addresses of library and type, handle."""
assert SOURCE.size == ffi.sizeof("pl_source")
Sources: TypeAlias = Any
"""A ``pl_source[]``: what the imports of a library mean."""


def put_source(sources: Sources, index: int, packed: bytes) -> None:
    """Write one of them."""
    ffi.memmove(sources + index, packed, SOURCE.size)
