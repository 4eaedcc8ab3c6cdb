"""Errors of the system, told from an OSError that a signal handler raised: TimeoutError is one, and must arrive as it was."""

from __future__ import annotations

from types import TracebackType

__all__ = ["SuppressSystemErrors", "check_errno"]


def check_errno(error: OSError) -> int:
    """Return the error number of an error that the system reported; raise any other OSError, which has none."""
    if error.errno is None:
        raise error
    return error.errno


class SuppressSystemErrors:
    """``contextlib.suppress(OSError)`` for what the system reports."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: TracebackType | None) -> bool:
        return isinstance(error, OSError) and error.errno is not None
