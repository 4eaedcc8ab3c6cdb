"""The memory shim: lets modules that import their memory call host functions that look for an exported one.

The WASI functions of wasmtime find the guest's memory as the export ``memory`` of the instance that calls them, and a side
module has none. The shim imports the shared memory, exports it under that name, and forwards each call: the caller that the
host sees is the shim. The calls have to be real; a host function that is merely exported again still sees its first caller.
"""

from __future__ import annotations

from collections.abc import Mapping

from pylinker.errors import UnsupportedError
from pylinker.wasm import writer
from pylinker.wasm.types import FuncType, Kind, MemoryType

__all__ = ["WASI_PREVIEW1", "memory_shim"]

_CALL = b"\x10"
_MEMORY = "memory"


def memory_shim(memory: MemoryType, module: str, functions: Mapping[str, FuncType], *, private: bool = False) -> bytes:
    """A module that gives ``functions`` of ``module`` a caller with a memory.

    It imports ``("env", "memory")`` of the type ``memory``, or with ``private`` defines one, and imports each function by its name; it
    exports the memory as ``memory``, and under each name a function that calls the imported one.

    The same input, in the same order, gives the same bytes.
    Raises UnsupportedError for types that cannot be encoded, and for a function named ``memory``.
    """
    if _MEMORY in functions:
        raise UnsupportedError(f"a function named {_MEMORY!r} cannot be forwarded", symbol=_MEMORY)
    type_indices: dict[FuncType, int] = {}
    imports = [] if private else [writer.name("env") + writer.name(_MEMORY) + bytes([Kind.MEMORY]) + writer.memory_type(memory)]
    exports = [writer.name(_MEMORY) + bytes([Kind.MEMORY, 0])]
    type_of: list[bytes] = []
    bodies: list[bytes] = []
    names: list[tuple[int, str]] = []
    for index, (name, function) in enumerate(functions.items()):
        type_index = writer.unsigned(type_indices.setdefault(function, len(type_indices)))
        forwarder = len(functions) + index  # the imported functions are numbered first
        imports.append(writer.name(module) + writer.name(name) + bytes([Kind.FUNC]) + type_index)
        exports.append(writer.name(name) + bytes([Kind.FUNC]) + writer.unsigned(forwarder))
        type_of.append(type_index)
        bodies.append(writer.function_body(writer.local_gets(len(function.params)) + _CALL + writer.unsigned(index)))
        names.append((forwarder, name))
    return writer.module(
        [
            writer.section(1, writer.vector([writer.func_type(each) for each in type_indices])),
            writer.section(2, writer.vector(imports)),
            writer.section(3, writer.vector(type_of)),
            *([writer.section(5, writer.vector([writer.memory_type(memory)]))] if private else []),
            writer.section(7, writer.vector(exports)),
            writer.section(10, writer.vector(bodies)),
            writer.function_names(names),
        ]
    )


def _wasi_preview1(table: str) -> dict[str, FuncType]:
    """Read lines of a name and its parameters, a letter each. All return an errno but the one that does not return."""
    letters = {"i": "i32", "l": "i64"}
    functions = {}
    for line in table.strip().splitlines():
        name, _, params = line.partition(" ")
        functions[name] = FuncType(tuple([letters[each] for each in params]), () if name == "proc_exit" else ("i32",))
    return functions


# The types as wasmtime defines them; i is an i32, l an i64.
WASI_PREVIEW1: Mapping[str, FuncType] = _wasi_preview1(
    """
args_get ii
args_sizes_get ii
environ_get ii
environ_sizes_get ii
clock_res_get ii
clock_time_get ili
fd_advise illi
fd_allocate ill
fd_close i
fd_datasync i
fd_fdstat_get ii
fd_fdstat_set_flags ii
fd_fdstat_set_rights ill
fd_filestat_get ii
fd_filestat_set_size il
fd_filestat_set_times illi
fd_pread iiili
fd_prestat_get ii
fd_prestat_dir_name iii
fd_pwrite iiili
fd_read iiii
fd_readdir iiili
fd_renumber ii
fd_seek ilii
fd_sync i
fd_tell ii
fd_write iiii
path_create_directory iii
path_filestat_get iiiii
path_filestat_set_times iiiilli
path_link iiiiiii
path_open iiiiillii
path_readlink iiiiii
path_remove_directory iii
path_rename iiiiii
path_symlink iiiii
path_unlink_file iii
poll_oneoff iiii
proc_exit i
proc_raise i
sched_yield
random_get ii
sock_accept iii
sock_recv iiiiii
sock_send iiiii
sock_shutdown ii
"""
)
