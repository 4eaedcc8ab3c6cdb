"""Limits of the resources that one program may take from its host."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Limits"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Upper bounds for one program; exceeding one is a LimitError.

    In guest code it is a call that fails, or a failed ``memory.grow``. A name that is longer than
    ``path_length`` is a LibraryNotFoundError.
    """

    memory: int = 1 << 32
    """Bytes of guest memory."""
    table: int = 1_000_000
    """Slots of the function table."""
    modules: int = 1_000
    """Modules loaded at one time."""
    library_size: int = 256 << 20
    """Bytes of the file of one module."""
    threads: int = 1_000
    """Threads of the guest alive at one time, without the one that runs main."""
    needed_depth: int = 1_000
    """Libraries in the longest dependency chain; two that need each other make no chain."""
    path_length: int = 4096
    """Bytes of the name or path of a library."""
    runtime_path: int = 1_000
    """Directories in the runtime path of a library (``-rpath``)."""
    destructors: int = 100_000
    """Destructors registered at one time, and keys with a destructor.

    Destructors are those of ``atexit``, ``__cxa_atexit`` and ``__cxa_thread_atexit``; one more is
    refused with -1. Keys are those of ``pthread_key_create`` and ``tss_create``; one more is
    refused with ``EAGAIN`` or ``thrd_error``.
    """

    descriptors: int = 256
    """Files and directories that the guest has open at one time.

    Its standard streams and the granted directories do not count. One more yields ``EMFILE``. Each
    stream or granted directory that the guest closes lets it open another file.
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"Limits({field.name}={value!r}): give a positive number")
        if self.memory > 1 << 32:
            raise ValueError(
                f"Limits(memory={self.memory}): guest addresses have 32 bits, so at most {1 << 32}"
            )
