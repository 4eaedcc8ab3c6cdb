"""WASI functions and the store of their process (``csrc/wasi.h``)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from pylinker.errors import InternalError
from pylinker.native.core import ffi, lib
from pylinker.native.enums import WASI_FUNCTIONS, WASI_STREAMS
from pylinker.native.failures import Failure, new_failure
from pylinker.native.objects import Context, Extern

if TYPE_CHECKING:
    from pylinker._core import Pointer, pl_failure_p

__all__ = ["WasiProcess", "c_text"]


def c_text(text: str) -> Pointer[bytes]:
    """Return a C string; it lives as long as the object."""
    return ffi.new("char[]", text.encode())


class WasiProcess:
    """The store of a WASI process, the mutex of its callers, and its standard streams."""

    def __init__(self, context: Context) -> None:
        self.pointer = ffi.gc(lib.pl_process_new(context), lib.pl_process_free)
        if self.pointer == ffi.NULL:
            raise MemoryError("no memory for a WASI process")

    def set_stream(self, index: int, descriptor: int) -> None:
        """Make stream ``index`` a duplicate of an open descriptor, which becomes non-blocking.

        Before any guest runs. Raises OSError.
        """
        if not 0 <= index < WASI_STREAMS:
            raise InternalError(f"there is no standard stream {index}")
        if error := lib.pl_process_set_stream(self.pointer, index, descriptor):
            raise OSError(error, os.strerror(error))

    def add_directory(self, place: int, descriptor: int) -> None:
        """Set the directory of the host for the guest's descriptor ``place``.

        Before any guest runs. Raises OSError.
        """
        if error := lib.pl_process_add_directory(self.pointer, place, descriptor):
            raise OSError(error, os.strerror(error))

    def set_descriptors(self, most: int) -> None:
        """Set the maximum number of descriptors that the guest opens besides its first ones.

        Before any guest runs.
        """
        lib.pl_process_set_descriptors(self.pointer, min(most, 0x7FFFFFFF))

    def set_fault(self, number: int) -> None:
        """Set the error number for a pointer that is out of bounds of the guest's memory."""
        lib.pl_process_set_fault(self.pointer, number)

    def set_clock(self, clock: int, now: int) -> bool:
        """Set a clock of the guest (nanoseconds, modulo 2^64); False if there is no such clock."""
        return bool(lib.pl_process_set_clock(self.pointer, clock, now))

    def provide(self, index: int, type_address: int, kind: int, parameters: Pointer[bytes]) -> None:
        """Define function ``index`` (``csrc/wasi.h``).

        Type and text must live as long as the process.

        Args:
            index: Number of the function.
            type_address: Its ``wasm_functype_t``.
            kind: Its kind.
            parameters: Description of its parameters, a :func:`c_text`.
        """
        if not 0 <= index < WASI_FUNCTIONS:
            raise InternalError(f"there is no room for WASI function {index}")
        lib.pl_process_provide(
            self.pointer, index, ffi.cast("pl_type *", type_address), kind, parameters
        )

    def join(
        self,
        linker_address: int,
        space: str,
        names: Sequence[str],
        shim_address: int,
        memory: Extern,
    ) -> None:
        """Instantiate the shim; the functions that it exports become those of the process.

        The shim imports the memory and the functions of a wasmtime linker.
        """
        kept = [ffi.new("char[]", name.encode()) for name in names]
        failure = new_failure()
        linker, shim = (
            ffi.cast("pl_linker *", linker_address),
            ffi.cast("pl_module *", shim_address),
        )
        pointers = ffi.new("char *[]", kept)
        if lib.pl_process_join(
            self.pointer, linker, space.encode(), pointers, len(names), shim, memory, failure
        ):
            self._raise(failure)

    def join_private(self, linker_address: int, space: str, shim_address: int) -> None:
        """Instantiate the private shim, which gets copies of the guest's arguments."""
        failure = new_failure()
        linker, shim = (
            ffi.cast("pl_linker *", linker_address),
            ffi.cast("pl_module *", shim_address),
        )
        if lib.pl_process_join_private(self.pointer, linker, space.encode(), shim, failure):
            self._raise(failure)

    @staticmethod
    def _raise(failure: pl_failure_p) -> NoReturn:
        if not failure.trap and not failure.error:
            raise InternalError("wasmtime lacks a function of WASI")
        raise Failure(failure)
