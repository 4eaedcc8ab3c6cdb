"""Errors of the system, told from an OSError that a signal handler raised: TimeoutError is one, and must arrive as it was."""

from __future__ import annotations

from types import TracebackType

__all__ = ["SuppressSystemErrors", "check_errno"]


def check_errno(error: Exception) -> int:
    """Return the error number of an error that the system reported, 0 for one that is no OSError.

    Raises any other OSError as it is: it has no number.
    """
    number = error.errno if isinstance(error, OSError) else 0
    if number is None:
        raise error
    return number


class SuppressSystemErrors:
    """``contextlib.suppress(OSError)`` for what the system reports."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: object, error: BaseException | None, _traceback: TracebackType | None
    ) -> bool:
        return isinstance(error, OSError) and error.errno is not None
