"""Base of objects that are bound to this process."""

from __future__ import annotations

from typing import NoReturn

__all__ = ["OfOneProcess"]


class OfOneProcess:
    """Base of classes whose objects own memory, threads or code of this process.

    Copying and pickling raise TypeError: a copy would share them, another process lacks them.
    """

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled: "
            "make the program inside the worker"
        )
