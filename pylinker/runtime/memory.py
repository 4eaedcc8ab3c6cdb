"""The guest's memory for a host."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from pylinker._pickling import OfOneProcess
from pylinker.errors import MemoryAccessError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pylinker.native.instances import Instances
    from pylinker.native.objects import Extern
    from pylinker.runtime.store import GuestStore

__all__ = ["Memory"]


_MOST = 1 << 32
"""Maximum size of a memory in bytes."""


def _unsigned(address: int) -> int:
    """Return the address for a negative i32; a number that is no i32 is returned unchanged."""
    return address + _MOST if address >= -(_MOST >> 1) else address


class Memory(OfOneProcess):
    """Bounds-checked access to guest memory; addresses and sizes are in bytes.

    Addresses are unsigned, 0 to 2**32 - 1. An address of 2**31 or more may also be given as the
    negative number that a function of the guest returns for it, which is an i32 like any other:
    ``memory.read(library.malloc(8), 8)`` works wherever the block is. Every call uses the current
    size of the memory. Not synchronized with a guest that runs at the same time.
    """

    __slots__ = ("_extern", "_instances", "_store")

    def __init__(
        self, store: GuestStore, instances: Instances, extern: Callable[[], Extern]
    ) -> None:
        self._store = store
        self._instances = instances
        self._extern = extern  # raises the appropriate error if there is no memory

    def __repr__(self) -> str:
        return f"<Memory of {self.size} bytes>"

    def __len__(self) -> int:
        return self.size

    @property
    def size(self) -> int:
        """Size in bytes: a whole number of 64 KiB pages."""
        return self._store.memory_size(self._extern())

    def view(self) -> memoryview:
        """Return the memory as a writable view of bytes, for ``numpy.frombuffer`` and the like.

        It has one dimension and format ``B`` (unsigned). The view keeps the memory alive, also of a
        program that was closed. It does not include later growth: call this method again after it.
        """
        return self._store.memory_view(self._extern())

    def check(self, address: int, size: int) -> None:
        """Check that a range is within the memory.

        Args:
            address: Address of the first byte.
            size: Number of bytes.

        Raises:
            MemoryAccessError: The range is out of bounds.
        """
        if address < 0:
            address = _unsigned(address)
        if not (0 <= address <= _MOST and 0 <= size <= _MOST) or not self._instances.inside(
            address, size
        ):
            self._refuse(address, size)

    def read(self, address: int, size: int) -> bytes:
        """Return a copy of a range.

        Args:
            address: Address of the first byte.
            size: Number of bytes.

        Raises:
            MemoryAccessError: The range is out of bounds.
        """
        if address < 0:
            address = _unsigned(address)
        data = (
            self._instances.read(address, size)
            if 0 <= address <= _MOST and 0 <= size <= _MOST
            else None
        )
        if data is None:
            self._refuse(address, size)
        return data

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy bytes into the guest.

        Args:
            address: Address of the first byte.
            data: The bytes.

        Raises:
            MemoryAccessError: The range is out of bounds; nothing is written.
        """
        if address < 0:
            address = _unsigned(address)
        source = data if data.__class__ is bytes else memoryview(data).cast("B")
        if not 0 <= address <= _MOST or not self._instances.write(address, source, len(source)):
            self._refuse(address, len(source))

    def cstring(self, address: int, limit: int | None = None) -> bytes:
        """Return the bytes from ``address`` up to, not including, the next NUL byte.

        Args:
            address: Address of the first byte.
            limit: Maximum number of bytes to search, or None.

        Raises:
            MemoryAccessError: There is no NUL byte within the limit or the memory.
        """
        if address < 0:
            address = _unsigned(address)
        view = self.view()
        if not 0 <= address <= len(view):
            raise MemoryAccessError(
                f"address {address:#x} is not inside a memory of {len(view)} bytes"
            )
        stop = len(view) if limit is None else min(len(view), address + max(limit, 0))
        start = address
        while start < stop:
            chunk = bytes(view[start : min(stop, start + 4096)])
            end = chunk.find(0)
            if end >= 0:
                return bytes(view[address : start + end])
            start += len(chunk)
        raise MemoryAccessError(
            f"no NUL byte after address {address:#x} within {stop - address} bytes"
        )

    def zero(self, address: int, size: int) -> None:
        """Fill a range with zeros.

        Args:
            address: Address of the first byte.
            size: Number of bytes.

        Raises:
            MemoryAccessError: The range is out of bounds.
        """
        if address < 0:
            address = _unsigned(address)
        if not (0 <= address <= _MOST and 0 <= size <= _MOST) or not self._instances.zero(
            address, size
        ):
            self._refuse(address, size)

    def _refuse(self, address: int, size: int) -> NoReturn:
        raise MemoryAccessError(
            f"{size} bytes at address {address:#x} are not inside a memory of {self.size} bytes"
        )
