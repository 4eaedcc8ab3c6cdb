"""Context managers and finalizers that an interrupt cannot skip (``csrc/python/scope.h``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pylinker.errors import InternalError, LinkError
from pylinker.native.core import lib

__all__ = ["Finalized", "Scope", "completed", "python_types"]

_T = TypeVar("_T")

python_types: dict[str, Any] = {"InternalError": InternalError}
"""The types of ``csrc/python``, by name."""
if lib.pl_python_install(id(python_types)):
    raise ImportError("the C core of pylinker cannot make its types")

if TYPE_CHECKING:

    class Scope:
        """A context manager whose ``leave`` no exception can skip (``csrc/python/scope.h``).

        A subclass has ``enter`` and ``leave``. ``leave(exception or None)`` is called at the end of
        the block, and if ``enter`` raises. It is called again until it returns, so it must look for
        what remains to be done. One object for each block.
        """

        def enter(self) -> Any:
            """Begin; the result is the value of ``with``."""

        def leave(self, error: BaseException | None, /) -> None:
            """End, or undo the completed part of ``enter``."""

        def __enter__(self) -> Any: ...

        def __exit__(self, kind: object, value: object, traceback: object, /) -> None: ...

    class Finalized:
        """Calls ``_drop`` when it is deallocated: again if an exception interrupts it.

        So ``_drop`` does the rest of its work; the object may not even be initialised. It is in
        ``csrc/python/scope.h``.
        """

        def _drop(self) -> None:
            """Release the resources of the object."""

    def completed(function: Callable[..., _T], /, *arguments: Any) -> _T:
        """Call a function until it returns: again if an exception interrupts it.

        So a second call after any of its steps must lead to the same end. The first exception is
        raised afterwards; a LinkError or InternalError at once.
        """

else:
    Scope, Finalized, completed = (
        python_types["Scope"],
        python_types["Finalized"],
        python_types["completed"],
    )
    python_types["set_final"]((LinkError, InternalError))
