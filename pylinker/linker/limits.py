"""What one program may take from its host."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Limits"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Upper bounds for one program; going over one is a LimitError (in guest code: a call that fails, or a failed ``memory.grow``).

    A name that is longer than ``path_length`` is a LibraryNotFoundError.
    """

    memory: int = 1 << 32
    """Bytes of guest memory."""
    table: int = 1_000_000
    """Slots of the function table."""
    modules: int = 1_000
    """Modules loaded at one time."""
    library_size: int = 256 << 20
    """Bytes of one module's file."""
    threads: int = 1_000
    """Threads of the guest alive at one time, apart from the one that runs main."""
    needed_depth: int = 1_000
    """Libraries in the longest chain of which each is needed by the one before; two that need each other make no chain."""
    path_length: int = 4096
    """Bytes of a library's name or path."""
    runtime_path: int = 1_000
    """Directories in a library's runtime path (``-rpath``)."""
    destructors: int = 100_000
    """Destructors registered at one time (``atexit``, ``__cxa_atexit``, ``__cxa_thread_atexit``; one more is refused with -1), and keys
    with a destructor (``pthread_key_create``, ``tss_create``; one more is refused with ``EAGAIN``
    or ``thrd_error``).
    """

    descriptors: int = 256
    """Files and directories that the guest has open at one time, besides its standard streams and the granted directories.

    One more gives it ``EMFILE``. Each stream or granted directory that it closes lets it open
    another file.
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
