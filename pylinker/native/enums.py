"""The numbers of the C core. Made by csrc/generate.py from the headers; do not edit."""

from __future__ import annotations

import enum
from typing import Final

__all__ = [
    "ABORTED",
    "ACQUIRE",
    "ACQUIRED",
    "BACKOFF_CAP",
    "BACKOFF_DOUBLINGS",
    "BACKOFF_FIRST_SLEEP",
    "BACKOFF_SPINS",
    "BACKOFF_YIELDS",
    "BROKEN",
    "BUSY",
    "CALLBACK_DOUBLES",
    "CALLBACK_INTEGERS",
    "CANCELLED",
    "CAUSE_STOPPED",
    "CLOSED",
    "DEAD",
    "DELIVER_LATER",
    "DLSYM_CACHE_CAPACITY",
    "DLSYM_NAME_LENGTH",
    "DONE",
    "ELSEWHERE",
    "ERRNO_MEMVIOLATION",
    "ERRNO_NOTSUP",
    "ERROR",
    "EXITED_MOST",
    "FAILED",
    "FUTEX_BUCKETS",
    "MESSAGE_CAPACITY",
    "OK",
    "PARKED",
    "PLT_BLOCK",
    "POISONED",
    "PREPARED_ARGUMENTS",
    "PROCESS",
    "RANGE",
    "RELAXED",
    "RUNNING",
    "SEQ_CST",
    "SIGNALLED",
    "SLICE",
    "STACK_GUEST",
    "STACK_HOST",
    "STACK_NESTED",
    "STACK_SIGNAL",
    "STACK_THREAD",
    "STACK_WHOLE",
    "TAKEN",
    "THREAD_LOST",
    "THREAD_NONE",
    "THREAD_VALUES",
    "TIMEOUT",
    "TRAP",
    "WASI_FUNCTIONS",
    "WASI_MOST",
    "WASI_PARAMETERS",
    "WASI_STREAMS",
    "AtomicsKind",
    "Breach",
    "BuiltinIndex",
    "CallbackFailure",
    "CallbackForm",
    "CallbackResult",
    "Cause",
    "ExternKind",
    "Held",
    "Measured",
    "PreparedKind",
    "SearchProblem",
    "SourceKind",
    "Stage",
    "SymbolBase",
    "SymbolKind",
    "TraceKind",
    "TrapCode",
    "ValueType",
    "Waited",
    "WantedKind",
    "WasiKind",
]

# of event.h
SLICE: Final = 50000000
# of flag.h (enum pl_order)
RELAXED: Final = 0
ACQUIRE: Final = 1
SEQ_CST: Final = 2
# of safepoint.h (enum pl_state)
PARKED: Final = 0
RUNNING: Final = 1
DEAD: Final = 2
# of cancel.h
CAUSE_STOPPED: Final = 128
# of futex.h
FUTEX_BUCKETS: Final = 64
# of rwlock.h (enum pl_acquire)
ACQUIRED: Final = 0
BUSY: Final = 1
POISONED: Final = 2
TIMEOUT: Final = 3
CANCELLED: Final = 4
SIGNALLED: Final = 5
# of shared.h
EXITED_MOST: Final = 16
# of group.h
DELIVER_LATER: Final = 2
# of call.h (enum pl_status)
OK: Final = 0
TRAP: Final = 1
ERROR: Final = 2
ABORTED: Final = 3
# of backoff.h
BACKOFF_SPINS: Final = 64
BACKOFF_YIELDS: Final = 24
BACKOFF_FIRST_SLEEP: Final = 48000
BACKOFF_DOUBLINGS: Final = 8
BACKOFF_CAP: Final = 10000000
# of hostfn.h
MESSAGE_CAPACITY: Final = 1024
# of library.h
PLT_BLOCK: Final = 256
# of dlsym_cache.h
DLSYM_CACHE_CAPACITY: Final = 512
DLSYM_NAME_LENGTH: Final = 240
# of wasi.h
WASI_FUNCTIONS: Final = 64
WASI_PARAMETERS: Final = 9
WASI_STREAMS: Final = 3
WASI_MOST: Final = 65536
# of builtin.h
ERRNO_NOTSUP: Final = 58
ERRNO_MEMVIOLATION: Final = 78
# of builtin.h
PROCESS: Final = 1
# of callback.h
CALLBACK_INTEGERS: Final = 6
CALLBACK_DOUBLES: Final = 3
# of lead.h (enum pl_step_result)
DONE: Final = 0
FAILED: Final = 6
BROKEN: Final = 7
# of thread.h
THREAD_VALUES: Final = 4
# of thread.h
THREAD_NONE: Final = -1
THREAD_LOST: Final = -2
# of prepared.h (enum pl_prepared_status)
CLOSED: Final = 16
TAKEN: Final = 17
ELSEWHERE: Final = 18
RANGE: Final = 19
# of prepared.h
PREPARED_ARGUMENTS: Final = 8
# of stack.h
STACK_GUEST: Final = 524288
STACK_HOST: Final = 262144
STACK_WHOLE: Final = 786432
STACK_NESTED: Final = 65536
STACK_SIGNAL: Final = 262144
STACK_THREAD: Final = 4194304


class TrapCode(enum.IntEnum):
    """``enum pl_trap_code`` of ``csrc/api.h``."""

    OUT_OF_BOUNDS = 1
    UNALIGNED = 2
    NOT_SHARED = 12


class TraceKind(enum.IntEnum):
    """``enum pl_trace_kind`` of ``csrc/trace.h``."""

    UNPARK = 1
    PARK = 2
    DEAD = 3
    LEAD_BEGIN = 4
    LEAD_END = 5
    AWAIT_BEGIN = 6
    AWAIT_END = 7
    FOLLOW_BEGIN = 8
    FOLLOW_END = 9
    REPLAY_BEGIN = 10
    REPLAY_END = 11


class Waited(enum.IntEnum):
    """``enum pl_waited`` of ``csrc/futex.h``."""

    WOKEN = 0
    NOT_EQUAL = 1
    TIMED_OUT = 2
    CANCELLED = -1
    INTERRUPTED = -2


class Cause(enum.IntEnum):
    """``enum pl_cause`` of ``csrc/shared.h``."""

    CLOSED = 1
    LEADER = 2
    REPLAY = 3
    BUS = 4
    INTERRUPTED = 5
    FORKED = 6


class ExternKind(enum.IntEnum):
    """``enum pl_extern_kind`` of ``csrc/wrappers.h``."""

    FUNC = 0
    GLOBAL = 1
    TABLE = 2
    MEMORY = 3
    SHARED_MEMORY = 4
    TAG = 5


class AtomicsKind(enum.IntEnum):
    """``enum pl_atomics_kind`` of ``csrc/atomics.h``."""

    WAIT32 = 0
    WAIT64 = 1
    NOTIFY = 2
    FUTEX_WAIT = 3
    FUTEX_WAKE = 4
    FUTEX_WAKE_ALL = 5
    SLEEP = 6
    KINDS = 7


class SourceKind(enum.IntEnum):
    """``enum pl_source_kind`` of ``csrc/library.h``."""

    MEMORY = 0
    TABLE = 1
    STACK_POINTER = 2
    CONSTANT = 3
    CELL = 4
    TLS_CELL = 5
    EXPORT = 6
    PLT = 7
    WASI = 8
    HOST = 9
    BUILTIN = 10
    TAG = 11
    ATOMICS = 13
    CALLBACK = 12


class WasiKind(enum.IntEnum):
    """``enum pl_wasi_kind`` of ``csrc/wasi.h``."""

    PLAIN = 0
    POLL = 1
    READ = 2
    CLOCK = 3
    YIELD = 4
    WRITE = 5
    RESOLUTION = 6
    OPEN = 7
    TIMES = 8
    NAME = 9
    CLOSE = 10
    RENUMBER = 11
    FILE = 12


class Stage(enum.IntEnum):
    """``enum pl_stage`` of ``csrc/instances.h``."""

    NONE = 0
    ROOM = 1
    TABLE = 2
    TAKEN = 3
    OBJECT = 4
    EXPORT = 5
    TLS_CELL = 6
    MAKE = 7
    INSTANTIATE = 8
    TLS = 9


class BuiltinIndex(enum.IntEnum):
    """``enum pl_builtin_index`` of ``csrc/builtin.h``."""

    SAFEPOINT = 0
    DLSYM = 1
    DLSYM_WASIX = 2
    THREAD_ID = 3
    EMPTY = 4
    PROC_ID = 5
    UNSUPPORTED = 6
    CALL_DYNAMIC = 7
    REFLECT_SIGNATURE = 8
    DL_INVALID_HANDLE = 9


class ValueType(enum.IntEnum):
    """``enum pl_value_type`` of ``csrc/call_dynamic.h``."""

    I32 = 0
    I64 = 1
    F32 = 2
    F64 = 3
    V128 = 4


class CallbackForm(enum.IntEnum):
    """``enum pl_callback_form`` of ``csrc/callback.h``."""

    RAW = 0
    INTEGERS = 1
    DOUBLES = 2


class CallbackResult(enum.IntEnum):
    """``enum pl_callback_result`` of ``csrc/callback.h``."""

    NONE = 0
    NARROW = 1
    WIDE = 2


class CallbackFailure(enum.IntEnum):
    """``enum pl_callback_failure`` of ``csrc/callback.h``."""

    RAISED = 0
    TOO_WIDE = 1
    TOO_LARGE = 2


class Held(enum.IntEnum):
    """``enum pl_held`` of ``csrc/hold.h``."""

    NOTHING = 0
    READ = 1
    WRITE = 2
    TOKEN = 3


class Breach(enum.IntEnum):
    """``enum pl_breach`` of ``csrc/lead.h``."""

    NONE = 0
    OPEN = 1
    LOG = 2
    PUBLISH = 3
    WITHDRAW = 4


class SymbolKind(enum.IntEnum):
    """``enum pl_symbol_kind`` of ``csrc/symbols.h``."""

    OTHER = 0
    FUNCTION = 1
    DATA = 2
    THREAD_LOCAL = 3


class SymbolBase(enum.IntEnum):
    """``enum pl_symbol_base`` of ``csrc/symbols.h``."""

    NOWHERE = 0
    ABSOLUTE = 1
    MEMORY = 2
    TABLE = 3
    SLOTS = 4
    BLOCK = 5


class WantedKind(enum.IntEnum):
    """``enum pl_wanted_kind`` of ``csrc/symbols.h``."""

    OTHER = 0
    MEMORY = 1
    TABLE = 2
    STACK_POINTER = 3
    MEMORY_BASE = 4
    TABLE_BASE = 5
    FUNCTION = 6
    DATA = 7
    POINTER = 8
    SYMBOL = 9


class Measured(enum.IntEnum):
    """``enum pl_measured`` of ``csrc/measure.h``."""

    FLAG_RELAXED = 0
    FLAG_SEQ_CST = 1
    TRY_WRITE = 2
    WRITE = 3
    TOKEN = 4
    YIELDS = 5


class PreparedKind(enum.IntEnum):
    """``enum pl_prepared_kind`` of ``csrc/prepared.h``."""

    NONE = 0
    I32 = 1
    I64 = 2
    F32 = 3
    F64 = 4
    OTHER = 5


class SearchProblem(enum.IntEnum):
    """``enum pl_search_problem`` of ``csrc/search.h``."""

    CALLER = -1
    DIRECTORY = -2
    SPECIAL = -3
