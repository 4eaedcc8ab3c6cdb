"""OSErrors of the system, as opposed to an OSError that a signal handler raised.

TimeoutError is an OSError: one that a handler raised must propagate unchanged.
"""

from __future__ import annotations

from types import TracebackType

__all__ = ["SuppressSystemErrors", "check_errno"]


def check_errno(error: Exception) -> int:
    """Return the error number of an error of the system, or 0 if it is no OSError.

    Raises:
        OSError: The error itself, if it has no number: the system did not report it.
    """
    number = error.errno if isinstance(error, OSError) else 0
    if number is None:
        raise error
    return number


class SuppressSystemErrors:
    """``contextlib.suppress(OSError)`` for errors of the system only."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: object, error: BaseException | None, _traceback: TracebackType | None
    ) -> bool:
        return isinstance(error, OSError) and error.errno is not None
