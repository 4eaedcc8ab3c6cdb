"""Objects of one process, which say why they cannot be copied or pickled."""

from __future__ import annotations

from typing import NoReturn

__all__ = ["OfOneProcess"]


class OfOneProcess:
    """What has memory, threads or code of this process: a copy would share them, and another process has none."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled: make the program inside the worker"
        )
