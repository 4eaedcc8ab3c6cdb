"""Context managers and finalizers that an interrupt cannot skip (``csrc/python/scope.h``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pylinker.errors import InternalError, LinkError
from pylinker.native.core import lib

__all__ = ["Finalized", "Scope", "completed", "python_types"]

_T = TypeVar("_T")

python_types: dict[str, Any] = {"InternalError": InternalError}
"""What ``csrc/python`` makes, by name."""
if lib.pl_python_install(id(python_types)):
    raise ImportError("the C core of pylinker cannot make its types")

if TYPE_CHECKING:

    class Scope:
        """A context manager that no exception keeps from leaving (``csrc/python/scope.h``).

        A subclass has ``enter`` and ``leave``. ``leave(exception or None)`` is called at the end of
        the block, and if ``enter`` raises: again, until it returns. So it looks for what remains.
        One object for each block.
        """

        def enter(self) -> Any:
            """Begin; what it returns is what ``with`` gives."""

        def leave(self, error: BaseException | None, /) -> None:
            """End, or undo what of ``enter`` was done."""

        def __enter__(self) -> Any: ...

        def __exit__(self, kind: object, value: object, traceback: object, /) -> None: ...

    class Finalized:
        """Calls ``_drop`` when it is dropped, again if an exception interrupts it, until it returns (``csrc/python/scope.h``).

        So it does what remains: the object may not even be initialised.
        """

        def _drop(self) -> None:
            """Release what the object has."""

    def completed(function: Callable[..., _T], /, *arguments: Any) -> _T:
        """Call a function, and again if an exception interrupts it, until it returns; the first exception is raised then.

        So it must come to the same end if it is called again after any of its steps. A LinkError or
        InternalError is raised at once.
        """

else:
    Scope, Finalized, completed = (
        python_types["Scope"],
        python_types["Finalized"],
        python_types["completed"],
    )
    python_types["set_final"]((LinkError, InternalError))
