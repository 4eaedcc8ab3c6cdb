"""The memory shim: gives modules that import their memory a caller that exports one.

The WASI functions of wasmtime find the guest's memory as the export ``memory`` of the instance that
calls them, and a side module has none. The shim imports the shared memory, exports it under that
name, and forwards each call, so that the shim is the caller for the host. It must make a call: the
caller of a host function that is merely exported again is the first one.
"""

from __future__ import annotations

from collections.abc import Mapping

from pylinker.errors import UnsupportedError
from pylinker.wasm import writer
from pylinker.wasm.types import FuncType, Kind, MemoryType

__all__ = ["WASI_PARAMETERS", "WASI_PREVIEW1", "memory_shim"]

_CALL = b"\x10"
_MEMORY = "memory"


def memory_shim(
    memory: MemoryType, module: str, functions: Mapping[str, FuncType], *, private: bool = False
) -> bytes:
    """Return a module that forwards calls to ``functions`` of ``module``, and exports a memory.

    It imports ``("env", "memory")`` of the type ``memory``, or with ``private`` defines one, and
    imports each function by its name; it exports the memory as ``memory``, and under each name a
    function that calls the imported one.

    The same input, in the same order, gives the same bytes.

    Raises:
        UnsupportedError: A type cannot be encoded, or a function is named ``memory``.
    """
    if _MEMORY in functions:
        raise UnsupportedError(f"a function named {_MEMORY!r} cannot be forwarded", symbol=_MEMORY)
    type_indices: dict[FuncType, int] = {}
    imports = (
        []
        if private
        else [
            writer.name("env")
            + writer.name(_MEMORY)
            + bytes([Kind.MEMORY])
            + writer.memory_type(memory)
        ]
    )
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
        bodies.append(
            writer.function_body(
                writer.local_gets(len(function.params)) + _CALL + writer.unsigned(index)
            )
        )
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


WASI_PARAMETERS: Mapping[str, str] = dict(
    line.split()
    for line in """
args_get si
args_sizes_get 44
environ_get si
environ_sizes_get 44
clock_res_get i8
clock_time_get il8
fd_advise illi
fd_allocate ill
fd_close i
fd_datasync i
fd_fdstat_get it
fd_fdstat_set_flags ii
fd_fdstat_set_rights ill
fd_filestat_get if
fd_filestat_set_size il
fd_filestat_set_times illi
fd_pread ivil4
fd_prestat_get i8
fd_prestat_dir_name ibi
fd_pwrite ivil4
fd_read ivi4
fd_readdir ibil4
fd_renumber ii
fd_seek ili8
fd_sync i
fd_tell i8
fd_write ivi4
path_create_directory ibi
path_filestat_get iibif
path_filestat_set_times iibilli
path_link iibiibi
path_open iibiilli4
path_readlink ibibi4
path_remove_directory ibi
path_rename ibiibi
path_symlink biibi
path_unlink_file ibi
poll_oneoff iiii
proc_exit i
proc_raise i
sched_yield -
random_get bi
sock_accept ii4
sock_recv ivii42
sock_send ivii4
sock_shutdown ii
""".strip().splitlines()
)
"""Parameters of the functions of WASI preview 1, a letter each (``csrc/wasi.h``).

A letter says what the parameter refers to in the guest's memory. All but integers of 64 bits
(``l``) are i32. The core itself checks the pointers of ``poll_oneoff``. ``-``: no parameters.
"""

WASI_PREVIEW1: Mapping[str, FuncType] = {
    name: FuncType(
        tuple("i64" if each == "l" else "i32" for each in parameters.strip("-")),
        () if name == "proc_exit" else ("i32",),
    )
    for name, parameters in WASI_PARAMETERS.items()
}
"""Types of the functions as in wasmtime. All return an errno, except the one that never returns."""
